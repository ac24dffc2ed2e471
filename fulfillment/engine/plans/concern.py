"""Which tasks of a running plan a change of its order concerns.

A task says so itself (`affected_by`); otherwise it is concerned when it would ask for something
else, with what is known now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fulfillment.definitions.concern import ChangeKind
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.node_parts import NodeKind
from fulfillment.definitions.nodes import Node
from fulfillment.definitions.readiness import Place, place_beside
from fulfillment.engine.store import graphs
from fulfillment.engine.structure.scope import Scope, scope_of, scope_under
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ValueUnavailable
from fulfillment.models import Plan, Task
from fulfillment.states import TaskState

_UNAVAILABLE = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a plan shall be for from now on: the revised order, as the order desk plans it."""

    graph: Graph
    context: Mapping[str, Any]
    order_version: int
    changed: Mapping[int, Collection[ChangeKind]]
    """Position of an item -> what is new about it; 0 stands for the order as a whole. An item that
    comes or goes is ChangeKind.ITEMS of 0."""
    anew: bool = False
    """Everything that has been done is undone and done again (cancel and recreate)."""
    begin_anew: Collection[str] | None = None
    """By hand: the keys of the tasks that begin anew, whatever they would ask for. None: those
    that the change concerns."""


def concerned(unit: Unit, *, plan: Plan, tasks: Iterable[Task], wanted: Wanted) -> set[Place]:
    """The places that have begun, are still wanted, and would ask for something else."""
    before = graphs.by_id(plan.graph_id)
    after = {node.key: node for node in wanted.graph.nodes}
    old = graphs.context_of(plan)
    # That the order has another version is no reason to do anything again.
    new = {
        **wanted.context,
        "order": {**wanted.context["order"], "version": old["order"].get("version")},
    }
    found = set()
    tasks = list(tasks)
    states = {(task.node, task.element): task.state for task in tasks}
    for task in tasks:
        if _is_left_out(before, task, states):
            continue
        node = after.get(before.nodes[task.node].key)
        if node is None or task.state == TaskState.PENDING or before.nodes[task.node].undoes:
            continue
        if wanted.begin_anew is not None:
            begins = task.key in wanted.begin_anew
        else:
            begins = wanted.anew or _is_concerned(unit, plan, task, node, wanted, new)
        if begins:
            found.add((task.node, task.element))
    return found


def _is_left_out(graph: Graph, task: Task, states: Mapping[Place, str]) -> bool:
    """Skipped with the sub-process that it is part of, and begins anew only with that."""
    enter = graph.nodes[task.node].enter
    if task.state != TaskState.SKIPPED_BY_POLICY or enter is None:
        return False
    beginning = place_beside(graph=graph, node=enter, element=task.element)
    return states.get(beginning) == TaskState.SKIPPED_BY_POLICY


def _is_concerned(
    unit: Unit, plan: Plan, task: Task, node: Node, wanted: Wanted, context: Mapping[str, Any]
) -> bool:
    if node.affected_by is not None:
        about = {0, *node.items}
        kinds = {kind for one in about for kind in wanted.changed.get(one, ())}
        return not kinds.isdisjoint(node.affected_by)
    old = graphs.by_id(plan.graph_id).nodes[task.node]
    parts = ("input", "only_if", "preconditions", "decision", "wait", "fan_out")
    ways = old.by(task.route), node.by(task.route)
    if not any(getattr(one, part) for one in ways for part in parts):
        return False
    was = _asked(scope_of(unit, plan=plan, task=task), old, task)
    scope = scope_under(unit, plan=plan, task=task, graph=wanted.graph, node=node, context=context)
    return was != _asked(scope, node, task)


def _asked(scope: Scope, node: Node, task: Task) -> list[Any]:
    """What the order's data make of a task, by its kind."""
    mapping = node.by(task.route).input
    found = [_value(scope, mapping)] if mapping else []
    if node.only_if:
        found.append(_holds(scope, node.only_if))
    if task.state == TaskState.AWAITING_MANUAL:  # What is done has met them.
        found += [_holds(scope, one.check) for one in node.preconditions]
    match node.kind:
        case NodeKind.DECISION:
            assert node.decision is not None
            if node.decision.names:
                found.append(_value(scope, node.decision.names))
            else:
                found.append(
                    next(
                        rule.create
                        for rule in node.decision.rules
                        if not rule.when or _holds(scope, rule.when) is True
                    )
                )
        case NodeKind.WAIT:
            assert node.wait is not None
            found.append(_value(scope, node.wait.key))
        case NodeKind.SPREAD:
            assert node.fan_out is not None
            found.append(_value(scope, node.fan_out.over))
    return found


def _value(scope: Scope, mapping: Any) -> Any:
    try:
        return scope.value(mapping)
    except ValueUnavailable:
        return _UNAVAILABLE


def _holds(scope: Scope, condition: str) -> Any:
    try:
        return scope.holds(condition)
    except ValueUnavailable:
        return _UNAVAILABLE
