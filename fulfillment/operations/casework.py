"""Cases, by hand: who has them, whom they wait for, and who has to know."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import Field

from fulfillment.actions import Action
from fulfillment.engine.store.database import clean
from fulfillment.engine.work import casework
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.models import HIGHEST_LEVEL, CaseState, FalloutCase
from fulfillment.operations.closing import case_found, case_version, cases_found
from fulfillment.operations.having import Having, user_name_of, who_gets
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Why

OPEN_STATES = frozenset({CaseState.OPEN, CaseState.ASSIGNED, CaseState.AWAITING_CUSTOMER})


class _Casework(Repair):
    about = "case"
    from_states = frozenset(map(str, OPEN_STATES))

    def find(self, *, name: str) -> Found:
        return case_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return case_version(found)

    def find_among(self, *, pks: tuple[int, ...]) -> Mapping[int, Found]:
        return cases_found(pks=pks)


class Assignment(Having):
    """What `case.assign` is told; without anything whoever asks takes it."""

    queue: str = Field(
        default="",
        max_length=60,
        description="Other people are to see to it; empty: the same ones.",
    )


class AssignCase(_Casework):
    """Take it, give it to somebody or to another queue, or give it back."""

    action = Action.CASE_ASSIGN
    kind = "assign_case"
    parameters = Assignment
    people = MappingProxyType({"to": Action.CASE_ASSIGN})

    def carry_out(self, unit: Unit, found: Found, parameters: Assignment, why: Why) -> Done:
        case = _open(found)
        before = _standing(case)
        if parameters.queue and parameters.queue != case.owner_queue:
            casework.move(unit, case=case, queue=parameters.queue, cause=why.reason)
        if parameters.release:
            told = self._release(unit, case, why)
        elif parameters.queue and not parameters.to:
            told = f"Case {case.pk} is for {case.owner_queue}."
        else:
            to = who_gets(
                parameters,
                what=f"case {case.pk}",
                has=case.assigned_to,
                since=case.assigned_at,
                asks=why.actor,
            )
            casework.assign(unit, case=case, to=to, cause=why.reason)
            told = f"Case {case.pk} is {to}'s."
        return Done(told=told, before=before, after=_standing(case))

    def _release(self, unit: Unit, case: FalloutCase, why: Why) -> str:
        if case.state != CaseState.ASSIGNED:
            raise NotPossible(
                f"Case {case.pk} is {case.state}: only what somebody has, and what does not wait "
                "for the customer, is given back."
            )
        casework.release(unit, case=case, cause=why.reason)
        return f"Case {case.pk} is nobody's; {case.owner_queue} sees to it."


class CustomerWait(Parameters):
    """What `case.await_customer` is told."""

    asked: str = Field(
        default="", max_length=2000, description="What the customer was asked, and how."
    )
    ended: bool = Field(False, description="The customer has answered, or is awaited no more.")


class AwaitCustomer(_Casework):
    """Stop the time of a case while the customer is awaited; then let what is left go on."""

    action = Action.CASE_AWAIT_CUSTOMER
    kind = "await_customer"
    parameters = CustomerWait

    def carry_out(self, unit: Unit, found: Found, parameters: CustomerWait, why: Why) -> Done:
        case = _open(found)
        before = _standing(case)
        if parameters.ended:
            if case.state != CaseState.AWAITING_CUSTOMER:
                raise NotPossible(f"Case {case.pk} is {case.state}: it waits for no customer.")
            casework.go_on(unit, case=case, cause=why.reason)
            return Done(
                told=f"Case {case.pk} goes on; it is due {case.sla_due_at:%Y-%m-%d %H:%M} UTC.",
                before=before,
                after=_standing(case),
            )
        if case.state == CaseState.AWAITING_CUSTOMER:
            raise NotPossible(
                f"Case {case.pk} waits for the customer since "
                f"{case.customer_awaited_since:%Y-%m-%d %H:%M} UTC already; {case.assigned_to} has "
                "it."
            )
        if case.state == CaseState.OPEN:
            casework.assign(unit, case=case, to=user_name_of(why.actor), cause=why.reason)
        asked = clean(parameters.asked.strip(), 2000) or why.reason
        casework.await_customer(unit, case=case, asked=asked, cause=why.reason)
        return Done(
            told=f"The time of case {case.pk} stands still while the customer is awaited.",
            before=before,
            after=_standing(case),
            customer_impact="The customer has been asked, and is awaited.",
        )


class EscalateCase(_Casework):
    """Let those know who see to what can't wait, before its time is over."""

    action = Action.CASE_ESCALATE
    kind = "escalate_case"

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        case = _open(found)
        if case.escalation_level >= HIGHEST_LEVEL:
            raise NotPossible(
                f"Case {case.pk} is at level {case.escalation_level}, since "
                f"{case.escalated_at:%Y-%m-%d %H:%M} UTC: there is none above it."
            )
        before = _standing(case)
        casework.escalate(unit, case=case, cause=why.reason)
        return Done(
            told=f"Case {case.pk} is at level {case.escalation_level}; {case.owner_queue} sees to "
            "it.",
            before=before,
            after=_standing(case),
        )


def _open(found: Found) -> FalloutCase:
    """The case, locked. Raises NotPossible for one that is over."""
    case = casework.locked(found.pk)
    if case.state == CaseState.RESOLVED:
        raise NotPossible(
            f"Case {case.pk} is closed since {case.resolved_at:%Y-%m-%d %H:%M} UTC, by "
            f"{case.resolved_by}: {case.resolution}"
        )
    return case


def _standing(case: FalloutCase) -> dict[str, Any]:
    return {
        "state": str(case.state),
        "assigned_to": case.assigned_to,
        "owner_queue": case.owner_queue,
        "escalation_level": case.escalation_level,
        "due_at": case.sla_due_at.isoformat(),
    }
