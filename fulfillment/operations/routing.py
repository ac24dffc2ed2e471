"""Saying who gets which cases, and how fast."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from typing import Any

from pydantic import Field

from fulfillment.actions import Action
from fulfillment.authority.context import Context
from fulfillment.engine.store import calendars, routing
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible, RuleInvalid, SubjectUnknown
from fulfillment.models import CaseCategory, RoutingRule, Severity
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Why

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PATTERN = re.compile(r"[*?\[]")


class Rule(Parameters):
    """A whole rule, as it is to be; see `RoutingRule`."""

    position: int = Field(
        default=100, ge=0, le=1_000_000, description="The lowest is looked at first."
    )
    category: str = Field(
        default="", max_length=20, description="Of which cases; this and the next: a pattern."
    )
    target: str = Field(default="", max_length=100, description="Of which target system.")
    action: str = Field(default="", max_length=100, description="Of which action of it.")
    reason_code: str = Field(default="", max_length=100, description="With which reason.")
    owner_queue: str = Field(default="", max_length=60, description="Who sees to them.")
    role: str = Field(default="", max_length=100, description="Who of those.")
    severity: Severity | None = Field(
        default=None, description="How bad they are; empty: as the engine has found it."
    )
    sla: timedelta | None = Field(None, description="Such as PT4H: working time of the calendar.")
    calendar: str = Field(
        default="", max_length=63, description="A business calendar; empty: day and night."
    )
    escalation_queue: str = Field(
        default="", max_length=60, description="Who sees to them when that time is over."
    )
    remove: bool = Field(False, description="There is to be no such rule any more.")


class EditRouting(Repair):
    """Add a rule, write it anew or remove it. Cases that are open stay where they are."""

    action = Action.ROUTING_EDIT
    kind = "edit_routing"
    about = "routing"
    parameters = Rule

    def find(self, *, name: str) -> Found:
        if not _NAME.fullmatch(name):
            raise SubjectUnknown(
                f"{name[:100]!r} is no name of a rule: small letters, digits, - and _; write it "
                "as routing:billing-refusals."
            )
        subject = f"routing:{name}"
        return Found(subject=subject, pk=0, context=Context(subject=subject))

    def version(self, unit: Unit, found: Found) -> str:
        document = json.dumps(_values(_known(found)), sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()[:16]

    def carry_out(self, unit: Unit, found: Found, parameters: Rule, why: Why) -> Done:
        known = _known(found)
        before = _values(known)
        name = found.subject.partition(":")[2]
        if parameters.remove:
            if known is None:
                raise NotPossible(f"There is no rule {name}; it may be removed already.")
            known.delete()
            return Done(told=f"The rule {name} is removed.", before=before)
        _check(parameters)
        row = RoutingRule(
            name=name,
            updated_at=unit.now,
            severity=parameters.severity or "",
            **parameters.model_dump(exclude={"remove", "severity"}),
        )
        after = _values(row)
        if after == before:
            raise NotPossible(f"The rule {name} is like this already.")
        row.save()
        return Done(
            told=f"The rule {name} works within a second, for cases that are opened from now on.",
            before=before,
            after=after,
        )

    def afterwards(self, done: Done) -> Done:
        routing.forget()
        return done


def _known(found: Found) -> RoutingRule | None:
    return RoutingRule.objects.filter(pk=found.subject.partition(":")[2]).first()


def _check(rule: Rule) -> None:
    """Raises RuleInvalid, CalendarUnknown and CalendarInvalid."""
    if not rule.owner_queue:
        raise RuleInvalid("A rule has to say whose the cases are: give an owner_queue.")
    if rule.sla is not None and rule.sla <= timedelta():
        raise RuleInvalid("The time has to be longer than nothing, such as PT4H.")
    if (
        rule.category
        and not _PATTERN.search(rule.category)
        and rule.category not in set(CaseCategory)
    ):
        raise RuleInvalid(
            f"There is no category {rule.category!r}; there are: {', '.join(CaseCategory)}."
        )
    if rule.calendar:
        calendars.get(rule.calendar)


def _values(row: RoutingRule | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {
        "position": row.position,
        "category": row.category,
        "target": row.target,
        "action": row.action,
        "reason_code": row.reason_code,
        "owner_queue": row.owner_queue,
        "role": row.role,
        "severity": str(row.severity),
        "sla": None if row.sla is None else row.sla.total_seconds(),
        "calendar": row.calendar,
        "escalation_queue": row.escalation_queue,
    }
