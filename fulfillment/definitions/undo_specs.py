"""How the effect of a task is taken back, and from when on that is refused (reference §14, §19)."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator

from fulfillment.definitions.amounts import Amount
from fulfillment.definitions.closed import Closed, DashedName, Input, Name, Text
from fulfillment.definitions.dependencies import by_key, tagged
from fulfillment.definitions.durations import Duration
from fulfillment.definitions.retry_specs import Retry


class OnFailure(enum.StrEnum):
    """What becomes of an order when a required task of this workflow has failed for good."""

    HOLD = "hold"
    """It stops there, with a case; a person decides."""
    COMPENSATE = "compensate"
    """It is given up, and what was done of it is undone."""
    CONTINUE = "continue"
    """What stands behind the failed task is given up; what was done stays, and the rest goes on."""


class FailureScope(enum.StrEnum):
    ORDER = "order"
    ITEM = "item"
    """The item of the task that has failed; the others go on. What serves them all goes on for
    those that are left."""


class FailureSpec(Closed):
    then: OnFailure
    of: FailureScope = FailureScope.ORDER


def _failure_spelled_out(value: Any) -> Any:
    return {"then": value} if isinstance(value, str) else value


Failure = Annotated[
    FailureSpec,
    BeforeValidator(_failure_spelled_out, json_schema_input_type=OnFailure | FailureSpec),
]


class ApprovalSpec(Closed):
    """Somebody agrees before a task is undone."""

    queue: Name
    role: Name
    within: Duration
    """After which somebody else is told."""


class UndoTimeouts(Closed):
    call: Duration = timedelta(seconds=10)
    """Total deadline of one call, from connect to the last byte."""
    callback: Duration = timedelta(minutes=5)
    """How long an undo that the target accepted may wait for its report."""


class ImpactSpec(Closed):
    """What it means for others, in words that a preview of a cancellation shows."""

    customer: Text | None = None
    financial: Text | None = None
    legal: Text | None = None


class CompensationSpec(Closed):
    """The operation that reverses the task's effect (reference §14)."""

    action: Name
    target: DashedName | None = None
    """Default: the target of the task itself."""
    input: Input = {}
    within: Duration | None = None
    """From when it is planned to its end; a person is told when that passes."""
    approval: ApprovalSpec | None = None
    """Who has to agree before; default: nobody."""
    retry: Retry = "standard"
    timeouts: UndoTimeouts = UndoTimeouts()
    refund: Amount | None = None
    """What the customer gets back with it."""
    impact: ImpactSpec = ImpactSpec()


class NoCompensation(Closed):
    none: Text
    """Why nothing has to be, or can be, undone."""
    impact: ImpactSpec = ImpactSpec()
    """What it means that it stays."""


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


class Finality(enum.StrEnum):
    HARD = "hard"
    """What the task serves can't be given up any more, nor changed where that would undo it."""
    SOFT = "soft"
    """It can, at a cost."""


class PointOfNoReturnSpec(Closed):
    """Counts from when the task may have been done."""

    kind: Finality
    reason: Text
    """What whoever asks is told."""
    cost: Amount | None = None
    """What giving it up costs the customer, once the point is soft."""
    window: Duration | None = None
    """How long the task still waits, once everything before it is done, so that its order can be
    cancelled in time."""
