"""What becomes of an open case: who has it, whom it waits for, and who has to know by now.

All of it under the lock of its order, where it has one, and under that of its row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fulfillment.engine.work import cases, events, sla
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseState, FalloutCase


def locked(case_id: int) -> FalloutCase:
    """The row, locked. Raises FalloutCase.DoesNotExist."""
    return FalloutCase.objects.select_for_update(no_key=True).get(pk=case_id)


def assign(unit: Unit, *, case: FalloutCase, to: str, cause: str) -> None:
    """Somebody has it from now on. One that waits for the customer goes on waiting."""
    before = case.assigned_to
    case.assigned_to, case.assigned_at = to, unit.now
    if case.state == CaseState.AWAITING_CUSTOMER:
        _write(unit, case, "reassign", str(case.state), cause, to=to, instead_of=before)
    else:
        _change(unit, case, FalloutCase.assign, cause, to=to, instead_of=before)


def release(unit: Unit, *, case: FalloutCase, cause: str) -> None:
    """Nobody has it."""
    before, case.assigned_to, case.assigned_at = case.assigned_to, "", None
    _change(unit, case, FalloutCase.release, cause, instead_of=before)


def move(unit: Unit, *, case: FalloutCase, queue: str, cause: str) -> None:
    """Other people see to it; its time goes on."""
    before, case.owner_queue = case.owner_queue, queue
    _write(unit, case, "move", str(case.state), cause, to=queue, instead_of=before)


def await_customer(unit: Unit, *, case: FalloutCase, asked: str, cause: str) -> None:
    """Its time stands still until the customer has answered."""
    case.sla_left = sla.left(calendar=case.sla_calendar, now=unit.now, until=_next(case))
    case.sla_paused_at = case.customer_awaited_since = unit.now
    case.customer_asked = asked
    _change(unit, case, FalloutCase.await_customer, cause, asked=asked)


def go_on(unit: Unit, *, case: FalloutCase, cause: str) -> None:
    """The time that was left goes on."""
    until = sla.deadline(
        calendar=case.sla_calendar, start=unit.now, within=case.sla_left or unit.now - unit.now
    )
    if case.escalates_at is None and case.escalation_level == 0:
        case.sla_due_at = until
    else:
        case.escalates_at = until
    case.sla_paused_at = case.customer_awaited_since = case.sla_left = None
    _change(unit, case, FalloutCase.go_on, cause, due=until.isoformat())


def escalate(unit: Unit, *, case: FalloutCase, cause: str) -> None:
    """One level up, to those who see to what has taken too long; again after as much time."""
    before = case.owner_queue
    case.escalation_level += 1
    case.escalated_at = unit.now
    case.owner_queue = case.escalation_queue or case.owner_queue
    case.escalates_at = sla.deadline(
        calendar=case.sla_calendar, start=unit.now, within=case.sla_within
    )
    if case.sla_paused_at is not None:
        case.sla_left = case.sla_within
    _write(
        unit,
        case,
        "escalate",
        str(case.state),
        cause,
        level=case.escalation_level,
        queue=case.owner_queue,
        instead_of=before,
    )
    if case.fulfillment_id is not None:
        unit.emit(
            fulfillment_id=case.fulfillment_id,
            event_type=events.CASE_ESCALATED,
            payload=events.of_case(case),
            plan_id=case.plan_id,
        )


def _next(case: FalloutCase) -> datetime:
    return case.escalates_at or case.sla_due_at


def _change(
    unit: Unit,
    case: FalloutCase,
    transition: Callable[[FalloutCase], Any],
    cause: str,
    **details: Any,
) -> None:
    before = str(case.state)
    transition(case)
    _write(unit, case, transition.__name__, before, cause, **details)


def _write(
    unit: Unit, case: FalloutCase, name: str, before: str, cause: str, **details: Any
) -> None:
    case.save()
    if case.fulfillment_id is not None:
        cases.record(
            unit,
            case_id=case.pk,
            fulfillment_id=case.fulfillment_id,
            name=name,
            before=before,
            after=str(case.state),
            cause=cause,
            details=details,
        )
