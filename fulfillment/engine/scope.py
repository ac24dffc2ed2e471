"""What the mappings and conditions of a task can read (docs/expressions.md)."""

from __future__ import annotations

from typing import Any

from fulfillment.definitions.readiness import Place, place_beside
from fulfillment.engine import graphs, places
from fulfillment.engine.database import cursor
from fulfillment.engine.unit import Unit
from fulfillment.models import Plan, Task

_ELEMENT = "SELECT elements -> %s FROM fulfillment_fanout WHERE plan_id = %s AND node = %s"


def scope_of(unit: Unit, *, plan: Plan, task: Task) -> dict[str, Any]:
    """By root: order, item or items, tasks, plan, and where they apply element and inputs.

    Everything that the task depends on has succeeded, or its outputs are left out.
    """
    graph = graphs.by_id(plan.graph_id)
    node = graph.nodes[task.node]
    context = graphs.context_of(plan)
    items = context["items"]
    scope: dict[str, Any] = {
        "order": context["order"],
        "plan": {
            "created_at": plan.created_at.isoformat(),
            "order_version": plan.order_version,
        },
    }
    if node.item is not None:
        scope["item"] = items[str(node.item)]
    else:
        scope["items"] = [items[str(position)] for position in node.items]
    sources = graph.output_sources[task.node]

    def outputs(index: int) -> dict[str, Any]:
        place = place_beside(graph=graph, node=index, element=task.element)
        found = places.at(unit, plan=plan, place=place)
        return (found.outputs or {}) if found is not None else {}

    scope["tasks"] = {
        name: [outputs(one) for one in source] if isinstance(source, tuple) else outputs(source)
        for name, source in sources.items()
    }
    if node.enter is not None:
        scope["inputs"] = outputs(node.enter)
    if task.element and node.group is not None:
        scope["element"] = element_value(unit, plan=plan, place=(node.group, task.element))
    return scope


def element_value(unit: Unit, *, plan: Plan, place: Place) -> Any:
    """The value of one element of a fan-out."""
    spread, number = place
    known = unit.fan_outs.get((plan.pk, spread))
    if known is not None and known._state.adding and known.elements:
        return known.elements[number - 1]  # Not written yet.
    with cursor() as raw:
        raw.execute(_ELEMENT, [number - 1, plan.pk, spread], prepare=True)
        row = raw.fetchone()
    assert row is not None, f"plan {plan.pk} has no fan-out at {spread}"
    return graphs.parsed_value(row[0])
