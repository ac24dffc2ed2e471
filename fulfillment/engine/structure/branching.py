"""What a decision makes of the plan: the chosen branches come to exist, the others never will."""

from __future__ import annotations

from fulfillment.definitions.graph import Graph
from fulfillment.definitions.readiness import Place, existence
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import milestones, places
from fulfillment.engine.structure.instantiation import instantiate
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task


def branch(unit: Unit, *, plan: Plan, task: Task) -> set[Place]:
    """Instantiate what exists since this decision, all of it or nothing, in this unit.

    Returns the places that may run now, among them the deferred joins, which knew too little
    before. Required tasks that will never exist don't count as open any more.
    """
    graph = graphs.by_id(plan.graph_id)
    element = task.element
    decided = places.choices(unit, plan=plan, element=element)
    after = existence(graph=graph, element=element, choices=decided)
    before = existence(
        graph=graph,
        element=element,
        choices={
            place: labels for place, labels in decided.items() if place != (task.node, element)
        },
    )
    mine = _around(graph, element, graph.nodes[task.node].group)
    born = [node for node in mine if after[node] is True and before[node] is not True]
    gone = [node for node in mine if after[node] is False and before[node] is not False]
    if gone:
        unneeded = sum(graph.nodes[node].required for node in gone)
        plan.mandatory_total -= unneeded
        plan.mandatory_open -= unneeded
        unit.touched_plans.add(plan.id)
    instantiate(unit, plan=plan, nodes=born, element=element)
    milestones.settle(unit, plan=plan, nodes=gone)
    joins = [node for node in mine if graph.nodes[node].deferred]
    return {(node, element) for node in (*born, *joins)}


def _around(graph: Graph, element: int, group: int | None) -> list[int]:
    """The nodes that a decision there can concern."""
    return [node.index for node in graph.nodes if node.group == (group if element else None)]
