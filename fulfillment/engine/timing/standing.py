"""When the clocks that a customer was promised stand still, and by how much they go on later.

They are a plan's deadline and promise, and of its tasks `start_by` and `close_by`. They stand
still under a hold whose clock policy is STOP, the plan's also while a task waits for the customer.
How long a target system may take is another matter: a hold does not keep it from working.

Placing a hold writes nothing. Whoever finds that a clock has run out looks whether it stands
still, and notes since when and by which hold; so nobody looks again. Before its release that is
noted for everything in its scope; after it, what it has stopped is pushed by the time held. Each
step may be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import psycopg

from fulfillment.engine.protection import holds
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import Row, cursor
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.timing import clocks
from fulfillment.engine.work.rows import TASK_COLUMNS, plans_by_id, task_from_row, tasks_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Hold, HoldScope, ManualState, Plan, Task
from fulfillment.states import (
    TASK_MOVING,
    TASK_SENDABLE,
    TASK_TERMINAL,
    TaskState,
)

logger = logging.getLogger(__name__)

_STOPS = """
SELECT subject, id, placed_at FROM fulfillment_hold
WHERE released_at IS NULL AND clock_policy = 'STOP' AND subject = ANY(%s::text[])
"""
_OPEN_PLANS = """
SELECT id FROM fulfillment_plan
WHERE fulfillment_id = ANY(%s::bigint[])
  AND state NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'SUPERSEDED')
"""
_OPEN_TASKS = f"""
SELECT {", ".join(f"t.{column}" for column in TASK_COLUMNS)} FROM fulfillment_task t
WHERE t.plan_id = ANY(%s::bigint[]) AND t.round = 0 AND t.state = ANY(%s::text[])
"""
_WAITING = """
SELECT id FROM fulfillment_task
WHERE plan_id = %s AND node = ANY(%s::int[]) AND state IN ('ACCEPTED', 'AWAITING_MANUAL')
"""
_AWAITED = """
SELECT task_id FROM fulfillment_manualtask
WHERE fulfillment_id = %s AND state = 'AWAITING_CUSTOMER'
"""
_OF_CUSTOMER = """
SELECT f.id FROM fulfillment_fulfillment f WHERE f.customer = %s AND EXISTS (
    SELECT 1 FROM fulfillment_plan p WHERE p.fulfillment_id = f.id
      AND p.state NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'SUPERSEDED'))
ORDER BY f.id
"""
# Each part by an index of its own: what may be sent, what is kept from it, what is under way.
_AT_TARGET = """
SELECT DISTINCT v.id FROM (
    SELECT fulfillment_id AS id FROM fulfillment_task
    WHERE target_id = %(target)s AND state IN ('FAILED_RETRYABLE', 'READY')
      AND held_by_id IS NULL AND waits_for_lock = ''
    UNION ALL
    SELECT fulfillment_id FROM fulfillment_task
    WHERE held_by_id IS NOT NULL AND target_id = %(target)s
      AND state IN ('FAILED_RETRYABLE', 'READY')
    UNION ALL
    SELECT fulfillment_id FROM fulfillment_task
    WHERE waits_for_lock <> '' AND target_id = %(target)s
      AND state IN ('FAILED_RETRYABLE', 'READY')
    UNION ALL
    SELECT fulfillment_id FROM fulfillment_task
    WHERE target_id = %(target)s AND state = 'ACCEPTED' AND close_by IS NOT NULL
    UNION ALL
    SELECT fulfillment_id FROM fulfillment_task
    WHERE target_id = %(target)s AND state = 'OUTCOME_UNKNOWN' AND close_by IS NOT NULL
) v ORDER BY v.id
"""
# From hold to hold through the index: those that are still there may have stopped very many.
_LEFT_STANDING = """
WITH RECURSIVE stopping(id) AS (
    SELECT min(stopped_by_id) FROM {table} WHERE stopped_by_id IS NOT NULL
    UNION ALL
    SELECT (SELECT min(stopped_by_id) FROM {table} WHERE stopped_by_id > s.id)
    FROM stopping s WHERE s.id IS NOT NULL
)
SELECT t.fulfillment_id FROM stopping s
JOIN fulfillment_hold h ON h.id = s.id AND h.released_at IS NOT NULL
CROSS JOIN LATERAL (
    SELECT fulfillment_id FROM {table}
    WHERE stopped_by_id = s.id AND fulfillment_id <> ALL(%s::bigint[]) LIMIT %s
) t
"""
_LEFT = tuple(
    _LEFT_STANDING.format(table=table) for table in ("fulfillment_task", "fulfillment_plan")
)
_STOPPED_TASKS = """
SELECT t.id, least(h.released_at, h.until) FROM fulfillment_task t
JOIN fulfillment_hold h ON h.id = t.stopped_by_id
WHERE t.stopped_by_id IS NOT NULL AND h.released_at IS NOT NULL
  AND t.plan_id IN (SELECT id FROM fulfillment_plan WHERE fulfillment_id = ANY(%s::bigint[]))
"""
_STOPPED_PLANS = """
SELECT p.id, least(h.released_at, h.until) FROM fulfillment_plan p
JOIN fulfillment_hold h ON h.id = p.stopped_by_id
WHERE p.stopped_by_id IS NOT NULL AND h.released_at IS NOT NULL
  AND p.fulfillment_id = ANY(%s::bigint[])
"""
_BATCH = 200
_ACTOR = "clocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    """A hold that stops clocks, and since when it stops this one."""

    hold_id: int
    since: datetime


# --- under a hold ------------------------------------------------------------------------------


def holds_still(unit: Unit, *, task: Task) -> bool:
    """Whether a hold stops the clocks of a task; that is noted then."""
    plan = unit.plans[task.plan_id]
    named = _names_of_task(unit, plan, task)
    found = _first(named, _stops(unit.raw, named), began=_began(plan, task))
    if found is not None:
        _note(unit, task, found)
    return found is not None


def plan_holds_still(unit: Unit, *, plan: Plan) -> bool:
    """Whether a hold, or a wait for the customer, stops a plan's deadline; that is noted then."""
    found = _of_plan(unit, plan)
    if found is not None:
        _note(unit, plan, found)
    return found is not None


def promised(unit: Unit, *, plan: Plan) -> datetime | None:
    """For when a plan is promised now: while its clock stands still, that moves on by itself."""
    if plan.due_at is None or not (plan.stopped_at or plan_holds_still(unit, plan=plan)):
        return plan.due_at
    assert plan.stopped_at is not None
    return plan.due_at + (unit.now - plan.stopped_at)


def note(unit: Unit, *, hold: Hold) -> None:
    """Note for every clock of these orders that this hold stops it, and since when."""
    unit.raw.execute(_OPEN_PLANS, [sorted(unit.fulfillments)], prepare=True)
    plan_ids = [row[0] for row in unit.raw.fetchall()]
    unit.adopt_plans(plans_by_id(unit.raw, plan_ids))
    tasks = _open_tasks(unit, plan_ids, TASK_MOVING)
    for plan_id in plan_ids:
        plan = unit.plans[plan_id]
        mine = [task for task in tasks if task.plan_id == plan_id]
        stops = {hold.subject: (hold.pk, hold.placed_at)}
        for task in mine:
            found = _first(_names_of_task(unit, plan, task), stops, began=_began(plan, task))
            if found is not None and (task.start_by or task.close_by):
                _note(unit, task, found)
        found = _by_holds(unit, plan, [one for one in mine if one.state in TASK_SENDABLE], stops)
        if found is not None and _is_timed(plan):
            _note(unit, plan, found)


def set_going(unit: Unit) -> None:
    """Let the clocks of these orders go on that only holds have stopped which are released."""
    wanted = [sorted(unit.fulfillments)]
    unit.raw.execute(_STOPPED_TASKS, wanted, prepare=True)
    tasks: dict[int, datetime] = dict(unit.raw.fetchall())
    unit.raw.execute(_STOPPED_PLANS, wanted, prepare=True)
    plans: dict[int, datetime] = dict(unit.raw.fetchall())
    unit.adopt_tasks(tasks_by_id(unit.raw, tasks))
    unit.adopt_plans(
        plans_by_id(unit.raw, {*plans, *(unit.tasks[task_id].plan_id for task_id in tasks)})
    )
    for task_id, until in tasks.items():
        task = unit.tasks[task_id]
        plan = unit.plans[task.plan_id]
        named = _names_of_task(unit, plan, task)
        others = _first(named, _stops(unit.raw, named), began=_began(plan, task))
        _go_on(unit, task, others, until)
    for plan_id, until in plans.items():
        _go_on(unit, unit.plans[plan_id], _of_plan(unit, unit.plans[plan_id]), until)


def note_all(*, hold: Hold) -> None:
    """The same as `note` for a hold that is wider than one order, in many units of work."""
    scope, name = HoldScope(hold.scope), hold.subject.partition(":")[2]
    with cursor() as raw:
        if scope is HoldScope.CUSTOMER:
            raw.execute(_OF_CUSTOMER, [name])
        else:
            raw.execute(_AT_TARGET, {"target": name.partition("/")[0]})
        fulfillment_ids = [row[0] for row in raw.fetchall()]

    def note_together(batch: Sequence[int]) -> list[None]:
        run_unit(partial(note, hold=hold), fulfillment_ids=batch, actor=_ACTOR)
        return []

    def leave(fulfillment_id: int, error: Exception) -> None:
        """Its clocks have run on; the hold is released for all others."""
        logger.error("clocks ran on", exc_info=error, extra={"order": fulfillment_id})

    for first in range(0, len(fulfillment_ids), _BATCH):
        in_halves(fulfillment_ids[first : first + _BATCH], work=note_together, culprit=leave)


def set_all_going() -> int:
    """After the release of holds: let everything go on that they have stopped; how many orders."""
    changed = 0
    left: list[int] = []

    def go_on_together(batch: Sequence[int]) -> list[None]:
        run_unit(set_going, fulfillment_ids=batch, actor=_ACTOR)
        return []

    def leave(fulfillment_id: int, error: Exception) -> None:
        left.append(fulfillment_id)
        logger.error("clocks stand still", exc_info=error, extra={"order": fulfillment_id})

    while found := _left_standing(but=left)[:_BATCH]:
        in_halves(found, work=go_on_together, culprit=leave)
        changed += len(found)
    return changed - len(left)


def _left_standing(*, but: Collection[int]) -> list[int]:
    """Orders, but these, with clocks that only holds have stopped which are released."""
    with cursor() as raw:
        found: set[int] = set()
        for statement in _LEFT:
            raw.execute(statement, [list(but), _BATCH], prepare=True)
            found.update(row[0] for row in raw.fetchall())
    return sorted(found)


# --- while the customer is waited for ----------------------------------------------------------


def stop(unit: Unit, *, plan: Plan) -> None:
    """A task of the plan waits for the customer from now on."""
    if _is_timed(plan) and plan.stopped_at is None:
        plan.stopped_at = unit.now
        unit.clocked_plans.add(plan.id)


def go_on(unit: Unit, *, plan: Plan) -> None:
    """A task that has waited for the customer does so no more; others may."""
    if plan.stopped_at is not None and plan.stopped_by_id is None:
        _go_on(unit, plan, _of_plan(unit, plan), unit.now)


def _waits_for_customer(unit: Unit, plan: Plan) -> bool:
    """By a step that stops the clock, or because a person has asked for an answer."""
    return _is_awaited(unit, plan) or _waits_by_its_workflow(unit, plan)


def _is_awaited(unit: Unit, plan: Plan) -> bool:
    changed = unit.changed_manual.values()
    here = {one.task_id for one in changed if one.state == ManualState.AWAITING_CUSTOMER}
    over = {one.task_id for one in changed} - here
    unit.raw.execute(_AWAITED, [plan.fulfillment_id], prepare=True)
    found = (here | {task_id for (task_id,) in unit.raw.fetchall()}) - over
    return any(
        task_id not in unit.tasks or unit.tasks[task_id].state == TaskState.AWAITING_MANUAL
        for task_id in found
    )


def _waits_by_its_workflow(unit: Unit, plan: Plan) -> bool:
    nodes = graphs.by_id(plan.graph_id).clock_stopping
    if not nodes:
        return False
    unit.raw.execute(_WAITING, [plan.id, sorted(nodes)], prepare=True)
    if any(task_id not in unit.tasks for (task_id,) in unit.raw.fetchall()):
        return True
    return any(
        task.plan_id == plan.id
        and task.node in nodes
        and task.state != TaskState.PENDING
        and task.state not in TASK_TERMINAL
        for task in unit.tasks.values()
    )


# --- both --------------------------------------------------------------------------------------

_OF_PLAN = ("finish_by", "due_at")
_OF_TASK = ("start_by", "close_by")
_Holds = Mapping[str, tuple[int, datetime]]
"""Subject -> the hold on it that stops clocks, and when it was placed."""


def _is_timed(plan: Plan) -> bool:
    return plan.finish_by is not None or plan.due_at is not None


def _stops(raw: psycopg.Cursor[Row], subjects: Iterable[str]) -> _Holds:
    raw.execute(_STOPS, [sorted(set(subjects))], prepare=True)
    found: dict[str, tuple[int, datetime]] = {}
    for subject, hold_id, placed_at in raw.fetchall():
        if subject not in found or placed_at < found[subject][1]:
            found[subject] = (hold_id, placed_at)
    return found


def _first(named: Iterable[str], stops: _Holds, *, began: datetime | None) -> _Stop | None:
    """Since when the first of these holds stops what has begun then; None: long ago."""
    found = [stops[subject] for subject in named if subject in stops]
    if not found:
        return None
    hold_id, placed_at = min(found, key=lambda one: one[1])
    return _Stop(hold_id=hold_id, since=max(placed_at, began or placed_at))


def _began(plan: Plan, task: Task) -> datetime | None:
    """When the clocks of a task began, later by as long as they have stood still since."""
    if task.close_by is None and task.start_by is None:
        return None
    limits = clocks.of(task=task, node=graphs.routed(plan.graph_id, task.node, task.route))
    if task.close_by is not None and limits.schedule_to_close is not None:
        return task.close_by - limits.schedule_to_close
    if task.start_by is not None and limits.schedule_to_start is not None:
        return task.start_by - limits.schedule_to_start
    return None


def _kept_since(task: Task) -> datetime | None:
    """Since when a task might be sent that never has been; None: long ago."""
    return None if task.sends else max(task.changed_at, task.not_before)


def _of_plan(unit: Unit, plan: Plan) -> _Stop | None:
    """What stops a plan's deadline; a wait for the customer has the number 0."""
    tasks = _open_tasks(unit, [plan.id], TASK_SENDABLE)
    named = _names_of_plan(unit, plan).union(*(_names_of_task(unit, plan, one) for one in tasks))
    found = _by_holds(unit, plan, tasks, _stops(unit.raw, named))
    if _waits_for_customer(unit, plan):
        return _Stop(hold_id=0, since=plan.stopped_at or unit.now)
    return found


def _by_holds(unit: Unit, plan: Plan, sendable: Iterable[Task], stops: _Holds) -> _Stop | None:
    """A hold on the order as such, or one that keeps any of its tasks from being sent."""
    found = [
        _Stop(hold_id=hold_id, since=max(placed_at, plan.created_at))
        for hold_id, placed_at in (
            stops[subject] for subject in _names_of_plan(unit, plan) if subject in stops
        )
    ]
    for task in sendable:
        kept = _first(_names_of_task(unit, plan, task), stops, began=_kept_since(task))
        if kept is not None:
            found.append(kept)
    return min(found, key=lambda one: one.since, default=None)


def _note(unit: Unit, clocked: Plan | Task, stop: _Stop) -> None:
    if clocked.stopped_at is None:
        clocked.stopped_at, clocked.stopped_by_id = stop.since, stop.hold_id or None
    else:
        clocked.stopped_at = min(clocked.stopped_at, stop.since)
    _changed(unit, clocked)


def _go_on(unit: Unit, clocked: Plan | Task, stop: _Stop | None, until: datetime) -> None:
    """Push its clocks by the time for which they have stood still, unless something else does."""
    assert clocked.stopped_at is not None
    if stop is not None:
        clocked.stopped_by_id = stop.hold_id or None
    else:
        by = max(timedelta(0), until - clocked.stopped_at)
        names = _OF_PLAN if isinstance(clocked, Plan) else _OF_TASK
        for name in names:
            if getattr(clocked, name) is not None:
                setattr(clocked, name, getattr(clocked, name) + by)
        clocked.stopped_at = clocked.stopped_by_id = None
    _changed(unit, clocked)


def _changed(unit: Unit, clocked: Plan | Task) -> None:
    (unit.clocked_plans if isinstance(clocked, Plan) else unit.clocked_tasks).add(clocked.pk)


def _open_tasks(unit: Unit, plan_ids: Iterable[int], states: Iterable[TaskState]) -> list[Task]:
    """Tasks of these plans in these states, as the unit has them."""
    states = frozenset(states)
    unit.raw.execute(
        _OPEN_TASKS, [sorted(plan_ids), sorted(str(one) for one in states)], prepare=True
    )
    found = [task_from_row(row) for row in unit.raw.fetchall()]
    unit.adopt_tasks(found)
    return [unit.tasks[one.pk] for one in found if unit.tasks[one.pk].state in states]


def _names_of_plan(unit: Unit, plan: Plan) -> set[str]:
    """Subjects of holds on the order as such, or on a part of what was ordered."""
    locked = unit.fulfillments[plan.fulfillment_id]
    reference = locked.order_reference
    positions = {one for node in graphs.by_id(plan.graph_id).nodes for one in node.items}
    return {
        holds.subject_of(scope=HoldScope.ORDER, name=reference),
        holds.subject_of(scope=HoldScope.PLAN, name=str(plan.id)),
        holds.subject_of(scope=HoldScope.CUSTOMER, name=locked.customer),
        *(
            holds.subject_of(scope=HoldScope.ITEM, name=f"{reference}/{position}")
            for position in positions
        ),
    }


def _names_of_task(unit: Unit, plan: Plan, task: Task) -> set[str]:
    locked = unit.fulfillments[task.fulfillment_id]
    return set(
        holds.subjects_of(
            holds.Held.of(
                task,
                order_reference=locked.order_reference,
                customer=locked.customer,
                graph_id=plan.graph_id,
            )
        )
    )
