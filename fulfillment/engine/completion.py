"""The plan's own state, computed from its tasks and never set by hand (reference §16)."""

from __future__ import annotations

from collections.abc import Mapping

from fulfillment.definitions.topology import descendants
from fulfillment.engine import graphs
from fulfillment.engine.port import Notice, PlanChange, registered
from fulfillment.engine.rows import tasks_by_plan
from fulfillment.engine.unit import Unit
from fulfillment.models import Plan, Task
from fulfillment.states import (
    PLAN_SELECTABLE,
    TASK_SUCCESSFUL,
    TASK_TERMINAL,
    PlanState,
    TaskState,
)


def update_plan(unit: Unit, *, plan: Plan) -> None:
    """Complete, block or unblock the plan after its tasks changed in this unit."""
    if plan.state not in PLAN_SELECTABLE:
        return
    if plan.moving > 0 or plan.selection_due_at is not None:
        if plan.state == PlanState.BLOCKED:
            plan.blocked_reason = ""
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
    unit.change_plan(plan, Plan.complete, cause="every mandatory task is terminal successful")
    unit.notices.append(
        Notice(
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.pk,
            graph_id=plan.graph_id,
            change=PlanChange.COMPLETED,
        )
    )


def _skip_unreachable(unit: Unit, plan: Plan) -> None:
    """Optional tasks that wait for something that will never come don't hold up the order.

    What waits for a task that a person has in hand may still come.
    """
    tasks = _tasks(unit, plan)
    failed = [task.node for task in tasks if task.state in TASK_TERMINAL - TASK_SUCCESSFUL]
    unreachable = descendants(of=failed, successors=graphs.by_id(plan.graph_id).successors)
    for task in tasks:
        if task.state == TaskState.PENDING and task.node in unreachable:
            unit.change_task(
                task, Task.skip, cause="optional, and a task that it depends on did not succeed"
            )


def _block(unit: Unit, plan: Plan) -> None:
    reasons = [
        f"{task.key}: {task.blocked_reason}"
        for task in _tasks(unit, plan)
        if task.blocked_reason and task.state in (TaskState.AWAITING_MANUAL, TaskState.FAILED_FINAL)
    ]
    plan.blocked_reason = "\n".join(reasons) or "No task can run."
    unit.touched_plans.add(plan.pk)
    if plan.state == PlanState.RUNNING:
        unit.change_plan(plan, Plan.block, cause="nothing can move without outside help")


def _tasks(unit: Unit, plan: Plan) -> list[Task]:
    """Every task of the plan as this unit sees it, in the graph's order."""
    unit.adopt_tasks(
        task for task in tasks_by_plan(unit.raw, [plan.pk]) if task.pk not in unit.tasks
    )
    tasks = [task for task in unit.tasks.values() if task.plan_id == plan.pk]
    return sorted(tasks, key=lambda task: task.node)


def reach_milestones(unit: Unit, *, plan: Plan, node: int, tasks: Mapping[int, Task]) -> None:
    """Tell the order what it watches, and which milestones this success has reached.

    A milestone that several tasks carry (the same task for each item) is reached with the
    last of them; `tasks` holds them all.
    """
    if node in registered().watched(graph_id=plan.graph_id):
        unit.notices.append(
            Notice(
                fulfillment_id=plan.fulfillment_id,
                plan_id=plan.pk,
                graph_id=plan.graph_id,
                change=PlanChange.TASK_SUCCEEDED,
                node=node,
            )
        )
    carriers = graphs.milestone_carriers(plan.graph_id)
    for milestone in graphs.by_id(plan.graph_id).nodes[node].milestones:
        if all(tasks[carrier].state in TASK_SUCCESSFUL for carrier in carriers[milestone.name]):
            unit.notices.append(
                Notice(
                    fulfillment_id=plan.fulfillment_id,
                    plan_id=plan.pk,
                    graph_id=plan.graph_id,
                    change=PlanChange.MILESTONE_REACHED,
                    milestone=milestone.name,
                    title=milestone.title,
                )
            )
