"""Tasks come to exist: with their plan, by a decision, or as an element of a fan-out.

Only declared nodes of the stored graph are instantiated, and never taken away again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fulfillment.definitions.graph import Graph
from fulfillment.definitions.nodes import task_key
from fulfillment.engine.protection import fairness
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import allocate
from fulfillment.engine.work.rows import fresh
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task
from fulfillment.states import TaskState


def at_first(graph: Graph) -> list[int]:
    """The nodes that exist from the start: no decision and no list has to be known for them."""
    return [
        node.index
        for node in graph.nodes
        if node.group is None and not graph.conditional[node.index]
    ]


def new_tasks(
    unit: Unit,
    *,
    plan: Plan,
    graph: Graph,
    nodes: Iterable[int],
    task_ids: Iterator[int],
    element: int = 0,
) -> list[Task]:
    """One PENDING task per node, taken over by this unit and written when it is flushed."""
    fulfillment = unit.fulfillments[plan.fulfillment_id]
    found = []
    for index in nodes:
        node = graph.nodes[index]
        found.append(
            fresh(
                Task,
                id=next(task_ids),
                plan_id=plan.id,
                fulfillment_id=plan.fulfillment_id,
                node=index,
                element=element,
                key=task_key(key=node.key, element=element),
                state=TaskState.PENDING,
                target_id=node.target,
                priority=fulfillment.priority,
                rank=fulfillment.rank + fairness.within(element=element, item=node.item),
                depth=graph.depth[index],
                required=node.required,
                not_before=unit.now,
                changed_at=unit.now,
            )
        )
    unit.new_tasks.extend(found)
    unit.adopt_tasks(found)
    return found


def instantiate(unit: Unit, *, plan: Plan, nodes: Iterable[int], element: int = 0) -> list[Task]:
    """The same for a plan that runs already: its counts grow with it."""
    nodes = list(nodes)
    places = unit.places.setdefault(plan.id, {})
    for node in nodes:
        places.pop((node, element), None)  # It was known not to exist.
    tasks = new_tasks(
        unit,
        plan=plan,
        graph=graphs.by_id(plan.graph_id),
        nodes=nodes,
        task_ids=allocate(unit.raw, "fulfillment_task", len(nodes)),
        element=element,
    )
    plan.tasks_total += len(tasks)
    plan.tasks_open += len(tasks)
    unit.touched_plans.add(plan.id)
    return tasks
