"""What people who decide a manual task have done to its order: its customer is asked, or it is
cancelled as if its client had asked for it (reference §17, §19)."""

from __future__ import annotations

from fulfillment.engine.work.port import Filed
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from oms import telling, terms
from oms.changes import cancelling
from oms.changes.cancelling import NotCancellable
from oms.models import CancellationRequest, CancellationState, Order
from oms.telling import Saying


def ask_customer(unit: Unit, *, fulfillment_id: int, question: str, number: str) -> None:
    """By e-mail, where the order has an address, and as an event for its client."""
    saying = Saying(
        order=Order.objects.get(fulfillment=fulfillment_id),
        occasion=telling.of_question(number),
        tell=terms.QUESTION,
        facts={terms.QUESTION_FACT: question},
    )
    for event in telling.write(unit.raw, [saying], now=unit.now):
        unit.emit(
            fulfillment_id=event.fulfillment_id, event_type=event.event_type, payload=event.event
        )


def cancel(unit: Unit, *, fulfillment_id: int, requested_by: str, reason: str) -> Filed:
    """File a cancellation request, and tell what was said to it. Raises NotPossible."""
    order = Order.objects.get(fulfillment=fulfillment_id)
    try:
        found = cancelling.cancel_in(
            unit, order_id=order.pk, requested_by=requested_by, reason=reason
        )
    except NotCancellable as error:
        raise NotPossible(f"{error} Nothing of it can be cancelled any more.") from error
    return Filed(state=str(found.request.state), told=_told(order, found.request))


def _told(order: Order, request: CancellationRequest) -> str:
    what = f"Cancellation {request.number} of {order.reference}"
    match CancellationState(request.state):
        case CancellationState.DENIED:
            why = " ".join(dict.fromkeys(one["message"] for one in request.refusals))
            return f"{what} is denied: {why}"
        case CancellationState.ASSESSING:
            return f"{what} is being assessed: it is decided when what is under way has ended."
        case CancellationState.UNDOING:
            return f"{what} has begun: what was done of it is being undone."
    return f"{what} is done."
