"""What the end of a plan, or its being given up, means to its order and to who wanted that.

Runs inside the engine's units, for all orders of a unit together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import psycopg

from fulfillment.engine.store.database import Row, Update
from fulfillment.engine.work.port import Notice, OrderTransition, PlanChange
from fulfillment.errors import ConcurrentChange
from oms.models import CancellationRequest, CancellationState, Order
from oms.states import OrderState
from oms.transitions import change, change_request

_ASKED = frozenset({OrderState.ASSESSING_CANCELLATION, OrderState.CANCELLING})
_CHANGED = Update(
    "oms_cancellationrequest",
    guard="state",
    state="text",
    plan_id="bigint",
    refusals="jsonb",
    decided_at="timestamptz",
    finished_at="timestamptz",
)


class Asked:
    """The open requests of the orders that are told of, and what becomes of them."""

    def __init__(self, orders: Iterable[Order]) -> None:
        ids = [order.pk for order in orders if order.state in _ASKED]
        rows = CancellationRequest.objects.filter(
            order__in=ids, state__in=[CancellationState.ASSESSING, CancellationState.UNDOING]
        )
        self._requests: Mapping[int, CancellationRequest] = (
            {request.order_id: request for request in rows} if ids else {}
        )
        self._before = {pk: str(request.state) for pk, request in self._requests.items()}

    def is_cancelled_by(self, notice: Notice, *, order: Order) -> bool:
        """Also where the engine has given up what its client wants cancelled."""
        failed = notice.change is PlanChange.FAILED
        return notice.change is PlanChange.CANCELLED or (failed and order.state in _ASKED)

    def moved(self, order: Order, notice: Notice, now: datetime) -> Iterator[OrderTransition]:
        """What UNDOING, CANCELLED and FAILED mean to the order and to its request."""
        request = self._requests.get(order.pk)
        ends = notice.change in (PlanChange.CANCELLED, PlanChange.FAILED)
        if notice.change is PlanChange.AMENDED:
            return
        if request is None:
            if ends:
                yield from _given_up(order, notice, now)
            return
        if order.state == OrderState.ASSESSING_CANCELLATION:
            request.plan_id = notice.plan_id
            cause = "it is cancelled: what was done of it is undone"
            yield change_request(
                request, CancellationRequest.begin_undoing, order=order, cause=cause, now=now
            )
            yield change(order, Order.begin_cancelling, cause=cause, now=now)
        if not ends:
            return
        # It is cancelled as well where the engine has given the plan up meanwhile.
        yield from ended(order, request, cause="everything is undone", now=now)

    def write(self, raw: psycopg.Cursor[Row]) -> None:
        rows = [
            request for pk, request in self._requests.items() if request.state != self._before[pk]
        ]
        if not rows:
            return
        expected = [self._before[request.order_id] for request in rows]
        if _CHANGED.store(raw, rows, expected=expected).rowcount != len(rows):
            raise ConcurrentChange("A request was changed by somebody who did not hold its lock.")


def _given_up(order: Order, notice: Notice, now: datetime) -> Iterator[OrderTransition]:
    """By the engine, or by an operator: nobody has asked the order desk."""
    cause = "its plan was given up"
    last, event_type = Order.fail, "OrderFailed"
    if notice.change is PlanChange.CANCELLED:
        yield change(order, Order.assess_cancellation, cause=cause, now=now)
        yield change(order, Order.begin_cancelling, cause=cause, now=now)
        last, event_type = Order.cancel, "OrderCancelled"
    yield change(order, last, cause=cause, now=now, event_type=event_type, plan_id=notice.plan_id)


def denied(
    order: Order, request: CancellationRequest, *, cause: str, now: datetime
) -> Iterator[OrderTransition]:
    """The order goes on; `refusals` of the request say why."""
    yield change_request(request, CancellationRequest.deny, order=order, cause=cause, now=now)
    yield change(
        order,
        Order.deny_cancellation,
        cause=cause,
        now=now,
        event_type="CancellationDenied",
        cancellation=request.number,
        refusals=request.refusals,
    )


def ended(
    order: Order, request: CancellationRequest, *, cause: str, now: datetime
) -> Iterator[OrderTransition]:
    """Nothing of the order is left to be undone."""
    yield change_request(request, CancellationRequest.finish, order=order, cause=cause, now=now)
    yield change(
        order,
        Order.cancel,
        cause=cause,
        now=now,
        event_type="OrderCancelled",
        plan_id=request.plan_id,
        cancellation=request.number,
        reason=request.reason,
        charges=request.quote.get("charges", []),
        sums=request.quote.get("sums", []),
    )
