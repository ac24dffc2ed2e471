"""Read model of the targets board: how each target system does now, and how its calls went lately.

Beside what `conditions` tells of this moment stand the calls of the last hour, open cases and open
incidents. A fixed number of queries for any number of targets; nothing is locked.
"""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fulfillment.engine.store.database import cursor
from fulfillment.models import UNRESOLVED, Incident, IncidentState
from fulfillment.waits.conditions import TargetState, TargetStatus, statuses

PERIOD = timedelta(hours=1)
STEP = timedelta(minutes=1)
"""What one member of `Health.course` tells of."""
STEPS = PERIOD // STEP
LATELY = 5
"""Steps of `Health.lately`."""
MOST_CALLS = 30_000
"""Calls that are looked at, the newest: where more were made, `Health.since` says since when."""
MOST_CASES = 20_000
"""Open cases that are counted, the newest."""
_JUST_NOW = timedelta(seconds=30)
_ENOUGH = 5
"""Calls; fewer tell nothing of a target system."""
_TOO_MANY = 0.2
_FINENESS = 1.15
"""Durations are sorted into classes, of which each reaches so many times further than the last."""
# No index knows when calls were begun, but they come in the order of their key: the newest are
# read, as many as lead back for an hour. How many that are is told by steps back that double.
# Durations are counted by classes, as an exact percentile would have to sort them all; and told as
# floats, as numerics would cost more than all the rest.
_CALLS = f"""
WITH clock AS MATERIALIZED (SELECT fulfillment_now() AS now),
reach AS MATERIALIZED (
    SELECT s.back, CASE WHEN s.back < n.id THEN b.at END AS since
    FROM (SELECT max(id) AS id FROM fulfillment_attempt) n
    CROSS JOIN (SELECT {MOST_CALLS} >> g AS back FROM generate_series(0, 6) g) s
    CROSS JOIN LATERAL (
        SELECT a.started_at AS at FROM fulfillment_attempt a WHERE a.id >= n.id - s.back
        ORDER BY a.id LIMIT 1
    ) b
    WHERE s.back >= n.id OR s.back = {MOST_CALLS} OR b.at < (SELECT now FROM clock) - %(period)s
    ORDER BY s.back LIMIT 1
)
SELECT target_id, ago, class, (SELECT since FROM reach),
       count(*) FILTER (WHERE outcome IN ('SUCCEEDED', 'ACCEPTED', 'NOT_FOUND')),
       count(*) FILTER (WHERE outcome = 'REJECTED'),
       count(*) FILTER (WHERE outcome = 'FAILED'),
       count(*) FILTER (WHERE outcome = 'UNKNOWN'),
       count(*) FILTER (WHERE is_new)
FROM (
    SELECT a.target_id, a.outcome, a.started_at > c.now - %(just_now)s AS is_new,
           greatest(0, date_part('epoch', c.now - a.started_at)::int / %(step)s) AS ago,
           ceil(ln(1 + 1000 * date_part('epoch', a.finished_at - a.started_at))
                / ln(%(fineness)s::float8))::int AS class
    FROM (
        SELECT target_id, started_at, finished_at, outcome FROM fulfillment_attempt
        ORDER BY id DESC LIMIT (SELECT back FROM reach)
    ) a, clock c
    WHERE a.started_at > c.now - %(period)s AND a.target_id = ANY(%(names)s::text[])
) call
GROUP BY GROUPING SETS ((target_id, ago), (target_id, class))
"""
_CASES = f"""
SELECT target, count(*) FROM (
    SELECT target FROM fulfillment_falloutcase WHERE {UNRESOLVED} ORDER BY id DESC
    LIMIT {MOST_CASES}
) newest
WHERE target = ANY(%s::text[]) GROUP BY target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """How calls have ended that were begun in some time; those under way are not among them."""

    well: int = 0
    """Done, taken on, or an answer to a question."""
    refused: int = 0
    """It has said no: that is about the order, and the system is well."""
    failed: int = 0
    """It was busy or broken; nothing has happened."""
    unanswered: int = 0
    """Timeouts and cut connections: whether anything has happened is asked for."""

    @property
    def ended(self) -> int:
        return self.well + self.refused + self.failed + self.unanswered

    @property
    def in_vain(self) -> int:
        """Without an answer that could be used."""
        return self.failed + self.unanswered

    @property
    def share_in_vain(self) -> float:
        """From 0 to 1; 0 also when there were no calls."""
        return self.in_vain / self.ended if self.ended else 0.0

    @property
    def is_failing(self) -> bool:
        """So many were in vain that it is not by chance."""
        return self.ended >= _ENOUGH and self.share_in_vain > _TOO_MANY


def _together(several: Iterable[Calls]) -> Calls:
    well = refused = failed = unanswered = 0
    for one in several:
        well += one.well
        refused += one.refused
        failed += one.failed
        unanswered += one.unanswered
    return Calls(well=well, refused=refused, failed=failed, unanswered=unanswered)


@dataclass(slots=True)
class _Counted:
    """The calls of one target system as the database has counted them."""

    steps: dict[int, Calls] = field(default_factory=dict)
    """By how many steps ago they were begun."""
    durations: Counter[int] = field(default_factory=Counter)
    """Calls that have ended, by the class of their duration."""
    just_begun: int = 0
    since: datetime | None = None
    """The first call that was looked at; None: there is none before it."""

    def slowest(self, share: float) -> timedelta | None:
        """What this share of the calls stayed below; None when none has ended."""
        passed, wanted = 0, share * self.durations.total()
        for number, calls in sorted(self.durations.items()):
            passed += calls
            if passed >= wanted:
                return timedelta(milliseconds=_FINENESS ** (number - 0.5) - 1)
        return None


class Level(enum.IntEnum):
    """How much a target system needs somebody's eye; the highest first on every list."""

    WELL = 0
    BUSY = 1
    """At its limit, or its limits grow: it goes on, and more slowly than there is work."""
    STOPPED = 2
    """Somebody has paused or held it."""
    FAILING = 3
    """Its breaker is open or probing, its calls fail, or it has an open incident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIncident:
    """An incident of a target system that is not resolved."""

    pk: int
    title: str
    state: IncidentState
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """All that the desk tells of one target system."""

    status: TargetStatus
    course: Sequence[Calls]
    """The last hour in STEPS steps, the oldest first."""
    since: datetime
    """Calls before it are not counted: an hour ago, or later where there were too many."""
    rate: float
    """Calls begun per second, over the last half minute."""
    median: timedelta | None
    """About what half of the calls of the last hour took longer than; None when none has ended."""
    slow: timedelta | None
    """One in twenty took longer."""
    open_cases: int
    incidents: Sequence[OpenIncident]
    """The newest first."""

    @property
    def name(self) -> str:
        return self.status.fitness.row.pk

    @property
    def title(self) -> str:
        return self.status.fitness.row.title

    @property
    def hour(self) -> Calls:
        return _together(self.course)

    @property
    def lately(self) -> Calls:
        """The last five minutes."""
        return _together(self.course[-LATELY:])

    @property
    def under_way(self) -> int:
        return self.status.fitness.under_way.calls

    @property
    def slots(self) -> int:
        """So many calls may be under way now: fewer while it ramps up."""
        fit = self.status.fitness
        most = fit.row.concurrency_limit or fit.row.sender_slots
        return max(1, int(most * fit.ramp))

    @property
    def is_limited(self) -> bool:
        """Over all workers; otherwise `slots` are those of one worker."""
        return self.status.fitness.row.concurrency_limit is not None

    @property
    def allowed_rate(self) -> float | None:
        """Calls per second now: less while it ramps up; None: no limit."""
        fit = self.status.fitness
        most = fit.row.rate_per_second
        return None if most is None else most * max(fit.ramp, 0.05)

    @property
    def waiting_for(self) -> timedelta | None:
        """How long the one has waited that might have been sent first; None: nothing waits."""
        since = self.status.due_since
        return None if since is None else max(timedelta(0), self.status.fitness.now - since)

    @property
    def level(self) -> Level:
        states = set(self.status.states)
        broken = {TargetState.BREAKER_OPEN, TargetState.PROBING}
        if states & {TargetState.PAUSED, TargetState.HELD}:
            return Level.STOPPED
        if states & broken or self.lately.is_failing or self.incidents:
            return Level.FAILING
        return Level.WELL if self.status.is_well else Level.BUSY

    @property
    def trouble(self) -> str:
        """What is wrong, in one sentence; empty when nothing is."""
        lately, why = self.lately, self.status.why
        if self.level is Level.FAILING and lately.is_failing and not self.is_left_alone:
            told = f"{lately.in_vain:,} of its {lately.ended:,} calls of the last five minutes"
            if lately.unanswered == lately.in_vain:
                return f"{told} were not answered."
            silent = f", {lately.unanswered:,} of them not answered" if lately.unanswered else ""
            return f"{told} were in vain{silent}."
        if why or not self.incidents:
            return why
        return f"Many orders have failed here for one reason: {self.incidents[0].title}."

    @property
    def is_left_alone(self) -> bool:
        """Its breaker is open, and it is not tried yet."""
        return self.status.fitness.is_left_alone


def health(*, names: Collection[str] | None = None) -> list[Health]:
    """These target systems, or all: those in trouble first, then by what waits. Seven queries."""
    found = statuses(names=names)
    with cursor() as raw:
        raw.execute(
            _CALLS,
            {
                "period": PERIOD,
                "just_now": _JUST_NOW,
                "step": int(STEP.total_seconds()),
                "fineness": _FINENESS,
                "names": list(found),
            },
        )
        calls = _by_target(raw.fetchall())
        raw.execute(_CASES, [list(found)])
        cases: dict[str, int] = dict(raw.fetchall())
    incidents = _incidents(found)
    made = [
        _health(status, calls.get(name, _Counted()), cases.get(name, 0), incidents.get(name, ()))
        for name, status in found.items()
    ]
    return sorted(made, key=lambda one: (-one.level, -one.status.waiting, one.name))


def _health(
    status: TargetStatus, calls: _Counted, cases: int, incidents: Sequence[OpenIncident]
) -> Health:
    begin = status.fitness.now - PERIOD
    return Health(
        status=status,
        course=[calls.steps.get(ago, Calls()) for ago in reversed(range(STEPS))],
        since=max(begin, calls.since or begin),
        rate=calls.just_begun / _JUST_NOW.total_seconds(),
        median=calls.slowest(0.5),
        slow=calls.slowest(0.95),
        open_cases=cases,
        incidents=incidents,
    )


def _by_target(rows: Iterable[tuple[Any, ...]]) -> dict[str, _Counted]:
    found: dict[str, _Counted] = defaultdict(_Counted)
    for target, ago, duration, since, well, refused, failed, unanswered, begun in rows:
        one = found[target]
        one.since = since
        calls = Calls(well=well, refused=refused, failed=failed, unanswered=unanswered)
        if ago is not None:
            one.steps[ago] = calls
            one.just_begun += begun
        elif duration is not None:
            one.durations[duration] = calls.ended
    return found


def _incidents(names: Collection[str]) -> dict[str, list[OpenIncident]]:
    found: dict[str, list[OpenIncident]] = defaultdict(list)
    rows = Incident.objects.filter(target__in=names, resolved_at=None)
    for row in rows.exclude(state=IncidentState.RESOLVED).order_by("-pk"):
        found[row.target].append(
            OpenIncident(
                pk=row.pk,
                title=row.title,
                state=IncidentState(row.state),
                opened_at=row.opened_at,
            )
        )
    return found
