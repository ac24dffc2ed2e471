"""What an HTTP answer means: status, headers and body in, one outcome out. Pure.

The rule behind the table: a status says that nothing happened only where its sender must have
known so. What any box on the way could have said by itself, and what nobody can read, is
UNKNOWN, and the engine reconciles it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from adapters import progress as progresses
from adapters import strict_json
from adapters.contract import Outcome, OutcomeKind

LONGEST_RETRY_AFTER = timedelta(hours=1)
_BUSY = frozenset({408, 425, 429, 503})
_SAID_BY_ANYBODY = frozenset({408, 503})
"""Proxies say these by themselves, also when they have passed the request on."""
_STATUSES = {
    "succeeded": OutcomeKind.SUCCEEDED,
    "accepted": OutcomeKind.ACCEPTED,
    "in_progress": OutcomeKind.ACCEPTED,
    "rejected": OutcomeKind.REJECTED,
    "failed": OutcomeKind.FAILED,
}
_NAMES_AT_MOST = 100
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_LONGEST_CODE = 100
_LONGEST_MESSAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Error:
    code: str = ""
    message: str = ""
    compensate: tuple[str, ...] = ()


def outcome_of_send(
    *, answer: Answer, unsafe_statuses: frozenset[int] = frozenset(), now: datetime
) -> Outcome:
    """What became of a command, from the answer to its POST.

    `unsafe_statuses` are those that this target is known to send although it may have acted.
    `now` is for a Retry-After that is a date.
    """
    status = answer.status
    if 200 <= status < 300:
        return _reported(answer)
    error = _error(answer.body)
    if status in unsafe_statuses:
        return _unexpected(status, error)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY or (
        status == HTTPStatus.CONFLICT and error.code == "rejected"
    ):
        return _outcome(OutcomeKind.REJECTED, status, error)
    if status == HTTPStatus.CONFLICT and error.code != "key_reused":
        # In progress, a duplicate, … : something may have happened under this key.
        return _outcome(OutcomeKind.UNKNOWN, status, error)
    if status in _SAID_BY_ANYBODY and not error.code:
        return _unexpected(status, error)
    if status in _BUSY:
        return Outcome(
            kind=OutcomeKind.FAILED,
            code=error.code or f"http_{status}",
            message=_sentence(status, error),
            retryable=True,
            retry_after=retry_after(headers=answer.headers, now=now),
        )
    if 400 <= status < 500:
        return _outcome(OutcomeKind.FAILED, status, error)
    return _unexpected(status, error)


def outcome_of_query(*, answer: Answer, now: datetime) -> Outcome:
    """What became of a key, from the answer to a GET about it.

    Never FAILED because of the query's own trouble: that says nothing about the command.
    """
    status = answer.status
    if status == HTTPStatus.OK:
        return _reported(answer)
    error = _error(answer.body)
    if status == HTTPStatus.NOT_FOUND and error.code == "not_found":
        return _outcome(OutcomeKind.NOT_FOUND, status, error)
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return Outcome(
            kind=OutcomeKind.UNKNOWN,
            code="no_status_query",
            message=_sentence(status, error)
            + " Switch off status_query for this target system if it stays so.",
        )
    if status == HTTPStatus.CONFLICT and error.code == "in_progress":
        return _outcome(OutcomeKind.UNKNOWN, status, error)
    return Outcome(
        kind=OutcomeKind.UNKNOWN,
        code="unexpected_status",
        message=_sentence(status, error),
        retry_after=retry_after(headers=answer.headers, now=now) if status in _BUSY else None,
    )


def _reported(answer: Answer) -> Outcome:
    try:
        body = strict_json.loads(answer.body)
    except strict_json.NotStrictJson as fault:
        return _garbage(answer.status, f"a body that is not usable JSON: {fault}")
    if not isinstance(body, dict):
        return _garbage(answer.status, "JSON that is not an object")
    kind = _STATUSES.get(body["status"]) if isinstance(body.get("status"), str) else None
    if kind is None:
        return _garbage(answer.status, f"no known status but {str(body.get('status'))[:60]!r}")
    outputs = body.get("outputs")
    reference = body.get("reference")
    if not isinstance(outputs, dict | None):
        return _garbage(answer.status, "outputs that are not an object")
    if not isinstance(reference, str | None):
        return _garbage(answer.status, "a reference that is not a text")
    progress = body.get("progress") if kind is OutcomeKind.ACCEPTED else None
    if progress is not None and (wrong := progresses.fault_of(progress)):
        return _garbage(answer.status, f"a progress that {wrong}")
    error = _as_error(body.get("error"))
    return Outcome(
        kind=kind,
        outputs=outputs or {},
        code=error.code,
        message=error.message,
        compensate=error.compensate,
        reference=reference or "",
        progress=progress,
    )


def _garbage(status: int, what: str) -> Outcome:
    return Outcome(
        kind=OutcomeKind.UNKNOWN,
        code="garbage_body",
        message=f"The target answered {status} with {what}.",
    )


def _unexpected(status: int, error: _Error) -> Outcome:
    return Outcome(
        kind=OutcomeKind.UNKNOWN, code="unexpected_status", message=_sentence(status, error)
    )


def _outcome(kind: OutcomeKind, status: int, error: _Error) -> Outcome:
    return Outcome(
        kind=kind,
        code=error.code or f"http_{status}",
        message=_sentence(status, error),
        compensate=error.compensate,
    )


def _sentence(status: int, error: _Error) -> str:
    if error.message:
        return f"The target answered {status}: {error.message}"
    return f"The target answered {status}" + (f" ({error.code})." if error.code else ".")


def _error(body: bytes) -> _Error:
    """The error that a body explains; empty when it explains none."""
    try:
        value = strict_json.loads(body)
    except strict_json.NotStrictJson:
        return _Error()
    return _as_error(value.get("error")) if isinstance(value, dict) else _Error()


def _as_error(value: Any) -> _Error:
    if not isinstance(value, dict):
        return _Error()
    code, message = value.get("code"), value.get("message")
    named = value.get("compensate")
    return _Error(
        compensate=names_of_tasks(named),
        code=code[:_LONGEST_CODE] if isinstance(code, str) else "",
        message=message[:_LONGEST_MESSAGE] if isinstance(message, str) else "",
    )


def names_of_tasks(value: Any) -> tuple[str, ...]:
    """Those that a target names to be undone; what is no name is left out."""
    found = value if isinstance(value, list) else []
    names = [one for one in found[:_NAMES_AT_MOST] if isinstance(one, str) and _NAME.match(one)]
    return tuple(dict.fromkeys(names))


def retry_after(*, headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Seconds or an HTTP date (RFC 9110 §10.2.3), at most an hour; None when unreadable.

    Header names are lower case.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        seconds = int(text) if len(text) < 9 else LONGEST_RETRY_AFTER.total_seconds()
        return min(timedelta(seconds=seconds), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max(at - now, timedelta()), LONGEST_RETRY_AFTER)
