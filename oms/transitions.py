"""How the order desk's own machines change: in memory, with the row that the audit chain gets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fulfillment.engine.work.port import OrderTransition
from oms.models import CancellationRequest, Order


def change(
    order: Order,
    transition: Callable[[Order], None],
    *,
    cause: str,
    now: datetime,
    event_type: str = "",
    **event: Any,
) -> OrderTransition:
    """Apply a transition of the order's state machine, in memory."""
    before = str(order.state)
    transition(order)
    if order.is_final:
        order.finished_at = now
    return OrderTransition(
        fulfillment_id=order.fulfillment_id,
        order_id=order.reference,
        name=transition.__name__,
        from_state=before,
        to_state=str(order.state),
        cause=cause,
        event_type=event_type,
        event={
            "state": str(order.state),
            "version": order.version,
            "external_id": order.external_id,
            **event,
        }
        if event_type
        else {},
    )


def change_request(
    request: CancellationRequest,
    transition: Callable[[CancellationRequest], None],
    *,
    order: Order,
    cause: str,
    now: datetime,
) -> OrderTransition:
    """The same for a request to cancel `order`: it is a part of the order's history."""
    before = str(request.state)
    transition(request)
    request.decided_at = request.decided_at or now
    if not request.is_open:
        request.finished_at = now
    return OrderTransition(
        fulfillment_id=order.fulfillment_id,
        order_id=str(request.pk),
        name=transition.__name__,
        from_state=before,
        to_state=str(request.state),
        cause=cause,
        entity="cancellation",
    )
