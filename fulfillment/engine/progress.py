"""What the end of a task makes possible: milestones, branches, elements, and its successors."""

from __future__ import annotations

from typing import Any

from fulfillment.definitions.readiness import Place, existence, following, place_beside
from fulfillment.engine import branching, fanning, graphs, places, standing
from fulfillment.engine.port import Notice, PlanChange, registered
from fulfillment.engine.subjects import of_order
from fulfillment.engine.unit import Unit
from fulfillment.models import Plan, Signal, Task
from fulfillment.states import TASK_SUCCESSFUL, TASK_TERMINAL, TaskState

_DONE = TASK_SUCCESSFUL - {TaskState.SKIPPED_BY_POLICY}
_IS_SHARED = "SELECT 1 FROM fulfillment_signal WHERE source = 'engine' AND event_id = %s"


def after(unit: Unit, *, plan: Plan, task: Task) -> set[Place]:
    """The places that may go on now that this task is terminal."""
    graph = graphs.by_id(plan.graph_id)
    node = graph.nodes[task.node]
    found: set[Place] = set()
    if node.stops_clock:
        standing.go_on(unit, plan=plan)
    if task.state in TASK_SUCCESSFUL:
        found.update(following(graph=graph, place=(task.node, task.element)))
        if not task.element and task.node in registered().watched(graph_id=plan.graph_id):
            _tell(unit, plan, PlanChange.TASK_SUCCEEDED, node=task.node)
        if node.milestones:
            reach_milestones(unit, plan=plan, node=task.node)
        if task.node in graph.choosers:
            found |= branching.branch(unit, plan=plan, task=task)
        if task.state != TaskState.SUCCEEDED:
            found |= beyond(unit, plan=plan, found=_left_out(unit, plan, task))
    if task.element:
        found |= beyond(unit, plan=plan, found=fanning.ended(unit, plan=plan, task=task))
    return found


def _left_out(unit: Unit, plan: Plan, task: Task) -> set[Place]:
    """What is skipped with the beginning of a sub-process or of a fan-out."""
    graph = graphs.by_id(plan.graph_id)
    fan_out = graph.nodes[task.node].fan_out
    inside = [node.index for node in graph.nodes if node.enter == task.node]
    found: set[Place] = set()
    for index in inside if fan_out is None else [fan_out.gather]:
        place = place_beside(graph=graph, node=index, element=task.element)
        one = places.at(unit, plan=plan, place=place)
        if one is not None and one.state == TaskState.PENDING:
            unit.change_task(one, Task.skip, cause=f"{task.key} is left out")
            found.add(place)
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


def reach_milestones(unit: Unit, *, plan: Plan, node: int) -> None:
    """Tell the order which customer-visible milestones this success has reached.

    A milestone that several tasks carry (the same task for each item) is reached with the
    last of them that exists.
    """
    graph = graphs.by_id(plan.graph_id)
    carriers = graphs.milestone_carriers(plan.graph_id)
    for milestone in graph.nodes[node].milestones:
        wanted = [(carrier, 0) for carrier in carriers[milestone.name]]
        places.load(unit, {plan.pk: wanted})
        # Skipping is no progress that a customer could be told of.
        done = (places.at(unit, plan=plan, place=place) for place in wanted)
        if all(_is_there(unit, plan, place) for place in wanted) and any(
            task is not None and task.state in _DONE for task in done
        ):
            _tell(
                unit,
                plan,
                PlanChange.MILESTONE_REACHED,
                milestone=milestone.name,
                title=milestone.title,
            )
            if milestone.shared:
                _share(unit, plan, milestone.name)


def _tell(unit: Unit, plan: Plan, change: PlanChange, **what: Any) -> None:
    unit.notices.append(
        Notice(
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.pk,
            graph_id=plan.graph_id,
            change=change,
            **what,
        )
    )


def _is_there(unit: Unit, plan: Plan, place: Place) -> bool:
    task = places.at(unit, plan=plan, place=place)
    if task is not None:
        return task.state in TASK_SUCCESSFUL
    graph = graphs.by_id(plan.graph_id)
    decided = places.choices(unit, plan=plan, element=0)
    return existence(graph=graph, element=0, choices=decided)[place[0]] is False


def _share(unit: Unit, plan: Plan, name: str) -> None:
    """Keep it for other orders that wait for it, or will; once, also when it is reached anew."""
    event_id = f"{plan.pk}/{name}"
    unit.raw.execute(_IS_SHARED, [event_id], prepare=True)
    if unit.raw.fetchone() is not None:
        return
    locked = unit.fulfillments[plan.fulfillment_id]
    unit.signals.append(
        Signal(
            source="engine",
            event_id=event_id,
            name=name,
            subject=of_order(business_key=locked.business_key or locked.order_reference),
            payload={},
            occurred_at=unit.now,
            received_at=unit.now,
            applied=False,
        )
    )
