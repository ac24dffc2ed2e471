"""How the state of manual tasks is shown, and the time that is left to decide them."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils import timezone

from fulfillment.admin.reading import Badge, badge_of, register_signs
from fulfillment.definitions.signs import Sign
from fulfillment.models import MANUAL_OPEN, MANUAL_TIMED, ManualState, ManualTask
from fulfillment.queries.manual_queue import in_time

MANUAL_SIGNS: Mapping[str, Sign] = {
    ManualState.OPEN: ("☞", "trouble"),
    ManualState.CLAIMED: ("✋", "moving"),
    ManualState.AWAITING_CUSTOMER: ("◷", "waiting"),
    ManualState.DECIDED: ("✓", "done"),
    ManualState.WITHDRAWN: ("⊘", "waiting"),
}
register_signs(entity="manual", signs=MANUAL_SIGNS)


def badges(manual: ManualTask) -> list[Badge]:
    """Its state, and that it is overdue."""
    return [badge_of(manual.state, MANUAL_SIGNS), *filter(None, [due_badge(manual)])]


def due_badge(manual: ManualTask) -> Badge | None:
    """That it should have been decided by now; None while there is time."""
    if manual.state not in MANUAL_TIMED:
        return None
    if manual.due_at is None or manual.due_at < timezone.now():
        return Badge(sign="⚠", tone="failed", words="overdue")
    return None


def due_words(manual: ManualTask) -> str:
    """How much time there is, or how long it has been over."""
    if manual.state not in MANUAL_OPEN:
        return ""
    if manual.state == ManualState.AWAITING_CUSTOMER:
        return f"time stands still: the {manual.awaits} is awaited"
    if manual.due_at is None:
        return "somebody has been told"
    return in_time(manual.due_at, now=timezone.now())
