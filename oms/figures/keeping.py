"""Keeping the figures up to date: a day that is over is counted once, today by the hour.

Beat asks for it every few minutes; twice, late, or by two processes at once, it comes to the same.
What is replaced and what takes its place are one transaction. Figures stay when the rows that they
were counted from are gone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import psycopg
from django.db import transaction

from fulfillment.engine.store.database import Row, Table, cursor
from oms.figures.counting import Cell, count

SETTLES_WITHIN = timedelta(minutes=15)
"""No unit of work takes longer to commit what it says happened at its beginning."""
LOOK_BACK = timedelta(days=400)
"""Days that beat counts by itself; `manage.py figures` counts older ones."""
_AT_MOST_SECONDS = 60.0
"""Then one run leaves the days before to the next one."""
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('figures'))"
_NOW = "SELECT fulfillment_now()"
_OLDEST = "SELECT occurred_at FROM fulfillment_transition ORDER BY id LIMIT 1"
_KNOWN = "SELECT day, counted_at, is_closed FROM oms_countedday WHERE day >= %s"
_FORGET = "DELETE FROM oms_figure WHERE starts_at >= %s AND starts_at < %s"
_NOTE = """
INSERT INTO oms_countedday (day, counted_at, is_closed) VALUES (%s, %s, %s)
ON CONFLICT (day) DO UPDATE
SET counted_at = excluded.counted_at, is_closed = excluded.is_closed
"""
_FIGURES = Table(
    "oms_figure",
    measure="text",
    starts_at="timestamptz",
    subject="text",
    action="text",
    outcome="text",
    bucket="smallint",
    count="bigint",
)


def keep_up() -> int:
    """Count what has happened since the last time. Returns how many days it has counted.

    Today and, while it settles, yesterday come first; then days that are missing, newest first.
    """
    began = time.monotonic()
    with cursor() as raw:
        now = _now(raw)
        raw.execute(_OLDEST)
        row = raw.fetchone()
        first = max(row[0] if row else now, now - LOOK_BACK).date()
        raw.execute(_KNOWN, [first])
        known = {day: (counted_at, is_closed) for day, counted_at, is_closed in raw.fetchall()}
    counted = 0
    for day in _back(now.date(), first):
        counted_at, is_closed = known.get(day, (None, False))
        if is_closed:
            continue
        counted += _count_day(day, since=counted_at)
        if time.monotonic() - began > _AT_MOST_SECONDS:
            break
    return counted


def recount(*, since: date, until: date) -> int:
    """Count these days anew, `until` too. Returns how many were counted.

    A day that is over and of which nothing is there any more keeps the figures that it has.
    """
    return sum(_count_day(day, anew=True) for day in _back(until, since))


def _count_day(day: date, *, since: datetime | None = None, anew: bool = False) -> bool:
    """The whole day if it is over, else the hours since it was counted last."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    with transaction.atomic(), cursor() as raw:
        raw.execute(_LOCK)
        if raw.fetchone() != (True,):
            return False  # Somebody else is at it.
        now = _now(raw)
        if begin > now:
            return False
        end = begin + _DAY
        is_closed = now >= end + SETTLES_WITHIN
        if is_closed:
            found = count(raw, since=begin, until=end)
            if found:  # Else there was nothing, or its rows are gone.
                _replace(raw, since=begin, until=end, found=found)
        else:
            hour = begin if since is None or anew else max(begin, _hour(since - SETTLES_WITHIN))
            last = min(now, end - timedelta(microseconds=1))
            while hour <= last:
                found = count(raw, since=hour, until=hour + _HOUR)
                _replace(raw, since=hour, until=hour + _HOUR, found=found)
                hour += _HOUR
        raw.execute(_NOTE, [day, now, is_closed])
    return True


def _replace(
    raw: psycopg.Cursor[Row], *, since: datetime, until: datetime, found: Counter[Cell]
) -> None:
    raw.execute(_FORGET, [since, until])
    _FIGURES.insert(
        raw,
        [
            (cell.measure, since, cell.subject, cell.action, cell.outcome, cell.bucket, number)
            for cell, number in sorted(found.items())
        ],
    )


def _back(last: date, first: date) -> Iterator[date]:
    while last >= first:
        yield last
        last -= _DAY


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _now(raw: psycopg.Cursor[Row]) -> datetime:
    raw.execute(_NOW)
    row = raw.fetchone()
    assert row is not None
    moment: datetime = row[0].astimezone(UTC)
    return moment
