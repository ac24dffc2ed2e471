"""What becomes of every task when a plan is given up, or when its order changes. Pure.

Nothing of a running plan is changed: its successor keeps what still holds, undoes what was done
and shall not be, and begins the rest (reference §14, §20; docs/adr/0018).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fulfillment.definitions.assessment import Becomes
from fulfillment.definitions.graph import Graph, arrange
from fulfillment.definitions.migration import Had
from fulfillment.definitions.nodes import (
    Edge,
    EdgeType,
    Node,
    NodeKind,
    PlannedWorkflow,
    node_document,
)
from fulfillment.definitions.readiness import Place
from fulfillment.definitions.references import texts_in
from fulfillment.definitions.undo_graph import (
    Parts,
    Undo,
    name_of,
    undo_parts,
    undone_by,
    undone_nodes,
)
from fulfillment.states import TASK_SENDABLE, TaskState

_MAY_HAVE_HAPPENED = frozenset(
    {TaskState.DISPATCHED, TaskState.ACCEPTED, TaskState.OUTCOME_UNKNOWN}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    graph: Graph
    """Of the next plan."""
    becomes: Mapping[Place, Becomes]
    """Of every task of the plan before."""
    given_up: frozenset[Place]
    """Those of them that stay behind although they have begun."""
    undos: tuple[Undo, ...]
    """Planned now; those of an earlier change that still run are in the graph as well."""
    unsettled: tuple[Place, ...]
    """Whether these have an effect has to be known first."""
    irreversible: tuple[Place, ...]
    """They would have to be undone, and can't be."""


def revise(
    *,
    before: Graph,
    tasks: Sequence[Had],
    after: Graph | None,
    version: int,
    concerned: Collection[Place] = (),
    doubtful: Collection[Place] = (),
    only: Collection[str] = (),
) -> Revision:
    """What would become of a plan with the graph `before`.

    `after` is the graph of the revised order, None when all of it is given up. `concerned` are
    tasks that ask for something else now. `doubtful` are tasks of which a call may still have had
    its effect, although their state does not say so. `only` are the names of the tasks that are
    undone when all is given up, if not all of them are.
    """
    return _Revising(before, tasks, after, version, concerned, doubtful, only).result()


@dataclass(slots=True)
class _Revising:
    before: Graph
    tasks: Sequence[Had]
    after: Graph | None
    version: int
    concerned: Collection[Place]
    doubtful: Collection[Place]
    only: Collection[str]
    becomes: dict[Place, Becomes] = field(default_factory=dict)
    undos: list[Undo] = field(default_factory=list)
    unsettled: list[Place] = field(default_factory=list)
    irreversible: list[Place] = field(default_factory=list)

    def result(self) -> Revision:
        places = {task.place: task for task in self.tasks}
        new = set() if self.after is None else {node.key for node in self.after.nodes}
        lost = self._lost(places, new)
        given_up: set[Place] = set()
        unfinished: list[Node] = []
        for place, task in places.items():
            node = self.before.nodes[place[0]]
            if node.index in self.before.undoing:
                # What is being undone is undone to its end, whatever comes.
                over = task.state in (TaskState.SUCCEEDED, TaskState.WAIVED_BY_AUTHORIZED_USER)
                self.becomes[place] = Becomes.STAYS if over else Becomes.KEPT
                if over:
                    given_up.add(place)
                else:
                    unfinished.append(node)
                continue
            if place not in lost:
                self.becomes[place] = Becomes.KEPT
                continue
            given_up.add(place)
            self.becomes[place] = self._lose(task, node, again=node.key in new)
        return Revision(
            graph=self._graph(unfinished),
            becomes=self.becomes,
            given_up=frozenset(given_up),
            undos=tuple(self.undos),
            unsettled=tuple(self.unsettled),
            irreversible=tuple(self.irreversible),
        )

    def _lose(self, task: Had, node: Node, *, again: bool) -> Becomes:
        if node.is_command:
            if task.state in _MAY_HAVE_HAPPENED or task.place in self.doubtful:
                self.unsettled.append(task.place)
                return Becomes.REDONE if again else Becomes.UNDONE
            if task.state == TaskState.SUCCEEDED and self._is_undone(node):
                way = node.by(task.route)
                if way.compensation is not None:
                    key = name_of(node=node, element=task.element, version=self.version)
                    self.undos.append(Undo(place=task.place, route=task.route, key=key))
                    return Becomes.REDONE if again else Becomes.UNDONE
                if node.irreversible:
                    self.irreversible.append(task.place)
                return Becomes.REDONE if again else Becomes.STAYS
        if again:
            return Becomes.REDONE
        is_done = task.state in (TaskState.SUCCEEDED, TaskState.WAIVED_BY_AUTHORIZED_USER)
        return Becomes.STAYS if is_done and not _is_frame(node) else Becomes.WITHDRAWN

    def _is_undone(self, node: Node) -> bool:
        return not self.only or node.task.removesuffix("~element") in self.only

    # --- what can't stay -----------------------------------------------------------------------

    def _lost(self, places: Mapping[Place, Had], new: Collection[str]) -> set[Place]:
        """What begins anew or is not there any more, what has used it, and what was about to be
        done behind it."""
        gone = {place for place in places if self.before.nodes[place[0]].key not in new}
        if self.after is None:
            return gone
        begun = {place for place, task in places.items() if task.state != TaskState.PENDING}
        lost = begun.intersection(self.concerned)
        while True:
            found = self._using(lost | gone, places) | self._next_behind(lost, places)
            more = (found & begun) - lost - gone
            if not more:
                return lost | gone | self._elements_of(self._groups(lost | gone), places)
            lost |= more

    def _groups(self, lost: Collection[Place]) -> set[int]:
        """Fan-outs of which something is lost: the list of one is the list of all its elements."""
        found = {self.before.nodes[index].group for index, _ in lost}
        found |= {index for index, _ in lost if self.before.nodes[index].fan_out is not None}
        return {index for index in found if index is not None}

    def _elements_of(self, groups: Collection[int], places: Iterable[Place]) -> set[Place]:
        """All there is of their elements, begun or not: other elements take their places."""
        return {
            place for place in places if place[1] and self.before.nodes[place[0]].group in groups
        }

    def _next_behind(self, lost: Collection[Place], places: Mapping[Place, Had]) -> set[Place]:
        """Tasks that wait to be sent, and have had no effect: they wait for what is done again."""
        waiting: dict[int, list[int]] = {}
        for (node, element), task in places.items():
            if task.state in TASK_SENDABLE and task.place not in self.doubtful:
                waiting.setdefault(node, []).append(element)
        found: set[Place] = set()
        for node, element in lost:
            mine = self.before.nodes[node].group
            for behind in self.before.successors[node]:
                group = self.before.nodes[behind].group
                for one in waiting.get(behind, ()):
                    if group is None or group != mine or one == element:
                        found.add((behind, one))
        return found

    def _using(self, lost: Collection[Place], places: Mapping[Place, Had]) -> set[Place]:
        found: set[Place] = set()
        choosers = {node for node, element in lost if node in self.before.choosers}
        unsure = self._decided_by(choosers) if choosers else frozenset()
        groups = self._groups(lost)
        gathers = {
            fan_out.gather: index
            for index in (node.index for node in self.before.nodes if node.fan_out is not None)
            if (fan_out := self.before.nodes[index].fan_out) is not None
        }
        groups |= {gathers[node] for node, _ in lost if node in gathers}
        used = {
            (edge.source, edge.target) for edge in self.before.edges if edge.type is EdgeType.OUTPUT
        }
        for index, element in places:
            mine = self.before.nodes[index]
            if (
                index in unsure
                or (mine.group is not None and mine.group in groups)
                or index in groups
                or (index in gathers and gathers[index] in groups)
                or any((source, index) in used for source, _ in lost)
                or self._goes_with_its_beginning(mine, places[index, element], lost)
            ):
                found.add((index, element))
        return found

    def _goes_with_its_beginning(self, node: Node, task: Had, lost: Collection[Place]) -> bool:
        """Part of a sub-process that begins anew: it has used what that was given, or it is not
        known any more whether there is to be one."""
        if node.enter is None or not {(node.enter, task.element), (node.enter, 0)} & set(lost):
            return False
        return (
            node.kind is NodeKind.LEAVE
            or task.state == TaskState.SKIPPED_BY_POLICY
            or self._may_be_left_out(node)
            or any("inputs." in text for _, text in texts_in(node_document(node)))
        )

    def _may_be_left_out(self, node: Node) -> bool:
        """With the sub-process that it is part of, or one around that."""
        while node.enter is not None:
            node = self.before.nodes[node.enter]
            if node.only_if:
                return True
        return False

    def _decided_by(self, choosers: Collection[int]) -> frozenset[int]:
        """The nodes that exist by these decisions, directly or behind others that do."""
        found: set[int] = set()
        for node in self.before.nodes:  # In topological order.
            for edge in self.before.incoming[node.index]:
                chosen = edge.source in choosers and self.before.is_choice(edge)
                if chosen or (edge.source in found and not node.deferred):
                    found.add(node.index)
            if node.enter in found:
                found.add(node.index)
        return frozenset(found)

    # --- the graph of the next plan ------------------------------------------------------------

    def _graph(self, unfinished: Sequence[Node]) -> Graph:
        carried = {node.key for node in unfinished}
        after = self.after
        nodes = [] if after is None else list(after.nodes)
        edges = [] if after is None else list(after.edges)
        again: dict[int, list[str]] = {}
        among = undone_nodes(self.before)
        for undo in unfinished:
            about = undone_by(undo, among=among)
            if about is not None:
                again.setdefault(about, []).append(undo.key)
        parts = undo_parts(before=self.before, undos=self.undos, unfinished=again)
        self._carry(parts, unfinished)
        self._behind_what_runs_apart(parts, unfinished)
        if after is not None:
            self._begin_again(parts, after, carried)
        return _assembled(
            workflows=_without_clocks(self.before) if after is None else after.workflows,
            nodes=nodes,
            edges=edges,
            parts=parts,
        )

    def _carry(self, parts: Parts, unfinished: Sequence[Node]) -> None:
        carried = {node.index: node for node in unfinished}
        parts.nodes.extend(unfinished)
        for edge in self.before.edges:
            if edge.source in carried and edge.target in carried:
                pair = carried[edge.source].key, carried[edge.target].key
                parts.edges.append((*pair, edge))

    def _behind_what_runs_apart(self, parts: Parts, unfinished: Sequence[Node]) -> None:
        """Where what an earlier undo is about is not in the plan any more, nobody can tell what
        depended on it: of the same items, and of what serves more than one, it comes first."""
        among = undone_nodes(self.before)
        apart = [
            node for node in unfinished if node.undoes and undone_by(node, among=among) is None
        ]
        mine = {undo.key: self.before.nodes[undo.place[0]] for undo in self.undos}
        for first in apart:
            for key, node in mine.items():
                if node.item is None or not set(first.items).isdisjoint(node.items):
                    edge = Edge(source=-1, target=-1, type=EdgeType.COMPENSATION)
                    parts.edges.append((first.key, key, edge))

    def _begin_again(self, parts: Parts, after: Graph, carried: Collection[str]) -> None:
        """What is done again waits for its undo, and for one that an earlier change began."""
        first = after.by_key
        edge = Edge(source=-1, target=-1, type=EdgeType.COMPENSATION)
        for undo in self.undos:
            node = self.before.nodes[undo.place[0]]
            start = node if node.group is None else self.before.nodes[node.group]
            if start.key in first:
                parts.edges.append((undo.key, start.key, edge))
        among = undone_nodes(after)
        for one in parts.nodes:
            about = undone_by(one, among=among) if one.key in carried else None
            if about is not None:
                group = after.nodes[about].group
                start = after.nodes[about if group is None else group]
                parts.edges.append((one.key, start.key, edge))


def _without_clocks(graph: Graph) -> list[PlannedWorkflow]:
    """Nothing is promised any more."""
    return [replace(one, deadline_seconds=None) for one in graph.workflows]


def _assembled(
    *,
    workflows: Sequence[PlannedWorkflow],
    nodes: Sequence[Node],
    edges: Sequence[Edge],
    parts: Parts,
) -> Graph:
    size = len(nodes)
    added = [replace(node, index=size + at) for at, node in enumerate(parts.nodes)]
    everything = [*nodes, *added]
    index = {node.key: node.index for node in everything}
    joined = {
        (before, after, edge.type): replace(edge, source=index[before], target=index[after])
        for before, after, edge in parts.edges
    }
    return arrange(workflows=workflows, nodes=everything, edges=[*edges, *joined.values()])


def _is_frame(node: Node) -> bool:
    """The engine's own work, of which nothing stays."""
    return node.kind is not NodeKind.COMMAND and node.kind is not NodeKind.MANUAL
