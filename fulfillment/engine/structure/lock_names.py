"""Which locks a task, and its plan as a whole, have to have: their names, from the order's data."""

from __future__ import annotations

from fulfillment.definitions import locking
from fulfillment.definitions.graph import Graph, Node
from fulfillment.engine.store import graphs
from fulfillment.engine.structure.scope import Scope
from fulfillment.models import Plan


def of_task(node: Node, *, scope: Scope) -> dict[str, int] | None:
    """Name -> units; None without any. Raises ValueUnavailable."""
    return locking.named(node.locks, values=scope.values, names=scope.names) or None


def of_plan(plan: Plan) -> dict[str, int]:
    """The same for its workflows, with every item that they serve. Raises ValueUnavailable."""
    return of_graph(graphs.by_id(plan.graph_id), plan=plan)


def of_graph(graph: Graph, *, plan: Plan) -> dict[str, int]:
    """The same if the plan went by this graph."""
    found: dict[str, int] = {}
    for workflow in graph.workflows:
        if not workflow.locks:
            continue
        context = graphs.context_of(plan)
        for position in workflow.items:
            values = {"order": context["order"], "item": context["items"][str(position)]}
            for name, units in locking.named(workflow.locks, values=values, names=None).items():
                found[name] = max(found.get(name, 0), units)
    return found
