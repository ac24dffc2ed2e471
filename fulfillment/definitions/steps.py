"""The kinds of tasks that a template may have, each told by one key of its own.

`target`: a command to a target system. `decide`: which declared branches come to exist. `wait`:
until something is reported or a time has come. `manual`: a person decides. `use`: another
workflow as a sub-process.
"""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, StrictBool, StrictInt, Tag

from fulfillment.definitions.calendar_specs import WindowSpec
from fulfillment.definitions.closed import (
    Closed,
    Condition,
    DashedName,
    ErrorCode,
    Input,
    Instructions,
    Name,
    NameOrMapping,
    Text,
)
from fulfillment.definitions.dependencies import Dependency, Wait, by_key, tagged
from fulfillment.definitions.durations import Duration


class Scope(enum.StrEnum):
    ITEM = "item"
    ORDER = "order"


class Join(enum.StrEnum):
    ALL = "all"
    DEFERRED = "deferred"
    """Waits for those of its dependencies that exist, whichever branches were taken."""


class RetryPolicySpec(Closed):
    """How often and how far apart one command is sent (reference §12)."""

    initial_interval: Duration = timedelta(seconds=1)
    backoff_coefficient: Annotated[float, Field(ge=1, le=100, strict=True)] = 2.0
    maximum_interval: Duration = timedelta(minutes=1)
    maximum_attempts: Annotated[StrictInt, Field(ge=1, le=1000)] = 5
    retryable: tuple[ErrorCode, ...] = ()
    """Codes of failures without effect that are tried again whatever the status says."""
    non_retryable: tuple[ErrorCode, ...] = ()
    reconcile_first: StrictBool = False
    """Ask the target by key before every further send."""
    escalate_after: Annotated[StrictInt, Field(ge=1, le=1000)] | None = None
    """Sends without effect after which a person is told."""


class TimeoutSpec(Closed):
    call: Duration = timedelta(seconds=10)
    """Total deadline of one call, from connect to the last byte."""
    callback: Duration = timedelta(minutes=5)
    """How long a task that the target accepted may wait for its report."""


JsonType = Literal["string", "integer", "number", "boolean", "list", "object"]


class OutputSpec(Closed):
    type: JsonType
    optional: StrictBool = False
    valid_until: Name | None = None
    """Another output of the task: the instant (RFC 3339) from which this one is of no use."""


def _spelled_out(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


Output = Annotated[
    OutputSpec,
    BeforeValidator(_spelled_out, json_schema_input_type=JsonType | OutputSpec),
]


class CompensationSpec(Closed):
    """The operation that reverses the task's effect (reference §14)."""

    action: Name
    target: DashedName | None = None
    """Default: the target of the task itself."""
    input: Input = {}


class NoCompensation(Closed):
    none: Text
    """Why nothing has to be, or can be, undone."""


Compensation = Annotated[
    Annotated[CompensationSpec, tagged("action")] | Annotated[NoCompensation, tagged("none")],
    Discriminator(
        by_key("action", "none"),
        custom_error_type="compensation_kind",
        custom_error_message=(
            "write {action: <action>, input: ...} or, when there is nothing to undo, "
            "{none: <the reason>}"
        ),
    ),
]


def _retry_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "~name"
    return "~inline" if isinstance(value, dict | RetryPolicySpec) else None


Retry = Annotated[
    Annotated[Name, Tag("~name")] | Annotated[RetryPolicySpec, Tag("~inline")],
    Discriminator(
        _retry_kind,
        custom_error_type="retry_kind",
        custom_error_message="name one of the retry_policies, or write a policy in place",
    ),
]


class Precondition(Closed):
    """Must hold when everything the task waits for is there; otherwise a person is told."""

    check: Condition
    message: Text


class ForEach(Closed):
    """One task per element of a list; those that depend on it wait for all of them."""

    over: Text
    """A reference or expression with a list for its value."""
    at_once: Annotated[StrictInt, Field(ge=1, le=1000)] = 10
    """Elements that are under way at the same time."""
    tolerate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of the elements that may fail; 0 stops at the first failure."""


class Step(Closed):
    """What every kind of task has."""

    title: Text
    scope: Scope = Scope.ITEM
    depends_on: tuple[Dependency, ...] = ()
    join: Join = Join.ALL
    required: StrictBool = True
    """Whether the order can't complete without it."""
    only_if: Condition | None = None
    """Otherwise it is skipped."""
    preconditions: tuple[Precondition, ...] = ()


class Fallback(Closed):
    """Another way to the same outputs, once it is known that the one before had no effect."""

    target: DashedName
    action: Name
    input: Input = {}
    unless: tuple[ErrorCode, ...] = ()
    """Codes of refusals and failures that another way would not change."""
    compensation: Compensation | None = None
    """How it is undone; default: as the task says, and at the target that did it."""


class CommandSpec(Step):
    target: DashedName
    action: Name
    input: Input = {}
    outputs: dict[Name, Output] = {}
    irreversible: StrictBool = False
    retry: Retry = "standard"
    timeouts: TimeoutSpec = TimeoutSpec()
    window: WindowSpec | None = None
    """When it may be sent; otherwise it waits for the window to open."""
    fallback: tuple[Fallback, ...] = ()
    for_each: ForEach | None = None
    compensation: Compensation


class Rule(Closed):
    when: Condition
    create: tuple[Name, ...]
    """Tasks that come to exist; none is a decision, too."""


class LastRule(Closed):
    otherwise: tuple[Name, ...]


class NamedBranches(Closed):
    """The branches that an upstream task has named."""

    names: Text
    """A reference or expression with a list of task names for its value."""
    among: Annotated[tuple[Name, ...], Field(min_length=1)]


class DecisionSpec(Step):
    decide: Annotated[
        Annotated[
            Annotated[
                tuple[
                    Annotated[
                        Annotated[Rule, tagged("when")] | Annotated[LastRule, tagged("otherwise")],
                        Discriminator(
                            by_key("when", "otherwise"),
                            custom_error_type="rule_kind",
                            custom_error_message="write {when: <condition>, create: [...]}, and "
                            "{otherwise: [...]} last",
                        ),
                    ],
                    ...,
                ],
                Field(min_length=1),
            ],
            Tag("~rules"),
        ]
        | Annotated[NamedBranches, Tag("~named")],
        Discriminator(lambda value: "~rules" if isinstance(value, list | tuple) else "~named"),
    ]

    @property
    def branches(self) -> tuple[str, ...]:
        """Every task that it may create, in the order of the file."""
        if isinstance(self.decide, NamedBranches):
            return self.decide.among
        created = (
            rule.create if isinstance(rule, Rule) else rule.otherwise for rule in self.decide
        )
        return tuple(dict.fromkeys(name for names in created for name in names))

    @property
    def outputs(self) -> dict[str, OutputSpec]:
        return {"created": OutputSpec(type="list")}


class WaitSpec(Step):
    wait: Wait
    outputs: dict[Name, Output] = {}
    """What the report has to bring along."""


class Effect(enum.StrEnum):
    """What a person's decision does to the task."""

    PROCEED = "proceed"
    REFUSE = "refuse"


class ManualWork(Closed):
    queue: NameOrMapping
    role: NameOrMapping
    instructions: Instructions
    outcomes: Annotated[dict[Name, Effect], Field(min_length=1, max_length=20)]
    within: Duration
    otherwise: Name
    """The outcome that is taken when nobody has decided in time, or `escalate`."""


ESCALATE = "escalate"
OUTCOME = "outcome"
"""The output of every manual task: what was decided."""


class ManualSpec(Step):
    manual: ManualWork
    fields: dict[Name, Output] = {}
    """What the person has to enter; outputs of the task."""

    @property
    def outputs(self) -> dict[str, OutputSpec]:
        return {**self.fields, OUTCOME: OutputSpec(type="string")}


class SubProcessSpec(Step):
    use: DashedName
    version: Annotated[StrictInt, Field(ge=1)] | None = None
    """Default: the newest that is published when an order is planned."""
    input: Input = {}
    outputs: dict[Name, Output] = {}
    """Those of the sub-process's outputs that are used here."""
    for_each: ForEach | None = None


def _task_kind(value: Any) -> str | None:
    kind: str | None = _BY_KEY(value)
    # Who writes an action means a command, and is told what it lacks.
    if kind is None and isinstance(value, dict) and "action" in value:
        return "~target"
    return kind


_BY_KEY = by_key("target", "decide", "wait", "manual", "use")
TaskSpec = Annotated[
    Annotated[CommandSpec, tagged("target")]
    | Annotated[DecisionSpec, tagged("decide")]
    | Annotated[WaitSpec, tagged("wait")]
    | Annotated[ManualSpec, tagged("manual")]
    | Annotated[SubProcessSpec, tagged("use")],
    Discriminator(
        _task_kind,
        custom_error_type="task_kind",
        custom_error_message=(
            "a task has exactly one of: target (with action), decide, wait, manual, use"
        ),
    ),
]
AnyStep = CommandSpec | DecisionSpec | WaitSpec | ManualSpec | SubProcessSpec
