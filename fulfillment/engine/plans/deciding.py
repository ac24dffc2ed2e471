"""Manual tasks are decided: by a person, or by their deadline. One of both, and once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fulfillment.definitions.readiness import Place
from fulfillment.engine.plans.progress import after
from fulfillment.engine.plans.settlement import go_on
from fulfillment.engine.store import failpoints, graphs
from fulfillment.engine.tasks import manual
from fulfillment.engine.work import cases
from fulfillment.engine.work.rows import plans_by_id, tasks_by_id
from fulfillment.engine.work.unit import Unit
from fulfillment.models import ManualState, ManualTask, Task
from fulfillment.states import PLAN_SELECTABLE, TASK_SUCCESSFUL, TASK_TERMINAL, TaskState


def decide(
    unit: Unit,
    *,
    manual_id: int,
    outcome: str,
    values: Mapping[str, Any],
    actor: str,
    reason: str,
) -> ManualTask:
    """Settle an open manual task; one that is not open any more is returned as it is.

    Raises DefinitionInvalid with every fault of the values, and KeyError for an outcome that
    it does not have.
    """
    row = ManualTask.objects.get(pk=manual_id)
    task = _adopt(unit, [row])[row.task_id]
    if row.state != ManualState.OPEN or task.state != TaskState.AWAITING_MANUAL:
        return row
    plan = unit.plans[task.plan_id]
    manual.decide(
        unit,
        manual=row,
        task=task,
        node=graphs.by_id(plan.graph_id).nodes[task.node],
        outcome=outcome,
        values=values,
        actor=actor,
        reason=reason,
    )
    failpoints.reach("deciding.decided")
    go_on(unit, wanted={plan.id: _followed(unit, task)})
    return row


def fall_due(unit: Unit, *, manual_ids: Sequence[int]) -> None:
    """Nobody has decided these in time, if that is still so."""
    rows = list(
        ManualTask.objects.filter(
            pk__in=manual_ids, state=ManualState.OPEN, due_at__lt=unit.now
        ).order_by("pk")
    )
    tasks = _adopt(unit, rows)
    wanted: dict[int, set[Place]] = {}
    for row in rows:
        task = tasks[row.task_id]
        if task.state == TaskState.AWAITING_MANUAL:
            manual.fall_due(unit, plan=unit.plans[task.plan_id], manual=row, task=task)
            # Before the next is decided: what hangs on both must not be counted by each.
            wanted.setdefault(task.plan_id, set()).update(_followed(unit, task))
    go_on(unit, wanted=wanted)


def _adopt(unit: Unit, rows: Sequence[ManualTask]) -> dict[int, Task]:
    tasks = tasks_by_id(unit.raw, [row.task_id for row in rows])
    unit.adopt_tasks(tasks)
    unit.adopt_plans(plans_by_id(unit.raw, {task.plan_id for task in tasks}))
    return {task.id: unit.tasks[task.id] for task in tasks}


def _followed(unit: Unit, task: Task) -> set[Place]:
    """The places that may go on now that this has been decided, if it has."""
    plan = unit.plans[task.plan_id]
    if task.state in TASK_SUCCESSFUL:
        decided = [cases.of_task(task.id)]
        cases.resolve_cases(unit, subjects=decided, resolution="It has been decided.")
    if task.state in TASK_TERMINAL and plan.state in PLAN_SELECTABLE:
        return after(unit, plan=plan, task=task)
    return set()
