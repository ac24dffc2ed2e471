"""The plan's own state, computed from its tasks and never set by hand (reference §16)."""

from __future__ import annotations

from fulfillment.definitions.readiness import Place, hopeless
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import milestones, places
from fulfillment.engine.structure.scope import scope_of
from fulfillment.engine.tasks import timing_out
from fulfillment.engine.timing import jeopardy
from fulfillment.engine.work import patience
from fulfillment.engine.work.port import Notice, PlanChange
from fulfillment.engine.work.rows import tasks_by_plan
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ValueUnavailable
from fulfillment.models import Plan, Task
from fulfillment.states import (
    PLAN_SELECTABLE,
    PlanState,
    TaskState,
)

_NAMED = 20
"""Tasks that the reason of a blocked plan names; a fan-out may have thousands."""


def update_plan(unit: Unit, *, plan: Plan) -> None:
    """Complete, block or unblock the plan after its tasks changed in this unit."""
    if plan.state not in PLAN_SELECTABLE:
        return
    if plan.moving > 0 or plan.selection_due_at is not None:
        if plan.state == PlanState.BLOCKED:
            plan.blocked_reason = ""
            plan.patient_until = plan.last_progress_at + plan.stalls_after
            unit.change_plan(plan, Plan.unblock, cause="a task moves again")
        return
    if plan.mandatory_open == 0 and plan.tasks_open > 0:
        _skip_unreachable(unit, plan)
    if plan.tasks_open == 0 and plan.mandatory_open == 0:
        _complete(unit, plan)
    else:
        _block(unit, plan)


def _complete(unit: Unit, plan: Plan) -> None:
    plan.finished_at = unit.now
    plan.blocked_reason = ""
    milestones.close(unit, plan=plan)
    unit.change_plan(plan, Plan.complete, cause="every mandatory task is terminal successful")
    timing_out.done(unit, plan=plan)
    jeopardy.over(unit, plan=plan)
    unit.notices.append(
        Notice(
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.id,
            graph_id=plan.graph_id,
            change=PlanChange.COMPLETED,
        )
    )


def _skip_unreachable(unit: Unit, plan: Plan) -> None:
    """Optional tasks that wait for something that will never come don't hold up the order.

    What waits for a task that a person has in hand may still come.
    """
    tasks = {(task.node, task.element): task for task in _tasks(unit, plan)}

    def holds(place: Place, condition: str) -> bool:
        try:
            return scope_of(unit, plan=plan, task=tasks[place]).holds(condition)
        except ValueUnavailable:
            return False

    unreachable = hopeless(
        graph=graphs.by_id(plan.graph_id),
        states={place: TaskState(task.state) for place, task in tasks.items()},
        choices=lambda element: places.choices(unit, plan=plan, element=element),
        holds=holds,
    )
    for place, task in tasks.items():
        if task.state == TaskState.PENDING and place in unreachable:
            unit.change_task(
                task, Task.skip, cause="optional, and a task that it depends on did not succeed"
            )


def _block(unit: Unit, plan: Plan) -> None:
    tasks = _tasks(unit, plan)
    reasons = [
        f"{task.key}: {task.blocked_reason}"
        for task in tasks
        if task.blocked_reason and task.state in (TaskState.AWAITING_MANUAL, TaskState.FAILED_FINAL)
    ]
    more = [f"… and {len(reasons) - _NAMED} more."] if len(reasons) > _NAMED else []
    plan.blocked_reason = "\n".join([*reasons[:_NAMED], *more]) or "No task can run."
    in_time = patience.of_decisions(unit, tasks=tasks)
    plan.patient_until = in_time or unit.now
    unit.touched_plans.add(plan.id)
    if plan.state == PlanState.RUNNING:
        cause = "people have to decide" if in_time else "nothing can move without outside help"
        unit.change_plan(plan, Plan.block, cause=cause)


def _tasks(unit: Unit, plan: Plan) -> list[Task]:
    """Every task of the plan as this unit sees it, in the graph's order."""
    unit.adopt_tasks(
        task for task in tasks_by_plan(unit.raw, [plan.id]) if task.id not in unit.tasks
    )
    tasks = [task for task in unit.tasks.values() if task.plan_id == plan.id]
    return sorted(tasks, key=lambda task: (task.node, task.element))
