"""Admission: what one target system may be sent now, over all workers.

The condition's row is the lock: whoever claims, settles or pauses takes it after the
fulfillments. What is under way is counted from the open attempts, which are leases, so a crash
leaks no slot and nobody overruns the limit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from adapters.contract import Outcome, OutcomeKind
from fulfillment.engine.database import Row, clean, cursor
from fulfillment.engine.limits import (
    Allowance,
    Condition,
    Limits,
    UnderWay,
    allowance,
    answered,
    begun,
    refilled,
)
from fulfillment.engine.unit import Unit
from fulfillment.models import TargetSystem
from fulfillment.states import Breaker

_READ = """
SELECT paused_at IS NOT NULL, ramp_from, rate_tokens, rate_at, breaker, breaker_until,
       breaker_reason, failures_in_a_row, probes_passed
FROM fulfillment_targetcondition WHERE target_id = %s
"""
_LOCK = _READ + "FOR NO KEY UPDATE"
_UNDER_WAY = """
SELECT count(*) FILTER (WHERE purpose = 'SEND'), count(*) FILTER (WHERE purpose = 'QUERY'),
       CASE WHEN %s THEN (
           SELECT count(*) FROM fulfillment_task
           WHERE target_id = %s AND state = 'ACCEPTED'
       ) ELSE 0 END, fulfillment_now()
FROM fulfillment_attempt
WHERE target_id = %s AND finished_at IS NULL AND lease_expires_at > fulfillment_now()
"""
_WRITE = """
UPDATE fulfillment_targetcondition
SET ramp_from = %s, rate_tokens = %s, rate_at = %s, breaker = %s, breaker_until = %s,
    breaker_reason = %s, failures_in_a_row = %s, probes_passed = %s
WHERE target_id = %s
"""
_NOTE = """
INSERT INTO fulfillment_operation (kind, subject, actor, reason, before, after, happened_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
_USABLE = frozenset(
    {
        OutcomeKind.SUCCEEDED,
        OutcomeKind.ACCEPTED,
        OutcomeKind.REJECTED,
        OutcomeKind.NOT_FOUND,
    }
)


def limits_of(target: TargetSystem) -> Limits:
    """The operator's settings as the arithmetic wants them."""
    return Limits(
        sender_slots=target.sender_slots,
        query_slots=target.query_slots,
        concurrency=target.concurrency_limit,
        rate_per_second=target.rate_per_second,
        rate_burst=target.rate_burst,
        breaker_failures=target.breaker_failures,
        breaker_pause=target.breaker_pause,
        breaker_probes=target.breaker_probes,
        ramp=target.ramp,
    )


def expected(*, target: TargetSystem, wanted: int) -> Allowance:
    """What the target would take now, without locking anything: a claim that begins asks."""
    with cursor() as raw:
        condition = _condition(raw, target, locked=False)
        under_way, now = _under_way(raw, target)
    limits = limits_of(target)
    return allowance(
        limits=limits,
        condition=refilled(limits=limits, condition=condition, now=now),
        under_way=under_way,
        now=now,
        wanted=wanted,
    )


class Admission:
    """The right to begin calls at one target, held until the unit of work commits."""

    def __init__(self, unit: Unit, *, target: TargetSystem, wanted: int) -> None:
        self._raw = unit.raw
        self._target = target
        self._limits = limits_of(target)
        self._stored = _condition(unit.raw, target, locked=True)
        under_way, self.now = _under_way(unit.raw, target)
        """After the lock was granted, so that the times of calls are in the order of grants."""
        self._condition = refilled(limits=self._limits, condition=self._stored, now=self.now)
        self.allowance = allowance(
            limits=self._limits,
            condition=self._condition,
            under_way=under_way,
            now=self.now,
            wanted=wanted,
        )

    def spend(self, *, calls: int) -> None:
        """Note how many calls have been claimed of those that were allowed."""
        after = begun(limits=self._limits, condition=self._condition, calls=calls)
        if after != self._stored:
            _write(self._raw, self._target, self._stored, after, self.now)


def note_answers(unit: Unit, *, target: TargetSystem, outcomes: Sequence[Outcome]) -> None:
    """Let the breaker see how these calls of ours went, in the order in which they ended."""
    limits = limits_of(target)
    before = _condition(unit.raw, target, locked=False)
    if limits.breaker_failures is None and before.breaker == Breaker.CLOSED:
        return
    quiet = before.breaker == Breaker.CLOSED and not before.failures_in_a_row
    if quiet and all(is_usable(outcome) for outcome in outcomes):
        return  # The usual case takes no lock.
    before = after = _condition(unit.raw, target, locked=True)
    for outcome in outcomes:
        after = answered(
            limits=limits,
            condition=after,
            well=is_usable(outcome),
            now=unit.now,
            reason=clean(": ".join(filter(None, (outcome.code, outcome.message))), 500),
            retry_after=outcome.retry_after,
        )
    if after != before:
        _write(unit.raw, target, before, after, unit.now)
    if after.breaker == Breaker.OPEN and after.breaker_until is not None:
        unit.wake_up(target=target.pk, at=after.breaker_until)


def is_usable(outcome: Outcome) -> bool:
    """Whether the target answered as a system does that is well.

    A refusal is an answer; being busy, silent or incomprehensible is none.
    """
    if outcome.kind is OutcomeKind.FAILED:
        return not outcome.retryable
    return outcome.kind in _USABLE


def _condition(raw: psycopg.Cursor[Row], target: TargetSystem, *, locked: bool) -> Condition:
    raw.execute(_LOCK if locked else _READ, [target.pk], prepare=True)
    row = raw.fetchone()
    if row is None:
        raise TargetSystem.DoesNotExist(f"Target system {target.pk!r} is gone.")
    paused, ramp_from, tokens, rate_at, breaker, until, reason, failures, probes = row
    return Condition(
        paused=paused,
        ramp_from=ramp_from,
        rate_tokens=tokens,
        rate_at=rate_at,
        breaker=Breaker(breaker),
        breaker_until=until,
        breaker_reason=reason,
        failures_in_a_row=failures,
        probes_passed=probes,
    )


def _under_way(raw: psycopg.Cursor[Row], target: TargetSystem) -> tuple[UnderWay, datetime]:
    raw.execute(_UNDER_WAY, [target.accepted_holds_slot, target.pk, target.pk], prepare=True)
    row = raw.fetchone()
    assert row is not None
    sends, queries, accepted, now = row
    return UnderWay(sends=sends, queries=queries, accepted=accepted), now


def _write(
    raw: psycopg.Cursor[Row],
    target: TargetSystem,
    before: Condition,
    after: Condition,
    now: datetime,
) -> None:
    raw.execute(
        _WRITE,
        [
            after.ramp_from,
            after.rate_tokens,
            after.rate_at,
            str(after.breaker),
            after.breaker_until,
            after.breaker_reason,
            after.failures_in_a_row,
            after.probes_passed,
            target.pk,
        ],
        prepare=True,
    )
    # Probes come and go; what counts is when it was left alone, and when it was well again.
    if after.breaker != before.breaker and Breaker.CLOSED in (before.breaker, after.breaker):
        _note_breaker(raw, target, before, after, now)


def _note_breaker(
    raw: psycopg.Cursor[Row],
    target: TargetSystem,
    before: Condition,
    after: Condition,
    now: datetime,
) -> None:
    reasons: dict[Breaker, str] = {
        Breaker.OPEN: f"It did not answer properly. {after.breaker_reason}".strip(),
        Breaker.CLOSED: "It answers again.",
    }
    state: dict[str, Any] = {"breaker": str(after.breaker)}
    if after.breaker_until is not None:
        state["until"] = after.breaker_until.isoformat()
    raw.execute(
        _NOTE,
        [
            "breaker",
            f"target:{target.pk}",
            "engine",
            reasons[after.breaker],
            json.dumps({"breaker": str(before.breaker)}),
            json.dumps(state),
            now,
        ],
    )
