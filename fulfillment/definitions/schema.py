"""The language of workflow templates: closed pydantic models, shape only.

What the shape can't say (unknown tasks, cycles, references) is checked in `validation`. New
kinds of dependencies, waits and tasks become members of the unions below.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, StrictBool, StrictInt, Tag

from fulfillment.definitions.canonical import content_hash
from fulfillment.definitions.closed import (
    Closed,
    DashedName,
    ErrorCode,
    Input,
    Name,
    Offering,
    OutputReference,
    Text,
)
from fulfillment.definitions.customer import BillingSpec, Entitlement, MessagesSpec, Tell
from fulfillment.definitions.durations import Duration


class Scope(enum.StrEnum):
    ITEM = "item"
    ORDER = "order"


class ItemAction(enum.StrEnum):
    ADD = "add"
    MODIFY = "modify"
    DISCONNECT = "disconnect"


class BillingTrigger(enum.StrEnum):
    """When billing may start (reference §26)."""

    ORDER_SUBMIT = "order_submit"
    SHIPMENT = "shipment"
    INSTALLATION_COMPLETE = "installation_complete"
    SERVICE_ACTIVATION = "service_activation"
    CONTRACT_EFFECTIVE_DATE = "contract_effective_date"
    MANUAL_VERIFICATION = "manual_verification"


class Selector(Closed):
    """An offering, and what is done with it, that this workflow fulfils."""

    offering: Offering
    actions: Annotated[tuple[ItemAction, ...], Field(min_length=1)]


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


class OutputSpec(Closed):
    type: Literal["string", "integer", "number", "boolean", "list", "object"]
    optional: StrictBool = False


def _spelled_out(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


Output = Annotated[
    OutputSpec,
    BeforeValidator(
        _spelled_out,
        json_schema_input_type=(
            Literal["string", "integer", "number", "boolean", "list", "object"] | OutputSpec
        ),
    ),
]


class SuccessDependency(Closed):
    success: Name
    """The upstream task that must be terminal successful."""

    @property
    def task(self) -> str:
        return self.success


class OutputDependency(Closed):
    output: OutputReference
    """`<task>.<output>`: the upstream value that this task uses."""

    @property
    def task(self) -> str:
        return self.output.partition(".")[0]

    @property
    def name(self) -> str:
        return self.output.partition(".")[2]


def _single_key(*allowed: str) -> Any:
    """A union whose member is told by which one of its keys is there."""

    def chosen(value: Any) -> str | None:
        if isinstance(value, Mapping):
            present = [key for key in allowed if key in value]
        else:
            present = [key for key in allowed if hasattr(value, key)]
        return present[0] if len(present) == 1 else None

    return chosen


Dependency = Annotated[
    Annotated[SuccessDependency, Tag("success")] | Annotated[OutputDependency, Tag("output")],
    Discriminator(
        _single_key("success", "output"),
        custom_error_type="dependency_kind",
        custom_error_message=(
            "write a dependency as {success: <task>} or {output: <task>.<output>}"
        ),
    ),
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
    Annotated[CompensationSpec, Tag("action")] | Annotated[NoCompensation, Tag("none")],
    Discriminator(
        _single_key("action", "none"),
        custom_error_type="compensation_kind",
        custom_error_message=(
            "write {action: <action>, input: ...} or, when there is nothing to undo, "
            "{none: <the reason>}"
        ),
    ),
]


def _retry_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return "inline" if isinstance(value, Mapping | RetryPolicySpec) else None


Retry = Annotated[
    Annotated[Name, Tag("name")] | Annotated[RetryPolicySpec, Tag("inline")],
    Discriminator(
        _retry_kind,
        custom_error_type="retry_kind",
        custom_error_message="name one of the retry_policies, or write a policy in place",
    ),
]


class TaskSpec(Closed):
    title: Text
    scope: Scope = Scope.ITEM
    target: DashedName
    action: Name
    input: Input = {}
    outputs: dict[Name, Output] = {}
    depends_on: tuple[Dependency, ...] = ()
    required: StrictBool = True
    """Whether the order can't complete without it."""
    irreversible: StrictBool = False
    retry: Retry = "standard"
    timeouts: TimeoutSpec = TimeoutSpec()
    compensation: Compensation


class MilestoneSpec(Closed):
    """A point of progress that customers see (reference §16, §25)."""

    title: Text
    reached_by: Name
    tell: Tell | None = None


class FeasibilityCheck(Closed):
    """A read-only question to a target before the order is accepted."""

    target: DashedName
    action: Name
    scope: Scope = Scope.ITEM
    input: Input = {}
    timeout: Duration = timedelta(seconds=5)


class WorkflowDefinition(Closed):
    """One version of one workflow template."""

    workflow: DashedName
    version: Annotated[StrictInt, Field(ge=1, le=1_000_000)]
    title: Text
    fulfils: Annotated[tuple[Selector, ...], Field(min_length=1)]
    stalls_after: Duration = timedelta(minutes=15)
    billing_trigger: BillingTrigger
    billing: BillingSpec | None = None
    entitlement: Entitlement = Entitlement.WITH_BILLING
    activation: Name | None = None
    messages: MessagesSpec = MessagesSpec()
    tell_delay_after: Duration = timedelta(hours=1)
    feasibility: tuple[FeasibilityCheck, ...] = ()
    retry_policies: dict[Name, RetryPolicySpec] = {}
    milestones: dict[Name, MilestoneSpec] = {}
    tasks: Annotated[dict[Name, TaskSpec], Field(min_length=1, max_length=500)]

    @property
    def name(self) -> str:
        return self.workflow

    @property
    def selectors(self) -> tuple[tuple[str, str], ...]:
        """Every (offering, action) that selects this workflow."""
        return tuple((s.offering, action.value) for s in self.fulfils for action in s.actions)

    @cached_property
    def content_hash(self) -> str:
        """64 hex characters; comments and formatting of the file don't change it."""
        return content_hash(definition_document(self))

    def retry_policy(self, task: TaskSpec) -> RetryPolicySpec | None:
        """The policy of a task: its own, or a named one; None leaves it to the target system.

        Raises KeyError for a name that `validation.validate` refuses.
        """
        if isinstance(task.retry, RetryPolicySpec):
            return task.retry
        if task.retry == "standard" and "standard" not in self.retry_policies:
            return None
        return self.retry_policies[task.retry]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `definition_document`. Raises pydantic.ValidationError."""
        fields = dict(document)
        for key in ("tasks", "milestones"):
            fields[key] = {
                entry["name"]: {field: value for field, value in entry.items() if field != "name"}
                for entry in document[key]
            }
        return cls.model_validate(fields)

    def __hash__(self) -> int:
        return hash((self.workflow, self.version))


def definition_document(definition: WorkflowDefinition) -> dict[str, Any]:
    """The definition as JSON, every default spelled out.

    Tasks and milestones are lists of objects with a `name`: their order counts, and a JSON
    column does not keep the order of keys.
    """
    document = definition.model_dump(mode="json")
    for key in ("tasks", "milestones"):
        document[key] = [{"name": name, **spec} for name, spec in document[key].items()]
    return document


def workflow_schema() -> dict[str, Any]:
    """JSON Schema of a template file, for editors that check while one types."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **WorkflowDefinition.model_json_schema(mode="validation"),
    }
