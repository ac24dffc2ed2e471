"""The small parts of a task graph as plain values: edges, and what a node is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    """Dependency types (reference §8).

    COMPENSATION edges stand in plans that undo something; of others `Graph.undo_edges` tells them.
    """

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
class Impact:
    """What it means for others that nothing undoes a task; of an undo, see `Compensation`."""

    customer: str = ""
    financial: str = ""
    legal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOfNoReturn:
    """Once its task may have been done, undoing what it serves is refused, or costs something."""

    kind: str
    """hard or soft."""
    reason: str
    cost: str = ""
    """Mapping text of an amount of money, of a soft one; empty: none."""
    window_seconds: float = 0
    """How long its task still waits, once everything before it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    target: str
    action: str
    input: Mapping[str, Any]
    unless: tuple[str, ...] = ()
    """Codes of the outcome before after which nothing else is tried."""
    compensation: Compensation | None = None
    no_compensation: str = ""
    lasting_impact: Impact | None = None


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


ENDS_WELL = frozenset({"proceed", "waive"})
"""Effects of outcomes behind which something may run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual:
    queue: str
    """Like `role` a name, or mapping text that gives one."""
    role: str
    instructions: str
    outcomes: Mapping[str, str]
    """Outcome -> proceed, refuse, undo, waive, ask_customer, requote or cancel."""
    within_seconds: float
    otherwise: str
    calendar: str = ""
    """The business calendar by which that time is counted; empty: around the clock."""
    escalate_role: str = ""
    """Who decides when nobody has in time; like the queue a name, or mapping text. Empty: the
    same."""
    escalate_queue: str = ""
    escalate_within_seconds: float | None = None
    """None: as long as the first had."""


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
