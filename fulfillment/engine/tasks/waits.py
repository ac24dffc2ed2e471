"""Waits: for a time, for a milestone, for a signal. Every one of them ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from fulfillment.definitions.graph import Node
from fulfillment.definitions.node_parts import Wait
from fulfillment.definitions.outputs import output_faults
from fulfillment.engine.structure.scope import scope_of
from fulfillment.engine.tasks.stopped import Stopped
from fulfillment.engine.timing import standing
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.subjects import of_key, of_order, owner_of
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import FulfillmentError
from fulfillment.models import CaseCategory, Plan, Task
from fulfillment.states import Cause

_LATEST = """
SELECT payload, will_not_come FROM fulfillment_signal
WHERE subject = %s AND name = %s ORDER BY id DESC LIMIT 1
"""
# A signal that is being applied waits until this unit has committed; then it sees the wait.
_LOCK = "SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 11))"


class NoInstant(FulfillmentError):
    """The time that a wait is to end at is no instant."""

    code = "fulfillment.no_instant"


def begin(unit: Unit, *, plan: Plan, task: Task, node: Node) -> None:
    """ACCEPTED until it ends; a time that is past, or a report that is there, ends it at once.

    Raises NoInstant, ValueMissing and ExpressionFailed.
    """
    wait = node.wait
    assert wait is not None
    if wait.kind in ("until", "delay"):
        due = (
            unit.now + timedelta(seconds=wait.delay_seconds)
            if wait.kind == "delay"
            else instant(scope_of(unit, plan=plan, task=task).value(wait.key))
        )
        if due <= unit.now:
            unit.change_task(task, Task.conclude, cause="its time has come")
            return
        task.not_before = due
        if node.stops_clock:
            standing.stop(unit, plan=plan)
        unit.change_task(task, Task.begin_waiting, cause=f"until {due:%Y-%m-%d %H:%M:%S} UTC")
        return
    if node.stops_clock:
        standing.stop(unit, plan=plan)
    subject = _subject(unit, plan, task, wait)
    task.awaits = awaits(name=wait.name, subject=subject)
    task.not_before = unit.now + timedelta(seconds=wait.within_seconds)
    unit.change_task(task, Task.begin_waiting, cause=f"for {wait.name} of {subject}")
    if wait.kind == "milestone" and subject != _own_subject(unit, plan):
        task.waits_for = Cause.OTHER_ORDER
    elif node.stops_clock:
        task.waits_for = Cause.CUSTOMER
    unit.raw.execute(_LOCK, [task.awaits], prepare=True)
    unit.raw.execute(_LATEST, [subject, wait.name], prepare=True)
    row = unit.raw.fetchone()
    if row is not None:
        told = json.loads(row[0])
        if row[1]:
            will_not_come(unit, task=task, node=node, reason=told["reason"])
        else:
            report(unit, task=task, node=node, payload=told)


def report(unit: Unit, *, task: Task, node: Node, payload: dict[str, Any]) -> None:
    """What it waited for has been reported; values that don't fit are for a person."""
    outputs = {name: payload[name] for name in node.outputs if name in payload}
    faults = output_faults(declared=node.outputs, returned=outputs)
    if faults:
        task.blocked_reason = "It was reported, but " + " ".join(one.message for one in faults)
        unit.change_task(
            task,
            Task.await_manual,
            cause="reported with values that don't fit",
            why=Stopped.REPORTED,
        )
        _open_case(unit, task, node, "outputs_unusable")
        return
    task.outputs = outputs
    task.blocked_reason = ""
    unit.change_task(task, Task.succeed, cause="it has been reported")


def fall_due(unit: Unit, *, task: Task, node: Node) -> None:
    """Its time has come: for a time that is the end, for a report it is the action after it."""
    wait = node.wait
    assert wait is not None
    if wait.kind in ("until", "delay"):
        unit.change_task(task, Task.succeed, cause="its time has come")
        return
    late = f"{node.title}: {wait.name} has not been reported in time."
    _without_it(unit, task, node, late, "not_reported")


def will_not_come(unit: Unit, *, task: Task, node: Node, reason: str) -> None:
    """The other order goes on without it; nobody waits for the deadline to find that out."""
    assert node.wait is not None
    never = f"{node.title}: {node.wait.name} will not be reported. {reason}"
    _without_it(unit, task, node, never, "will_not_come")


def _without_it(unit: Unit, task: Task, node: Node, late: str, code: str) -> None:
    wait = node.wait
    assert wait is not None
    if wait.otherwise == "continue":
        task.outputs = dict(wait.default or {})
        unit.change_task(task, Task.succeed, cause=f"{late} It goes on without.")
    elif wait.otherwise == "undo":
        task.blocked_reason = late
        unit.change_task(task, Task.fail, cause=late)
        unit.give_up(task, reason=late)
    elif wait.otherwise == "fail":
        task.blocked_reason = late
        unit.change_task(task, Task.fail, cause=late)
        if task.required:
            _open_case(unit, task, node, code)
    else:
        task.blocked_reason = f"{late} A report still ends it; so does a person."
        unit.change_task(task, Task.await_manual, cause=late, why=Stopped.UNREPORTED)
        _open_case(unit, task, node, code)


def awaits(*, name: str, subject: str) -> str:
    """What a waiting task's row says it waits for."""
    return f"{name} {subject}"


def instant(value: Any) -> datetime:
    """An aware time from RFC 3339 text. Raises NoInstant."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        what = "It has no value" if value is None else f"{value!r} is not an instant"
        raise NoInstant(f"{what}; write one such as 2026-07-05T08:00:00Z.") from error
    if found.tzinfo is None:
        raise NoInstant(f"{value!r} names no time zone; write 2026-07-05T08:00:00Z.")
    return found.astimezone(UTC)


def _subject(unit: Unit, plan: Plan, task: Task, wait: Wait) -> str:
    if wait.kind == "milestone" and not wait.key:
        return _own_subject(unit, plan)
    own = _own_key(unit, plan)
    key = scope_of(unit, plan=plan, task=task).value(wait.key)
    if not isinstance(key, str | int) or isinstance(key, bool) or key == "":
        raise NoInstant(f"{wait.key} is no business key but {key!r}.")
    owner = owner_of(business_key=own)
    if wait.kind == "signal":
        return of_key(owner=owner, key=str(key))
    return of_order(business_key=f"{owner}/{key}")


def _own_key(unit: Unit, plan: Plan) -> str:
    locked = unit.fulfillments[plan.fulfillment_id]
    return locked.business_key or locked.order_reference


def _own_subject(unit: Unit, plan: Plan) -> str:
    return of_order(business_key=_own_key(unit, plan))


def _open_case(unit: Unit, task: Task, node: Node, code: str) -> None:
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.DATA if code == "outputs_unusable" else CaseCategory.STUCK,
        reason_code=code,
        explanation=task.blocked_reason,
    )
