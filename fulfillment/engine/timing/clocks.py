"""The clocks of a task: set when it may be sent, when it is sent, and when it is heard of (§13).

`not_before` says when the engine looks at an accepted task next; `start_by` and `close_by` run
beside it, for tasks whose template sets them. Whatever begins anew has fresh clocks. What follows
when one of them runs out is in `timing_out`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from adapters.contract import Outcome, OutcomeKind
from fulfillment.definitions.clocks import WhenSent, WhenUnsent, seconds_of
from fulfillment.definitions.node_parts import Clocks
from fulfillment.definitions.nodes import Node
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import storable
from fulfillment.engine.structure.scope import scope_of
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ValueUnavailable
from fulfillment.models import Plan, Purpose, Task
from fulfillment.states import TASK_SENDABLE, TASK_TERMINAL, TaskState

TIME_IS_UP = Outcome(
    kind=OutcomeKind.UNKNOWN, code="time_is_up", message="The time that it waited for has come."
)
"""Told by identity: no code that a target sends can pass for one of ours."""
REPORT_OVERDUE = Outcome(
    kind=OutcomeKind.UNKNOWN,
    code="report_overdue",
    message="The target system accepted the command and did not report in time.",
)
HEARTBEAT_MISSED = Outcome(
    kind=OutcomeKind.UNKNOWN,
    code="heartbeat_missed",
    message="The target system was at work and has given no sign of life in time.",
)
TOOK_TOO_LONG = Outcome(
    kind=OutcomeKind.UNKNOWN,
    code="took_too_long",
    message="The target system has taken longer from the send to the result than it may.",
)
TIMED_OUT = Outcome(
    kind=OutcomeKind.UNKNOWN,
    code="timed_out",
    message="The time for all attempts together is up.",
)
_OURS = (REPORT_OVERDUE, HEARTBEAT_MISSED, TOOK_TOO_LONG, TIMED_OUT)
_FASTEST = timedelta(hours=1)
"""By how much a target system's clock may be ahead."""
_SENT_AT = f"""
SELECT max(started_at) FROM fulfillment_attempt WHERE purpose = '{Purpose.SEND}' AND command_id = (
    SELECT id FROM fulfillment_command WHERE task_id = %s ORDER BY revision DESC LIMIT 1)
"""
_OF_A_CALL = "timeout"
"""The code with which adapters say that a call's deadline has passed."""


class ClockUnusable(ValueUnavailable):
    """A clock that is computed comes to no duration."""

    code = "fulfillment.clock_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long each of a task's clocks runs, and what follows; None never runs out."""

    call: timedelta
    callback: timedelta
    start_to_close: timedelta | None
    schedule_to_start: timedelta | None
    schedule_to_close: timedelta | None
    heartbeat: timedelta | None
    when_sent: WhenSent
    when_unsent: WhenUnsent


def of(*, task: Task, node: Node) -> Limits:
    """The limits of a task as they are now; everything that runs or compares asks here."""
    found = _limits(node.call_timeout_seconds, node.callback_timeout_seconds, node.clocks)
    if task.limits:
        computed: dict[str, Any] = {
            name: timedelta(seconds=value) for name, value in task.limits.items()
        }
        return replace(found, **computed)
    return found


@lru_cache(maxsize=1024)
def _limits(call: float, callback: float, clocks: Clocks | None) -> Limits:
    clocks = clocks or Clocks()

    def duration(seconds: float | None) -> timedelta | None:
        return None if seconds is None else timedelta(seconds=seconds)

    return Limits(
        call=timedelta(seconds=call),
        callback=timedelta(seconds=callback),
        start_to_close=duration(clocks.start_to_close_seconds),
        schedule_to_start=duration(clocks.schedule_to_start_seconds),
        schedule_to_close=duration(clocks.schedule_to_close_seconds),
        heartbeat=duration(clocks.heartbeat_seconds),
        when_sent=WhenSent(clocks.when_sent),
        when_unsent=WhenUnsent(clocks.when_unsent),
    )


# --- running -----------------------------------------------------------------------------------


def begin(unit: Unit, *, task: Task, node: Node, resumes: bool = False) -> None:
    """Fresh clocks: it may be sent from `not_before` on, or from the opening of its window.

    `resumes`: what its target system has told of its progress still stands. Raises
    ValueUnavailable when a clock can't be computed that never has been before.
    """
    _compute(unit, task, node)
    limits = of(task=task, node=node)
    _set(
        unit,
        task,
        start_by=_after(task.not_before, limits.schedule_to_start),
        close_by=_after(task.not_before, limits.schedule_to_close),
        late_since=None,
        stopped_at=None,
        stopped_by_id=None,
        report_by=None,
        heard_at=None,
        progress=task.progress if resumes else None,
    )


def renew(unit: Unit, *, plan: Plan) -> None:
    """Compute the clocks of what is open anew: the plan has come into jeopardy, or out of it."""
    for task in list(unit.tasks.values()):
        if task.plan_id != plan.id or task.state in TASK_TERMINAL or not task.limits:
            continue
        node = graphs.routed(plan.graph_id, task.node, task.route)
        before = of(task=task, node=node)
        _compute(unit, task, node)
        after = of(task=task, node=node)
        _set(
            unit,
            task,
            start_by=_moved(task.start_by, before.schedule_to_start, after.schedule_to_start),
            close_by=_moved(task.close_by, before.schedule_to_close, after.schedule_to_close),
        )


def _moved(
    at: datetime | None, before: timedelta | None, after: timedelta | None
) -> datetime | None:
    return None if at is None or before is None or after is None else at - before + after


def _compute(unit: Unit, task: Task, node: Node) -> None:
    """What a clock comes to that can't be computed any more is what it was."""
    if node.clocks is None or not node.clocks.computed:
        _set(unit, task, limits=None)
        return
    try:
        scope = scope_of(unit, plan=unit.plans[task.plan_id], task=task)
        found = {name: _seconds(name, scope.value(text)) for name, text in node.clocks.computed}
    except ValueUnavailable:
        if not task.limits:
            raise
        return
    _set(unit, task, limits=found)


def _seconds(name: str, value: Any) -> float:
    try:
        return seconds_of(value)
    except ValueError as error:
        raise ClockUnusable(f"The clock {name} is no duration: {error}.") from error


def sent(unit: Unit, *, task: Task, node: Node, at: datetime) -> None:
    """It is being sent: what is timed from the send on is timed anew."""
    limits = of(task=task, node=node)
    _set(
        unit,
        task,
        report_by=_after(at, limits.start_to_close),
        heard_at=None,
    )


def was_sent(unit: Unit, *, task: Task) -> None:
    """Its first send has begun for certain, or may have: nothing can be late with that now."""
    if task.sends:
        _set(unit, task, start_by=None)


def accepted(unit: Unit, *, task: Task, node: Node) -> None:
    """Its target system is at work: when it has to have reported, or to give a sign of life.

    A target system that was asked, and is still at work, has as long as after any acceptance.
    """
    limits = of(task=task, node=node)
    end = unit.now + limits.callback
    closes = _result_by(unit, task, limits.start_to_close)
    if closes is not None and closes > unit.now:
        end = min(end, closes)
    if limits.start_to_close or limits.heartbeat:
        _set(unit, task, report_by=end)
    task.not_before = min(end, _after(unit.now, limits.heartbeat) or end)


def _result_by(unit: Unit, task: Task, limit: timedelta | None) -> datetime | None:
    """By when the last send has to have come to something, whatever was accepted since."""
    if limit is None:
        return None
    if task.state == TaskState.DISPATCHED:
        return task.report_by
    unit.raw.execute(_SENT_AT, [task.id], prepare=True)
    row = unit.raw.fetchone()
    return None if row is None or row[0] is None else row[0] + limit


def heard(
    unit: Unit,
    *,
    task: Task,
    node: Node,
    progress: Mapping[str, Any] | None,
    occurred_at: datetime | None,
) -> bool:
    """A sign of life of its last send; False when a later one has been heard before.

    No change of state. `occurred_at` is by the target system's own clock; without it, what comes
    later counts as later.
    """
    if task.state in TASK_TERMINAL:
        return False
    if occurred_at is not None and occurred_at > unit.now + _FASTEST:
        occurred_at = None  # Otherwise nothing that is true would ever be later.
    if occurred_at is not None and task.heard_at is not None and occurred_at <= task.heard_at:
        return False
    heartbeat = of(task=task, node=node).heartbeat
    told = None if progress is None else dict(progress)
    _set(
        unit,
        task,
        heard_at=occurred_at or unit.now,
        # What can't be kept is no reason not to have heard it.
        progress=task.progress if told is None or not storable(told) else told,
    )
    if heartbeat is not None and task.state == TaskState.ACCEPTED:
        end = task.report_by or task.changed_at + of(task=task, node=node).callback
        task.not_before = min(end, unit.now + heartbeat)
        unit.touched_tasks.add(task.id)
    return True


def _after(at: datetime, limit: timedelta | None) -> datetime | None:
    return None if limit is None else at + limit


def _set(unit: Unit, task: Task, **values: Any) -> None:
    """Most tasks have none of these, and nothing is written for them."""
    for name, value in values.items():
        if getattr(task, name) != value:
            setattr(task, name, value)
            unit.clocked_tasks.add(task.id)


# --- running out -------------------------------------------------------------------------------


def is_timeout(outcome: Outcome) -> bool:
    """Whether an outcome is unknown because a time was up, and for no other reason."""
    return any(outcome is one for one in _OURS) or (
        outcome.kind is OutcomeKind.UNKNOWN and outcome.code == _OF_A_CALL
    )


def missed(*, task: Task, node: Node) -> Outcome:
    """What an accepted task has missed, whose `not_before` has passed."""
    limits = of(task=task, node=node)
    if task.report_by is not None and task.not_before < task.report_by:
        return HEARTBEAT_MISSED
    # Since its acceptance nothing else has changed its state.
    if limits.start_to_close and task.not_before < task.changed_at + limits.callback:
        return TOOK_TOO_LONG
    return REPORT_OVERDUE


def closing_is_due(task: Task, *, now: datetime) -> bool:
    return task.close_by is not None and task.stopped_at is None and task.close_by <= now


def starting_is_due(task: Task, *, now: datetime) -> bool:
    return (
        task.start_by is not None
        and task.stopped_at is None
        and task.start_by <= now
        and task.state in TASK_SENDABLE
    )
