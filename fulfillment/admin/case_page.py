"""What the page of a case says, in the order in which somebody decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.case_signs import CASE_SIGNS, SEVERITY_SIGNS, due_badge, time_left
from fulfillment.admin.operating import operate_address
from fulfillment.admin.reading import Badge, address_of, badge_of, pretty
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import Reach
from fulfillment.definitions.signs import TASK_SIGNS, in_words
from fulfillment.models import CaseCategory, CaseState, CaseTask, Command, FalloutCase
from fulfillment.operations import showing
from fulfillment.operations.looking import one_look
from fulfillment.operations.offering import help_of
from fulfillment.queries import case_help, caseload

_EVIDENCE = ("number", "purpose", "outcome", "code", "message", "started_at", "worker")
_MOST_TASKS = 50
_CASEWORK: Mapping[Action, str] = {
    Action.CASE_ASSIGN: "Give it to somebody",
    Action.CASE_AWAIT_CUSTOMER: "Wait for the customer",
    Action.CASE_ESCALATE: "Escalate it",
    Action.CASE_CLOSE: "Close it by hand",
}
"""What is done to the case itself, as buttons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Button:
    words: str
    told: str
    address: str
    needs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _TaskShown:
    key: str
    address: str
    badge: Badge
    explanation: str
    left_at: datetime | None
    left_because: str
    buttons: Sequence[_Button]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    remedied: caseload.Remedied
    again: Sequence[_Button]
    """To do the same here."""


def page_of(*, case: FalloutCase, actor: Actor, reach: Reach) -> Mapping[str, Any]:
    """All that the template shows to this actor. A fixed number of queries."""
    facts = dict(case.facts)
    evidence = facts.pop("evidence", None) or []
    tasks = caseload.tasks_of(case, at_most=_MOST_TASKS)
    subject = f"case:{case.pk}"
    with one_look():
        found = case_help.help_for(case=case, tasks=tasks, reach=reach)
        possible = operations.possible(subject=subject, held=reach.held, reach=reach)
    may_assign = any(one.action is Action.CASE_ASSIGN for one in possible)
    late = due_badge(case)
    is_open = case.state != CaseState.RESOLVED
    return {
        "badges": [
            badge_of(case.state, CASE_SIGNS),
            badge_of(case.severity, SEVERITY_SIGNS),
            *([late] if late else []),
        ],
        "time_left": time_left(case),
        "is_open": is_open,
        "may_take": is_open and not case.assigned_to and may_assign,
        "buttons": [
            _Button(words=words, told=help_of(one), address=operate_address(one, subject), needs="")
            for action, words in _CASEWORK.items()
            for one in possible
            if one.action is action
        ],
        "may_give_back": (
            case.state == CaseState.ASSIGNED and case.assigned_to == actor.name and may_assign
        ),
        "category": in_words(case.category),
        "to_find_out": caseload.TO_FIND_OUT[CaseCategory(case.category)],
        "command": _newest_command(case),
        "options": [_button(one) for one in found.first],
        "tasks": [_task_shown(one, found) for one in tasks],
        "more_tasks": max(case.tasks_total - len(tasks), 0),
        "fixed_before": [
            _Before(
                remedied=one,
                again=[_button(same) for same in _same(one, found)] if is_open else (),
            )
            for one in caseload.fixed_before(fingerprint=case.fingerprint, besides=case.pk)
        ],
        "evidence_columns": [in_words(name) for name in _EVIDENCE],
        "evidence": [[_told(one.get(name)) for name in _EVIDENCE] for one in evidence],
        "facts": [(in_words(name), _shown(value)) for name, value in facts.items()],
        "history": case_help.history(case=case, tasks=tasks),
        "trail": _trail(case),
    }


def _same(one: caseload.Remedied, found: case_help.CaseHelp) -> Sequence[case_help.Help]:
    return case_help.done_before(steps=one.steps, first=found.first)


def _button(remedy: case_help.Help) -> _Button:
    return _Button(
        words=remedy.title,
        told=remedy.help,
        address=operate_address(operations.repair_of(remedy.action), remedy.subject),
        needs=remedy.needs.words if remedy.needs else "",
    )


def _task_shown(one: CaseTask, found: case_help.CaseHelp) -> _TaskShown:
    return _TaskShown(
        key=one.task.key,
        address=address_of(f"task:{one.task_id}"),
        badge=badge_of(one.task.state, TASK_SIGNS),
        explanation=one.explanation,
        left_at=one.left_at,
        left_because=one.left_because,
        buttons=[_button(remedy) for remedy in found.by_task.get(one.task_id, ())],
    )


def _newest_command(case: FalloutCase) -> int | None:
    rows = Command.objects.filter(task=case.task_id).order_by("-revision")
    return rows.values_list("pk", flat=True).first()


def _trail(case: FalloutCase) -> str:
    """All transitions of the case."""
    if case.fulfillment_id is None:
        return ""
    wanted = {
        "fulfillment__id__exact": case.fulfillment_id,
        "entity": "case",
        "entity_id": case.pk,
    }
    return f"{reverse('admin:fulfillment_transition_changelist')}?{urlencode(wanted)}"


def _told(value: Any) -> str:
    if value is None:
        return ""
    try:
        return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M:%S}"
    except (TypeError, ValueError):
        return str(value)


def _shown(value: Any) -> str:
    return pretty(value) if isinstance(value, dict | list) else showing.readable(value)
