"""How much waits for people or for time: how many, how old, how soon due, and why (§28.2, §31.2).

Every figure comes from a partial index of what is open, and counts `MOST` rows at most; what a list
shows for a figure is a condition here as well, so that both speak of the same rows. `now` is the
time of the database.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q

from fulfillment.engine.store.database import cursor
from fulfillment.models import IS_UNRESOLVED, MANUAL_TIMED, Plan
from fulfillment.states import PLAN_TERMINAL

MOST = 10_000
"""Rows that are counted; one more says that there are more."""
MOST_BESIDE = 999
"""Of what is counted for every page, beside its side bar."""
SOON = timedelta(hours=1)

IS_STUCK = Q(stuck_at__isnull=False) & ~Q(state__in=sorted(PLAN_TERMINAL))
"""Of plans: the detector has flagged it, and it is not over."""
IS_AT_RISK = Q(at_risk_since__isnull=False) & ~Q(state__in=sorted(PLAN_TERMINAL))
"""Of plans: in jeopardy, it will be done later than was promised."""


class Age(enum.StrEnum):
    """Since when something is so."""

    UNDER_1_H = "under-1h"
    FROM_1_TO_4_H = "1-4h"
    FROM_4_TO_24_H = "4-24h"
    OVER_24_H = "over-24h"

    @property
    def words(self) -> str:
        return _AGES[self][0]


_AGES: Mapping[Age, tuple[str, timedelta, timedelta]] = {
    Age.UNDER_1_H: ("under 1 h", timedelta(0), timedelta(hours=1)),
    Age.FROM_1_TO_4_H: ("1 to 4 h", timedelta(hours=1), timedelta(hours=4)),
    Age.FROM_4_TO_24_H: ("4 to 24 h", timedelta(hours=4), timedelta(hours=24)),
    Age.OVER_24_H: ("over 24 h", timedelta(hours=24), timedelta(days=36_500)),
}


class Due(enum.StrEnum):
    """How much time is left of what somebody has promised to look at."""

    OVERDUE = "overdue"
    SOON = "soon"

    @property
    def words(self) -> str:
        return {Due.OVERDUE: "overdue", Due.SOON: "due within the hour"}[self]


def stuck_for(age: Age, *, now: datetime) -> Q:
    """Of plans: stuck since then."""
    _, least, most = _AGES[age]
    started = Q(stuck_at__gt=now - most)
    # What was flagged while this was being asked is of the youngest.
    return IS_STUCK & started & (Q(stuck_at__lte=now - least) if least else Q())


def case_is(due: Due, *, now: datetime) -> Q:
    """Of cases: open, its clock runs, and little or nothing is left."""
    return IS_UNRESOLVED & Q(sla_paused_at=None) & _within("sla_due_at", due, now)


def manual_task_is(due: Due, *, now: datetime) -> Q:
    """The same of manual tasks; the time of one that somebody was told about is over."""
    is_due = _within("due_at", due, now)
    if due is Due.OVERDUE:
        is_due |= Q(due_at=None)
    return Q(decided_at=None, state__in=sorted(MANUAL_TIMED)) & is_due


def _within(column: str, due: Due, now: datetime) -> Q:
    if due is Due.OVERDUE:
        return Q(**{f"{column}__lt": now})
    return Q(**{f"{column}__gte": now, f"{column}__lt": now + SOON})


def now() -> datetime:
    """What the database's clock says, as every figure of one look has it."""
    with cursor() as raw:
        raw.execute("SELECT fulfillment_now()")
        moment: datetime = raw.fetchall()[0][0]
        return moment


# --- what waits for somebody, counted in one query ------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many there are of each, up to MOST_BESIDE and one."""

    to_decide: int
    fallout: int
    incidents: int
    to_approve: int
    unmatched: int
    stuck: int


# In the order of an index each, so that nothing is read but what is counted.
_BACKLOG = """
SELECT
  (SELECT count(*) FROM (SELECT FROM fulfillment_manualtask WHERE decided_at IS NULL
      ORDER BY decided_at DESC NULLS FIRST, due_at NULLS FIRST, id LIMIT %(most)s) found),
  (SELECT count(*) FROM (SELECT FROM fulfillment_falloutcase WHERE resolved_at IS NULL
      ORDER BY resolved_at DESC NULLS FIRST, sla_due_at, id DESC LIMIT %(most)s) found),
  (SELECT count(*) FROM (SELECT FROM fulfillment_incident WHERE resolved_at IS NULL
      ORDER BY resolved_at DESC NULLS FIRST, id DESC LIMIT %(most)s) found),
  (SELECT count(*) FROM (SELECT FROM fulfillment_approval WHERE state = 'REQUESTED'
      ORDER BY id DESC LIMIT %(most)s) found),
  (SELECT count(*) FROM (SELECT FROM fulfillment_inboundevent WHERE disposition = 'UNMATCHED'
      ORDER BY received_at LIMIT %(most)s) found),
  (SELECT count(*) FROM (SELECT FROM fulfillment_plan WHERE stuck_at IS NOT NULL
      AND state NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'SUPERSEDED')
      ORDER BY stuck_at LIMIT %(most)s) found)
"""


def backlog() -> Backlog:
    """One query, which counts MOST_BESIDE of each."""
    with cursor() as raw:
        raw.execute(_BACKLOG, {"most": MOST_BESIDE + 1})
        row = raw.fetchall()[0]
    return Backlog(
        to_decide=row[0],
        fallout=row[1],
        incidents=row[2],
        to_approve=row[3],
        unmatched=row[4],
        stuck=row[5],
    )


# --- orders that stand still, or will be late -----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Plans in which nothing moves."""

    by_age: Mapping[Age, int]
    since: datetime | None
    """Of the oldest."""

    @property
    def total(self) -> int:
        return sum(self.by_age.values())


# The longest first: where there are too many to count, it is the youngest that are left out.
_STUCK = """
SELECT min(stuck_at), count(*), count(*) FILTER (WHERE stuck_at <= %(hour)s),
       count(*) FILTER (WHERE stuck_at <= %(four)s), count(*) FILTER (WHERE stuck_at <= %(day)s)
FROM (
    SELECT stuck_at FROM fulfillment_plan
    WHERE stuck_at IS NOT NULL
      AND state NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'SUPERSEDED')
    ORDER BY stuck_at LIMIT %(most)s
) found
"""


def stuck(*, now: datetime) -> Stuck:
    asked = {
        "most": MOST + 1,
        "hour": now - timedelta(hours=1),
        "four": now - timedelta(hours=4),
        "day": now - timedelta(hours=24),
    }
    with cursor() as raw:
        raw.execute(_STUCK, asked)
        since, *reaching = raw.fetchall()[0]
    # Each of these holds all that are older as well.
    left = [*reaching[1:], 0]
    by_age = {age: longer - older for age, longer, older in zip(Age, reaching, left, strict=True)}
    return Stuck(by_age=by_age, since=since)


def at_risk() -> int:
    """Plans that will be done later than was promised."""
    rows = Plan.objects.filter(IS_AT_RISK).order_by("at_risk_since")
    return rows[: MOST + 1].count()


# --- people's steps, approvals, tries -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What one desk has to decide."""

    name: str
    tasks: int
    overdue: int
    soon: int
    unclaimed: int


_QUEUES = """
SELECT queue, count(*),
       count(*) FILTER (WHERE is_timed AND (due_at IS NULL OR due_at < %(now)s)),
       count(*) FILTER (WHERE is_timed AND due_at >= %(now)s AND due_at < %(soon)s),
       count(*) FILTER (WHERE state = 'OPEN')
FROM (
    SELECT queue, state, due_at, state IN ('OPEN', 'CLAIMED') AS is_timed
    FROM fulfillment_manualtask WHERE decided_at IS NULL
    ORDER BY decided_at DESC NULLS FIRST, due_at NULLS FIRST, id LIMIT %(most)s
) open GROUP BY queue ORDER BY count(*) DESC, queue
"""


def queues(*, now: datetime) -> list[Queue]:
    """The desks that have something to decide, the fullest first."""
    with cursor() as raw:
        raw.execute(_QUEUES, {"most": MOST + 1, "now": now, "soon": now + SOON})
        rows = raw.fetchall()
    return [
        Queue(name=name, tasks=tasks, overdue=overdue, soon=soon, unclaimed=unclaimed)
        for name, tasks, overdue, soon, unclaimed in rows
    ]


_RETRIES = """
SELECT target_id, count(*) FROM (
    SELECT target_id FROM fulfillment_task WHERE waits_for = 'RETRY'
    ORDER BY changed_at LIMIT %s
) waiting GROUP BY target_id ORDER BY target_id
"""


def retries() -> Counter[str]:
    """By target system, how many tasks wait for their next try."""
    with cursor() as raw:
        raw.execute(_RETRIES, [MOST + 1])
        return Counter(dict(raw.fetchall()))
