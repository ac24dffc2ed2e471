"""The scanner: the safety net under every hint and the alarm clock of everything that waits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from django.db import InterfaceError, OperationalError

from fulfillment.engine import hints
from fulfillment.engine.completion import update_plan
from fulfillment.engine.database import Row, cursor
from fulfillment.engine.rows import plans_by_id, tasks_by_plan
from fulfillment.engine.selection import select
from fulfillment.engine.unit import Unit, run_unit
from fulfillment.models import Plan, Task
from fulfillment.states import PLAN_SELECTABLE, TaskState

logger = logging.getLogger(__name__)

_DUE = """
SELECT id, fulfillment_id FROM fulfillment_plan
WHERE selection_due_at <= fulfillment_now() ORDER BY selection_due_at LIMIT %s
"""
_CLAIMABLE_TARGETS = """
SELECT s.name FROM fulfillment_targetsystem s WHERE EXISTS (
    SELECT 1 FROM fulfillment_task t
    WHERE t.target_id = s.name AND t.state IN ('FAILED_RETRYABLE', 'OUTCOME_UNKNOWN', 'READY')
      AND t.not_before <= fulfillment_now()
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
        targets = {row[0]: 1 for row in raw.fetchall()}
    hints.publish(targets=targets, wake_ups={})
    return selected


def _select_or_split(due: Sequence[Row]) -> None:
    """Select in one unit; one that fails is halved until the culprit stands alone and waits."""
    select_all = partial(_select, plan_ids=[row[0] for row in due])
    try:
        run_unit(select_all, fulfillment_ids=(row[1] for row in due), actor=_ACTOR)
    except (OperationalError, InterfaceError):
        raise  # The database's trouble is nobody's fault.
    except Exception:
        if len(due) > 1:
            middle = len(due) // 2
            _select_or_split(due[:middle])
            _select_or_split(due[middle:])
            return
        plan_id, fulfillment_id = due[0]
        logger.exception("selection failed; it is tried again later", extra={"plan": plan_id})
        put_off = partial(_put_off, plan_id=plan_id)
        run_unit(put_off, fulfillment_ids=[fulfillment_id], actor=_ACTOR)


def _put_off(unit: Unit, plan_id: int) -> None:
    plans = plans_by_id(unit.raw, [plan_id])
    unit.adopt_plans(plans)
    for plan in plans:
        plan.selection_due_at = unit.now + _PAUSE_AFTER_FAILURE
        unit.touched_plans.add(plan.pk)


def _select(unit: Unit, plan_ids: Sequence[int]) -> None:
    plans = [plan for plan in plans_by_id(unit.raw, plan_ids) if plan.selection_due_at is not None]
    unit.adopt_plans(plans)
    by_plan: dict[int, dict[int, Task]] = {plan.pk: {} for plan in plans}
    tasks = tasks_by_plan(unit.raw, by_plan)
    unit.adopt_tasks(tasks)
    for task in tasks:
        by_plan[task.plan_id][task.node] = task
    for plan in plans:
        _select_in(unit, plan, by_plan[plan.pk])


def _select_in(unit: Unit, plan: Plan, tasks: dict[int, Task]) -> None:
    plan.selection_due_at = None
    unit.touched_plans.add(plan.pk)
    if plan.state in PLAN_SELECTABLE:
        select(
            unit,
            plan=plan,
            candidates=[node for node, task in tasks.items() if task.state == TaskState.PENDING],
            tasks=tasks,
            cause="everything it depends on is there",
        )
        update_plan(unit, plan=plan)
