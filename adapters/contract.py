"""What the engine and a target system's adapter say to each other.

The engine hands over one `Command` and gets one `Outcome` back. An adapter keeps nothing:
the command log, retries, deduplication and every clock are the engine's. The one judgement
that only an adapter can make is made here, in the outcome's kind: did the target say yes,
say no, say later, fail before anything happened, or is it *not known* what happened?
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable


class OutcomeKind(enum.StrEnum):
    SUCCEEDED = "SUCCEEDED"
    """Confirmed done; `outputs` hold what the target returned."""
    ACCEPTED = "ACCEPTED"
    """The target took it and reports later by callback, or answers when queried."""
    REJECTED = "REJECTED"
    """A business refusal: nothing happened, and asking again changes nothing."""
    FAILED = "FAILED"
    """Known to have had no effect; `retryable` says whether another try makes sense."""
    UNKNOWN = "UNKNOWN"
    """The effect may or may not have happened. Never repeated before it is reconciled."""
    NOT_FOUND = "NOT_FOUND"
    """Answer to a query only: the target has never seen this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One request to a target system (reference §22.1)."""

    command_id: int
    idempotency_key: str
    """64 hex characters; stable over every attempt, and the correlation key of callbacks."""
    target: str
    action: str
    payload: Mapping[str, Any]
    order_reference: str
    correlation_id: str
    attempt: int
    """1 for the first try; only for logs and headers, never for deduplication."""
    deadline: timedelta
    """Total time that one call may take, from connect to the last byte of the answer."""
    callback_url: str | None = None
    """Where an asynchronous target reports to; None when callbacks are not configured."""
    resume_from: Mapping[str, Any] | None = None
    """The progress that the target itself has reported of an earlier send of the same task.
    Beside the payload, never within it: that stays the same for a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    kind: OutcomeKind
    outputs: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    """Stable, short and machine-readable: the target's own error code, or ours."""
    message: str = ""
    """One sentence for the operator who reads the attempt."""
    retryable: bool = False
    retry_after: timedelta | None = None
    reference: str = ""
    """The target's own identifier of what it did, where it gave one."""
    progress: Mapping[str, Any] | None = None
    """How far it has come, of ACCEPTED: told again with the next send, see `Command`."""
    compensate: tuple[str, ...] = ()
    """Names of tasks of the workflow that have to be undone, of a refusal or failure that is
    final: its order is given up then."""
    occurred_at: datetime | None = None
    """When it had come so far, by the target's own clock."""

    @property
    def is_definitive(self) -> bool:
        """True when the answer is about the key, not only about one attempt at it."""
        return self.kind in (OutcomeKind.SUCCEEDED, OutcomeKind.REJECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a target system can do for us when an outcome is not known."""

    idempotent: bool
    """The same key sent twice has one effect; the second answer repeats the first."""
    status_query: bool
    """It can be asked what became of a key."""
    asynchronous: bool = False
    """It may answer ACCEPTED and report later."""


class Adapter(Protocol):
    """The door to one target system. Instances are shared by threads."""

    in_process: bool
    """True when `send` does no input or output of its own: the engine then calls it inline
    and in batches rather than through a sender thread."""

    def send(self, *, command: Command) -> Outcome:
        """Send once. Returns within `command.deadline`; never raises for what the target did."""

    def query(self, *, command: Command) -> Outcome:
        """Ask what became of `command.idempotency_key`. UNKNOWN when the target can't say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A message that a target system sent about one of our commands, unread."""

    body: bytes
    message_id: str = ""
    """Its sender's own id of it; empty when it has none."""
    correlation_id: str = ""
    """The idempotency key of the command that it is about; empty when it does not say."""


class NotNow(Exception):
    """A reply can't be recorded at present; it has to be delivered again."""


class Unrecordable(Exception):
    """A reply can never be recorded, for the reason that the message gives."""


@runtime_checkable
class ReplySource(Protocol):
    """An adapter whose target system answers by messages that have to be fetched."""

    reply_address: str
    """Broker and queue, without secrets: the queue tells whose replies they are, so no two
    target systems may share it."""

    def receive_replies(self, *, record: Callable[[Reply], None], stop: threading.Event) -> None:
        """Hand every reply to `record` until `stop` is set; returns then, and never before.

        A reply for which `record` returns is acknowledged. After NotNow it is delivered again,
        after Unrecordable it is put aside with the reason.
        """
