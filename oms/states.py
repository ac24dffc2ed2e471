"""The words for order states (reference §4)."""

from __future__ import annotations

import enum


class OrderState(enum.StrEnum):
    SUBMITTED = "SUBMITTED"
    VALIDATING = "VALIDATING"
    REJECTED = "REJECTED"
    READY_FOR_FULFILLMENT = "READY_FOR_FULFILLMENT"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    PARTIALLY_COMPLETED = "PARTIALLY_COMPLETED"
    FAILED = "FAILED"
    ASSESSING_CANCELLATION = "ASSESSING_CANCELLATION"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


ORDER_TERMINAL = frozenset(
    {
        OrderState.COMPLETED,
        OrderState.PARTIALLY_COMPLETED,
        OrderState.CANCELLED,
        OrderState.REJECTED,
        OrderState.FAILED,
    }
)


class ItemAction(enum.StrEnum):
    ADD = "add"
    MODIFY = "modify"
    DISCONNECT = "disconnect"
    NO_CHANGE = "no_change"
