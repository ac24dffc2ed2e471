"""What the mappings and conditions of a task can read (docs/expressions.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fulfillment.definitions.expressions import compile_condition
from fulfillment.definitions.graph import Graph, Node
from fulfillment.definitions.names import output_type
from fulfillment.definitions.paths import MISSING
from fulfillment.definitions.readiness import Place, place_beside
from fulfillment.definitions.references import resolve
from fulfillment.definitions.scopes import node_scope, task_names
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import cursor
from fulfillment.engine.structure import places
from fulfillment.engine.structure.priorities import plan_values
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task

_ELEMENTS = "SELECT node, elements FROM fulfillment_fanout WHERE plan_id = %s"
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
    element = bool(task.element) and graph.nodes[task.node].group is not None
    return Scope(
        _values(unit, plan, task, graph, task.node, graphs.context_of(plan), lambda one: one),
        graphs.names_at(plan.graph_id, task.node, element),
    )


def scope_after(unit: Unit, *, plan: Plan, task: Task, returned: Mapping[str, Any]) -> Scope:
    """What its undo can read: the same, and what the task itself has `returned`."""
    scope = scope_of(unit, plan=plan, task=task)
    node = graphs.by_id(plan.graph_id).nodes[task.node]
    name = node.task.removesuffix("~element")
    own = {
        f"tasks.{name}.{output}": output_type(
            type_=spec.type, optional=spec.optional, of_every_item=False
        )
        for output, spec in node.outputs.items()
    }
    tasks = {**scope.values.get("tasks", {}), name: returned}
    return Scope({**scope.values, "tasks": tasks}, {**scope.names, **own})


def scope_under(
    unit: Unit, *, plan: Plan, task: Task, graph: Graph, node: Node, context: Mapping[str, Any]
) -> Scope:
    """What the task could read if its plan went by another graph and another order, with the
    outputs that there are."""
    before = graphs.by_id(plan.graph_id).by_key
    element = bool(task.element) and node.group is not None
    return Scope(
        _values(
            unit,
            plan,
            task,
            graph,
            node.index,
            context,
            lambda one: before.get(graph.nodes[one].key),
        ),
        task_names(graph=graph, index=node.index, element=element),
    )


def _values(
    unit: Unit,
    plan: Plan,
    task: Task,
    graph: Graph,
    index: int,
    context: Mapping[str, Any],
    known_as: Callable[[int], int | None],
) -> Mapping[str, Any]:
    node = graph.nodes[index]

    def outputs(one: int) -> dict[str, Any]:
        known = known_as(one)
        if known is None:
            return {}
        place = place_beside(graph=graphs.by_id(plan.graph_id), node=known, element=task.element)
        found = places.at(unit, plan=plan, place=place)
        return (found.outputs or {}) if found is not None else {}

    element = MISSING
    spread = None if node.group is None else known_as(node.group)
    if task.element and spread is not None:
        element = element_value(unit, plan=plan, place=(spread, task.element))
    return node_scope(
        graph=graph,
        index=index,
        order=context["order"],
        items={int(position): item for position, item in context["items"].items()},
        outputs={
            one: outputs(one)
            for source in graph.output_sources[index].values()
            for one in (source if isinstance(source, tuple) else (source,))
        },
        plan=plan_values(plan),
        element=element,
        inputs=None if node.enter is None else outputs(node.enter),
    )


def read_ahead(unit: Unit, *, plan: Plan) -> None:
    """Before what all of its tasks can read is asked for: at once what that is, but the tasks."""
    graph = graphs.by_id(plan.graph_id)
    places.load(unit, {plan.id: [(node.index, 0) for node in graph.nodes if node.group is None]})
    if graph.groups:
        with cursor() as raw:
            raw.execute(_ELEMENTS, [plan.id], prepare=True)
            for spread, elements in raw.fetchall():
                unit.elements[plan.id, spread] = graphs.parsed_value(elements)


def element_value(unit: Unit, *, plan: Plan, place: Place) -> Any:
    """The value of one element of a fan-out."""
    spread, number = place
    known = unit.fan_outs.get((plan.id, spread))
    if known is not None and known._state.adding and known.elements:
        return known.elements[number - 1]  # Not written yet.
    if (plan.id, spread) in unit.elements:
        return unit.elements[plan.id, spread][number - 1]
    with cursor() as raw:
        raw.execute(_ELEMENT, [number - 1, plan.id, spread], prepare=True)
        row = raw.fetchone()
    assert row is not None, f"plan {plan.id} has no fan-out at {spread}"
    return graphs.parsed_value(row[0])
