"""What has failed without effect is tried again by hand: a task, or the elements that failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fulfillment.definitions.graph import NodeKind
from fulfillment.engine.plans import knowing
from fulfillment.engine.plans.settlement import go_on
from fulfillment.engine.store import graphs, windows
from fulfillment.engine.structure import fanning, places
from fulfillment.engine.tasks import commanding
from fulfillment.engine.timing import clocks
from fulfillment.engine.work import cases
from fulfillment.engine.work.rows import plans_by_id, tasks_by_id, tasks_by_plan
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import FulfillmentError, NotPossible
from fulfillment.models import FanOut, Task
from fulfillment.states import PLAN_SELECTABLE, TaskState


def rerun(unit: Unit, *, task_id: int, reason: str = "") -> list[str]:
    """Send a failed command anew, with fresh clocks and a key of its own; the tasks' keys.

    Of a fan-out that failed only the failed elements run again. Empty when there is nothing
    that could be tried again: what is not FAILED_FINAL, a decision of a person, a plan that is
    over. Raises OutcomeInDoubt when its target system has said since that it was done, and
    NotPossible when what it is to be sent can't be made.
    """
    tasks = tasks_by_id(unit.raw, [task_id])
    unit.adopt_tasks(tasks)
    unit.adopt_plans(plans_by_id(unit.raw, {task.plan_id for task in tasks}))
    task = unit.tasks[task_id]
    plan = unit.plans[task.plan_id]
    if task.state != TaskState.FAILED_FINAL or plan.state not in PLAN_SELECTABLE or task.round:
        return []
    graph = graphs.by_id(plan.graph_id)
    failed = [task]
    if graph.nodes[task.node].kind is NodeKind.GATHER:
        unit.adopt_tasks(tasks_by_plan(unit.raw, [plan.id]))
        spread = next(
            node.index
            for node in graph.nodes
            if node.fan_out is not None and node.fan_out.gather == task.node
        )
        failed = [
            one
            for one in unit.tasks.values()
            if one.plan_id == plan.id
            and one.state == TaskState.FAILED_FINAL
            and graph.nodes[one.node].group == spread
        ]
    again = [one for one in failed if graph.nodes[one.node].is_command]
    knowing.refuse_any_in_doubt(unit, tasks=again, what="tried again")
    reopened = {}
    cause = f"tried again by hand: {reason}" if reason else "tried again by hand"
    for one in again:
        send_anew(unit, task=one, route=0, transition=Task.try_again, cause=cause)
        if one.element:
            fan_out = reopen(unit, task=one)
            reopened[fan_out.node] = fan_out
    if again:
        # Those that had not been begun when too many had failed may follow at once.
        next_ones = [fanning.go_on(unit, plan=plan, fan_out=one) for one in reopened.values()]
        go_on(unit, wanted={plan.id: set().union(*next_ones)})
    return [one.key for one in again]


def send_anew(
    unit: Unit,
    *,
    task: Task,
    route: int,
    cause: str,
    transition: Callable[[Task], Any] = Task.send_anew,
    details: Mapping[str, Any] | None = None,
) -> None:
    """READY, with a command of its own that takes the place of those before: all of them are known
    to have had no effect. With today's data, and with fresh clocks.

    Raises NotPossible when what it is to be sent, or by when, can't be told.
    """
    plan = unit.plans[task.plan_id]
    node = graphs.routed(plan.graph_id, task.node, route)
    resumes = task.target_id == node.target  # Another one has told of another progress.
    try:
        payload = commanding.payload_of(unit, plan=plan, task=task, node=node)
        commanding.begin_anew(task, target=node.target, at=windows.opening(node=node, at=unit.now))
        clocks.begin(unit, task=task, node=node, resumes=resumes)
    except FulfillmentError as error:
        raise NotPossible(f"What {task.key} is to be sent can't be made: {error}") from error
    task.route = route
    task.began_at = None  # Else it would count as what has taken longer than usual.
    unit.change_task(task, transition, cause=cause, **(details or {}))
    commanding.write(
        unit,
        plan=plan,
        task=task,
        target=node.target,
        action=node.action,
        payload=payload,
        revision=commanding.latest_revision(unit, task=task) + 1,
    )
    cases.resolve_cases(
        unit, subjects=[cases.of_task(task.id)], resolution=f"The task is sent anew: {cause}"
    )


def reopen(unit: Unit, *, task: Task) -> FanOut:
    """Its element counts as under way again, and the fan-out as open."""
    plan = unit.plans[task.plan_id]
    graph = graphs.by_id(plan.graph_id)
    spread = graph.nodes[task.node].group
    assert spread is not None
    fan_out = fanning.of(unit, plan=plan, node=spread)
    if not _has_failed(unit, task):
        fan_out.failed = [number for number in fan_out.failed if number != task.element]
    declared = graph.nodes[spread].fan_out
    assert declared is not None
    gather = places.at(unit, plan=plan, place=(declared.gather, 0))
    if gather is not None and gather.state == TaskState.FAILED_FINAL:
        gather.blocked_reason = ""
        unit.change_task(gather, Task.reopen, cause="failed elements are tried again")
        cases.resolve_cases(
            unit, subjects=[cases.of_task(gather.pk)], resolution="Its elements are tried again."
        )
    return fan_out


def _has_failed(unit: Unit, task: Task) -> bool:
    """Whether another task that its element needs has failed as well."""
    plan = unit.plans[task.plan_id]
    graph = graphs.by_id(plan.graph_id)
    mine = graph.groups[graph.nodes[task.node].group or 0]
    beside = [places.at(unit, plan=plan, place=(node, task.element)) for node in mine]
    return any(
        one is not None and one.state == TaskState.FAILED_FINAL and graph.nodes[one.node].needed
        for one in beside
    )
