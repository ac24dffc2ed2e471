"""Undo tasks as nodes of the next plan, in the reverse order of what was really done. Pure.

docs/adr/0018 says why an undo is planned, and is a task like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fulfillment.definitions.graph import Graph
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


def name_of(*, node: Node, element: int, version: int) -> str:
    """Of the undo: of one version of the plan every place is undone at most once."""
    return f"undo.v{version}/{task_key(key=node.key, element=element)}"


def undone_by(graph: Graph, *, undo: Node) -> Node | None:
    """The node that an undo is about, if this graph has it: of an element the one for all."""
    plain, _, element = undo.undoes.rpartition("[")
    for node in graph.nodes:
        if node.key == undo.undoes:
            return node
        if (
            node.group is not None
            and element
            and task_key(key=node.key, element=1) == f"{plain}[1]"
        ):
            return node
    return None


def undo_parts(
    *, before: Graph, undos: Sequence[Undo], unfinished: Mapping[int, Collection[str]]
) -> Parts:
    """The undo of these places, each behind the undo of everything that depended on it.

    `unfinished` are undos of an earlier change that still run: by the node of `before` that begins
    again behind them; what is upstream of that waits for them as well.
    """
    parts = Parts([], [])
    by_place = {undo.place: undo for undo in undos}
    starts: dict[str, str] = {}
    for undo in undos:
        node = before.nodes[undo.place[0]].by(undo.route)
        assert node.compensation is not None
        done = _undo_node(node, undo)
        parts.nodes.append(done)
        starts[undo.key] = done.key
        if node.compensation.approval is not None:
            asked = _approval_node(done, node.compensation)
            parts.nodes.append(asked)
            parts.edges.append((asked.key, done.key, _edge(EdgeType.HUMAN, labels=(_AGREED,))))
            starts[undo.key] = asked.key
    for undo in undos:
        first = starts[undo.key]
        for later in _undone_after(before, undo.place, by_place, unfinished):
            parts.edges.append((later, first, _edge(EdgeType.COMPENSATION)))
    return parts


def _undone_after(
    before: Graph,
    place: Place,
    undos: Mapping[Place, Undo],
    unfinished: Mapping[int, Collection[str]],
) -> Iterable[str]:
    """The undos that the undo of `place` waits for: the nearest downstream on every way."""
    found: dict[str, None] = {}
    seen: set[Place] = set()
    ahead = list(_behind(before, place, undos))
    while ahead:
        one = ahead.pop()
        if one in seen:
            continue
        seen.add(one)
        found.update(dict.fromkeys(unfinished.get(one[0], ())))
        if one in undos:
            found[undos[one].key] = None
        else:
            ahead.extend(_behind(before, one, undos))
    return found


def _behind(before: Graph, place: Place, undos: Mapping[Place, Undo]) -> Iterable[Place]:
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
            numbers = {other for one, other in undos if before.nodes[one].group == there}
            yield from ((successor, number) for number in numbers or {1})


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


def _edge(kind: EdgeType, *, labels: tuple[str, ...] = ()) -> Edge:
    return Edge(source=-1, target=-1, type=kind, labels=labels)
