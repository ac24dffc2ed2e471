"""What the mappings and conditions of a task can read (docs/expressions.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fulfillment.definitions.expressions import compile_condition
from fulfillment.definitions.paths import MISSING
from fulfillment.definitions.readiness import Place, place_beside
from fulfillment.definitions.references import resolve
from fulfillment.definitions.scopes import node_scope
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import cursor
from fulfillment.engine.structure import places
from fulfillment.engine.structure.priorities import plan_values
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task

_ELEMENT = "SELECT elements -> %s FROM fulfillment_fanout WHERE plan_id = %s AND node = %s"


@dataclass(frozen=True, slots=True)
class Scope:
    """Values by root, and the types of their names. Both methods raise ValueUnavailable."""

    values: Mapping[str, Any]
    names: Mapping[str, str]

    def value(self, mapping: Any) -> Any:
        """A JSON value with its references and expressions resolved."""
        return resolve(mapping, self.values, names=self.names)

    def holds(self, condition: str) -> bool:
        return compile_condition(text=condition, names=self.names).holds(self.values)


def scope_of(unit: Unit, *, plan: Plan, task: Task) -> Scope:
    """What a task can read now; outputs of what has not succeeded are missing."""
    graph = graphs.by_id(plan.graph_id)
    node = graph.nodes[task.node]
    context = graphs.context_of(plan)

    def outputs(index: int) -> dict[str, Any]:
        place = place_beside(graph=graph, node=index, element=task.element)
        found = places.at(unit, plan=plan, place=place)
        return (found.outputs or {}) if found is not None else {}

    element = MISSING
    if task.element and node.group is not None:
        element = element_value(unit, plan=plan, place=(node.group, task.element))
    inputs = None if node.enter is None else outputs(node.enter)
    values = node_scope(
        graph=graph,
        index=task.node,
        order=context["order"],
        items={int(position): item for position, item in context["items"].items()},
        outputs={
            one: outputs(one)
            for source in graph.output_sources[task.node].values()
            for one in (source if isinstance(source, tuple) else (source,))
        },
        plan=plan_values(plan),
        element=element,
        inputs=inputs,
    )
    names = graphs.names_at(plan.graph_id, task.node, element is not MISSING)
    return Scope(values, names)


def element_value(unit: Unit, *, plan: Plan, place: Place) -> Any:
    """The value of one element of a fan-out."""
    spread, number = place
    known = unit.fan_outs.get((plan.id, spread))
    if known is not None and known._state.adding and known.elements:
        return known.elements[number - 1]  # Not written yet.
    with cursor() as raw:
        raw.execute(_ELEMENT, [number - 1, plan.id, spread], prepare=True)
        row = raw.fetchone()
    assert row is not None, f"plan {plan.id} has no fan-out at {spread}"
    return graphs.parsed_value(row[0])
