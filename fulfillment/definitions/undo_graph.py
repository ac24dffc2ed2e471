"""Undo tasks as nodes of the next plan, in the reverse order of what was really done. Pure.

docs/adr/0018 says why an undo is planned, and is a task like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fulfillment.definitions.graph import Graph, arrange
from fulfillment.definitions.nodes import (
    Clocks,
    Compensation,
    Edge,
    EdgeType,
    Manual,
    Node,
    task_key,
)
from fulfillment.definitions.nodes import NodeKind as Kind
from fulfillment.definitions.readiness import Place

PREFIX = "undo_"
_AGREED = "undo_it"
_REFUSED = "leave_it"
_EDGES_AT_MOST = 1000
"""Between undos that wait for others; two long fan-outs would need one for each pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """What undoes one place of the plan before: `route` is the way by which it was done."""

    place: Place
    route: int
    key: str
    """Of the node that undoes it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Nodes and edges that are still to be put together; edges name nodes by their keys."""

    nodes: list[Node]
    edges: list[tuple[str, str, Edge]]


def undone_nodes(graph: Graph) -> Mapping[str, int]:
    """What `Node.undoes` says of a node, element aside -> the node; see `undone_by`."""
    return {
        f"{node.key.replace('~element', '')}[]" if node.group is not None else node.key: node.index
        for node in graph.nodes
    }


def undone_by(node: Node, *, among: Mapping[str, int]) -> int | None:
    """The node of a graph that an undo is about, by its `undone_nodes`."""
    key, bracket, _ = node.undoes.partition("[")
    return among.get(f"{key}[]" if bracket else key)


def name_of(*, node: Node, element: int, version: int) -> str:
    """Of the undo: of one version of the plan every place is undone at most once."""
    return f"undo.v{version}/{task_key(key=node.key, element=element)}"


def undo_parts(
    *, before: Graph, undos: Sequence[Undo], unfinished: Mapping[int, Collection[str]]
) -> Parts:
    """The undo of these places, each behind the undo of everything that depended on it.

    `unfinished` are undos of an earlier change that still run: by the node of `before` that begins
    again behind them; what is upstream of that waits for them as well.
    """
    parts = Parts([], [])
    starts: dict[Place, str] = {}
    for undo in undos:
        starts[undo.place] = _add(parts, before.nodes[undo.place[0]].by(undo.route), undo)
    waiting: dict[frozenset[str], list[str]] = {}
    for place, later in _undone_after(before, undos, unfinished).items():
        waiting.setdefault(later, []).append(starts[place])
    for later, first in waiting.items():
        _put_behind(parts, later, first)
    return parts


def with_undo(graph: Graph, *, undo: Undo, about: str) -> Graph:
    """The graph and, beside all that is in it, the undo of what its place has done by one way.

    `about` is no key of a task: the task itself stays done, or open, as it is.
    """
    parts = Parts([], [])
    _add(parts, graph.nodes[undo.place[0]].by(undo.route), undo)
    size = len(graph.nodes)
    nodes = [*graph.nodes]
    for at, node in enumerate(parts.nodes):
        nodes.append(replace(node, index=size + at, undoes=about if node.undoes else ""))
    index = {node.key: node.index for node in nodes}
    edges = [
        replace(edge, source=index[before], target=index[after])
        for before, after, edge in parts.edges
    ]
    return arrange(workflows=graph.workflows, nodes=nodes, edges=[*graph.edges, *edges])


def _add(parts: Parts, node: Node, undo: Undo) -> str:
    """What undoes it, and where somebody is asked first; the key of what comes first."""
    assert node.compensation is not None
    done = _undo_node(node, undo)
    parts.nodes.append(done)
    if node.compensation.approval is None:
        return done.key
    asked = _approval_node(done, node.compensation)
    parts.nodes.append(asked)
    parts.edges.append((asked.key, done.key, _edge(EdgeType.HUMAN, labels=(_AGREED,))))
    return asked.key


def _put_behind(parts: Parts, later: Collection[str], first: Sequence[str]) -> None:
    """All of `first` wait for all of `later`; of very many by a node between them."""
    middle: Sequence[str] = ()
    if len(later) * len(first) > _EDGES_AT_MOST and len(first) > 1:
        by_key = {node.key: node for node in parts.nodes}
        parts.nodes.append(_between(by_key[min(first)]))
        middle = [parts.nodes[-1].key]
    for source in sorted(later):
        for target in middle or first:
            parts.edges.append((source, target, _edge(EdgeType.COMPENSATION)))
    for source in middle:
        for target in first:
            parts.edges.append((source, target, _edge(EdgeType.SUCCESS)))


def _undone_after(
    before: Graph, undos: Sequence[Undo], unfinished: Mapping[int, Collection[str]]
) -> dict[Place, frozenset[str]]:
    """By place, the undos that its own waits for: the nearest downstream on every way.

    From the end on, each place once: elements that end in the same fan-out share one answer.
    """
    keys = {undo.place: undo.key for undo in undos}
    elements: dict[int, set[int]] = {}
    for index, element in keys:
        group = before.nodes[index].group
        if group is not None:
            elements.setdefault(group, set()).add(element)
    behind: dict[Place, frozenset[str]] = {}
    first: dict[Place, frozenset[str]] = {}
    """What whoever stands before a place waits for: its undo, or else what is behind it."""
    for node in reversed(before.nodes):  # They stand in topological order.
        group = node.group
        for element in (0,) if group is None else elements.get(group, {1}):
            place = node.index, element
            behind[place] = _together(
                first[one] for one in _behind(before, place, elements) if one in first
            )
            mine = unfinished.get(node.index, ())
            found = frozenset([keys[place]]) if place in keys else behind[place]
            first[place] = found.union(mine) if mine else found
    return {place: behind[place] for place in keys}


def _together(found: Iterable[frozenset[str]]) -> frozenset[str]:
    several = list({id(one): one for one in found if one}.values())
    return several[0] if len(several) == 1 else frozenset().union(*several)


def _behind(
    before: Graph, place: Place, elements: Mapping[int, Collection[int]]
) -> Iterable[Place]:
    """The places that depend on this one: within an element, into all of them, and out of them."""
    node, element = place
    group = before.nodes[node].group
    for successor in before.successors[node]:
        there = before.nodes[successor].group
        if there is None:
            yield successor, 0
        elif there == group:
            yield successor, element
        else:
            yield from ((successor, number) for number in elements.get(there, {1}))


def _undo_node(node: Node, undo: Undo) -> Node:
    how = node.compensation
    assert how is not None
    clocks = None
    if how.within_seconds is not None:
        clocks = Clocks(schedule_to_close_seconds=how.within_seconds)
    return Node(
        index=-1,
        key=undo.key,
        task=f"{PREFIX}{node.task.replace('~element', '')}",
        title=f"Undo: {node.title}",
        item=node.item,
        items=node.items,
        workflow=node.workflow,
        workflow_version=node.workflow_version,
        target=how.target,
        action=how.action,
        input={},
        outputs={},
        required=True,
        irreversible=False,
        retry=how.retry,
        call_timeout_seconds=how.call_timeout_seconds,
        callback_timeout_seconds=how.callback_timeout_seconds,
        clocks=clocks,
        compensation=None,
        no_compensation="What has been undone is not undone again.",
        undoes=task_key(key=node.key, element=undo.place[1]),
    )


def _approval_node(done: Node, how: Compensation) -> Node:
    asked = how.approval
    assert asked is not None
    impact = " ".join(
        text for text in (how.customer_impact, how.financial_impact, how.legal_impact) if text
    )
    return replace(
        done,
        key=f"{done.key}~approval",
        task=f"{done.task}~approval",
        title=f"May it be undone? {done.title.removeprefix('Undo: ')}",
        kind=Kind.MANUAL,
        target="",
        action="",
        retry=None,
        clocks=None,
        call_timeout_seconds=0,
        callback_timeout_seconds=0,
        undoes="",
        manual=Manual(
            queue=asked.queue,
            role=asked.role,
            instructions=f"{how.target} is asked for {how.action} once you agree. {impact}".strip(),
            outcomes={_AGREED: "proceed", _REFUSED: "refuse"},
            within_seconds=asked.within_seconds,
            otherwise="escalate",
        ),
    )


def _between(done: Node) -> Node:
    """Nothing is done there: it is over once all before it are undone."""
    return replace(
        done,
        key=f"{done.key}~after",
        task=f"{done.task}~after",
        title=f"Before: {done.title}",
        kind=Kind.ENTER,
        item=None,
        items=(),
        target="",
        action="",
        retry=None,
        clocks=None,
        call_timeout_seconds=0,
        callback_timeout_seconds=0,
        undoes="",
        manual=None,
    )


def _edge(kind: EdgeType, *, labels: tuple[str, ...] = ()) -> Edge:
    return Edge(source=-1, target=-1, type=kind, labels=labels)
