"""Cases, by hand: who has them, whom they wait for, and who has to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from pydantic import Field

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.store.database import clean
from fulfillment.engine.work import casework
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.models import HIGHEST_LEVEL, CaseState, FalloutCase
from fulfillment.operations.closing import case_found, case_version, cases_found
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


class Assignment(Parameters):
    """What `case.assign` is told; without anything whoever asks takes it."""

    to: str = Field(default="", max_length=150, description="A user name; empty: whoever asks.")
    instead_of: str = Field(
        default="",
        max_length=150,
        description="Who has it now: taking it from somebody has to be meant.",
    )
    release: bool = Field(False, description="Give it back: nobody has it then.")
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

    def carry_out(self, unit: Unit, found: Found, parameters: Assignment, why: Why) -> Done:
        case = _open(found)
        before = _standing(case)
        has = case.assigned_to
        if parameters.queue and parameters.queue != case.owner_queue:
            casework.move(unit, case=case, queue=parameters.queue, cause=why.reason)
        if parameters.release:
            told = self._release(unit, case, why)
        elif parameters.queue and not parameters.to:
            told = f"Case {case.pk} is for {case.owner_queue}."
        else:
            to = parameters.to or user_name_of(why.actor)
            check_user(to)
            if has == to:
                raise NotPossible(f"{_has(case)} already.")
            if has and has != parameters.instead_of:
                raise NotPossible(
                    f"{_has(case)}. Ask them to give it back, or take it from them: say "
                    f"instead_of={has}."
                )
            if parameters.instead_of and not has:
                raise NotPossible(f"Case {case.pk} is nobody's: it was given back.")
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


def _has(case: FalloutCase) -> str:
    return f"{case.assigned_to} has case {case.pk} since {case.assigned_at:%Y-%m-%d %H:%M} UTC"


def user_name_of(actor: Actor) -> str:
    """Their user name; the log may know them by a longer one. Raises NotPossible for no person."""
    if actor.user_id is None:
        raise NotPossible(f"{actor.name} is no person who could have it: say to whom.")
    return User.objects.get(pk=actor.user_id).get_username()


def check_user(name: str) -> None:
    """Raises NotPossible when nobody of this name may sign in."""
    if not User.objects.filter(username=name, is_active=True).exists():
        raise NotPossible(f"There is no active user {name[:150]!r}.")


def _standing(case: FalloutCase) -> dict[str, Any]:
    return {
        "state": str(case.state),
        "assigned_to": case.assigned_to,
        "owner_queue": case.owner_queue,
        "escalation_level": case.escalation_level,
        "due_at": case.sla_due_at.isoformat(),
    }
