"""The scanner: the safety net under every hint and the alarm clock of everything that waits."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from fulfillment.definitions.readiness import Place
from fulfillment.engine.plans.completion import update_plan
from fulfillment.engine.plans.selection import select
from fulfillment.engine.protection import holds
from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import Row, cursor
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.timing import standing
from fulfillment.engine.work import cases, hints, locking
from fulfillment.engine.work.rows import plans_by_id, tasks_by_plan
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.states import TaskState

logger = logging.getLogger(__name__)

_DUE = """
SELECT id, fulfillment_id FROM fulfillment_plan
WHERE selection_due_at <= (SELECT fulfillment_now()) ORDER BY selection_due_at LIMIT %s
"""
_CLAIMABLE_TARGETS = """
SELECT s.name FROM fulfillment_targetsystem s
JOIN fulfillment_targetcondition k ON k.target_id = s.name AND k.paused_at IS NULL
WHERE EXISTS (
    SELECT 1 FROM fulfillment_task t
    WHERE t.target_id = s.name AND t.state IN ('FAILED_RETRYABLE', 'READY')
      AND t.held_by_id IS NULL AND t.waits_for_lock = ''
      AND t.waits_for NOT IN ('RETRY', 'WINDOW') AND t.not_before <= (SELECT fulfillment_now())
) OR EXISTS (
    SELECT 1 FROM fulfillment_task t
    WHERE t.target_id = s.name AND t.state IN ('FAILED_RETRYABLE', 'READY')
      AND t.held_by_id IS NULL AND t.waits_for_lock = ''
      AND t.waits_for IN ('RETRY', 'WINDOW') AND t.not_before <= (SELECT fulfillment_now())
) OR EXISTS (
    SELECT 1 FROM fulfillment_task t
    WHERE t.target_id = s.name AND t.state = 'OUTCOME_UNKNOWN'
      AND t.not_before <= (SELECT fulfillment_now())
)
"""
_BATCH = 100
_PAUSE_AFTER_FAILURE = timedelta(minutes=1)
"""Otherwise plans that can't be selected would in time fill every batch."""
_ACTOR = "scanner"


def scan() -> int:
    """Select in every plan where that is due, and hint at every target with claimable work.

    Returns the number of plans in which it selected. Any number of scanners at once do no
    harm: the units serialise on the fulfillments, and what is selected already is left alone.
    """
    selected = 0
    while True:
        with cursor() as raw:
            raw.execute(_DUE, [_BATCH], prepare=True)
            due = raw.fetchall()
        if due:
            _select_or_split(due)
            selected += len(due)
        if len(due) < _BATCH:
            break
    with cursor() as raw:
        raw.execute(_CLAIMABLE_TARGETS, prepare=True)
        names = [row[0] for row in raw.fetchall()]
    # A queue takes few hints: of the targets that share it, none is to be the last every time.
    random.shuffle(names)
    targets = dict.fromkeys(names, 1)
    # Left behind when whoever released a hold has died before it let the tasks go.
    targets.update(dict.fromkeys(holds.unpark() | locking.wake(), 1))
    hints.publish(targets=targets, wake_ups={})
    standing.set_all_going()
    return selected


def _select_or_split(due: Sequence[Row]) -> None:
    """Select in one unit; a plan in which that fails waits."""

    def select_together(batch: Sequence[Row]) -> list[None]:
        run_unit(
            partial(_select, plan_ids=[row[0] for row in batch]),
            fulfillment_ids=(row[1] for row in batch),
            actor=_ACTOR,
        )
        return []

    def put_off(row: Row, error: Exception) -> None:
        plan_id, fulfillment_id = row
        logger.error(
            "selection failed; it is tried again later", exc_info=error, extra={"plan": plan_id}
        )
        run_unit(
            partial(_put_off, plan_id=plan_id, error=error),
            fulfillment_ids=[fulfillment_id],
            actor=_ACTOR,
        )

    in_halves(due, work=select_together, culprit=put_off)


def _put_off(unit: Unit, plan_id: int, error: Exception) -> None:
    plans = plans_by_id(unit.raw, [plan_id])
    unit.adopt_plans(plans)
    for plan in plans:
        plan.selection_due_at = unit.now + _PAUSE_AFTER_FAILURE
        unit.touched_plans.add(plan.id)
        cases.open_case(
            unit,
            fallout=cases.poison(
                subject=cases.of_plan(plan.id),
                what=f"What runs next in plan {plan.id} can't be told",
                error=error,
                fulfillment_id=plan.fulfillment_id,
                plan_id=plan.id,
            ),
        )


def _select(unit: Unit, plan_ids: Sequence[int]) -> None:
    plans = [plan for plan in plans_by_id(unit.raw, plan_ids) if plan.selection_due_at is not None]
    unit.adopt_plans(plans)
    tasks = tasks_by_plan(unit.raw, [plan.id for plan in plans])
    unit.adopt_tasks(tasks)
    failpoints.reach("scanning.holding_rows")
    wanted: dict[int, set[Place]] = {plan.id: set() for plan in plans}
    for task in tasks:
        if task.state == TaskState.PENDING:
            wanted[task.plan_id].add((task.node, task.element))
    for plan in plans:
        plan.selection_due_at = None
        unit.touched_plans.add(plan.id)
    select(unit, wanted=wanted, cause="everything it depends on is there")
    for plan in plans:
        update_plan(unit, plan=plan)
    cases.resolve_cases(
        unit,
        subjects=(cases.of_plan(plan.id) for plan in plans),
        resolution="What runs next has been told.",
    )
