"""What the end of a task makes possible: milestones, branches, elements, and its successors."""

from __future__ import annotations

from typing import Any

from fulfillment.definitions.readiness import Place, following, place_beside
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import branching, fanning, milestones, places
from fulfillment.engine.timing import standing
from fulfillment.engine.work.port import Notice, PlanChange, registered
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task
from fulfillment.states import TASK_SUCCESSFUL, TASK_TERMINAL, TaskState


def after(unit: Unit, *, plan: Plan, task: Task) -> set[Place]:
    """The places that may go on now that this task is terminal."""
    graph = graphs.by_id(plan.graph_id)
    node = graph.nodes[task.node]
    found: set[Place] = set()
    if node.stops_clock or plan.stopped_at is not None:
        standing.go_on(unit, plan=plan)
    if task.state in TASK_SUCCESSFUL:
        found.update(following(graph=graph, place=(task.node, task.element)))
        found.update(
            place_beside(graph=graph, node=final, element=task.element)
            for final in graph.guarded.get(task.node, ())
            if graph.nodes[final].group is None or task.element
        )
        if not task.element and task.node in registered().watched(graph_id=plan.graph_id):
            tell_success(unit, plan=plan, task=task)
        if node.milestones:
            milestones.settle(unit, plan=plan, nodes=[task.node])
        if task.node in graph.choosers:
            found |= branching.branch(unit, plan=plan, task=task)
        if task.state != TaskState.SUCCEEDED:
            found |= _left_out(unit, plan, task)
    if task.element:
        found |= beyond(unit, plan=plan, found=fanning.ended(unit, plan=plan, task=task))
    return found


def _left_out(unit: Unit, plan: Plan, task: Task) -> set[Place]:
    """Skip what belongs to a sub-process or a fan-out that is; the places that may go on."""
    graph = graphs.by_id(plan.graph_id)
    fan_out = graph.nodes[task.node].fan_out
    inside = [node.index for node in graph.nodes if node.enter == task.node]
    found: set[Place] = set()
    for index in inside if fan_out is None else [fan_out.gather]:
        place = place_beside(graph=graph, node=index, element=task.element)
        one = places.at(unit, plan=plan, place=place)
        if one is not None and one.state == TaskState.PENDING:
            unit.change_task(one, Task.skip, cause=f"{task.key} is left out")
            # Before the next is skipped: what hangs on both must not be counted by each.
            found |= after(unit, plan=plan, task=one)
    return found


def beyond(unit: Unit, *, plan: Plan, found: set[Place]) -> set[Place]:
    """The same places, and in place of those that have ended meanwhile what they make possible."""
    still: set[Place] = set()
    for place in found:
        task = places.at(unit, plan=plan, place=place)
        if task is not None and task.state in TASK_TERMINAL:
            still |= after(unit, plan=plan, task=task)
        else:
            still.add(place)
    return still


def tell_success(unit: Unit, *, plan: Plan, task: Task) -> None:
    """Tell the order desk that a task that it watches is done; what is skipped is not."""
    if task.state in TASK_SUCCESSFUL and task.state != TaskState.SKIPPED_BY_POLICY:
        _tell(
            unit,
            plan,
            PlanChange.TASK_SUCCEEDED,
            node=task.node,
            waived=task.state == TaskState.WAIVED_BY_AUTHORIZED_USER,
        )


def _tell(unit: Unit, plan: Plan, change: PlanChange, **what: Any) -> None:
    unit.notices.append(
        Notice(
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.id,
            graph_id=plan.graph_id,
            change=change,
            **what,
        )
    )
