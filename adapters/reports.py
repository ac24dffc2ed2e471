"""What a target system reports about a command, in one shape for every way in.

{"event_id": "…", "idempotency_key": "…", "status": "succeeded|rejected|failed|in_progress",
 "outputs": {…}, "reference": "…", "error": {"code": "…", "message": "…", "retryable": false},
 "progress": {…}, "occurred_at": "…"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
)

from adapters import progress as progresses
from adapters import strict_json
from adapters.answers import names_of_tasks
from adapters.contract import Outcome, OutcomeKind

_OUTCOMES = {
    "succeeded": OutcomeKind.SUCCEEDED,
    "rejected": OutcomeKind.REJECTED,
    "failed": OutcomeKind.FAILED,
    "in_progress": OutcomeKind.ACCEPTED,
}


class NotAReport(Exception):
    """What came can't be read as a report; the message says why."""

    code = "report.unreadable"


class ReportError(BaseModel):
    model_config = ConfigDict(extra="ignore")
    code: Annotated[str, StringConstraints(max_length=100)] = ""
    message: Annotated[str, StringConstraints(max_length=2000)] = ""
    retryable: bool = False
    """Of a failure: whether the same command may be sent again."""
    compensate: tuple[Annotated[str, StringConstraints(max_length=63)], ...] = ()
    """Of what is final: names of the tasks that have to be undone for it."""


def _short(progress: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if fault := progresses.fault_of(progress):
        raise ValueError(f"it {fault}")
    return progress


class ReportIn(BaseModel):
    """A report on one command. Members that are not known here are kept, and not read."""

    model_config = ConfigDict(extra="allow")
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    attempt: Annotated[int, Field(strict=True, ge=1, lt=2**31)] | None = Field(
        None, description="X-Attempt of the request that it speaks of: makes a failure exact."
    )
    status: Annotated[
        Literal["succeeded", "rejected", "failed", "in_progress"],
        Field(description="in_progress is a sign of life: it ends nothing."),
    ]
    reference: Annotated[str, StringConstraints(max_length=200)] | None = None
    outputs: dict[str, JsonValue] = Field({}, description="What the workflow's task declares.")
    error: ReportError | None = None
    progress: Annotated[dict[str, JsonValue], AfterValidator(_short)] | None = Field(
        None, description="Of in_progress: how far it is; told to it again with the next send."
    )
    occurred_at: AwareDatetime | None = Field(
        None, description="Of in_progress: when that was so, by the sender's clock."
    )


def outcome_of(*, report: ReportIn) -> Outcome:
    """What the report says about its command; `failed` means that nothing happened.

    A sign of life is ACCEPTED, as if the target had been asked and were at work.
    """
    error = report.error or ReportError()
    return Outcome(
        kind=_OUTCOMES[report.status],
        outputs=report.outputs,
        reference=report.reference or "",
        code=error.code,
        message=error.message,
        retryable=error.retryable,
        compensate=names_of_tasks(list(error.compensate)),
        progress=report.progress if report.status == "in_progress" else None,
        occurred_at=report.occurred_at if report.status == "in_progress" else None,
    )


def report_of_message(*, body: bytes, message_id: str, correlation_id: str) -> ReportIn:
    """The report in a message, whose properties may stand for the two ids in its body.

    Raises NotAReport: no strict JSON, another shape, or properties that contradict the body.
    """
    try:
        document = strict_json.loads(body)
    except strict_json.NotStrictJson as error:
        raise NotAReport(f"The body is not usable JSON: {error}.") from None
    if not isinstance(document, dict):
        raise NotAReport("The body is not a JSON object.")
    document = _with(document, "event_id", message_id, "message_id")
    document = _with(document, "idempotency_key", correlation_id, "correlation_id")
    if not document.get("event_id"):
        raise NotAReport(
            "It has no event_id, and the message no message_id: its repetitions could not be told."
        )
    try:
        return ReportIn.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:5]
        )
        raise NotAReport(f"The body has another shape than a report: {faults}.") from None


def _with(document: Mapping[str, Any], name: str, value: str, source: str) -> dict[str, Any]:
    if not value:
        return dict(document)
    if not value.isprintable():
        raise NotAReport(f"The message's {source} holds characters that are not printable.")
    if document.get(name, value) != value:
        raise NotAReport(f"The body's {name} is not the message's {source}.")
    return {**document, name: value}
