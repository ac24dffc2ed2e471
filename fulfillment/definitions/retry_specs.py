"""How often a command is sent, as a template writes it: a policy by its name, or in place."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Discriminator, Field, StrictBool, StrictInt, Tag

from fulfillment.definitions.closed import Closed, ErrorCode, Name
from fulfillment.definitions.durations import Duration


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
