"""Closing fallout cases by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.context import Context
from fulfillment.engine.work import cases
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import CaseUnknown, NotPossible
from fulfillment.models import CaseState, FalloutCase, Plan
from fulfillment.operations.catalog import perform
from fulfillment.operations.looking import found_once, one_look
from fulfillment.operations.repair import CameAbout, Done, Found, Repair, Request, Why
from fulfillment.operations.subjects import context_of, number_of, plans_found


class CloseCase(Repair):
    """By hand: it closes by itself as soon as its tasks get on. What it is about stays as it is,
    and an order that goes on being stuck gets a new case. The reason stays with the case."""

    action = Action.CASE_CLOSE
    kind = "close_case"
    about = "case"
    from_states = frozenset({CaseState.OPEN, CaseState.ASSIGNED, CaseState.AWAITING_CUSTOMER})

    def came_about(self, *, pks: Collection[int]) -> Mapping[int, CameAbout]:
        rows = FalloutCase.objects.filter(pk__in=pks).values_list("pk", "state")
        return {
            pk: CameAbout(is_so=state == CaseState.RESOLVED, told=f"It is {state}.")
            for pk, state in rows
        }

    def find(self, *, name: str) -> Found:
        return case_found(name=name)

    def find_among(self, *, pks: tuple[int, ...]) -> Mapping[int, Found]:
        return cases_found(pks=pks)

    def version(self, unit: Unit, found: Found) -> str:
        return case_version(found)

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        case = FalloutCase.objects.get(pk=found.pk)
        if not cases.resolve_case(unit, case_id=case.pk, resolution=why.reason):
            raise NotPossible(
                f"Case {case.pk} is closed already, by {case.resolved_by}: {case.resolution}"
            )
        return Done(
            told=f"Case {case.pk} is closed; what it is about stays as it is.",
            before={"state": str(case.state), "title": case.title},
            after={"state": "RESOLVED"},
        )


def case_version(found: Found) -> str:
    """Another text after whatever matters to who sees to it."""
    values = FalloutCase.objects.values_list(
        "state", "assigned_to", "owner_queue", "escalation_level", "reason_code", "tasks_open"
    ).get(pk=found.pk)
    return hashlib.sha256("\n".join(map(str, values)).encode()).hexdigest()[:16]


def case_found(*, name: str) -> Found:
    """A fallout case by its number. Raises CaseUnknown."""
    number = number_of(name, about="case")
    found = cases_found(pks=(number,)).get(number)
    if found is None:
        raise CaseUnknown(f"There is no case {name}; `manage.py cases list` shows those open.")
    return found


@found_once
def cases_found(*, pks: tuple[int, ...]) -> Mapping[int, Found]:
    """Fallout cases by their numbers; three queries."""
    rows = FalloutCase.objects.filter(pk__in=pks).select_related("fulfillment", "task")
    cases = list(rows.defer("facts", "task__outputs"))
    plans = plans_found(pks=frozenset(case.plan_id for case in cases if case.plan_id is not None))
    with one_look():
        return {case.pk: _found(case, plans) for case in cases}


def _found(case: FalloutCase, plans: Mapping[int, Plan]) -> Found:
    subject = f"case:{case.pk}"
    context = Context(subject=subject)
    if case.fulfillment is not None:
        targets = {case.task.target_id} - {""} if case.task else ()
        context = context_of(
            subject=subject,
            order=case.fulfillment,
            plan=plans.get(case.plan_id or 0),
            targets=targets,
        )
    return Found(
        subject=subject,
        pk=case.pk,
        context=context,
        state=case.state,
        fulfillment_ids=() if case.fulfillment_id is None else (case.fulfillment_id,),
    )


def close_case(*, case_id: int, resolution: str, actor: Actor) -> None:
    """Raises as `catalog.perform` does; NotPossible when it is closed already."""
    perform(
        actor=actor,
        request=Request(action=Action.CASE_CLOSE, subject=f"case:{case_id}", reason=resolution),
    )
