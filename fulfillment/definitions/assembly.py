"""The nodes and edges that templates become: per item, per sub-process, per fan-out.

What a dependency points at may be more than one node: a fan-out begins with its SPREAD and ends
with its GATHER, a sub-process begins with ENTER and ends with LEAVE, and an order-level task
that depends on an item-level one depends on that of every item.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fulfillment.definitions.concern import ChangeKind
from fulfillment.definitions.dependencies import (
    Expired,
    HumanDependency,
    MilestoneWait,
    OutputDependency,
    SignalWait,
    TaskDependency,
)
from fulfillment.definitions.node_kinds import fields_of, milestones_of, outputs_of
from fulfillment.definitions.node_parts import (
    ENDS_WELL,
    Edge,
    EdgeType,
    FanOut,
    NodeKind,
    Output,
    Precondition,
)
from fulfillment.definitions.nodes import Node
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.steps import (
    AnyStep,
    CommandSpec,
    DecisionSpec,
    ForEach,
    Join,
    ManualSpec,
    Scope,
    SubProcessSpec,
    WaitSpec,
)
from fulfillment.definitions.waits import written_out
from fulfillment.errors import DefinitionInvalid, Fault

Used = tuple[str, int | None]
"""A sub-process by name and version; None is the newest."""
NESTING_LIMIT = 5
"""Sub-processes within sub-processes."""


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where edges to a task go, and where those from it come from."""

    start: int
    end: int
    element: int | None = None
    """The first node of each element, where it is a fan-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a body of tasks stands."""

    definition: WorkflowDefinition
    served: tuple[int, ...]
    prefix: str
    """The template that the order selected, for keys of order-level tasks."""
    path: str = ""
    """The names of the sub-processes on the way, for keys."""
    item: int | None = None
    inherited: bool = False
    """In a sub-process: its tasks stand where the task that uses it stands."""
    required: bool = True
    needed: bool = True
    """An element fails with it."""
    group: int | None = None
    enter: int | None = None
    affected_by: tuple[str, ...] | None = None
    """What concerns the task that uses the sub-process, and so those in it that don't say."""
    depth: int = 0


@dataclass(slots=True)
class Assembly:
    library: Mapping[Used, WorkflowDefinition]
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    def add(self, definition: WorkflowDefinition, *, served: tuple[int, ...]) -> None:
        """All tasks of a template, for the items that it serves."""
        self._body(_Place(definition=definition, served=served, prefix=definition.name))

    def _body(self, place: _Place) -> dict[str, dict[int | None, _Ends]]:
        tasks = written_out(place.definition)
        ends: dict[str, dict[int | None, _Ends]] = {}
        for name, task in tasks.items():
            items: tuple[int | None, ...] = (place.item,)
            if not place.inherited:
                items = place.served if task.scope is Scope.ITEM else (None,)
            ends[name] = {item: self._task(place, name, task, item) for item in items}
        for name, task in tasks.items():
            for item, target in ends[name].items():
                self._depend(task, tasks, ends, item, target)
        return ends

    # --- nodes ---------------------------------------------------------------------------------

    def _task(self, place: _Place, name: str, task: AnyStep, item: int | None) -> _Ends:
        if isinstance(task, CommandSpec | SubProcessSpec) and task.for_each is not None:
            return self._fan_out(place, name, task, task.for_each, item)
        return self._once(place, name, task, item)

    def _once(self, place: _Place, name: str, task: AnyStep, item: int | None) -> _Ends:
        if isinstance(task, SubProcessSpec):
            return self._sub_process(place, name, task, item)
        index = self._node(place, name, task, item, **fields_of(place.definition, task))
        return _Ends(index, index)

    def _node(
        self, place: _Place, name: str, task: AnyStep, item: int | None, **special: Any
    ) -> int:
        index = len(self.nodes)
        key = f"{place.path}{name}"
        element = place.group is not None
        values: dict[str, Any] = {
            "task": name,
            "title": task.title,
            "input": {},
            "outputs": outputs_of(task.outputs),
            "required": task.required and place.required and not element,
            "needed": task.required and place.needed and element,
            "irreversible": False,
            "retry": None,
            "call_timeout_seconds": 0,
            "callback_timeout_seconds": 0,
            "compensation": None,
            "deferred": task.join is Join.DEFERRED,
            "only_if": task.only_if or "",
            "preconditions": tuple(
                Precondition(check=one.check, message=one.message) for one in task.preconditions
            ),
            "milestones": milestones_of(place.definition, name),
            "affected_by": _affected_by(place, task),
            **special,
        }
        self.nodes.append(
            Node(
                index=index,
                key=f"{place.prefix}/{key}" if item is None else f"{key}@{item}",
                item=item,
                items=place.served if item is None else (item,),
                workflow=place.definition.name,
                workflow_version=place.definition.version,
                group=place.group,
                enter=place.enter,
                **values,
            )
        )
        return index

    def _fan_out(
        self,
        place: _Place,
        name: str,
        task: CommandSpec | SubProcessSpec,
        each: ForEach,
        item: int | None,
    ) -> _Ends:
        spread = self._node(
            place, f"{name}~each", task, item, kind=NodeKind.SPREAD, outputs={}, milestones=()
        )
        inner = replace(place, group=spread)
        ends = self._once(inner, f"{name}~element", task, item)
        # The gate stands before the fan-out, and a milestone is reached with its end.
        for index in range(ends.start, len(self.nodes)):
            self.nodes[index] = replace(self.nodes[index], milestones=())
        # Whether or not the order needs the fan-out, an element needs its own task.
        for index in {ends.start, ends.end}:
            self.nodes[index] = replace(self.nodes[index], needed=True)
        first = self.nodes[ends.start]
        self.nodes[ends.start] = replace(first, only_if="", preconditions=())
        gather = self._node(
            place,
            name,
            task,
            item,
            kind=NodeKind.GATHER,
            only_if="",
            preconditions=(),
            deferred=False,
            outputs={
                **{output: Output(type="list") for output in task.outputs},
                "succeeded": Output(type="integer"),
                "failed": Output(type="integer"),
            },
        )
        self.nodes[spread] = replace(
            self.nodes[spread],
            fan_out=FanOut(
                over=each.over,
                at_once=each.at_once,
                tolerate=each.tolerate,
                gather=gather,
                last=ends.end,
            ),
        )
        self.edges.append(Edge(source=spread, target=ends.start, type=EdgeType.ELEMENT))
        self.edges.append(Edge(source=ends.end, target=gather, type=EdgeType.ELEMENT))
        return _Ends(spread, gather, ends.start)

    def _sub_process(
        self, place: _Place, name: str, task: SubProcessSpec, item: int | None
    ) -> _Ends:
        definition = self.library.get((task.use, task.version))
        if definition is None or definition.subprocess is None:
            message = f"There is no published sub-process {task.use!r}."
            raise _unusable("unknown_subprocess", name, message)
        if place.depth >= NESTING_LIMIT:
            message = f"Sub-processes are nested more than {NESTING_LIMIT} deep at {task.use!r}."
            raise _unusable("nesting", name, message)
        interface = definition.subprocess
        enter = self._node(
            place,
            f"{name}~inputs",
            task,
            item,
            kind=NodeKind.ENTER,
            input=task.input,
            outputs=outputs_of(interface.inputs),
            milestones=(),
        )
        plain = name.removesuffix("~element")
        inner = _Place(
            definition=definition,
            served=place.served,
            prefix=place.prefix,
            path=f"{place.path}{plain}/",
            item=item,
            inherited=True,
            required=task.required and place.required,
            needed=place.needed and (task.required or name.endswith("~element")),
            group=place.group,
            enter=enter,
            affected_by=_affected_by(place, task),
            depth=place.depth + 1,
        )
        ends = self._body(inner)
        leave = self._node(
            replace(place, enter=enter),
            name,
            task,
            item,
            kind=NodeKind.LEAVE,
            input={output: spec.value for output, spec in interface.outputs.items()},
            outputs={output: Output(type=spec.type) for output, spec in interface.outputs.items()},
            only_if="",
            preconditions=(),
            deferred=True,
        )
        self._close(written_out(definition), ends, enter, leave)
        for task_name, output in tasks_read(self.nodes[leave].input):
            for one in ends.get(task_name, {}).values():
                self.edges.append(
                    Edge(source=one.end, target=leave, type=EdgeType.OUTPUT, output=output)
                )
        return _Ends(enter, leave)

    def _close(
        self,
        tasks: Mapping[str, AnyStep],
        ends: Mapping[str, Mapping[int | None, _Ends]],
        enter: int,
        leave: int,
    ) -> None:
        """ENTER before every root of a sub-process, LEAVE behind everything that is required.

        Not only behind its last tasks: those may not come to exist.
        """
        body = [(tasks[name], one) for name, by_item in ends.items() for one in by_item.values()]
        entered = {edge.target for edge in self.edges if not edge.when}
        for task, one in body:
            if one.start not in entered:
                self.edges.append(Edge(source=enter, target=one.start, type=EdgeType.SUCCESS))
            if task.required:
                self.edges.append(Edge(source=one.end, target=leave, type=EdgeType.SUCCESS))

    # --- edges ---------------------------------------------------------------------------------

    def _depend(
        self,
        task: AnyStep,
        tasks: Mapping[str, AnyStep],
        ends: Mapping[str, Mapping[int | None, _Ends]],
        item: int | None,
        target: _Ends,
    ) -> None:
        for dependency in task.depends_on:
            assert isinstance(dependency, TaskDependency)
            edge = _edge(dependency, tasks[dependency.task])
            for source in _same_item(ends[dependency.task], item):
                self.edges.append(replace(edge, source=source.end, target=target.start))
                if edge.type is EdgeType.OUTPUT and target.element is not None:
                    # Its elements read the same values as the fan-out itself.
                    self.edges.append(replace(edge, source=source.end, target=target.element))
        if isinstance(task, DecisionSpec):
            for branch in task.branches:
                # The waits that are written in a branch come to exist with it.
                parts = [name for name in ends if name.partition("~")[0] == branch]
                for chosen in (one for name in parts for one in _same_item(ends[name], item)):
                    self.edges.append(
                        Edge(
                            source=target.end,
                            target=chosen.start,
                            type=EdgeType.CHOICE,
                            labels=(branch,),
                        )
                    )


def _affected_by(place: _Place, task: AnyStep) -> tuple[str, ...] | None:
    if task.affected_by is None:
        return place.affected_by
    return tuple(kind.value for kind in ChangeKind if kind in task.affected_by)


def _unusable(code: str, task: str, message: str) -> DefinitionInvalid:
    path = f"tasks.{task}.use"
    return DefinitionInvalid([Fault(code=f"definition.{code}", path=path, message=message)])


def _same_item(by_item: Mapping[int | None, _Ends], item: int | None) -> list[_Ends]:
    """The task of the same item, or of every item where one of them stands for the order."""
    return [by_item[item]] if item is not None and item in by_item else list(by_item.values())


def _edge(dependency: TaskDependency, upstream: AnyStep) -> Edge:
    """Its type and condition; where it goes from and to is filled in by the caller."""
    bare = Edge(source=-1, target=-1, type=EdgeType.SUCCESS)
    if isinstance(dependency, HumanDependency):
        return replace(bare, type=EdgeType.HUMAN, labels=dependency.outcomes)
    when = dependency.when or ""
    if isinstance(dependency, OutputDependency):
        expired = ""
        spec = upstream.outputs.get(dependency.name)
        if spec is not None and spec.valid_until is not None:
            expired = (dependency.expired or Expired.CASE).value
        return replace(
            bare, type=EdgeType.OUTPUT, output=dependency.name, when=when, expired=expired
        )
    if isinstance(upstream, ManualSpec):
        proceeding = tuple(
            name for name, does in upstream.manual.outcomes.items() if does in ENDS_WELL
        )
        return replace(bare, type=EdgeType.HUMAN, labels=proceeding, when=when)
    kind = EdgeType.SUCCESS
    if isinstance(upstream, WaitSpec):
        reported = isinstance(upstream.wait, MilestoneWait | SignalWait)
        kind = EdgeType.MILESTONE if reported else EdgeType.TIME
    return replace(bare, type=kind, when=when)


_READ = re.compile(r"\btasks\.([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)")


def tasks_read(value: Any) -> list[tuple[str, str]]:
    """Every (task, output) that a mapping refers to, once, in order."""
    if isinstance(value, str):
        return list(dict.fromkeys(_READ.findall(value))) if "${" in value else []
    members: Iterable[Any] = ()
    if isinstance(value, Mapping):
        members = value.values()
    elif isinstance(value, list | tuple):
        members = value
    return list(dict.fromkeys(pair for member in members for pair in tasks_read(member)))
