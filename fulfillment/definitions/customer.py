"""What a template says towards the customer: texts, channels, entitlement, billing (§15, §25, §26).

A text may name the order's own customer-safe facts and nothing else. Outputs, states and errors
of tasks have no way into it: that is checked here, when the template is published.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from fulfillment.definitions.closed import Closed, Name, Text
from fulfillment.definitions.durations import Duration
from fulfillment.definitions.references import Reference, ReferenceMalformed, parse
from fulfillment.errors import Fault

if TYPE_CHECKING:
    from fulfillment.definitions.schema import WorkflowDefinition

SAFE_NAMES: Mapping[str, bool] = {
    "order.id": False,
    "order.external_id": False,
    "order.customer.name": True,
    "order.requested_at": True,
    "order.promised_at": True,
}
"""What a text may refer to, and whether an order may be without it."""

Message = Annotated[str, StringConstraints(min_length=1, max_length=4000, strip_whitespace=True)]


class Channel(enum.StrEnum):
    EMAIL = "email"
    WEBHOOK = "webhook"


class Entitlement(enum.StrEnum):
    """What the customer may use while an order is partly fulfilled (reference §15)."""

    BEFORE_BILLING = "before_billing"
    """What is active, even if it is not billed yet."""
    WITH_BILLING = "with_billing"
    """What is active and billed."""


class Provides(enum.StrEnum):
    """What the customer has of an item once its order is complete."""

    ASSET = "asset"
    """Something of the installed base, billed as the workflow's trigger says."""
    NOTHING = "nothing"
    """Work only: a report, a clean-up, an approval. It is not billed and becomes no asset."""


class TellSpec(Closed):
    """What the customer is told, and by which channels; without channels nothing is said."""

    subject: Text | None = None
    """Default: the milestone's title, or the standard subject of the occasion."""
    message: Message
    channels: Annotated[tuple[Channel, ...], Field(max_length=len(Channel))] = tuple(Channel)


def _spelled_out(value: Any) -> Any:
    return {"message": value} if isinstance(value, str) else value


Tell = Annotated[TellSpec, BeforeValidator(_spelled_out, json_schema_input_type=Message | TellSpec)]


class MessagesSpec(Closed):
    """Texts in place of the standard ones."""

    accepted: Tell | None = None
    completed: Tell | None = None
    partly_completed: Tell | None = None
    cancelled: Tell | None = None
    delayed: Tell | None = None


class BillingSpec(Closed):
    """The task that starts billing, and the milestone that has to be reached before it."""

    task: Name
    milestone: Name | None = None
    within: Duration = timedelta(hours=4)
    """How long an item may be active and not billed, or billed and not active, before it counts
    as revenue leakage (reference §35)."""


def customer_faults(definition: WorkflowDefinition) -> list[Fault]:
    """What is wrong with the texts, and with what says when an asset is real."""
    faults = [fault for path, tell in _tells(definition) for fault in _tell_faults(tell, path=path)]
    faults += _provision_faults(definition)
    activation = definition.activation
    if activation is not None:
        task = activation if activation in definition.tasks else None
        milestone = definition.milestones.get(activation)
        if task is None and milestone is None:
            message = f"There is no task and no milestone {activation!r}."
            faults.append(Fault(code="definition.unknown_task", path="activation", message=message))
        elif task is not None and milestone is not None and milestone.reached_by != task:
            message = (
                f"{activation!r} is a task, and a milestone that another task reaches; rename one."
            )
            faults.append(
                Fault(code="definition.ambiguous_activation", path="activation", message=message)
            )
    return faults


def _provision_faults(definition: WorkflowDefinition) -> Iterator[Fault]:
    """What fulfils an offering says when its billing may start, unless it provides nothing."""
    if definition.subprocess is not None or definition.provides is Provides.ASSET:
        if definition.subprocess is None and definition.billing_trigger is None:
            message = (
                "'billing_trigger' is required here: say when billing may start, or "
                "`provides: nothing`."
            )
            yield Fault(code="definition.billing_trigger", path="", message=message)
        return
    for member in ("billing_trigger", "billing", "activation"):
        if getattr(definition, member) is not None:
            message = f"What provides nothing has no {member}."
            yield Fault(code="definition.provides_nothing", path=member, message=message)


def _tells(definition: WorkflowDefinition) -> Iterator[tuple[str, TellSpec]]:
    for name, milestone in definition.milestones.items():
        if milestone.tell is not None:
            yield f"milestones.{name}.tell", milestone.tell
    for occasion in MessagesSpec.model_fields:
        tell = getattr(definition.messages, occasion)
        if tell is not None:
            yield f"messages.{occasion}", tell


def _tell_faults(tell: TellSpec, *, path: str) -> Iterator[Fault]:
    if len(set(tell.channels)) < len(tell.channels):
        message = "A channel is listed twice."
        yield Fault(code="definition.duplicate_channel", path=f"{path}.channels", message=message)
    for part, text in (("subject", tell.subject or ""), ("message", tell.message)):
        try:
            pieces = parse(text)
        except ReferenceMalformed as malformed:
            yield Fault(
                code="definition.reference_malformed",
                path=f"{path}.{part}",
                message=str(malformed),
            )
            continue
        for piece in pieces:
            reason = "" if isinstance(piece, str) else _reference_fault(piece)
            if reason:
                yield Fault(
                    code="definition.not_for_customers", path=f"{path}.{part}", message=reason
                )


def _reference_fault(piece: Any) -> str:
    # Whatever else may stand between `${` and `}` one day is not for customers either.
    name = str(piece) if isinstance(piece, Reference) else ""
    if name not in SAFE_NAMES:
        known = ", ".join(SAFE_NAMES)
        return f"${{{piece}}} can't be told to customers; a text may name {known}, as they are."
    if SAFE_NAMES[name] and not piece.optional:
        return f"An order may be without {name}; write ${{{name}?}}."
    return ""
