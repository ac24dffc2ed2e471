"""How target systems are doing: what keeps each from being sent more, and what waits for it.

The admin, `manage.py targets status` and the reasons of waiting tasks show the same figures.
A fixed number of queries for any number of targets; nothing is locked.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models

from fulfillment.definitions.signs import in_words
from fulfillment.engine.protection import holds
from fulfillment.engine.protection.admission import Look, limits_of, look
from fulfillment.engine.protection.limits import (
    Allowance,
    Condition,
    UnderWay,
    ramp_share,
)
from fulfillment.engine.store.database import cursor
from fulfillment.models import Attempt, Hold, HoldScope, TargetSystem
from fulfillment.states import Breaker, Cause

MOST = 10_000
"""Rows of each kind that are counted of a target; `TargetStatus.waiting` is never more."""
MOST_HELD = 20_000
"""Held tasks of all targets that are counted: those of the newest holds."""

NOW = models.Func(function="fulfillment_now", output_field=models.DateTimeField())
# Each part is read from a partial index of its own; a queue of a million is not counted out.
_BACKLOG = """
SELECT s.name, w.due, w.later, w.retrying, w.due_since, d.n, a.n, coalesce(h.n, 0), o.n
FROM fulfillment_targetsystem s
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE not_before <= fulfillment_now()) AS due,
           count(*) FILTER (WHERE not_before > fulfillment_now()) AS later,
           count(*) FILTER (
               WHERE not_before > fulfillment_now() AND waits_for = 'RETRY') AS retrying,
           min(not_before) FILTER (WHERE not_before <= fulfillment_now()) AS due_since
    FROM (
        SELECT not_before, waits_for FROM fulfillment_task
        WHERE target_id = s.name AND state IN ('FAILED_RETRYABLE', 'READY')
          AND held_by_id IS NULL AND waits_for_lock = '' AND waits_for NOT IN ('RETRY', 'WINDOW')
        UNION ALL
        SELECT not_before, waits_for FROM fulfillment_task
        WHERE target_id = s.name AND state IN ('FAILED_RETRYABLE', 'READY')
          AND held_by_id IS NULL AND waits_for_lock = '' AND waits_for IN ('RETRY', 'WINDOW')
        LIMIT %(most)s
    ) runnable
) w
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM fulfillment_task
        WHERE target_id = s.name AND state = 'OUTCOME_UNKNOWN' LIMIT %(most)s
    ) doubtful
) d
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM fulfillment_task
        WHERE target_id = s.name AND state = 'ACCEPTED' LIMIT %(most)s
    ) taken
) a
CROSS JOIN LATERAL (
    SELECT count(DISTINCT task_id) AS n FROM fulfillment_attempt
    WHERE target_id = s.name AND finished_at IS NULL
      AND lease_expires_at > (SELECT fulfillment_now())
) o
LEFT JOIN (
    SELECT target_id, count(*) AS n FROM (
        SELECT target_id FROM fulfillment_task
        WHERE held_by_id IS NOT NULL ORDER BY held_by_id DESC LIMIT %(most_held)s
    ) newest GROUP BY target_id
) h ON h.target_id = s.name
WHERE s.name = ANY(%(names)s::text[])
"""


def is_called(*, now: datetime) -> models.Q:
    """Of tasks, as `TargetStatus.called` counts them."""
    calls = Attempt.objects.filter(finished_at=None, lease_expires_at__gt=now)
    return models.Q(pk__in=calls.values("task"))


class KeptBy(enum.StrEnum):
    """What keeps work that is due from being sent."""

    HOLD = "hold"
    LOCK = "lock"
    PAUSE = "pause"
    BREAKER = "breaker"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why nothing is sent now, as a sentence; `until` is None when that is for somebody to end."""

    kept_by: KeptBy
    cause: Cause
    sentence: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """What one target system would take at `now`."""

    row: TargetSystem
    condition: Condition
    under_way: UnderWay
    allowance: Allowance
    """For one call."""
    ramp: float
    """The share of its limits that it has, from 0 to 1."""
    now: datetime

    @property
    def breaker(self) -> Breaker:
        """CLOSED also where the breaker has been switched off while it was open."""
        return Breaker.CLOSED if self.row.breaker_failures is None else self.condition.breaker

    @property
    def is_left_alone(self) -> bool:
        """The breaker is open and its pause is not over; after it the next call is a probe."""
        until = self.condition.breaker_until
        return self.breaker == Breaker.OPEN and until is not None and self.now < until

    @property
    def trouble(self) -> str:
        """What the target answered when its breaker opened, in brackets; empty without it."""
        return f" ({self.condition.breaker_reason})" if self.condition.breaker_reason else ""

    @property
    def obstacle(self) -> Obstacle | None:
        """What keeps the next call back, if anything does."""
        row = self.row
        match self.allowance.reason if not self.allowance.calls else "":
            case "paused":
                paused = row.condition
                return Obstacle(
                    kept_by=KeptBy.PAUSE,
                    cause=Cause.PAUSED,
                    sentence=f"{row.pk} is paused by {paused.paused_by} since "
                    f"{instant(paused.paused_at)}: {quoted(paused.pause_reason)}",
                )
            case "breaker" if self.is_left_alone:
                return Obstacle(
                    kept_by=KeptBy.BREAKER,
                    cause=Cause.BREAKER,
                    sentence=f"{row.pk} does not answer properly{self.trouble}; it is left alone "
                    f"until {instant(self.condition.breaker_until)}.",
                    until=self.condition.breaker_until,
                )
            case "breaker":
                return Obstacle(
                    kept_by=KeptBy.BREAKER,
                    cause=Cause.BREAKER,
                    sentence=f"{row.pk} has not answered properly{self.trouble}; one call at a "
                    "time finds out whether it does again.",
                )
            case "concurrency":
                growing = " while its limits grow" if self.ramp < 1 else ""
                return Obstacle(
                    kept_by=KeptBy.LIMIT,
                    cause=Cause.CAPACITY,
                    sentence=f"{row.pk} has as many calls under way as it may have{growing}: "
                    f"{self.under_way.calls}.",
                    until=self.allowance.again_at,
                )
            case "rate":
                return Obstacle(
                    kept_by=KeptBy.LIMIT,
                    cause=Cause.RATE,
                    sentence=f"The rate limit of {row.pk}, {row.rate_per_second:g} per second, is "
                    "used up for the moment.",
                    until=self.allowance.again_at,
                )
        return None


class TargetState(enum.StrEnum):
    """What is to be said of a target system; several may hold at once."""

    WELL = "WELL"
    PAUSED = "PAUSED"
    HELD = "HELD"
    BREAKER_OPEN = "BREAKER_OPEN"
    PROBING = "PROBING"
    AT_ITS_LIMIT = "AT_ITS_LIMIT"
    RAMPING_UP = "RAMPING_UP"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatus:
    """How fit a target system is, and how much work stands before it."""

    fitness: Fitness
    hold: Hold | None
    """The oldest active hold on the target itself."""
    waiting: int
    """Runnable and due; counted up to MOST together with `later`."""
    later: int
    """Runnable, and put off to a time that has not come."""
    retrying: int
    """Of these, what has failed without effect and waits for its next attempt."""
    due_since: datetime | None
    """Since when the one that has waited longest might have been sent."""
    in_doubt: int
    accepted: int
    held: int
    """Met by a hold that is narrower than the target."""
    called: int
    """Tasks with a call under way, or in line on a connection: more than calls at one time."""

    @property
    def states(self) -> list[TargetState]:
        """Never empty: WELL when nothing else is to be said."""
        fit = self.fitness
        found = {
            TargetState.PAUSED: fit.condition.paused,
            TargetState.HELD: self.hold is not None,
            TargetState.BREAKER_OPEN: fit.is_left_alone,
            TargetState.PROBING: fit.breaker != Breaker.CLOSED and not fit.is_left_alone,
            TargetState.AT_ITS_LIMIT: fit.allowance.reason in ("concurrency", "rate"),
            TargetState.RAMPING_UP: fit.ramp < 1,
        }
        return [state for state, holds in found.items() if holds] or [TargetState.WELL]

    @property
    def is_well(self) -> bool:
        return self.states == [TargetState.WELL]

    def figures(self) -> dict[str, str]:
        """What stands before it, in words; a long queue is not counted out."""
        limit, calls = self.fitness.row.concurrency_limit, self.fitness.under_way.calls
        waiting = f"{self.waiting:,}" + (f", {self.later:,} later" if self.later else "")
        if self.waiting + self.later >= MOST:
            waiting = _up_to_most(MOST)
        return {
            "under way": f"{calls} of {limit}" if limit else f"{calls}, no limit",
            "waiting": waiting,
            "in doubt": _up_to_most(self.in_doubt),
            "accepted": _up_to_most(self.accepted),
            "held": f"{self.held:,}",
        }

    def in_words(self, state: TargetState) -> str:
        """Such as “breaker open”, or “ramping up, 40%”."""
        share = f", {self.fitness.ramp:.0%}" if state is TargetState.RAMPING_UP else ""
        return in_words(state) + share

    @property
    def why(self) -> str:
        """Why it is not simply well, as a sentence; empty when it is."""
        fit = self.fitness
        if self.hold is not None and not fit.condition.paused:
            return held_by(self.hold)
        if fit.obstacle is not None:
            return fit.obstacle.sentence
        if fit.breaker != Breaker.CLOSED:
            return (
                f"{fit.row.pk} has not answered properly{fit.trouble}; the next call finds out "
                "whether it does again."
            )
        return ""


def _up_to_most(number: int) -> str:
    return f"{number:,} or more" if number >= MOST else f"{number:,}"


def instant(moment: datetime | None) -> str:
    """A time as sentences tell it."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "a while ago"


def quoted(reason: str) -> str:
    """Somebody's reason as the end of a sentence."""
    return f"“{reason}”" if reason.endswith((".", "!", "?")) else f"“{reason}”."


def held_by(hold: Hold) -> str:
    """Who holds what, since when and why, as a sentence."""
    end = f" until {instant(hold.until)}" if hold.until else ""
    return (
        f"Held ({hold.subject}) by {hold.placed_by} since {instant(hold.placed_at)}{end}: "
        f"{quoted(hold.reason)}"
    )


def fitness(*, names: Collection[str] | None = None) -> dict[str, Fitness]:
    """What these target systems, or all, would take now. Two queries."""
    rows = TargetSystem.objects.select_related("condition")
    if names is not None:
        rows = rows.filter(pk__in=names)
    found = {row.pk: row for row in rows}
    if not found:
        return {}
    with cursor() as raw:
        seen = look(raw, targets=found)
    return {name: _fitness(row, seen[name]) for name, row in found.items() if name in seen}


def statuses(*, names: Collection[str] | None = None) -> dict[str, TargetStatus]:
    """The same with everything that waits, by name in their order. Four queries."""
    found = fitness(names=names)
    with cursor() as raw:
        asked = {"most": MOST, "most_held": MOST_HELD, "names": list(found)}
        raw.execute(_BACKLOG, asked, prepare=True)
        backlog = {row[0]: row[1:] for row in raw.fetchall()}
    subjects = {holds.subject_of(scope=HoldScope.TARGET, name=name): name for name in found}
    held: dict[str, Hold] = {}
    for hold in active_holds(subjects=subjects):
        held.setdefault(subjects[hold.subject], hold)
    return {
        name: _status(one, held.get(name), backlog[name])
        for name, one in found.items()
        if name in backlog
    }


def active_holds(*, subjects: Iterable[str]) -> list[Hold]:
    """Holds that are in force now on any of these subjects, the oldest first."""
    in_force = models.Q(until=None) | models.Q(until__gt=NOW)
    rows = Hold.objects.filter(in_force, released_at=None, subject__in=sorted(set(subjects)))
    return list(rows.order_by("pk"))


def _fitness(row: TargetSystem, seen: Look) -> Fitness:
    limits = limits_of(row)
    return Fitness(
        row=row,
        condition=seen.condition,
        under_way=seen.under_way,
        allowance=seen.allowance(limits=limits, wanted=1),
        ramp=ramp_share(limits=limits, condition=seen.condition, now=seen.now),
        now=seen.now,
    )


def _status(fit: Fitness, hold: Hold | None, backlog: tuple[Any, ...]) -> TargetStatus:
    waiting, later, retrying, due_since, in_doubt, accepted, held, called = backlog
    return TargetStatus(
        fitness=fit,
        hold=hold,
        waiting=waiting,
        later=later,
        retrying=retrying,
        due_since=due_since,
        in_doubt=in_doubt,
        accepted=accepted,
        held=held,
        called=called,
    )
