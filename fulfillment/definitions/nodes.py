"""The nodes of a task graph as plain values, and how one becomes JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fulfillment.definitions.node_parts import (
    Approval,
    Clocks,
    Compensation,
    Decision,
    Edge,
    EdgeType,
    Fallback,
    FanOut,
    Impact,
    Lock,
    Manual,
    Milestone,
    NodeKind,
    Output,
    PointOfNoReturn,
    Precondition,
    Retry,
    Rule,
    Wait,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    index: int
    key: str
    """`create_tenant@2` for item 2; `<workflow>/notify_customer` for the order as a whole."""
    task: str
    title: str
    item: int | None
    """Position of the item, from 1; None for an order-level task."""
    items: tuple[int, ...]
    """Positions of all items that it serves: one, or those that share its workflow."""
    workflow: str
    workflow_version: int
    kind: NodeKind = NodeKind.COMMAND
    target: str = ""
    """Target system of a command; empty for what the engine does itself."""
    action: str = ""
    input: Mapping[str, Any]
    """Of a command its payload; of ENTER and LEAVE what becomes their outputs."""
    outputs: Mapping[str, Output]
    required: bool
    irreversible: bool
    retry: Retry | None
    """None: as the target system's row says at the time."""
    call_timeout_seconds: float
    callback_timeout_seconds: float
    clocks: Clocks | None = None
    """None: no others, and the usual actions."""
    compensation: Compensation | None
    no_compensation: str = ""
    """The stated reason when `compensation` is None."""
    lasting_impact: Impact | None = None
    """What it means then; None where nothing was said."""
    milestones: tuple[Milestone, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    deferred: bool = False
    """Waits only for those of its dependencies that exist."""
    only_if: str = ""
    preconditions: tuple[Precondition, ...] = ()
    decision: Decision | None = None
    wait: Wait | None = None
    manual: Manual | None = None
    fan_out: FanOut | None = None
    """Of a SPREAD node."""
    group: int | None = None
    """The SPREAD node whose elements each have a task of this node."""
    needed: bool = False
    """An element fails when this task of it does."""
    enter: int | None = None
    """The ENTER node of the sub-process that it belongs to."""
    locks: tuple[Lock, ...] = ()
    """Taken before it is sent, kept until it has ended."""
    window: Mapping[str, Any] | None = None
    """When it may be sent (definitions.calendars); None: at any time."""
    stops_clock: bool = False
    """While it waits, the plan's deadline stands still."""
    point_of_no_return: PointOfNoReturn | None = None
    affected_by: tuple[str, ...] | None = None
    """Kinds of changes of the order that concern it (definitions.concern); None: whatever changes
    what it asks for."""
    undoes: str = ""
    """Key of the task that it undoes, with its element; empty: it undoes nothing."""

    @property
    def is_command(self) -> bool:
        return self.kind is NodeKind.COMMAND

    def by(self, route: int) -> Node:
        """As its task goes about it, and as that is undone: 0 as planned, else by a fallback."""
        if not route:
            return self
        other = self.fallbacks[route - 1]
        return replace(
            self,
            target=other.target,
            action=other.action,
            input=other.input,
            compensation=other.compensation,
            no_compensation=other.no_compensation,
            lasting_impact=other.lasting_impact,
        )

    @property
    def is_final(self) -> bool:
        """Once it is done there is no way back for what it serves."""
        final = self.point_of_no_return
        return self.irreversible or (final is not None and final.kind == "hard")

    @property
    def compensations(self) -> tuple[Compensation, ...]:
        """The undo of each way that has one; which of them counts shows once it is done."""
        undone = (self.compensation, *(other.compensation for other in self.fallbacks))
        return tuple(undo for undo in undone if undo is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWorkflow:
    name: str
    version: int
    title: str
    billing_trigger: str
    stalls_after_seconds: float
    locks: tuple[Lock, ...] = ()
    """Taken before the plan's first command, kept until the plan has ended."""
    items: tuple[int, ...] = ()
    """Positions of the items that it serves."""
    deadline_seconds: float | None = None
    """Within which the whole plan shall be done."""
    priority: str = ""
    """Mapping text of a whole number; empty: as the order asks."""
    on_failure: str = "hold"
    """When a required task has failed for good: hold, compensate or continue."""
    failure_of: str = "order"
    """What is given up then: the order, or the item."""


def workflow_from_document(document: Mapping[str, Any]) -> PlannedWorkflow:
    """Also of a document that an older release wrote."""
    return PlannedWorkflow(
        **{
            **document,
            "locks": tuple(Lock(**entry) for entry in document.get("locks", ())),
            "items": tuple(document.get("items", ())),
        }
    )


def node_document(node: Node) -> dict[str, Any]:
    """Plain JSON, the inverse of `node_from_document`."""
    return {name: _listed(value) for name, value in asdict(node).items()}


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(member) for key, member in value.items()}
    return [_listed(member) for member in value] if isinstance(value, list | tuple) else value


def _clocks(document: Mapping[str, Any] | None) -> Clocks | None:
    if document is None:
        return None
    computed = tuple((name, text) for name, text in document.get("computed", ()))
    return Clocks(**{**document, "computed": computed})


def node_from_document(document: Mapping[str, Any]) -> Node:
    """Also of a document that an older release wrote: what it does not name has its default."""

    def made(name: str, kind: Any) -> Any:
        value = document.get(name)
        return None if value is None else kind(**value)

    decision = document.get("decision")
    return Node(
        **{
            **document,
            "kind": NodeKind(document.get("kind", NodeKind.COMMAND)),
            "items": tuple(document["items"]),
            "outputs": {name: Output(**spec) for name, spec in document["outputs"].items()},
            "retry": _retry(document["retry"]) if document["retry"] is not None else None,
            "clocks": _clocks(document.get("clocks")),
            "compensation": _compensation(document["compensation"]),
            "lasting_impact": made("lasting_impact", Impact),
            "point_of_no_return": made("point_of_no_return", PointOfNoReturn),
            "affected_by": None
            if document.get("affected_by") is None
            else tuple(document["affected_by"]),
            "milestones": tuple(Milestone(**entry) for entry in document["milestones"]),
            "fallbacks": tuple(
                _fallback(entry, document) for entry in document.get("fallbacks", ())
            ),
            "locks": tuple(Lock(**entry) for entry in document.get("locks", ())),
            "preconditions": tuple(
                Precondition(**entry) for entry in document.get("preconditions", ())
            ),
            "decision": None if decision is None else _decision(decision),
            "wait": made("wait", Wait),
            "manual": made("manual", Manual),
            "fan_out": made("fan_out", FanOut),
        }
    )


def edge_from_document(document: Mapping[str, Any]) -> Edge:
    return Edge(
        **{
            **document,
            "type": EdgeType(document["type"]),
            "labels": tuple(document.get("labels", ())),
        }
    )


def _fallback(entry: Mapping[str, Any], node: Mapping[str, Any]) -> Fallback:
    if "compensation" in entry:
        undo, reason = entry["compensation"], entry["no_compensation"]
    else:
        undo, reason = node["compensation"], node.get("no_compensation", "")
        if undo is not None and undo["target"] == node["target"]:
            undo = {**undo, "target": entry["target"]}
    impact = entry.get("lasting_impact")
    return Fallback(
        **{
            **entry,
            "lasting_impact": None if impact is None else Impact(**impact),
            "unless": tuple(entry.get("unless", ())),
            "compensation": _compensation(undo),
            "no_compensation": reason,
        }
    )


def _compensation(document: Mapping[str, Any] | None) -> Compensation | None:
    if document is None:
        return None
    retry, approval = document.get("retry"), document.get("approval")
    return Compensation(
        **{
            **document,
            "retry": None if retry is None else _retry(retry),
            "approval": None if approval is None else Approval(**approval),
        }
    )


def _decision(document: Mapping[str, Any]) -> Decision:
    return Decision(
        rules=tuple(
            Rule(when=rule["when"], create=tuple(rule["create"])) for rule in document["rules"]
        ),
        names=document["names"],
        among=tuple(document["among"]),
    )


def _retry(document: Mapping[str, Any]) -> Retry:
    codes = {name: tuple(document.get(name, ())) for name in ("retryable", "non_retryable")}
    return Retry(**{**document, **codes})


def task_key(*, key: str, element: int) -> str:
    """What a task is called: `enrich@1[3]` for the third element of `enrich@1`."""
    return f"{key.replace('~element', '')}[{element}]" if element else key
