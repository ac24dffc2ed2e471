"""Business calendars as the engine uses them: their rows, briefly remembered."""

from __future__ import annotations

import json
import time
from datetime import datetime
from functools import lru_cache

from pydantic import ValidationError

from fulfillment.definitions import calendars
from fulfillment.definitions.calendar_specs import CalendarSpec
from fulfillment.definitions.calendars import Calendar, Window
from fulfillment.errors import CalendarInvalid, CalendarUnknown
from fulfillment.models import BusinessCalendar

_REMEMBERED_SECONDS = 1.0
_OBJECT = "its spec is no JSON object with timezone, hours and holidays."
_calendars: dict[str, tuple[float, Calendar]] = {}


def get(name: str) -> Calendar:
    """The calendar, at most a second old, so that an operator's edit works live.

    Raises CalendarUnknown, and CalendarInvalid for a row that was written past every check.
    """
    remembered = _calendars.get(name)
    if remembered is not None and remembered[0] > time.monotonic():
        return remembered[1]
    row = BusinessCalendar.objects.filter(pk=name).first()
    if row is None:
        raise CalendarUnknown(
            f"There is no calendar {name!r}. Write it into a file and load that with "
            "`manage.py calendars load`, or add it in the admin; docs/calendars.md shows how."
        )
    calendar = calendar_of(row)
    _calendars[name] = (time.monotonic() + _REMEMBERED_SECONDS, calendar)
    return calendar


def every() -> dict[str, Calendar]:
    """All of them by name, fresh: what publishing checks windows against.

    Raises CalendarInvalid.
    """
    return {row.pk: calendar_of(row) for row in BusinessCalendar.objects.all()}


def named_by(window: Window) -> Calendar | None:
    """The calendar that the window names, if it names one. Raises what `get` raises."""
    return None if window.calendar is None else get(window.calendar)


def is_open(*, window: Window, at: datetime) -> bool:
    """`calendars.is_open` with the calendar that the window names, as it is now."""
    return calendars.is_open(window=window, calendar=named_by(window), at=at)


def next_opening(*, window: Window, at: datetime) -> datetime:
    """`calendars.next_opening` with the calendar that the window names, as it is now."""
    return calendars.next_opening(window=window, calendar=named_by(window), at=at)


def calendar_of(row: BusinessCalendar) -> Calendar:
    """The row's calendar. Raises CalendarInvalid with every fault."""
    return _spec(row.pk, row.title, json.dumps(row.spec, sort_keys=True)).calendar(name=row.pk)


def checked(row: BusinessCalendar) -> BusinessCalendar:
    """The row with every default of its spec written out. Raises CalendarInvalid."""
    spec = _spec(row.pk, row.title, json.dumps(row.spec, sort_keys=True))
    row.title, row.spec = spec.title, spec.row_document()
    return row


@lru_cache(maxsize=256)
def _spec(name: str, title: str, document: str) -> CalendarSpec:
    given = json.loads(document)
    try:
        if not isinstance(given, dict):
            raise CalendarInvalid(f"The calendar {name!r} can't be used: {_OBJECT}")
        return CalendarSpec.from_row(title=title, document=given)
    except ValidationError as error:
        faults = (
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}".removeprefix(": ")
            for fault in error.errors(include_url=False)
        )
        raise CalendarInvalid(
            f"The calendar {name!r} can't be used: {'; '.join(faults)}."
        ) from error


def forget() -> None:
    """Drop what is remembered (when tests change the database)."""
    _calendars.clear()
