"""The kinds of tasks that a template may have, each told by one key of its own.

`target`: a command to a target system. `decide`: which declared branches come to exist. `wait`:
until something is reported or a time has come. `manual`: a person decides. `use`: another
workflow as a sub-process.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, StrictBool, StrictInt, Tag

from fulfillment.definitions.calendar_specs import WindowSpec
from fulfillment.definitions.clocks import Standing, TimeoutSpec
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
from fulfillment.definitions.concern import ChangeKind
from fulfillment.definitions.dependencies import Dependency, Wait, by_key, tagged
from fulfillment.definitions.durations import Duration
from fulfillment.definitions.retry_specs import Retry
from fulfillment.definitions.undo_specs import Compensation, PointOfNoReturnSpec


class Scope(enum.StrEnum):
    ITEM = "item"
    ORDER = "order"


class Join(enum.StrEnum):
    ALL = "all"
    DEFERRED = "deferred"
    """Waits for those of its dependencies that exist, whichever branches were taken."""


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
    affected_by: tuple[ChangeKind, ...] | None = None
    """Which changes of the order concern it; default: whatever changes what it asks for."""


class Fallback(Closed):
    """Another way to the same outputs, once it is known that the one before had no effect."""

    target: DashedName
    action: Name
    input: Input = {}
    unless: tuple[ErrorCode, ...] = ()
    """Codes of refusals and failures that another way would not change."""
    compensation: Compensation | None = None
    """How it is undone; default: as the task says, and at the target that did it."""


class LockSpec(Closed):
    """Something that nobody else may use meanwhile (reference §9.1)."""

    resource: DashedName
    """What kind of thing it is: customer, asset, location, phone-numbers."""
    key: Text
    """A mapping; which one of its kind. Without a value there is nothing to lock."""
    units: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1
    """How much of it, where the resource has a capacity."""


Locks = Annotated[tuple[LockSpec, ...], Field(max_length=10)]


class CommandSpec(Step):
    target: DashedName
    action: Name
    input: Input = {}
    outputs: dict[Name, Output] = {}
    irreversible: StrictBool = False
    retry: Retry = "standard"
    timeouts: TimeoutSpec = TimeoutSpec()
    locks: Locks = ()
    """Taken before it is sent, kept until it has ended."""
    window: WindowSpec | None = None
    """When it may be sent; otherwise it waits for the window to open."""
    fallback: tuple[Fallback, ...] = ()
    for_each: ForEach | None = None
    compensation: Compensation
    point_of_no_return: PointOfNoReturnSpec | None = None
    """From here on giving up what it serves is refused, or costs something."""


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
    clock: Standing = Standing.RUN
    """What the plan's deadline does meanwhile: it may be the customer who is waited for."""


class Effect(enum.StrEnum):
    """What a person's decision does to the task."""

    PROCEED = "proceed"
    REFUSE = "refuse"
    UNDO = "undo"
    """The order is given up, and what was done of it is undone."""
    WAIVE = "waive"
    """It goes on without; who decides so answers for it."""
    ASK_CUSTOMER = "ask_customer"
    """The customer is asked, and time stands still; it is decided later."""
    REQUOTE = "requote"
    """The order is held until there is a new quote; it is decided later."""
    CANCEL = "cancel"
    """The order is to be cancelled, as if its client had asked for it."""


BY_THE_DEADLINE = frozenset({Effect.PROCEED, Effect.REFUSE, Effect.UNDO})
"""What silence may mean; for the others somebody has to answer."""


class EscalateTo(Closed):
    """Who has to decide when nobody has in time."""

    role: NameOrMapping
    queue: NameOrMapping | None = None
    """Default: the same."""
    within: Duration | None = None
    """Until the next ones are told; default: as long as the first had."""


class ManualWork(Closed):
    queue: NameOrMapping
    role: NameOrMapping
    instructions: Instructions
    outcomes: Annotated[dict[Name, Effect], Field(min_length=1, max_length=20)]
    within: Duration
    calendar: DashedName | None = None
    """The business calendar by which `within` is counted; default: around the clock."""
    otherwise: Name
    """The outcome that is taken when nobody has decided in time, or `escalate`."""
    escalate_to: EscalateTo | None = None
    """Of `escalate`: who decides then; default: the same people, and there is a case."""


ESCALATE = "escalate"
OUTCOME = "outcome"
"""The output of every manual task: what was decided."""


class ManualSpec(Step):
    manual: ManualWork
    fields: dict[Name, Output] = {}
    """What the person has to enter; outputs of the task."""
    clock: Standing = Standing.RUN
    """What the plan's deadline does meanwhile: it may be the customer who is asked."""

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
