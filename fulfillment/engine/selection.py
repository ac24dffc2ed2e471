"""Selection: which tasks of a plan became runnable, and the commands they are given.

One code path for the fast path (right after a settlement), the scanner and a new plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings

from fulfillment.definitions.graph import Graph, runnable_among
from fulfillment.definitions.references import node_input
from fulfillment.engine import graphs
from fulfillment.engine.fallout import open_for_task
from fulfillment.engine.idempotency import idempotency_key
from fulfillment.engine.unit import Unit
from fulfillment.errors import ValueUnavailable
from fulfillment.models import CaseCategory, Command, Plan, Task
from fulfillment.states import TaskState


def select(
    unit: Unit,
    *,
    plan: Plan,
    candidates: Iterable[int],
    tasks: Mapping[int, Task],
    cause: str,
) -> None:
    """Make the runnable ones among `candidates` READY and write their commands.

    `tasks` maps nodes of this plan to tasks and holds every candidate and everything that a
    candidate depends on.
    """
    graph = graphs.by_id(plan.graph_id)
    states = {node: TaskState(task.state) for node, task in tasks.items()}
    for index in runnable_among(graph=graph, candidates=candidates, states=states):
        _ready(unit, plan, graph, tasks[index], tasks, cause)


def select_or_defer(
    unit: Unit, *, plan: Plan, candidates: Iterable[int], tasks: Mapping[int, Task], cause: str
) -> None:
    """Select at once on the fast path; otherwise leave a note for the scanner."""
    candidates = list(candidates)
    if not candidates:
        return
    if settings.OMS_FAST_PATH:
        select(unit, plan=plan, candidates=candidates, tasks=tasks, cause=cause)
    else:
        plan.selection_due_at = unit.now
        unit.touched_plans.add(plan.pk)


def _ready(
    unit: Unit, plan: Plan, graph: Graph, task: Task, tasks: Mapping[int, Task], cause: str
) -> None:
    node = graph.nodes[task.node]
    try:
        payload = _payload(plan, graph, task, tasks)
    except ValueUnavailable as error:
        task.blocked_reason = f"The input of {task.key} can't be made: {error}"
        unit.change_task(task, Task.await_manual, cause="input could not be resolved")
        open_for_task(
            unit,
            task=task,
            node=node,
            category=CaseCategory.DATA,
            reason_code="input_missing",
            explanation=f"{task.blocked_reason} Give the value, or waive the task.",
        )
        return
    locked = unit.fulfillments[plan.fulfillment_id]
    task.not_before = unit.now
    unit.change_task(task, Task.make_ready, cause=cause)
    unit.new_commands.append(
        Command(
            task_id=task.pk,
            fulfillment_id=plan.fulfillment_id,
            revision=1,
            target_id=node.target,
            action=node.action,
            idempotency_key=idempotency_key(
                order_reference=locked.order_reference,
                order_version=plan.order_version,
                plan_id=plan.pk,
                task_id=task.pk,
                action=node.action,
                revision=1,
                target=node.target,
            ),
            payload=payload,
            created_at=unit.now,
        )
    )
    unit.hint(target=node.target)


def _payload(plan: Plan, graph: Graph, task: Task, tasks: Mapping[int, Task]) -> Mapping[str, Any]:
    context = graphs.context_of(plan)
    return node_input(
        graph=graph,
        index=task.node,
        order=context["order"],
        items={int(position): item for position, item in context["items"].items()},
        outputs={index: tasks[index].outputs or {} for index in graph.predecessors[task.node]},
        plan={"created_at": plan.created_at.isoformat(), "order_version": plan.order_version},
    )
