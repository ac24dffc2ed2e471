"""Admission: what one target system may be sent now, over all workers.

The condition's row is the lock: whoever claims, settles or pauses takes it after the
fulfillments. What is under way is counted from the open attempts, which are leases, so a crash
leaks no slot and nobody overruns the limit. One statement reads all that decides (`look`); only
a look behind the locks grants anything.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from adapters.contract import Outcome, OutcomeKind
from fulfillment.engine.protection import holds
from fulfillment.engine.protection.limits import (
    Allowance,
    Condition,
    Limits,
    UnderWay,
    allowance,
    answered,
    begun,
    may_line_up,
    refilled,
)
from fulfillment.engine.store.database import Row, clean
from fulfillment.engine.work.unit import Unit
from fulfillment.models import HoldScope, TargetSystem
from fulfillment.states import Breaker

_CONDITION = (
    "k.paused_at IS NOT NULL, k.ramp_from, k.rate_tokens, k.rate_at, k.breaker, k.breaker_until, "
    "k.breaker_reason, k.failures_in_a_row, k.probes_passed"
)
_READ = f"SELECT {_CONDITION} FROM fulfillment_targetcondition k WHERE k.target_id = %s "
_LOCK = _READ + "FOR NO KEY UPDATE"
# A row is locked when everything in it has been computed, so the gate comes before the row: the
# order of whoever pauses. What is decided is read by a statement of its own, which sees all that
# the locks had to wait for.
_ENTER = f"""
SELECT {holds.PASS_GATE} FROM fulfillment_targetcondition
WHERE target_id = %s FOR NO KEY UPDATE
"""
# Each part is one probe of a partial index, or reads no more rows than calls are under way. The
# time is asked once, in a subquery: as a volatile function it would serve no index. An EXISTS that
# depends on the target would invite a hash of every hold there is.
_LOOK = f"""
WITH clock AS MATERIALIZED (SELECT fulfillment_now() AS now)
SELECT k.target_id, (SELECT now FROM clock),
       (
           SELECT true FROM fulfillment_hold h
           WHERE h.subject = '{holds.subject_of(scope=HoldScope.TARGET, name="")}' || k.target_id
             AND h.released_at IS NULL AND (h.until IS NULL OR h.until > (SELECT now FROM clock))
           LIMIT 1
       ) IS NOT NULL,
       EXISTS (
           SELECT FROM fulfillment_hold h WHERE h.released_at IS NULL AND h.scope <> 'TARGET'
       ),
       (
           SELECT t.not_before FROM fulfillment_task t
           WHERE t.target_id = k.target_id AND t.state = 'OUTCOME_UNKNOWN'
           ORDER BY t.not_before LIMIT 1
       ),
       (
           SELECT t.not_before FROM fulfillment_task t
           WHERE t.target_id = k.target_id AND t.state IN ('FAILED_RETRYABLE', 'READY')
             AND t.held_by_id IS NULL AND t.waits_for_lock = ''
             AND t.waits_for IN ('RETRY', 'WINDOW')
           ORDER BY t.not_before LIMIT 1
       ),
       u.sends, u.queries,
       CASE WHEN s.accepted_holds_slot THEN (
           SELECT count(*) FROM fulfillment_task t
           WHERE t.target_id = k.target_id AND t.state = 'ACCEPTED'
       ) ELSE 0 END,
       {_CONDITION}
FROM fulfillment_targetcondition k
JOIN fulfillment_targetsystem s ON s.name = k.target_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE a.purpose = 'SEND' AND a.slot IS NULL)
           + count(DISTINCT (a.worker, a.slot)) FILTER (
               WHERE a.purpose = 'SEND' AND a.slot IS NOT NULL) AS sends,
           count(*) FILTER (WHERE a.purpose = 'QUERY') AS queries
    FROM fulfillment_attempt a
    WHERE a.target_id = k.target_id AND a.finished_at IS NULL
      AND a.lease_expires_at > (SELECT now FROM clock)
) u
WHERE k.target_id = ANY(%s::text[])
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All that decides what one target system may be sent, as it was at `now`."""

    now: datetime
    condition: Condition
    under_way: UnderWay
    held: bool
    """Nothing is to be sent to it; queries about what was sent go on."""
    narrower_holds: bool
    """Something, anywhere, is held that is not a whole target; what, `holds.holding` tells."""
    first_question_at: datetime | None
    """When the first of its commands in doubt may be asked for; None when none is in doubt."""

    first_later_at: datetime | None
    """When the first of those that wait for a time may be sent; None when there are none."""

    @property
    def has_later_ones(self) -> bool:
        """Whether the time of any of them has come."""
        return self.first_later_at is not None and self.first_later_at <= self.now

    @property
    def has_questions(self) -> bool:
        """Whether anything in doubt is due."""
        return self.first_question_at is not None and self.first_question_at <= self.now

    def allowance(self, *, limits: Limits, wanted: int) -> Allowance:
        """How many of `wanted` calls might begin now; a right to them only behind the locks."""
        return allowance(
            limits=limits,
            condition=refilled(limits=limits, condition=self.condition, now=self.now),
            under_way=self.under_way,
            now=self.now,
            wanted=wanted,
        )


def look(raw: psycopg.Cursor[Row], *, targets: Collection[str]) -> dict[str, Look]:
    """How these target systems are doing, by name. One statement, without a lock."""
    raw.execute(_LOOK, [list(targets)], prepare=True)
    return {
        name: Look(
            now=now,
            condition=_condition(columns),
            under_way=UnderWay(sends=sends, queries=queries, accepted=accepted),
            held=held,
            narrower_holds=narrower,
            first_question_at=question,
            first_later_at=later,
        )
        for name, now, held, narrower, question, later, sends, queries, accepted, *columns in (
            raw.fetchall()
        )
    }


def look_at(raw: psycopg.Cursor[Row], *, target: str) -> Look:
    """The same for one. Raises TargetSystem.DoesNotExist."""
    try:
        return look(raw, targets=[target])[target]
    except KeyError:
        raise _gone(target) from None


class Admission:
    """The right to begin calls at one target, held until the unit of work commits.

    Holds and pauses do not change meanwhile either: it stands behind their gate.
    """

    def __init__(self, unit: Unit, *, target: TargetSystem) -> None:
        self._raw = unit.raw
        self._target = target
        self._limits = limits_of(target)
        unit.raw.execute(_ENTER, [target.pk], prepare=True)
        self.look = look_at(unit.raw, target=target.pk)
        """After the locks were granted, so that the times of calls are in the order of grants."""

    def allowance(self, *, wanted: int) -> Allowance:
        """How many of `wanted` calls may begin."""
        return self.look.allowance(limits=self._limits, wanted=wanted)

    def may_line_up(self, *, wanted: int) -> bool:
        """Whether of so many commands some may be claimed that go behind a call in its slot."""
        stored, now = self.look.condition, self.look.now
        return may_line_up(
            limits=self._limits,
            condition=refilled(limits=self._limits, condition=stored, now=now),
            under_way=self.look.under_way,
            now=now,
            wanted=wanted,
        )

    def spend(self, *, calls: int) -> None:
        """Note how many calls have been claimed of those that were allowed."""
        stored, now = self.look.condition, self.look.now
        before = refilled(limits=self._limits, condition=stored, now=now)
        after = begun(limits=self._limits, condition=before, calls=calls)
        if after != stored:
            _write(self._raw, self._target, stored, after, now)


def note_answers(unit: Unit, *, target: TargetSystem, outcomes: Sequence[Outcome]) -> None:
    """Let the breaker see how these calls of ours went, in the order in which they ended."""
    limits = limits_of(target)
    if limits.breaker_failures is None:
        return  # The next claim closes what has been switched off while it was open.
    before = _read(unit.raw, _READ, target)
    quiet = before.breaker == Breaker.CLOSED and not before.failures_in_a_row
    if quiet and all(is_usable(outcome) for outcome in outcomes):
        return  # The usual case takes no lock.
    before = after = _read(unit.raw, _LOCK, target)
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


def _read(raw: psycopg.Cursor[Row], statement: str, target: TargetSystem) -> Condition:
    raw.execute(statement, [target.pk], prepare=True)
    row = raw.fetchone()
    if row is None:
        raise _gone(target.pk)
    return _condition(row)


def _gone(target: str) -> TargetSystem.DoesNotExist:
    return TargetSystem.DoesNotExist(f"Target system {target!r} is gone.")


def _condition(columns: Sequence[Any]) -> Condition:
    paused, ramp_from, tokens, rate_at, breaker, until, reason, failures, probes = columns
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
    off = target.breaker_failures is None
    reasons: dict[Breaker, str] = {
        Breaker.OPEN: f"It did not answer properly. {after.breaker_reason}".strip(),
        Breaker.CLOSED: "It has been switched off." if off else "It answers again.",
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
