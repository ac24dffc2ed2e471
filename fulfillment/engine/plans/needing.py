"""What later tasks need of one that is not done as planned: declared outputs that they use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fulfillment.definitions.graph import Graph
from fulfillment.definitions.node_parts import ENDS_WELL
from fulfillment.definitions.outputs import output_faults
from fulfillment.definitions.readiness import existence, place_beside
from fulfillment.engine.plans.knowing import Known
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import storable
from fulfillment.engine.structure import places
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.states import TASK_TERMINAL

_NAMED = 5
_OUTCOME = "outcome"


def checked(known: Known, outputs: Mapping[str, Any], *, all_of_them: bool) -> dict[str, Any]:
    """Values for declared outputs, as they are declared. Raises NotPossible with every fault.

    `all_of_them`: none that is declared and not optional may be missing.
    """
    task, node = known.task, known.node
    unknown = sorted(outputs.keys() - node.outputs.keys())
    if unknown:
        has = ", ".join(node.outputs) or "none"
        raise NotPossible(
            f"{task.key} has no output {', '.join(unknown)[:200]}; it declares: {has}."
        )
    declared = {name: spec for name, spec in node.outputs.items() if all_of_them or name in outputs}
    faults = output_faults(declared=declared, returned=outputs)
    if faults:
        raise NotPossible(" ".join(fault.message for fault in faults))
    if not storable(dict(outputs)):
        raise NotPossible(f"The outputs for {task.key} hold text that is not valid.")
    outcome = outputs.get(_OUTCOME)
    if node.manual is not None and outcome is not None:
        going_on = [name for name, does in node.manual.outcomes.items() if does in ENDS_WELL]
        if outcome not in going_on:
            raise NotPossible(
                f"With the outcome {outcome!r} {task.key} does not go on; it does with: "
                f"{', '.join(going_on)}."
            )
    return dict(outputs)


def refuse_if_needed(unit: Unit, known: Known, *, outputs: Mapping[str, Any]) -> None:
    """Raises NotPossible, with the names of the tasks that could not begin without a value."""
    graph = graphs.by_id(known.plan.graph_id)
    lacking: dict[str, list[str]] = {}
    for source, output, target in _uses(graph, known.task.node):
        if source == known.task.node and output in outputs:
            continue
        if not graph.nodes[source].outputs[output].optional and _is_open(unit, known, target):
            lacking.setdefault(output, []).append(graph.nodes[target].key)
    if lacking:
        told = "; ".join(
            f"{output} is needed by {', '.join(sorted(set(by))[:_NAMED])}"
            for output, by in sorted(lacking.items())
        )
        raise NotPossible(
            f"{known.task.key} can't be left undone without values: {told}. Give them as outputs, "
            "or settle those tasks first."
        )


def left_out(graph: Graph, *, node: int, element: int, labels: Collection[str] = ()) -> set[int]:
    """Everything that is not done, or never comes to exist, when this one is not done.

    `labels` are the outcomes, or branches, that are chosen all the same.
    """
    found = _with(graph, node)
    if node in graph.choosers:
        place = place_beside(graph=graph, node=node, element=element)
        exist = existence(graph=graph, element=element, choices={place: frozenset(labels)})
        found |= {one for one, exists in exist.items() if exists is False}
    spreads = {one for one in found if graph.nodes[one].fan_out is not None}
    return found | {one.index for one in graph.nodes if one.group in spreads}


def downstream(graph: Graph, *, node: int) -> list[str]:
    """Keys of the tasks that stand directly behind this one."""
    return sorted(graph.nodes[one].key for one in graph.successors[node])


def _with(graph: Graph, node: int) -> set[int]:
    """It, what a sub-process holds that it begins, and the end of a fan-out."""
    found = {node} | {one.index for one in graph.nodes if one.enter == node}
    fan_out = graph.nodes[node].fan_out
    return found if fan_out is None else found | {fan_out.gather}


def _uses(graph: Graph, node: int) -> Iterator[tuple[int, str, int]]:
    """(source, output, node that uses it) of a task and of what is left out with it."""
    mine = _with(graph, node)
    for edge in graph.edges:
        if (
            edge.source in mine
            and edge.target not in mine
            and edge.output is not None
            and edge.output in graph.nodes[edge.source].outputs
        ):
            yield edge.source, edge.output, edge.target
    gather = _gathered_by(graph, node)
    if gather is not None:
        for edge in graph.edges:
            if edge.source == gather and edge.output in graph.nodes[node].outputs:
                assert edge.output is not None
                yield node, edge.output, edge.target


def _gathered_by(graph: Graph, node: int) -> int | None:
    """The end of the fan-out whose elements end with this task."""
    group = graph.nodes[node].group
    if group is None:
        return None
    fan_out = graph.nodes[group].fan_out
    assert fan_out is not None
    return fan_out.gather if fan_out.last == node else None


def _is_open(unit: Unit, known: Known, node: int) -> bool:
    """Whether a task at this node may still begin, as far as one can tell."""
    plan, graph = known.plan, graphs.by_id(known.plan.graph_id)
    element = known.task.element
    found = graph.nodes[node]
    if found.group is not None and not element:
        fan_out = graph.nodes[found.group].fan_out
        assert fan_out is not None
        node = fan_out.gather  # As long as there are elements.
    task = places.at(unit, plan=plan, place=place_beside(graph=graph, node=node, element=element))
    if task is not None:
        return task.state not in TASK_TERMINAL
    if not graph.choosers:
        return True
    exist = existence(
        graph=graph,
        element=element,
        choices=places.choices(unit, plan=plan, element=element),
    )
    return exist.get(node) is not False
