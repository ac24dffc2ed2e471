"""Who gets which cases: the rules as operators have written them, briefly remembered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase

from fulfillment.models import CaseCategory, RoutingRule, Severity

_REMEMBERED_SECONDS = 1.0
_rules: tuple[float, list[RoutingRule]] = (0.0, [])
_USUAL: Mapping[CaseCategory, tuple[str, timedelta]] = {
    CaseCategory.REFUSED: ("operations", timedelta(hours=4)),
    CaseCategory.UNCERTAIN: ("operations", timedelta(hours=1)),
    CaseCategory.CONFLICT: ("operations", timedelta(hours=1)),
    CaseCategory.DATA: ("data", timedelta(hours=4)),
    CaseCategory.RETRYING: ("integration", timedelta(hours=2)),
    CaseCategory.STUCK: ("operations", timedelta(hours=2)),
    CaseCategory.LATE: ("operations", timedelta(hours=2)),
    CaseCategory.POISON: ("engine", timedelta(hours=1)),
    CaseCategory.JEOPARDY: ("operations", timedelta(hours=2)),
    CaseCategory.UNDELIVERED: ("integration", timedelta(hours=8)),
    CaseCategory.LEAKAGE: ("billing", timedelta(hours=4)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a case goes, and how long it may take there."""

    rule: str
    """Its name; empty: none fits, and it goes as is usual."""
    owner_queue: str
    role: str
    severity: Severity
    within: timedelta
    """Working time of the calendar."""
    calendar: str
    """Empty: day and night."""
    escalation_queue: str
    """Empty: it stays where it is, and is told of all the same."""


def route(
    *, category: CaseCategory, target: str, action: str, reason_code: str, severity: Severity
) -> Route:
    """What the first rule that fits says, or what is usual for the category.

    `severity` is what the engine has found; a rule may know better.
    """
    queue, within = _USUAL[category]
    known = {
        "category": str(category),
        "target": target,
        "action": action,
        "reason_code": reason_code,
    }
    for rule in _remembered():
        if all(_fits(getattr(rule, name), value) for name, value in known.items()):
            return Route(
                rule=rule.name,
                owner_queue=rule.owner_queue,
                role=rule.role,
                severity=Severity(rule.severity or severity),
                within=rule.sla or within,
                calendar=rule.calendar,
                escalation_queue=rule.escalation_queue,
            )
    return Route(
        rule="",
        owner_queue=queue,
        role="",
        severity=severity,
        within=within,
        calendar="",
        escalation_queue="",
    )


def forget() -> None:
    """Drop what is remembered: a rule was edited in this process, or tests change the database."""
    global _rules
    _rules = (0.0, [])


def _fits(pattern: str, value: str) -> bool:
    return not pattern or fnmatchcase(value, pattern)


def _remembered() -> list[RoutingRule]:
    global _rules
    until, rules = _rules
    if until <= time.monotonic():
        rules = list(RoutingRule.objects.order_by("position", "name"))
        _rules = (time.monotonic() + _REMEMBERED_SECONDS, rules)
    return rules
