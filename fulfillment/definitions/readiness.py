"""Which tasks of a plan exist, and which of them have everything that they wait for. Pure.

A *place* is a node and, within a fan-out, the number of the element: (node, 0) stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fulfillment.definitions.graph import Graph
from fulfillment.definitions.node_parts import Edge, EdgeType, NodeKind
from fulfillment.states import TASK_SUCCESSFUL, TASK_TERMINAL, TaskState

Place = tuple[int, int]
Choices = Mapping[Place, frozenset[str]]
"""What decided nodes have chosen: branches created, or the outcome of a manual task."""


def chosen_by(*, kind: NodeKind, outputs: Mapping[str, Any]) -> frozenset[str]:
    """The labels that a decided task stands for."""
    if kind is NodeKind.MANUAL:
        return frozenset({str(outputs.get("outcome", ""))})
    return frozenset(outputs.get("created", ()))


def place_beside(*, graph: Graph, node: int, element: int) -> Place:
    """Where another node stands, seen from a task of this element."""
    return node, element if graph.nodes[node].group is not None else 0


def following(*, graph: Graph, place: Place) -> list[Place]:
    """The places that may go on once this one has succeeded.

    Into a fan-out leads only its SPREAD, and out of it only its GATHER; both are the business
    of whoever counts the elements.
    """
    node, element = place
    group = graph.nodes[node].group
    return [
        (successor, element)
        for successor in graph.successors[node]
        if graph.nodes[successor].group == group
        and graph.nodes[successor].kind is not NodeKind.GATHER
    ]


def preceding(*, graph: Graph, place: Place) -> list[Place]:
    """The places whose states and outputs decide about this one."""
    node, element = place
    found = [
        place_beside(graph=graph, node=source, element=element)
        for source in graph.predecessors[node]
    ]
    enter = graph.nodes[node].enter
    if enter is not None:
        found.append(place_beside(graph=graph, node=enter, element=element))
    if graph.nodes[node].deferred:
        found.extend(choosers_around(graph=graph, element=element))
    return found


def choosers_around(*, graph: Graph, element: int) -> list[Place]:
    """The decisions that a task of this element may hang on."""
    return [
        place_beside(graph=graph, node=node, element=element)
        for node in graph.choosers
        if element or graph.nodes[node].group is None
    ]


def existence(*, graph: Graph, element: int, choices: Choices) -> dict[int, bool | None]:
    """For every node that this element can see: it exists, it never will, or nobody knows yet."""
    found: dict[int, bool | None] = {}
    for node in graph.nodes:  # In topological order.
        if node.group is not None and not element:
            found[node.index] = found[node.group]  # Its elements exist as soon as it does.
        else:
            found[node.index] = (
                True
                if not graph.conditional[node.index]
                else _exists(graph, node.index, element, choices, found)
            )
    return found


def _exists(
    graph: Graph, index: int, element: int, choices: Choices, found: Mapping[int, bool | None]
) -> bool | None:
    # What stands in a sub-process exists with it; a deferred join of it would not know that.
    enter = graph.nodes[index].enter
    verdict: bool | None = True if enter is None else found.get(enter, True)
    if verdict is False:
        return False
    for edge in graph.incoming[index]:
        source: bool | None = True
        if graph.is_choice(edge):
            source = found.get(edge.source, True)
            chosen = choices.get(place_beside(graph=graph, node=edge.source, element=element))
            if source and chosen is not None:
                source = not chosen.isdisjoint(edge.labels)
            elif source:
                source = None
        elif not graph.nodes[index].deferred:
            source = found.get(edge.source, True)
        if source is False:
            return False
        if source is None:
            verdict = None
    return verdict


def runnable(
    *,
    graph: Graph,
    place: Place,
    states: Mapping[Place, TaskState],
    choices: Choices,
    holds: Callable[[str], bool],
) -> bool:
    """Whether everything that the task at `place` waits for is there.

    `states` hold what exists of `preceding`; `holds` evaluates a condition, and is asked only
    once the unconditional dependencies are met. GATHER nodes are never asked about.
    """
    index, element = place
    node = graph.nodes[index]
    exist = (
        existence(graph=graph, element=element, choices=choices)
        if node.deferred and graph.choosers
        else None
    )
    later: list[Edge] = []
    for edge in graph.incoming[index]:
        if exist is not None:
            exists = exist.get(edge.source, True)
            if exists is False:
                continue
            if exists is None and not edge.when:
                return False
        if edge.when:
            later.append(edge)
        elif not _is_met(graph, edge, element, states):
            return False
    return all(not holds(edge.when) or _is_met(graph, edge, element, states) for edge in later)


def guarding(*, graph: Graph, place: Place) -> list[Place]:
    """What has to be done before a task without a way back is sent, beside what it waits for.

    Within a fan-out that is what stands in the same element, or outside of it.
    """
    node, element = place
    mine = graph.nodes[node].group
    return [
        place_beside(graph=graph, node=one, element=element)
        for one in graph.guards.get(node, ())
        if graph.nodes[one].group in (None, mine)
    ]


def _is_met(graph: Graph, edge: Edge, element: int, states: Mapping[Place, TaskState]) -> bool:
    if edge.type is EdgeType.ELEMENT:
        return states.get((edge.source, 0)) in TASK_SUCCESSFUL
    source = place_beside(graph=graph, node=edge.source, element=element)
    return states.get(source) in TASK_SUCCESSFUL


def hopeless(
    *,
    graph: Graph,
    states: Mapping[Place, TaskState],
    choices: Callable[[int], Choices],
    holds: Callable[[Place, str], bool],
) -> set[Place]:
    """The places that wait, directly or not, for what has failed and will never be there.

    `choices` are those that an element can see. A place that may still come to exist is among
    them as well, because others may wait for it.
    """
    found: set[Place] = set()
    elements = sorted({element for _, element in states} | {0})
    known = {element: choices(element) for element in elements}
    exist = {
        element: existence(graph=graph, element=element, choices=known[element])
        for element in elements
    }
    for node in graph.nodes:  # In topological order.
        for element in [0] if node.group is None else elements[1:]:
            place = (node.index, element)
            state = states.get(place)
            if state in TASK_TERMINAL - TASK_SUCCESSFUL:
                found.add(place)
            elif state is TaskState.PENDING or (
                state is None and exist[element][node.index] is None
            ):
                before = _still_needed(graph, place, states, exist[element], holds)
                if not found.isdisjoint(before):
                    found.add(place)
    return found


def _still_needed(
    graph: Graph,
    place: Place,
    states: Mapping[Place, TaskState],
    exist: Mapping[int, bool | None],
    holds: Callable[[Place, str], bool],
) -> list[Place]:
    """What a place has to wait for, as far as that can be told by now."""
    index, element = place
    node = graph.nodes[index]
    edges = graph.incoming[index]
    if node.kind is NodeKind.GATHER:
        return [(graph.nodes[edge.source].group or 0, 0) for edge in edges]
    if node.deferred:
        edges = tuple(edge for edge in edges if exist.get(edge.source, True) is not False)
    certain = all(_is_met(graph, edge, element, states) for edge in edges if not edge.when)
    return [
        place_beside(graph=graph, node=edge.source, element=element)
        for edge in edges
        if not edge.when or (certain and place in states and holds(place, edge.when))
    ]


def in_selection_order(*, graph: Graph, places: Iterable[Place]) -> list[Place]:
    """By depth, then node, then element (deterministic-selection within one plan)."""
    return sorted(set(places), key=lambda place: (graph.depth[place[0]], *place))
