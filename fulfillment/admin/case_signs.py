"""How cases look in lists and on pages: states, severities, and the time that is left in words."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils import timezone
from django.utils.timesince import timesince, timeuntil

from fulfillment.admin.reading import Badge, register_signs
from fulfillment.definitions.signs import Sign
from fulfillment.models import CaseState, FalloutCase, IncidentState, Severity
from fulfillment.queries import caseload

CASE_SIGNS: Mapping[str, Sign] = {
    CaseState.OPEN: ("!", "trouble"),
    CaseState.ASSIGNED: ("●", "moving"),
    CaseState.AWAITING_CUSTOMER: ("…", "waiting"),
    CaseState.RESOLVED: ("✓", "done"),
}
SEVERITY_SIGNS: Mapping[str, Sign] = {
    Severity.LOW: ("▽", "waiting"),
    Severity.MEDIUM: ("◇", "trouble"),
    Severity.HIGH: ("▲", "failed"),
}
INCIDENT_SIGNS: Mapping[str, Sign] = {
    IncidentState.OPEN: ("!", "trouble"),
    IncidentState.RELEASING: ("●", "moving"),
    IncidentState.RESOLVED: ("✓", "done"),
}
register_signs(entity="case", signs=CASE_SIGNS)
register_signs(entity="incident", signs=INCIDENT_SIGNS)


def due_badge(case: FalloutCase) -> Badge | None:
    """That somebody should have looked at it by now; None while there is time, or it is closed."""
    if caseload.is_overdue(case):
        return Badge(sign="⚠", tone="failed", words="overdue")
    return None


def time_left(case: FalloutCase) -> str:
    """How long it may still take, or since when it is too late: the largest unit is enough."""
    now = timezone.now()
    if case.resolved_at is not None:
        return f"closed after {timesince(case.opened_at, case.resolved_at, depth=1)}"
    if case.sla_paused_at is not None:
        return f"its time stands still since {case.sla_paused_at:%Y-%m-%d %H:%M} UTC"
    if case.sla_due_at < now:
        return f"for {timesince(case.sla_due_at, now, depth=1)}"
    return f"{timeuntil(case.sla_due_at, now, depth=1)} left"
