"""What becomes of a running plan when another graph takes the place of its own. Pure.

A task keeps its row when its node (found by its key) is in the new graph and means the same, or
when it has not begun. What has begun can't be taken back by a new graph, so a graph that does
not know it, or that wants something else of it, is refused with the reason.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fulfillment.definitions.graph import Graph
from fulfillment.definitions.node_parts import Edge, EdgeType, NodeKind
from fulfillment.definitions.nodes import Node, node_document
from fulfillment.definitions.outputs import output_faults
from fulfillment.definitions.readiness import Place, chosen_by, existence
from fulfillment.states import TASK_SUCCESSFUL, TaskState

_ON_THE_WAY = frozenset({TaskState.DISPATCHED, TaskState.ACCEPTED, TaskState.OUTCOME_UNKNOWN})
_COSMETIC = frozenset({"index", "title", "workflow_version", "items"})
"""What serves several items serves others of them: that alone makes no other task of it."""
_REFERENCES = frozenset({"group", "enter"})
_MEANING = ("kind", "target", "action", "input", "decision")
"""Of a task that has begun: with another one of these it would be another task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Had:
    """A task of the running plan, as far as it matters here."""

    node: int
    element: int
    state: TaskState
    attempts: int = 0
    route: int = 0
    sends: int = 0
    """Of its newest command."""
    is_asked: bool = False
    """Somebody or something has been asked to end it: a person, or a report."""
    outputs: Mapping[str, Any] | None = None

    @property
    def place(self) -> Place:
        return self.node, self.element


class Fate(enum.StrEnum):
    KEPT = "kept"
    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one node; `what` names the parts of it that differ."""

    key: str
    fate: Fate
    what: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    changes: tuple[Change, ...]
    unsafe: tuple[str, ...]
    """Why the graph must not take the place of the old one; empty when it may."""
    moved: Mapping[Place, int]
    """Old place -> new node, for the tasks that go on."""
    left: frozenset[Place]
    """Old places whose tasks end with the old plan."""
    born: tuple[int, ...]
    """New nodes that exist, and have no task yet."""
    unneeded: frozenset[int]
    """New nodes that will never exist, as things have been decided."""
    unsettled: Mapping[Place, str] = field(default_factory=dict)
    """Of what is on the wire, the reasons in `unsafe` that may be none once it has ended."""


def compare(
    *,
    before: Graph,
    after: Graph,
    tasks: Sequence[Had],
    given_up: Collection[Place] = (),
    told: bool = True,
) -> Comparison:
    """What would become of every task of a plan with the graph `before`.

    `given_up` are tasks that stay behind whatever they have done, as it is undone, or may stay.
    `changes` are empty unless somebody is `told`: of long orders they take as long as the rest.
    """
    return _Comparing(before, after, tasks, given_up).result(told=told)


class _Comparing:
    def __init__(
        self, before: Graph, after: Graph, tasks: Sequence[Had], given_up: Collection[Place]
    ) -> None:
        self.before, self.after = before, after
        self.given_up = given_up
        self.tasks = {task.place: task for task in tasks}
        self.new = {node.key: node.index for node in after.nodes}
        self.unsafe: dict[str, None] = {}
        self.unsettled: dict[Place, str] = {}
        self.moved: dict[Place, int] = {}
        self.left: set[Place] = set()

    def result(self, *, told: bool) -> Comparison:
        for task in self.tasks.values():
            self._place(task)
        exists = self._existence()
        self._take_back_what_does_not_exist(exists)
        self._check_order(exists)
        self._check_outputs()
        there = {node for (_, element), node in self.moved.items() if not element}
        return Comparison(
            changes=tuple(self._changes()) if told else (),
            unsafe=tuple(self.unsafe),
            moved=self.moved,
            left=frozenset(self.left),
            born=tuple(
                node.index
                for node in self.after.nodes
                if node.group is None and exists[node.index] is True and node.index not in there
            ),
            unneeded=frozenset(node for node, verdict in exists.items() if verdict is False),
            unsettled=self.unsettled,
        )

    # --- one task -----------------------------------------------------------------------------

    def _place(self, task: Had) -> None:
        old = self.before.nodes[task.node]
        index = self.new.get(old.key)
        if task.place in self.given_up:
            self._go(task, None)
        elif not _has_begun(task):
            same = index is not None and (
                task.state == TaskState.PENDING
                or not _differing(self.before, old, self.after, self.after.nodes[index])
            )
            self._go(task, index if same else None)
        elif index is None:
            if not _is_without_consequence(task, old):
                self._refuse(old, f"is {task.state}, and would not exist")
            self._go(task, None)
        else:
            differs = self._differs(task, old, self.after.nodes[index])
            if differs and task.state == TaskState.FAILED_FINAL and old.is_command:
                self._go(task, None if old.group is None else index)
            else:
                if differs:
                    why = f"is {task.state}, and would have other {_listed(differs)}"
                    self._refuse(old, why)
                    if task.state in _ON_THE_WAY and not _lasting(old, self.after.nodes[index]):
                        self.unsettled[task.place] = _reason(old, why)
                self._go(task, index)
            if old.fan_out is not None and task.state == TaskState.SUCCEEDED:
                self._check_fan_out(old, self.after.nodes[index])

    def _go(self, task: Had, index: int | None) -> None:
        if index is None:
            self.left.add(task.place)
        else:
            self.moved[task.place] = index

    def _refuse(self, node: Node, why: str) -> None:
        self.unsafe[_reason(node, why)] = None

    def _differs(self, task: Had, old: Node, new: Node) -> list[str]:
        """What would make another task of one that has begun."""
        if task.state in _ON_THE_WAY:
            return _differing(self.before, old, self.after, new, without={"depends_on"})
        names = [name for name in _MEANING if getattr(old, name) != getattr(new, name)]
        if _ways(old, task.route) != _ways(new, task.route):
            names.append("fallbacks")
        if old.kind in (NodeKind.ENTER, NodeKind.LEAVE) and old.outputs != new.outputs:
            names.append("outputs")
        if task.state == TaskState.SKIPPED_BY_POLICY and old.only_if != new.only_if:
            names.append("only_if")
        if task.state in TASK_SUCCESSFUL:
            if (old.wait is None) != (new.wait is None) or (
                old.wait
                and new.wait
                and (old.wait.kind, old.wait.name) != (new.wait.kind, new.wait.name)
            ):
                names.append("wait")
            if old.manual and new.manual and old.manual.outcomes != new.manual.outcomes:
                names.append("manual")
        else:
            names += [
                name for name in ("wait", "manual") if getattr(old, name) != getattr(new, name)
            ]
        return names

    def _check_fan_out(self, old: Node, new: Node) -> None:
        """Its list, and what each element does, stand since it began."""
        assert old.fan_out is not None
        declared = new.fan_out
        if declared is None:
            return  # Then it is of another kind, and has been refused for that.
        mine, theirs = old.fan_out, declared
        names = [
            n for n in ("over", "at_once", "tolerate") if getattr(mine, n) != getattr(theirs, n)
        ]
        if names:
            self._refuse(old, f"has begun, and would have other {_listed(names)}")
        if _group(self.before, old) != _group(self.after, new):
            self._refuse(old, "has begun, and would do something else with its elements")

    # --- the plan as a whole ------------------------------------------------------------------

    def _existence(self) -> dict[int, bool | None]:
        """Of the new graph's nodes, outside of elements, as far as it is decided."""
        choices = {}
        for place, index in self.moved.items():
            task = self.tasks[place]
            if task.element or task.state not in TASK_SUCCESSFUL:
                continue  # Skipped, it has chosen nothing.
            if index in self.after.choosers:
                kind = self.after.nodes[index].kind
                choices[index, 0] = chosen_by(kind=kind, outputs=task.outputs or {})
        return existence(graph=self.after, element=0, choices=choices)

    def _take_back_what_does_not_exist(self, exists: Mapping[int, bool | None]) -> None:
        for place, index in list(self.moved.items()):
            node = self.after.nodes[index]
            if place[1] or node.group is not None or exists[index] is True:
                continue
            task = self.tasks[place]
            if _has_begun(task):
                self._refuse(
                    node,
                    f"is {task.state}, and would exist only with another decision"
                    if exists[index] is False
                    else f"is {task.state}, and would first have to be decided",
                )
            else:
                del self.moved[place]
                self.left.add(place)

    def _check_order(self, exists: Mapping[int, bool | None]) -> None:
        """What has begun must not have anything new to wait for that is not there yet."""
        states = {(index, place[1]): self.tasks[place].state for place, index in self.moved.items()}
        for place, index in list(self.moved.items()):
            task = self.tasks[place]
            if task.element or task.state in (TaskState.PENDING, TaskState.SKIPPED_BY_POLICY):
                continue
            known = {self.before.nodes[one].key for one in self.before.predecessors[task.node]}
            for source in self.after.predecessors[index]:
                first = self.after.nodes[source]
                if (
                    first.key in known
                    or exists.get(source) is False
                    or states.get((source, 0)) in TASK_SUCCESSFUL
                ):
                    continue
                if _has_begun(task):
                    self._refuse(
                        self.after.nodes[index],
                        f"is {task.state}, and {first.key} would have to run before it",
                    )
                else:
                    self.moved.pop(place, None)
                    self.left.add(place)

    def _check_outputs(self) -> None:
        """What is still to run must find the values of what has succeeded."""
        done = {
            index: self.tasks[place]
            for place, index in self.moved.items()
            if not place[1] and self.tasks[place].state in TASK_SUCCESSFUL
        }
        for edge in self.after.edges:
            task = done.get(edge.source)
            if edge.type is not EdgeType.OUTPUT or task is None or edge.target in done:
                continue
            if task.state == TaskState.SKIPPED_BY_POLICY:
                continue
            assert edge.output is not None
            source, user = self.after.nodes[edge.source], self.after.nodes[edge.target]
            declared = {edge.output: source.outputs[edge.output]}
            if output_faults(declared=declared, returned=task.outputs or {}):
                self._refuse(
                    user,
                    f"would need the output {edge.output} of {source.key}, which has "
                    "succeeded without it",
                )

    def _changes(self) -> Iterable[Change]:
        """In the order of the new graph, and then what is not in it."""
        left = {
            self.before.nodes[node].key: self.tasks[node, 0].state
            for node, element in self.left
            if not element
        }
        had = {self.before.nodes[task.node].key for task in self.tasks.values()}
        old = {node.key: node for node in self.before.nodes}
        for node in self.after.nodes:
            known = old.get(node.key)
            if known is None:
                yield Change(key=node.key, fate=Fate.ADDED)
                continue
            differing = _differing(self.before, known, self.after, node)
            if differing:
                yield Change(key=node.key, fate=Fate.CHANGED, what=tuple(differing))
            elif node.key in left:
                waits = left[node.key] == TaskState.PENDING
                what = "waits for a decision" if waits else "begins anew"
                yield Change(key=node.key, fate=Fate.CHANGED, what=(what,))
            elif node.key in had:
                yield Change(key=node.key, fate=Fate.KEPT)
        for key, node in old.items():
            if key not in self.new:
                yield Change(key=node.key, fate=Fate.REMOVED)


def _reason(node: Node, why: str) -> str:
    return f"{node.key} {why}."


def _lasting(old: Node, new: Node) -> bool:
    """Whether it would be another task also once it has succeeded."""
    return any(getattr(old, name) != getattr(new, name) for name in _MEANING)


def _ways(node: Node, route: int) -> list[tuple[str, str, Any]]:
    """What was asked for so far, beside what was planned."""
    return [(one.target, one.action, one.input) for one in node.fallbacks[:route]]


def _has_begun(task: Had) -> bool:
    """Whether anybody outside of the engine may know of it, or anything has been decided."""
    if task.state == TaskState.PENDING:
        return False
    if task.state in (TaskState.READY, TaskState.AWAITING_MANUAL) and not task.attempts:
        return task.is_asked
    return True


def _is_without_consequence(task: Had, node: Node) -> bool:
    return task.state == TaskState.SKIPPED_BY_POLICY or (
        task.state == TaskState.FAILED_FINAL and node.is_command and node.group is None
    )


def _differing(
    before: Graph, old: Node, after: Graph, new: Node, *, without: Iterable[str] = ()
) -> list[str]:
    """The names of what is not the same in two nodes, numbering and wording aside."""
    one, other = _document(before, old), _document(after, new)
    return [name for name, value in one.items() if name not in without and value != other[name]]


def _document(graph: Graph, node: Node) -> dict[str, Any]:
    found = {name: value for name, value in node_document(node).items() if name not in _COSMETIC}
    for name in _REFERENCES:
        found[name] = None if found[name] is None else graph.nodes[found[name]].key
    if node.fan_out is not None:
        for name in ("gather", "last"):
            found["fan_out"][name] = graph.nodes[found["fan_out"][name]].key
    found["depends_on"] = sorted(_edge(graph, edge) for edge in graph.incoming[node.index])
    return found


def _edge(graph: Graph, edge: Edge) -> tuple[Any, ...]:
    source = graph.nodes[edge.source].key
    return source, edge.type.value, edge.output or "", edge.when, edge.labels


def _group(graph: Graph, spread: Node) -> dict[str, dict[str, Any]]:
    members = graph.groups.get(spread.index, ())
    return {graph.nodes[one].key: _document(graph, graph.nodes[one]) for one in members}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))
