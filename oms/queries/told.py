"""What the customer of an order knows: its state in their words, and what they were told last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oms.models import Milestone, Notification, NotificationState, Order
from oms.states import OrderState

IN_WORDS: Mapping[OrderState, str] = {
    OrderState.SUBMITTED: "It has come in.",
    OrderState.VALIDATING: "It is looked at whether it can be done.",
    OrderState.REJECTED: "It was refused; nothing of it is done.",
    OrderState.READY_FOR_FULFILLMENT: "It is accepted, and about to begin.",
    OrderState.IN_PROGRESS: "It is being carried out.",
    OrderState.COMPLETED: "Everything in it is done.",
    OrderState.PARTIALLY_COMPLETED: "A part of it is done; the rest can't be.",
    OrderState.FAILED: "It could not be carried out; what was done is undone.",
    OrderState.ASSESSING_CANCELLATION: "It is to be cancelled; whether it can be is looked at.",
    OrderState.CANCELLING: "It is being cancelled.",
    OrderState.CANCELLED: "It is cancelled.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    words: str
    """What the order's state means to its customer."""
    last: Notification | None
    """The newest message to them, without its text."""
    failed: int
    """Messages that could not be sent."""
    milestone: Milestone | None
    """The one that they know of that was reached last."""
    knows_of_delay: bool


def told(order: Order) -> Told:
    """One query; read the order with its milestones prefetched."""
    messages = list(Notification.objects.filter(order=order).defer("body").order_by("-pk"))
    return Told(
        words=IN_WORDS[OrderState(order.state)],
        last=messages[0] if messages else None,
        failed=sum(one.state == NotificationState.FAILED for one in messages),
        milestone=max(order.milestones.all(), key=lambda one: one.reached_at, default=None),
        knows_of_delay=order.late_told_version >= order.version,
    )
