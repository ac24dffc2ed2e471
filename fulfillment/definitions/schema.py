"""The language of workflow templates: closed pydantic models, shape only.

What the shape can't say (unknown tasks, cycles, references) is checked in `validation`. The
kinds of tasks are in `steps`, those of dependencies and waits in `dependencies`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, JsonValue, StrictBool, StrictInt

from fulfillment.definitions.canonical import content_hash
from fulfillment.definitions.clocks import DeadlineSpec
from fulfillment.definitions.closed import Closed, DashedName, Input, Name, Offering, Text
from fulfillment.definitions.customer import BillingSpec, Entitlement, MessagesSpec, Provides, Tell
from fulfillment.definitions.durations import Duration
from fulfillment.definitions.retry_specs import RetryPolicySpec
from fulfillment.definitions.steps import (
    CommandSpec,
    JsonType,
    Locks,
    Output,
    Scope,
    SubProcessSpec,
    TaskSpec,
)
from fulfillment.definitions.undo_specs import CompensationSpec, Failure, FailureSpec, OnFailure


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


class MilestoneSpec(Closed):
    """A point of progress that customers see (reference §16, §25)."""

    title: Text
    reached_by: Name
    shared: StrictBool = False
    """Other orders may wait for it (docs/workflows.md)."""
    tell: Tell | None = None


class FeasibilityCheck(Closed):
    """A read-only question to a target before the order is accepted."""

    target: DashedName
    action: Name
    scope: Scope = Scope.ITEM
    input: Input = {}
    timeout: Duration = timedelta(seconds=5)


class ResultSpec(Closed):
    """An output of a sub-process, and what it is made of."""

    type: JsonType
    value: JsonValue


class Interface(Closed):
    """What a sub-process takes and hands back."""

    inputs: dict[Name, Output] = {}
    outputs: dict[Name, ResultSpec] = {}


class WorkflowDefinition(Closed):
    """One version of one workflow template, or of a sub-process that templates use."""

    workflow: DashedName
    version: Annotated[StrictInt, Field(ge=1, le=1_000_000)]
    title: Text
    fulfils: tuple[Selector, ...] = ()
    subprocess: Interface | None = None
    """In place of `fulfils`: it runs only as a part of other workflows."""
    on_failure: Failure = FailureSpec(then=OnFailure.HOLD)
    """When a required task has failed for good; a sub-process leaves it to its user."""
    stalls_after: Duration = timedelta(minutes=15)
    deadline: DeadlineSpec | None = None
    """From when an order is planned to its end; of several workflows the shortest counts."""
    provides: Provides = Provides.ASSET
    billing_trigger: BillingTrigger | None = None
    """Of a workflow that provides an asset; a sub-process has none."""
    billing: BillingSpec | None = None
    entitlement: Entitlement = Entitlement.WITH_BILLING
    activation: Name | None = None
    messages: MessagesSpec = MessagesSpec()
    tell_delay_after: Duration = timedelta(hours=1)
    priority: Text | None = None
    """A mapping of a whole number, the higher the sooner; evaluated again in jeopardy."""
    locks: Locks = ()
    """Taken before the first command, kept until the order's plan has ended."""
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

    @property
    def uses(self) -> tuple[tuple[str, int | None], ...]:
        """The sub-processes that it uses itself, each with its version if one is named."""
        used = (task for task in self.tasks.values() if isinstance(task, SubProcessSpec))
        return tuple(dict.fromkeys((task.use, task.version) for task in used))

    def retry_policy(self, task: CommandSpec | CompensationSpec) -> RetryPolicySpec | None:
        """The policy of a task or an undo: its own, or a named one; None leaves it to the target
        system.

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
