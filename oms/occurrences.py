"""Schedules as people write them, and the moments at which they are due. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from celery.schedules import crontab
from pydantic import AfterValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from fulfillment.definitions.calendar_specs import TimeZone
from fulfillment.definitions.closed import Closed, DashedName, Offering, Text
from fulfillment.definitions.durations import Duration
from fulfillment.definitions.expressions import ExpressionInvalid, compile_expression
from fulfillment.definitions.loading import read_text, shaped
from fulfillment.definitions.references import ReferenceMalformed, parse, resolve, texts_in
from fulfillment.definitions.source import read_source
from fulfillment.errors import DefinitionInvalid, Fault

NAMES = {
    "occurrence.date": "string",
    "occurrence.day_before": "string",
    "occurrence.at": "string",
}
"""What the contents of a scheduled order may refer to: two dates, and an instant."""
_FURTHEST_DAYS = 9 * 366
"""Within them every cron expression that can happen does: 29 February comes after eight years."""


def _cron(text: str) -> str:
    try:
        crontab.from_string(text)
    except (ValueError, KeyError) as error:
        message = f"{text!r} is no cron expression of five fields: {error}"
        raise PydanticCustomError("cron", "{message}", {"message": message}) from None
    return text


class ScheduleSpec(Closed):
    title: Text
    cron: Annotated[str, AfterValidator(_cron)]
    """Minute, hour, day of the month, month, day of the week; a day has to fit all of them."""
    timezone: TimeZone
    catch_up: Duration = timedelta(hours=1)
    """An occurrence that was missed is still made up for within this time."""
    offering: Offering
    customer: Text = "INTERNAL"
    priority: Annotated[int, Field(ge=-32768, le=32767)] = 0
    characteristics: dict[str, JsonValue] = {}


class ScheduleFile(Closed):
    schedules: Annotated[dict[DashedName, ScheduleSpec], Field(max_length=1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    at: datetime
    """Aware, in UTC."""
    clock: datetime
    """What the clock in the schedule's zone is to show, naive."""


def load_schedules(*, path: Path) -> ScheduleFile:
    """Raises DefinitionInvalid with every fault, its file, line and path."""
    file = str(path)
    source = read_source(text=read_text(path=path), file=file)
    found, faults = shaped(model=ScheduleFile, source=source, file=file)
    for name, spec in (found.schedules if found is not None else {}).items():
        where = f"schedules.{name}.characteristics"
        for place, text in texts_in(spec.characteristics, path=where):
            message = _content_fault(text)
            if message:
                line = source.lines.get(place, source.lines.get(where, 1))
                faults.append(
                    Fault(
                        code="schedule.content", path=place, message=message, file=file, line=line
                    )
                )
    if found is None or faults:
        raise DefinitionInvalid(sorted(faults, key=lambda fault: fault.line or 0))
    return found


def latest(*, spec: ScheduleSpec, at: datetime, since: datetime) -> Occurrence | None:
    """The last occurrence that is not after `at`, unless it is before `since`."""
    days = (at - since).days + 3
    last = at.astimezone(ZoneInfo(spec.timezone)).date() + timedelta(days=1)
    found = (
        one
        for back in range(days)
        for one in _of_day(spec, last - timedelta(days=back))
        if since <= one.at <= at
    )
    return max(found, key=lambda one: (one.at, one.clock), default=None)


def following(*, spec: ScheduleSpec, after: datetime) -> Occurrence | None:
    """The first occurrence after a moment."""
    first = after.astimezone(ZoneInfo(spec.timezone)).date()
    for ahead in range(_FURTHEST_DAYS):
        coming = [one for one in _of_day(spec, first + timedelta(days=ahead)) if one.at > after]
        if coming:
            return min(coming, key=lambda one: (one.at, one.clock))
    return None


def order_id(*, name: str, spec: ScheduleSpec, occurrence: Occurrence) -> str:
    """The external id of the occurrence's order: the same whoever submits it.

    `daily-report-2026-09-01`; with the time where there may be several on one day.
    """
    cron = crontab.from_string(spec.cron)
    day = f"{name}-{occurrence.clock:%Y-%m-%d}"
    once = len(cron.hour) == len(cron.minute) == 1
    return day if once else f"{day}T{occurrence.clock:%H%M}"


def content_of(*, spec: ScheduleSpec, occurrence: Occurrence) -> dict[str, JsonValue]:
    """The characteristics of the occurrence's order, with its dates filled in."""
    values = {
        "occurrence": {
            "date": f"{occurrence.clock:%Y-%m-%d}",
            "day_before": f"{occurrence.clock - timedelta(days=1):%Y-%m-%d}",
            "at": occurrence.at.isoformat().replace("+00:00", "Z"),
        }
    }
    found: dict[str, JsonValue] = resolve(spec.characteristics, values, names=NAMES)
    return found


def _of_day(spec: ScheduleSpec, day: date) -> Iterator[Occurrence]:
    cron = crontab.from_string(spec.cron)
    weekday = day.isoweekday() % 7  # Cron's Sunday is 0.
    if (
        day.month not in cron.month_of_year
        or day.day not in cron.day_of_month
        or weekday not in cron.day_of_week
    ):
        return
    zone = ZoneInfo(spec.timezone)
    for hour in sorted(cron.hour):
        for minute in sorted(cron.minute):
            clock = datetime.combine(day, time(hour, minute))
            # What a clock shows twice happens the first time; what it skips, an hour later.
            yield Occurrence(at=clock.replace(tzinfo=zone, fold=0).astimezone(UTC), clock=clock)


def _content_fault(text: str) -> str:
    try:
        for part in parse(text):
            if not isinstance(part, str):
                compile_expression(text=str(part), names=NAMES)
    except (ReferenceMalformed, ExpressionInvalid) as error:
        return str(error)
    return ""
