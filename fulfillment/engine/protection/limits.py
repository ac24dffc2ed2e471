"""What a target system may be sent now: rate, ramp and circuit breaker (reference §12.2).

Pure: rows in, numbers out, the clock is passed in. `admission` does this under the target's lock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import floor, inf

from fulfillment.states import Breaker

LONGEST_WISH = timedelta(hours=1)
"""No target keeps its breaker open for longer by asking for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an operator has set for one target system."""

    sender_slots: int
    query_slots: int
    concurrency: int | None = None
    rate_per_second: float | None = None
    rate_burst: int = 1
    breaker_failures: int | None = None
    breaker_pause: timedelta = timedelta(seconds=10)
    breaker_probes: int = 1
    ramp: timedelta | None = None

    @property
    def any(self) -> bool:
        """Whether anything but the workers' own slots limits this target."""
        return bool(self.concurrency or self.rate_per_second or self.breaker_failures or self.ramp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a target system is doing; a `TargetCondition` row as a value."""

    paused: bool = False
    ramp_from: datetime | None = None
    rate_tokens: float = 0
    rate_at: datetime | None = None
    breaker: Breaker = Breaker.CLOSED
    breaker_until: datetime | None = None
    breaker_reason: str = ""
    failures_in_a_row: int = 0
    probes_passed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """Calls that hold a lease at this moment, over all workers."""

    sends: int = 0
    queries: int = 0
    accepted: int = 0
    """Accepted tasks, for a target whose accepted work holds its slot."""

    @property
    def calls(self) -> int:
        return self.sends + self.queries + self.accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How many calls may begin now, and when it is worth to look again if that is too few."""

    calls: int
    queries: int
    """Of these, how many may be queries."""
    reason: str = ""
    """What limits it, in the words of `LIMITED_BY`; empty when nothing does."""
    again_at: datetime | None = None
    """None when only an operator, or a call that ends, can change it."""


LIMITED_BY = {
    "paused": "The target system is paused.",
    "breaker": "The target system does not answer properly; it is left alone for a while.",
    "concurrency": "As many calls as the target system allows are under way.",
    "rate": "The target system's rate limit is used up for the moment.",
}
"""Why a target takes nothing more for now, in plain words."""


def ramp_share(*, limits: Limits, condition: Condition, now: datetime) -> float:
    """How much of its limits a target has after a pause: from 0 (just now) to 1."""
    if not limits.ramp or condition.ramp_from is None:
        return 1.0
    return min(1.0, max(0.0, (now - condition.ramp_from) / limits.ramp))


def refilled(*, limits: Limits, condition: Condition, now: datetime) -> Condition:
    """The token bucket at `now`. While the target ramps up, it is smaller and fills slower."""
    if limits.rate_per_second is None:
        return condition
    share = ramp_share(limits=limits, condition=condition, now=now)
    if condition.rate_at is None:
        return replace(condition, rate_tokens=float(limits.rate_burst), rate_at=now)
    passed = max(0.0, (now - condition.rate_at).total_seconds())
    full = max(1.0, limits.rate_burst * share)
    tokens = min(full, condition.rate_tokens + passed * limits.rate_per_second * max(share, 0.05))
    # Also when the clock has gone back: otherwise nothing would be granted until it has caught up.
    return replace(condition, rate_tokens=tokens, rate_at=now)


def allowance(
    *, limits: Limits, condition: Condition, under_way: UnderWay, now: datetime, wanted: int
) -> Allowance:
    """How many of `wanted` calls may begin at `now`. `condition` is refilled already."""
    if condition.paused:
        return Allowance(calls=0, queries=0, reason="paused")
    guarded = limits.breaker_failures is not None and condition.breaker != Breaker.CLOSED
    until = condition.breaker_until if guarded else None
    if until is not None and now < until:
        return Allowance(calls=0, queries=0, reason="breaker", again_at=until)
    calls: float = wanted
    reason, again_at = "", None
    if guarded:
        # One probe at a time; whoever lost a probe frees its place when the lease ends.
        # What it has accepted says nothing: it may take days to report.
        probing = under_way.sends + under_way.queries
        calls, reason = min(calls, max(0, 1 - probing)), "breaker"
    share = ramp_share(limits=limits, condition=condition, now=now)
    most = limits.concurrency if limits.concurrency is not None else inf
    if share < 1:
        most = max(1, floor(share * (limits.concurrency or limits.sender_slots)))
    free = max(0, most - under_way.calls)
    if free < calls:
        calls, reason = free, "concurrency"
        if share < 1 and limits.ramp:
            again_at = now + limits.ramp / 20
    if limits.rate_per_second is not None and condition.rate_tokens < calls:
        calls, reason = floor(condition.rate_tokens + 1e-9), "rate"
        missing = 1 - (condition.rate_tokens - calls)
        again_at = now + timedelta(seconds=missing / (limits.rate_per_second * max(share, 0.05)))
    allowed = int(calls)
    return Allowance(
        calls=allowed,
        queries=max(0, min(allowed, limits.query_slots - under_way.queries)),
        reason=reason if allowed < wanted else "",
        again_at=again_at if allowed < wanted else None,
    )


def may_line_up(
    *, limits: Limits, condition: Condition, under_way: UnderWay, now: datetime, wanted: int
) -> bool:
    """Whether `wanted` calls may be begun or claimed behind others. `condition` is refilled.

    Not where somebody is careful with a target and wants to see each answer first. As each of
    them may begin later than its token was spent, and one behind each that is under way, so many
    tokens have to be left: then no more begin in any time than rate and burst allow.
    """
    spare = condition.rate_tokens - wanted
    return (
        not condition.paused
        and condition.breaker == Breaker.CLOSED
        and not condition.failures_in_a_row
        and ramp_share(limits=limits, condition=condition, now=now) >= 1
        and (limits.rate_per_second is None or spare >= under_way.calls + wanted)
    )


def begun(*, limits: Limits, condition: Condition, calls: int) -> Condition:
    """After `calls` have been claimed: their tokens are spent, an open breaker is half open.

    A breaker that the operator has switched off while it was open is closed.
    """
    if not calls:
        return condition
    if limits.breaker_failures is None:
        condition = _switched_off(condition)
    if limits.rate_per_second is not None:
        condition = replace(condition, rate_tokens=condition.rate_tokens - calls)
    if condition.breaker == Breaker.OPEN:
        condition = replace(
            condition, breaker=Breaker.HALF_OPEN, breaker_until=None, probes_passed=0
        )
    return condition


def answered(
    *,
    limits: Limits,
    condition: Condition,
    well: bool,
    now: datetime,
    reason: str = "",
    retry_after: timedelta | None = None,
) -> Condition:
    """After one call got a usable answer (`well`), or none.

    `retry_after` is the target's own wish for a pause; it prolongs ours, within reason.
    """
    if limits.breaker_failures is None:
        return _switched_off(condition)
    if well:
        if condition.breaker == Breaker.CLOSED:
            return replace(condition, failures_in_a_row=0)
        if condition.breaker == Breaker.OPEN:
            return condition  # A straggler of before; probes will tell.
        passed = condition.probes_passed + 1
        if passed < limits.breaker_probes:
            return replace(condition, probes_passed=passed)
        return replace(
            condition,
            breaker=Breaker.CLOSED,
            breaker_until=None,
            breaker_reason="",
            failures_in_a_row=0,
            probes_passed=0,
            ramp_from=now,
        )
    failures = condition.failures_in_a_row + 1
    condition = replace(condition, failures_in_a_row=failures)
    opens = condition.breaker == Breaker.HALF_OPEN or (
        condition.breaker == Breaker.CLOSED and failures >= limits.breaker_failures
    )
    if not opens:
        return condition
    wish = min(retry_after or timedelta(0), LONGEST_WISH)
    pause = max(limits.breaker_pause, wish)
    return replace(
        condition,
        breaker=Breaker.OPEN,
        breaker_until=now + pause,
        breaker_reason=reason,
        probes_passed=0,
    )


def _switched_off(condition: Condition) -> Condition:
    """The operator may have done that while it was open."""
    return replace(condition, breaker=Breaker.CLOSED, breaker_until=None, failures_in_a_row=0)
