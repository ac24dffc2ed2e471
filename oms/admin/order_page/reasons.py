"""Why an order waits, or was refused: one reason for each thing that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse

from fulfillment.admin.picture_parts import task_address
from fulfillment.admin.reading import Badge, badge_of
from fulfillment.definitions.graph import NodeKind
from fulfillment.definitions.signs import PLAN_SIGNS, TASK_SIGNS
from fulfillment.models import Plan
from fulfillment.states import TASK_SENDABLE, TaskState
from fulfillment.waits.conditions import KeptBy
from fulfillment.waits.waiting import Wait
from oms.admin.order_page.signs import ORDER_SIGNS, STUCK
from oms.queries.orders import Whole

_NEXT = {
    TaskState.READY: "not before",
    TaskState.FAILED_RETRYABLE: "next try at",
    TaskState.OUTCOME_UNKNOWN: "asked again at",
    TaskState.ACCEPTED: "asked, if silent, at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One answer to "why does it wait?"; `address` leads to what it is about."""

    badge: Badge
    what: str
    why: str
    until: datetime | None = None
    next: str = "looked at again"
    """What the engine does at `until`."""
    address: str = ""
    task_id: int = 0
    """0: it is about no task."""
    key: str = ""
    is_in_doubt: bool = False
    """Nobody knows whether it was done."""
    goes_on: bool = False
    """By itself, in a while."""


def of_fault(fault: Mapping[str, str]) -> Reason:
    """Why it was refused."""
    return Reason(
        badge=Badge(sign="✗", tone="failed", words="fault"),
        what=fault["code"],
        why=f"{fault['message']} ({fault['path']})",
    )


def of_wait(wait: Wait) -> Reason:
    """What keeps one task."""
    return Reason(
        badge=badge_of(wait.state, TASK_SIGNS),
        what=wait.title,
        key=wait.task,
        why=wait.reason,
        until=wait.until,
        next=_next(wait),
        task_id=wait.task_id,
        is_in_doubt=wait.state in (TaskState.OUTCOME_UNKNOWN, TaskState.AWAITING_MANUAL),
        goes_on=wait.state is TaskState.FAILED_RETRYABLE,
        address=task_address(wait.task_id)
        if wait.manual_id is None
        else reverse("admin:fulfillment_manualtask_change", args=[wait.manual_id]),
    )


def _next(wait: Wait) -> str:
    if wait.kept_by is KeptBy.HOLD:
        return "held until"
    if wait.kept_by is KeptBy.BREAKER and wait.state in TASK_SENDABLE:
        return "not before"
    if wait.kind is NodeKind.WAIT:
        return "ends at"
    if wait.manual_id is not None:
        return "until"
    return _NEXT.get(wait.state, "looked at again")


def of_whole(whole: Whole) -> Reason:
    """What keeps the plan, or the order, as a whole."""
    if whole.is_stuck:
        badge = STUCK
    else:
        signs = PLAN_SIGNS if isinstance(whole.of, Plan) else ORDER_SIGNS
        badge = badge_of(whole.of.state, signs)
    what = "The plan as a whole" if isinstance(whole.of, Plan) else "The order as a whole"
    return Reason(badge=badge, what=what, why=whole.reason, until=whole.until)
