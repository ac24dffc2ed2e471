"""The parts of a task graph as plain values, and how a node becomes JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class NodeKind(StrEnum):
    """What the engine does with a node when everything that it waits for is there."""

    COMMAND = "COMMAND"
    """A target system is asked."""
    DECISION = "DECISION"
    """Chooses which declared branches come to exist."""
    WAIT = "WAIT"
    MANUAL = "MANUAL"
    """A person decides."""
    SPREAD = "SPREAD"
    """Makes one task, or one sub-process, per element of a list."""
    GATHER = "GATHER"
    """Ends when all elements have, with their outputs as lists."""
    ENTER = "ENTER"
    """The inputs of a sub-process."""
    LEAVE = "LEAVE"
    """The outputs of a sub-process."""


class EdgeType(StrEnum):
    """Dependency types (reference §8); COMPENSATION edges are derived, see `Graph.undo_edges`."""

    SUCCESS = "SUCCESS"
    OUTPUT = "OUTPUT"
    MILESTONE = "MILESTONE"
    TIME = "TIME"
    HUMAN = "HUMAN"
    CHOICE = "CHOICE"
    """From a decision to a branch that it may create."""
    ELEMENT = "ELEMENT"
    """Into an element of a fan-out, and out of it."""
    COMPENSATION = "COMPENSATION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    source: int
    target: int
    type: EdgeType
    output: str | None = None
    """Name of the source's output, for OUTPUT edges."""
    when: str = ""
    """The edge exists only while this condition is true."""
    labels: tuple[str, ...] = ()
    """HUMAN: outcomes with which the target comes to exist; CHOICE: the branch's name."""
    expired: str = ""
    """OUTPUT: what happens when it has expired, `case` or `reobtain`; empty: it never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    type: str
    optional: bool = False
    valid_until: str = ""
    """The output of the same task that says from which instant on this one is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    initial_interval_seconds: float
    backoff_coefficient: float
    maximum_interval_seconds: float
    maximum_attempts: int
    retryable: tuple[str, ...] = ()
    non_retryable: tuple[str, ...] = ()
    reconcile_first: bool = False
    escalate_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """What a command sets beside the deadlines of its call and of its report (§13)."""

    start_to_close_seconds: float | None = None
    schedule_to_start_seconds: float | None = None
    schedule_to_close_seconds: float | None = None
    heartbeat_seconds: float | None = None
    when_sent: str = "resolve"
    when_unsent: str = "escalate"
    computed: tuple[tuple[str, str], ...] = ()
    """(clock, mapping text) of those that are evaluated while the order runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Somebody agrees before a task is undone."""

    queue: str
    role: str
    within_seconds: float
    """After which somebody else is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    """How a task is undone, and on what terms (reference §14.1)."""

    target: str
    action: str
    input: Mapping[str, Any]
    within_seconds: float | None = None
    """From when it is planned to its end; a person is told when that passes."""
    approval: Approval | None = None
    retry: Retry | None = None
    """None: as the target system's row says at the time."""
    call_timeout_seconds: float = 10
    callback_timeout_seconds: float = 300
    refund: str = ""
    """Mapping text of an amount of money that the customer gets back; empty: none."""
    customer_impact: str = ""
    financial_impact: str = ""
    legal_impact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOfNoReturn:
    """Once its task may have been done, undoing what it serves is refused, or costs something."""

    kind: str
    """hard or soft."""
    reason: str
    cost: str = ""
    """Mapping text of an amount of money, of a soft one; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    target: str
    action: str
    input: Mapping[str, Any]
    unless: tuple[str, ...] = ()
    """Codes of the outcome before after which nothing else is tried."""
    compensation: Compensation | None = None
    no_compensation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    name: str
    title: str
    shared: bool = False
    """Other orders may wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    check: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`when` is empty for the last one, which always holds."""

    when: str
    create: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Either rules, of which the first that holds decides, or names from upstream."""

    rules: tuple[Rule, ...] = ()
    names: str = ""
    among: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """`kind` is milestone, signal, until or delay."""

    kind: str
    name: str = ""
    key: str = ""
    """Mapping text: the business key, the other order, or the instant."""
    delay_seconds: float = 0
    within_seconds: float = 0
    otherwise: str = ""
    default: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual:
    queue: str
    """Like `role` a name, or mapping text that gives one."""
    role: str
    instructions: str
    outcomes: Mapping[str, str]
    """Outcome -> proceed or refuse."""
    within_seconds: float
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What nobody else may use meanwhile (reference §9.1): `<resource>:<value of the key>`."""

    resource: str
    key: str
    """Mapping text; without a value there is nothing to lock."""
    units: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOut:
    over: str
    at_once: int
    tolerate: float
    gather: int
    """Node that ends the fan-out."""
    last: int
    """Node whose success ends one element."""


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
        )

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
    """When a required task has failed for good: hold, or compensate."""


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
    return Fallback(
        **{
            **entry,
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
