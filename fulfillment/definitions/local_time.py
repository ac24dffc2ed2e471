"""Clocks on the wall: which moments of UTC a stretch of local time is, through every change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

Stretch = tuple[datetime, datetime]
"""From the first moment to the one after the last, both aware and in UTC."""
_NOT_PLACES = {"localtime", "posixrules", "Factory"}
"""Names that mean another zone on every machine, or none."""
_DAY = timedelta(days=1)


@cache
def time_zones() -> frozenset[str]:
    """The IANA names that this installation knows."""
    return frozenset(available_timezones() - _NOT_PLACES)


def wall_clock(*, timezone: str, at: datetime) -> datetime:
    """What a clock there shows at that moment, as a naive datetime."""
    return at.astimezone(ZoneInfo(timezone)).replace(tzinfo=None, fold=0)


@lru_cache(maxsize=8192)
def stretches(*, timezone: str, begins: datetime, ends: datetime) -> tuple[Stretch, ...]:
    """While a clock there shows at least `begins` and less than `ends` (both naive).

    In sequence, and mostly one: a change of the clock in between makes it two, with a gap when
    the clock is put back out of it, and one that skips all of it makes it none.
    """
    # No offset reaches a day.
    first, last = begins.replace(tzinfo=UTC) - _DAY, ends.replace(tzinfo=UTC) + _DAY
    found: list[Stretch] = []
    for since, until, offset in _steady(ZoneInfo(timezone), first, last):
        start = max(since, begins.replace(tzinfo=UTC) - offset)
        end = min(until, ends.replace(tzinfo=UTC) - offset)
        if start < end:
            found.append((start, end))
    return tuple(found)


def _steady(
    zone: ZoneInfo, first: datetime, last: datetime
) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """The parts between which the zone's offset changes: at the most once in a few days."""
    before, after = _offset(zone, first), _offset(zone, last)
    if before == after:
        yield first, last, before
        return
    # Changes are at whole seconds.
    early, late = int(first.timestamp()), int(last.timestamp())
    while late - early > 1:
        middle = (early + late) // 2
        if _offset(zone, datetime.fromtimestamp(middle, UTC)) == before:
            early = middle
        else:
            late = middle
    change = datetime.fromtimestamp(late, UTC)
    yield first, change, before
    yield change, last, after


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset
