"""The frozen task graph of a plan: what runs where, after what. Structure only, no order data,
so that orders of one shape share one stored graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self

from fulfillment.definitions import topology
from fulfillment.definitions.canonical import content_hash
from fulfillment.definitions.node_parts import (
    ENDS_WELL,
    Compensation,
    Edge,
    EdgeType,
    Lock,
    Milestone,
    NodeKind,
    Output,
    Retry,
)
from fulfillment.definitions.nodes import (
    Node,
    PlannedWorkflow,
    edge_from_document,
    node_document,
    node_from_document,
    workflow_from_document,
)
from fulfillment.errors import DefinitionInvalid, Fault

__all__ = [
    "Compensation",
    "Edge",
    "EdgeType",
    "Graph",
    "Milestone",
    "Node",
    "NodeKind",
    "Output",
    "PlannedWorkflow",
    "Retry",
    "Targets",
    "arrange",
    "unknown_target",
    "validate_graph",
]

FORMAT = 2
_READABLE = (1, 2)
Targets = Mapping[str, frozenset[str] | None]
"""Known target systems and the actions each has; None when any action may be asked."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in topological order, typed edges, and their lookup tables by node index.

    A graph with faults can be built, so that `validate_graph` can name them; only edges
    between existing nodes enter the tables.
    """

    workflows: tuple[PlannedWorkflow, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    predecessors: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    successors: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    depth: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """0 for roots; -1 on and behind a cycle."""
    incoming: tuple[tuple[Edge, ...], ...] = field(init=False, repr=False, compare=False)
    output_sources: tuple[Mapping[str, int | tuple[int, ...]], ...] = field(
        init=False, repr=False, compare=False
    )
    """Per node: task name -> node whose outputs it uses, or nodes in item order when an
    order-level task uses those of an item-level one."""

    def __post_init__(self) -> None:
        size = len(self.nodes)
        before: list[dict[int, None]] = [{} for _ in range(size)]
        after: list[dict[int, None]] = [{} for _ in range(size)]
        sources: list[dict[str, set[int]]] = [{} for _ in range(size)]
        incoming: list[list[Edge]] = [[] for _ in range(size)]
        for edge in self.edges:
            if 0 <= edge.source < size and 0 <= edge.target < size:
                incoming[edge.target].append(edge)
                before[edge.target][edge.source] = None
                after[edge.source][edge.target] = None
                if edge.type is EdgeType.OUTPUT:
                    task = self.nodes[edge.source].task
                    sources[edge.target].setdefault(task, set()).add(edge.source)
        predecessors = tuple(tuple(sorted(found)) for found in before)
        successors = tuple(tuple(sorted(found)) for found in after)
        depths = topology.depths(predecessors=predecessors, successors=successors)
        derived = {
            "predecessors": predecessors,
            "successors": successors,
            "depth": tuple(-1 if depth is None else depth for depth in depths),
            "incoming": tuple(tuple(edges) for edges in incoming),
            "output_sources": tuple(
                MappingProxyType(
                    {task: self._source(index, found) for task, found in by_task.items()}
                )
                for index, by_task in enumerate(sources)
            ),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def _source(self, index: int, found: set[int]) -> int | tuple[int, ...]:
        nodes = sorted((self.nodes[source] for source in found), key=lambda node: node.item or 0)
        if self.nodes[index].item is None and nodes[0].item is not None:
            return tuple(node.index for node in nodes)
        return nodes[0].index

    @property
    def locks(self) -> tuple[Lock, ...]:
        """Everything that its plans may ever ask for."""
        keepers: tuple[Node | PlannedWorkflow, ...] = (*self.workflows, *self.nodes)
        return tuple(lock for keeper in keepers for lock in keeper.locks)

    @property
    def stalls_after(self) -> timedelta:
        """How long nothing may happen: the most patient workflow of the order decides."""
        return timedelta(seconds=max(w.stalls_after_seconds for w in self.workflows))

    @property
    def deadline(self) -> timedelta | None:
        """Within which the plan shall be done: the shortest of its workflows'."""
        found = [w.deadline_seconds for w in self.workflows if w.deadline_seconds is not None]
        return timedelta(seconds=min(found)) if found else None

    @cached_property
    def mandatory(self) -> tuple[int, ...]:
        return tuple(node.index for node in self.nodes if node.required)

    @cached_property
    def conditional(self) -> tuple[bool, ...]:
        """Whether a node comes to exist only by somebody's decision, or behind such a node."""
        found: list[bool] = [False] * len(self.nodes)
        for index in sorted(range(len(self.nodes)), key=lambda one: self.depth[one]):
            enter = self.nodes[index].enter
            found[index] = enter is not None and found[enter]
            for edge in self.incoming[index]:
                # An element stands behind its fan-out, whatever it waits for beside that.
                loose = self.nodes[index].deferred and edge.type is not EdgeType.ELEMENT
                found[index] |= self.is_choice(edge) or (found[edge.source] and not loose)
        return tuple(found)

    @cached_property
    def uncertain(self) -> tuple[bool, ...]:
        """Whether a node may be missing although the sub-process that it stands in is there."""
        found: list[bool] = [False] * len(self.nodes)
        for index in sorted(range(len(self.nodes)), key=lambda one: self.depth[one]):
            node = self.nodes[index]
            if node.kind is NodeKind.LEAVE and node.enter is not None:
                found[index] = found[node.enter]
                continue
            for edge in self.incoming[index]:
                loose = node.deferred and edge.type is not EdgeType.ELEMENT
                inherited = found[edge.source] and not loose and edge.source != node.enter
                found[index] |= self.is_choice(edge) or inherited
        return tuple(found)

    def is_choice(self, edge: Edge) -> bool:
        """Whether the edge's target exists only with certain decisions of its source."""
        return edge.type is EdgeType.CHOICE or (
            edge.type is EdgeType.HUMAN and set(edge.labels) != self._proceeding(edge.source)
        )

    def _proceeding(self, index: int) -> set[str]:
        manual = self.nodes[index].manual
        return (
            {name for name, does in manual.outcomes.items() if does in ENDS_WELL}
            if manual
            else set()
        )

    @cached_property
    def choosers(self) -> frozenset[int]:
        """Nodes whose success decides which others come to exist."""
        return frozenset(edge.source for edge in self.edges if self.is_choice(edge))

    @cached_property
    def expiring(self) -> Mapping[int, tuple[Edge, ...]]:
        """Node -> the edges by which it uses outputs that expire; most graphs have none."""
        found: dict[int, list[Edge]] = {}
        for edge in self.edges:
            if edge.expired:
                found.setdefault(edge.target, []).append(edge)
        return {node: tuple(edges) for node, edges in found.items()}

    @cached_property
    def clock_stopping(self) -> frozenset[int]:
        """Nodes while whose tasks wait the plan's deadline stands still."""
        return frozenset(node.index for node in self.nodes if node.stops_clock)

    @cached_property
    def repeatable(self) -> frozenset[int]:
        """Nodes whose tasks may begin more than once, because a value expires meanwhile."""
        return frozenset(edge.target for edge in self.edges if edge.expired == "reobtain")

    @cached_property
    def guards(self) -> Mapping[int, tuple[int, ...]]:
        """Node without a way back -> everything required before it, on whatever way: all of that
        has to be done before it is sent (irreversible-guarded)."""
        found = {}
        for node in self.nodes:
            if node.is_final:
                before = topology.descendants(of=[node.index], successors=self.predecessors)
                found[node.index] = tuple(
                    one
                    for one in sorted(before - {node.index})
                    if self.nodes[one].required or self.nodes[one].needed
                )
        return found

    @cached_property
    def guarded(self) -> Mapping[int, tuple[int, ...]]:
        """The other way round: node -> those without a way back that wait for it."""
        found: dict[int, list[int]] = {}
        for final, before in self.guards.items():
            for one in before:
                found.setdefault(one, []).append(final)
        return {one: tuple(finals) for one, finals in found.items()}

    @cached_property
    def by_key(self) -> Mapping[str, int]:
        """Key of a node -> its index."""
        return {node.key: node.index for node in self.nodes}

    @cached_property
    def undoing(self) -> frozenset[int]:
        """Nodes that undo something, and whatever only stands before one: nothing of these
        fulfils the order."""
        undos = [node.index for node in self.nodes if node.undoes]
        return frozenset(topology.descendants(of=undos, successors=self.predecessors)) | {*undos}

    @cached_property
    def groups(self) -> Mapping[int, tuple[int, ...]]:
        """SPREAD node -> the nodes that each of its elements has, in topological order."""
        found: dict[int, list[int]] = {}
        for node in self.nodes:
            if node.group is not None:
                found.setdefault(node.group, []).append(node.index)
        return {spread: tuple(members) for spread, members in found.items()}

    @cached_property
    def undo_edges(self) -> tuple[Edge, ...]:
        """Compensation dependencies: the undo of `target` waits for that of `source` (§8, §14).

        Reverse dependency order over what can be undone, by one of its ways at least, and across
        what can't. Which way a task went, and so how it is undone, says its route (`Node.by`); one
        that went a way without undo keeps its place in this order, with nothing to do.
        """
        found: list[Edge] = []
        for node in self.nodes:
            if not node.compensations:
                continue
            seen: set[int] = set()
            ahead = list(self.predecessors[node.index])
            while ahead:
                index = ahead.pop()
                if index in seen:
                    continue
                seen.add(index)
                if not self.nodes[index].compensations:
                    ahead.extend(self.predecessors[index])
                else:
                    found.append(Edge(source=node.index, target=index, type=EdgeType.COMPENSATION))
        return tuple(found)

    @cached_property
    def sha256(self) -> str:
        return content_hash(self.document())

    def document(self) -> dict[str, Any]:
        """Plain JSON, the inverse of `from_document`."""
        return {
            "format": FORMAT,
            "workflows": [asdict(workflow) for workflow in self.workflows],
            "nodes": [node_document(node) for node in self.nodes],
            "edges": [_edge_document(edge) for edge in self.edges],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Raises DefinitionInvalid when the document is not of a format that this code reads."""
        if document.get("format") not in _READABLE:
            message = (
                f"This graph has the format {document.get('format')!r}; this version reads "
                f"up to {FORMAT}. Run the version that wrote it, or migrate the plan."
            )
            raise DefinitionInvalid([Fault(code="graph.format", message=message, path="format")])
        return cls(
            workflows=tuple(map(workflow_from_document, document["workflows"])),
            nodes=tuple(node_from_document(node) for node in document["nodes"]),
            edges=tuple(edge_from_document(edge) for edge in document["edges"]),
        )


def arrange(
    *,
    workflows: Sequence[PlannedWorkflow],
    nodes: Sequence[Node],
    edges: Sequence[Edge],
) -> Graph:
    """The same graph with nodes renumbered by depth, then in the order given."""
    given = Graph(workflows=tuple(workflows), nodes=tuple(nodes), edges=tuple(edges))
    order = sorted(range(len(nodes)), key=lambda i: (given.depth[i] % (len(nodes) + 1), i))
    moved = {old: new for new, old in enumerate(order)}
    return Graph(
        workflows=given.workflows,
        nodes=tuple(_moved(nodes[old], new, moved) for new, old in enumerate(order)),
        edges=tuple(
            sorted(
                (
                    replace(
                        edge,
                        source=moved.get(edge.source, edge.source),
                        target=moved.get(edge.target, edge.target),
                    )
                    for edge in edges
                ),
                key=lambda edge: (
                    edge.target,
                    edge.source,
                    edge.type,
                    edge.output or "",
                    edge.when,
                    edge.labels,
                ),
            )
        ),
    )


def _edge_document(edge: Edge) -> dict[str, Any]:
    return {**asdict(edge), "type": edge.type.value, "labels": list(edge.labels)}


def _moved(node: Node, index: int, moved: Mapping[int, int]) -> Node:
    """The node at its new place, with what it knows of the others' places."""

    def place(old: int | None) -> int | None:
        return None if old is None else moved[old]

    fan_out = node.fan_out
    if fan_out is not None:
        fan_out = replace(fan_out, gather=moved[fan_out.gather], last=moved[fan_out.last])
    return replace(
        node, index=index, group=place(node.group), enter=place(node.enter), fan_out=fan_out
    )


def validate_graph(graph: Graph, targets: Targets | None = None) -> list[Fault]:
    """Every fault of the graph; an empty list means that a plan may run on it.

    `targets` are the known target systems; None leaves them unchecked.
    """
    faults: list[Fault] = []
    nodes, size = graph.nodes, len(graph.nodes)

    def fault(code: str, path: str, message: str) -> None:
        faults.append(Fault(code=f"graph.{code}", path=path, message=message))

    if not graph.mandatory:
        fault(
            "nothing_required",
            "nodes",
            "No task is required, so nothing decides completion.",
        )
    for key, count in Counter(node.key for node in nodes).items():
        if count > 1:
            fault("duplicate_node", f"nodes.{key}", f"{count} nodes have this key.")
    for index, node in enumerate(nodes):
        if node.index != index:
            fault(
                "index",
                f"nodes.{node.key}",
                f"It stands at {index} but says {node.index}.",
            )
        if targets is not None:
            asked = [(node.target, node.action)] if node.is_command else []
            asked += [(other.target, other.action) for other in node.fallbacks]
            asked += [(undo.target, undo.action) for undo in node.compensations]
            for target, action in asked:
                message = unknown_target(target=target, action=action, targets=targets)
                if message:
                    fault("unknown_target", f"nodes.{node.key}", message)

    starved: set[int] = set()
    for edge, count in Counter(graph.edges).items():
        known = [index for index in (edge.source, edge.target) if 0 <= index < size]
        path = f"edges.{edge.source}->{edge.target}"
        if len(known) < 2:
            if 0 <= edge.target < size:
                starved.add(edge.target)
                path = f"nodes.{nodes[edge.target].key}"
            fault("missing_dependency", path, "An edge names a node that does not exist.")
            continue
        before, after = nodes[edge.source], nodes[edge.target]
        path = f"nodes.{after.key}"
        if count > 1:
            fault(
                "duplicate_edge",
                path,
                f"It depends on {before.key} {count} times alike.",
            )
        if edge.type is EdgeType.OUTPUT and edge.output not in before.outputs:
            message = f"It needs the output {edge.output!r}, which {before.key} does not declare."
            fault("undeclared_output", path, message)
        if after.required and not before.required and edge.type is not EdgeType.ELEMENT:
            message = f"It is required but waits for {before.key}, which is optional."
            fault("required_after_optional", path, message)

    for cycle, members in topology.cycles(successors=graph.successors):
        starved.update(members)
        names = " -> ".join(nodes[index].key for index in [*cycle, cycle[0]])
        others = [nodes[index].key for index in members if index not in cycle]
        tangled = f" Also caught in it: {', '.join(others)}." if others else ""
        fault(
            "cycle",
            f"nodes.{nodes[cycle[0]].key}",
            f"Tasks wait for each other: {names}.{tangled}",
        )
    behind = topology.descendants(of=sorted(starved), successors=graph.successors)
    for index in sorted(behind):
        message = "It can never start, because something before it never can."
        fault("unreachable", f"nodes.{nodes[index].key}", message)
    return faults


def unknown_target(*, target: str, action: str, targets: Targets) -> str:
    """What is wrong with asking `target` for `action`, or an empty text."""
    if target not in targets:
        known = ", ".join(sorted(targets)) or "none"
        return f"There is no target system {target!r} (known: {known})."
    actions = targets[target]
    if actions is not None and action not in actions:
        return f"{target!r} has no action {action!r} (it has: {', '.join(sorted(actions))})."
    return ""
