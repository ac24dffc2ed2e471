"""When a failed attempt is tried again (reference §12). Pure: the clock is passed in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

LONGEST_RETRY_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how far apart one command is sent (reference §12.1)."""

    initial_interval: timedelta = timedelta(seconds=1)
    backoff_coefficient: float = 2.0
    maximum_interval: timedelta = timedelta(minutes=1)
    maximum_attempts: int = 5
    retryable: frozenset[str] = frozenset()
    """Codes of known failures without effect that are tried again whatever the status says."""
    non_retryable: frozenset[str] = frozenset()
    """Codes that end the task whatever the status says; they go before `retryable`."""
    reconcile_first: bool = False
    """Ask the target by key before every further send, even if it says nothing happened."""
    escalate_after: int | None = None
    """Sends without effect after which a person is told, while it goes on being tried."""


def spread(*, key: str, attempt: int) -> float:
    """A number in [0, 1) that looks random across keys and is the same for every caller.

    Stored delays that come from a hash can be explained and repeated; those from a random
    source can't.
    """
    digest = hashlib.sha256(f"{key}:{attempt}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def backoff(
    *,
    policy: RetryPolicy,
    sends: int,
    key: str,
    retry_after: timedelta | None = None,
) -> timedelta:
    """Exponential backoff with full jitter after `sends` (≥ 1) tries.

    `retry_after` is a floor, as far as it is reasonable: no target may park a task for ever.
    """
    ceiling = min(
        policy.maximum_interval.total_seconds(),
        policy.initial_interval.total_seconds() * policy.backoff_coefficient ** min(sends - 1, 64),
    )
    delay = timedelta(seconds=ceiling * spread(key=key, attempt=sends))
    return max(delay, min(retry_after, LONGEST_RETRY_AFTER)) if retry_after else delay


def may_retry(*, policy: RetryPolicy, sends: int, code: str, retryable: bool) -> bool:
    """Whether another send is allowed after `sends` tries that had no effect.

    `retryable` is the adapter's judgement, from the status or the exception; `code` is the
    target's error code or the adapter's name for what happened, such as `http_503`.
    """
    if sends >= policy.maximum_attempts or code in policy.non_retryable:
        return False
    return retryable or code in policy.retryable


def query_delay(*, reconcile_after: timedelta, unanswered: int) -> timedelta:
    """How long to wait before the target is asked again: doubling, five minutes at the most."""
    return min(reconcile_after * float(2 ** min(unanswered, 16)), timedelta(minutes=5))
