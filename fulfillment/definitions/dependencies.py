"""The typed dependencies of a task, as a template writes them (reference §8).

Success and output dependencies point at other tasks. A milestone, a time and a person's decision
are waits with an end: written in place they become a wait task of their own when an order is
planned, so that a wait is seen, audited and timed like any other work.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from fulfillment.definitions.closed import Closed, Condition, Input, Name, OutputReference, Text
from fulfillment.definitions.durations import Duration


def tagged(name: str) -> Tag:
    """The tag of a union's member: a text that no file can have as a key (see `loading`)."""
    return Tag(f"~{name}")


def by_key(*allowed: str) -> Any:
    """A union whose member is told by which one of these keys is there."""

    def chosen(value: Any) -> str | None:
        if isinstance(value, Mapping):
            present = [key for key in allowed if key in value]
        else:
            present = [key for key in allowed if getattr(value, key, None) is not None]
        return f"~{present[0]}" if len(present) == 1 else None

    return chosen


class Overdue(enum.StrEnum):
    """What becomes of a wait that nobody has ended in time."""

    ESCALATE = "escalate"
    """A person is told, and decides; it goes on waiting."""
    FAIL = "fail"
    CONTINUE = "continue"
    """As if it had come, with the `default` outputs."""
    UNDO = "undo"
    """The order is given up, and what was done of it is undone."""


class Expired(enum.StrEnum):
    """What becomes of a task when a value that it uses is of no use any more."""

    CASE = "case"
    """A person is told, and decides."""
    REOBTAIN = "reobtain"
    """The task that returned the value is asked anew; this one waits for it."""


class SuccessDependency(Closed):
    success: Name
    """The upstream task that must be terminal successful."""
    when: Condition | None = None
    """Without this condition being true there is no such dependency."""

    @property
    def task(self) -> str:
        return self.success


class OutputDependency(Closed):
    output: OutputReference
    """`<task>.<output>`: the upstream value that this task uses."""
    when: Condition | None = None
    expired: Expired | None = None
    """What happens after the value's `valid_until`; None means CASE."""

    @property
    def task(self) -> str:
        return self.output.partition(".")[0]

    @property
    def name(self) -> str:
        return self.output.partition(".")[2]


class HumanDependency(Closed):
    human: Name
    """A manual task; the dependent comes to exist with one of these outcomes only."""
    outcomes: Annotated[tuple[Name, ...], Field(min_length=1)]

    @property
    def task(self) -> str:
        return self.human


class MilestoneDependency(Closed):
    milestone: Name
    """Reported from outside for this order."""
    within: Duration
    otherwise: Overdue


class TimeDependency(Closed):
    after: Name
    """The task that must have succeeded; the time counts from then."""
    delay: Duration


class InstantDependency(Closed):
    until: Text
    """An instant as RFC 3339 text, usually a reference such as `${order.requested_at}`."""


Dependency = Annotated[
    Annotated[SuccessDependency, tagged("success")]
    | Annotated[OutputDependency, tagged("output")]
    | Annotated[HumanDependency, tagged("human")]
    | Annotated[MilestoneDependency, tagged("milestone")]
    | Annotated[TimeDependency, tagged("delay")]
    | Annotated[InstantDependency, tagged("until")],
    Discriminator(
        by_key("success", "output", "human", "milestone", "delay", "until"),
        custom_error_type="dependency_kind",
        custom_error_message=(
            "write a dependency as {success: <task>}, {output: <task>.<output>}, {human: <task>, "
            "outcomes: [...]}, {milestone: <name>, within: ..., otherwise: ...}, {delay: <time>, "
            "after: <task>} or {until: <instant>}"
        ),
    ),
]
TaskDependency = SuccessDependency | OutputDependency | HumanDependency
"""Those that point at a task; all that is left once the waits are written out."""


class MilestoneWait(Closed):
    milestone: Name
    """Reported for this order, or for the order that `order` names."""
    order: Text | None = None
    """The external id of another order of the same client (a reference or an expression)."""
    within: Duration
    otherwise: Overdue
    default: Input = {}
    """Outputs when it continues without having been reported."""


class SignalWait(Closed):
    signal: Name
    key: Text
    """The business key that the signal has to carry."""
    within: Duration
    otherwise: Overdue
    default: Input = {}


class InstantWait(Closed):
    until: Text


class DelayWait(Closed):
    delay: Duration


Wait = Annotated[
    Annotated[MilestoneWait, tagged("milestone")]
    | Annotated[SignalWait, tagged("signal")]
    | Annotated[InstantWait, tagged("until")]
    | Annotated[DelayWait, tagged("delay")],
    Discriminator(
        by_key("milestone", "signal", "until", "delay"),
        custom_error_type="wait_kind",
        custom_error_message=(
            "write {milestone: <name>, within: ..., otherwise: ...}, {signal: <name>, key: ..., "
            "within: ..., otherwise: ...}, {until: <instant>} or {delay: <time>}"
        ),
    ),
]
