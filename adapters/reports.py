"""What a target system reports about a command, by whichever way the report comes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from adapters.contract import Outcome, OutcomeKind

_OUTCOMES = {
    "succeeded": OutcomeKind.SUCCEEDED,
    "rejected": OutcomeKind.REJECTED,
    "failed": OutcomeKind.FAILED,
}


class ReportedError(BaseModel):
    model_config = ConfigDict(extra="ignore")
    code: Annotated[str, StringConstraints(max_length=100)] = ""
    message: Annotated[str, StringConstraints(max_length=2000)] = ""
    retryable: bool = False


class ReportIn(BaseModel):
    """A report on one command. Members that are not known here are kept, and not read."""

    model_config = ConfigDict(extra="allow")
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    status: Literal["succeeded", "rejected", "failed"]
    attempt: Annotated[int, Field(strict=True, ge=1, lt=2**31)] | None = Field(
        None, description="X-Attempt of the request that it speaks of: makes a failure exact."
    )
    reference: Annotated[str, StringConstraints(max_length=200)] | None = None
    outputs: dict[str, JsonValue] = Field({}, description="What the workflow's task declares.")
    error: ReportedError | None = None


def outcome_of(*, report: ReportIn) -> Outcome:
    """The report as the engine understands it."""
    error = report.error or ReportedError()
    return Outcome(
        kind=_OUTCOMES[report.status],
        outputs=report.outputs,
        reference=report.reference or "",
        code=error.code,
        message=error.message,
        retryable=error.retryable,
    )
