"""Calendars and windows as people write them, and a window as a stored graph keeps it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from datetime import date, time
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fulfillment.definitions.calendars import DAYS, Calendar, Hours, Window, closing_text
from fulfillment.definitions.closed import Closed, DashedName, Text
from fulfillment.definitions.holiday_rules import Holidays, country_fault, subdivision_fault
from fulfillment.definitions.local_time import time_zones

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_WEEK_MINUTES = 7 * 24 * 60


def _fault(code: str, message: str) -> PydanticCustomError:
    # As a value, because it may hold braces.
    return PydanticCustomError(code, "{message}", {"message": message})


def _clock(value: Any) -> str:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise _fault("time_of_day", f'{value!r} is no time of the day; write "HH:MM", quoted')
    return value


def _closing(value: Any) -> str:
    return "24:00" if value == "24:00" else _clock(value)


def _zone(name: str) -> str:
    if name in time_zones():
        return name
    close = difflib.get_close_matches(name, time_zones(), n=1)
    hint = f". Did you mean {close[0]!r}?" if close else ""
    raise _fault(
        "time_zone", f"{name!r} is no IANA time zone; write one such as Europe/Vienna{hint}"
    )


def _days_named(days: tuple[str, ...]) -> tuple[str, ...]:
    if not days:
        raise _fault("no_days", "at least one day is needed: mon, tue, wed, thu, fri, sat, sun")
    twice = sorted({day for day in days if days.count(day) > 1}, key=DAYS.index)
    if twice:
        raise _fault("day_twice", f"{', '.join(twice)}: each day is named once")
    return days


def _date(value: Any) -> date:
    try:
        # A date of Python's comes from a program; a file has text only.
        return value if type(value) is date else date.fromisoformat(_dashed(value))
    except ValueError:
        raise _fault("date", f'{value!r} is no date; write "YYYY-MM-DD", quoted') from None


def _dashed(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return value
    raise ValueError


Clock = Annotated[
    str,
    BeforeValidator(_clock),
    WithJsonSchema({"type": "string", "pattern": f"^({_CLOCK.pattern})$"}),
]
ClosingClock = Annotated[
    str,
    BeforeValidator(_closing),
    WithJsonSchema({"type": "string", "pattern": f"^({_CLOCK.pattern}|24:00)$"}),
]
Days = Annotated[
    tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...],
    AfterValidator(_days_named),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"enum": list(DAYS)},
            "minItems": 1,
            "uniqueItems": True,
        }
    ),
]
TimeZone = Annotated[str, AfterValidator(_zone)]
Day = Annotated[
    date,
    BeforeValidator(_date),
    PlainSerializer(date.isoformat, return_type=str),
    WithJsonSchema({"type": "string", "format": "date"}),
]


class HoursSpec(Closed):
    """`from` at or after `to`: over midnight, on the days on which it begins."""

    model_config = ConfigDict(serialize_by_alias=True)

    days: Days
    opens: Clock = Field(alias="from")
    closes: ClosingClock = Field(alias="to")

    @field_validator("closes")
    @classmethod
    def _some_time(cls, closes: str, info: ValidationInfo) -> str:
        if closes == info.data.get("opens"):
            raise _fault(
                "no_time", "'from' and 'to' are the same; a whole day is \"00:00\" to \"24:00\""
            )
        return closes

    def hours(self) -> Hours:
        return Hours(days=_numbers(self.days), opens=_time(self.opens), closes=_time(self.closes))


class WindowSpec(HoursSpec):
    """When a task may be sent."""

    timezone: TimeZone
    calendar: DashedName | None = None
    """Only on days on which the people of this calendar work."""

    def window(self) -> Window:
        return Window(
            days=_numbers(self.days),
            opens=_time(self.opens),
            closes=_time(self.closes),
            timezone=self.timezone,
            calendar=self.calendar,
        )


class HolidaysSpec(Closed):
    country: str | None = None
    """ISO 3166-1; the rules of the library `holidays`."""
    subdivision: str | None = None
    extra: Annotated[tuple[Day, ...], Field(max_length=1000)] = ()
    removed: Annotated[tuple[Day, ...], Field(max_length=1000)] = ()
    """Holidays of the country on which people work."""

    @field_validator("country")
    @classmethod
    def _known_country(cls, country: str | None) -> str | None:
        message = None if country is None else country_fault(country)
        if message is not None:
            raise _fault("country", message)
        return country

    @field_validator("subdivision")
    @classmethod
    def _known_subdivision(cls, subdivision: str | None, info: ValidationInfo) -> str | None:
        if subdivision is None or "country" not in info.data:
            return subdivision
        country = info.data["country"]
        if country is None:
            raise _fault("subdivision", "a part of a country needs 'country' as well")
        message = subdivision_fault(country=country, subdivision=subdivision)
        if message is not None:
            raise _fault("subdivision", message)
        return subdivision

    @field_validator("removed")
    @classmethod
    def _removed_from_something(
        cls, removed: tuple[date, ...], info: ValidationInfo
    ) -> tuple[date, ...]:
        both = sorted(set(removed) & set(info.data.get("extra", ())))
        if both:
            raise _fault("date_in_both", f"{both[0]} is in 'extra' as well; keep it in one of them")
        if removed and info.data.get("country", "") is None:
            raise _fault("removed", "there is nothing to remove from without a country")
        return removed

    def holidays(self) -> Holidays:
        return Holidays(
            country=self.country,
            subdivision=self.subdivision,
            extra=frozenset(self.extra),
            removed=frozenset(self.removed),
        )


class CalendarSpec(Closed):
    """One business calendar; the fields are those of its row (docs/calendars.md)."""

    title: Text
    timezone: TimeZone
    hours: Annotated[tuple[HoursSpec, ...], Field(min_length=1, max_length=100)]
    holidays: HolidaysSpec = HolidaysSpec()

    @model_validator(mode="after")
    def _each_hour_once(self) -> Self:
        taken: dict[int, int] = {}
        for position, one in enumerate(self.hours):
            for minute in _minutes(one.hours()):
                other = taken.setdefault(minute, position)
                if other != position:
                    day, clock = divmod(minute, 24 * 60)
                    raise _fault(
                        "hours_overlap",
                        f"hours[{position}] overlaps hours[{other}]: both have {DAYS[day]} "
                        f"{clock // 60:02}:{clock % 60:02}; write each time once",
                    )
        return self

    @classmethod
    def from_row(cls, *, title: str, document: Mapping[str, Any]) -> Self:
        """The inverse of `row_document`. Raises pydantic.ValidationError."""
        return cls.model_validate({**document, "title": title})

    def row_document(self) -> dict[str, Any]:
        """All but the title, as plain JSON with every default spelled out."""
        return self.model_dump(mode="json", exclude={"title"})

    def calendar(self, *, name: str) -> Calendar:
        return Calendar(
            name=name,
            timezone=self.timezone,
            hours=tuple(one.hours() for one in self.hours),
            holidays=self.holidays.holidays(),
        )


def window_document(window: Window) -> dict[str, Any]:
    """Plain JSON for a stored graph, the same for equal windows."""
    return {
        "days": [DAYS[day] for day in sorted(window.days)],
        "from": f"{window.opens:%H:%M}",
        "to": closing_text(window.closes),
        "timezone": window.timezone,
        "calendar": window.calendar,
    }


def window_from_document(document: Mapping[str, Any]) -> Window:
    """The inverse of `window_document`. It was validated when it was written: a graph is frozen."""
    return Window(
        days=_numbers(document["days"]),
        opens=_time(document["from"]),
        closes=_time(document["to"]),
        timezone=document["timezone"],
        calendar=document["calendar"],
    )


def _minutes(hours: Hours) -> Iterable[int]:
    """The minutes of the week, from Monday 00:00, that they take."""
    opens = hours.opens.hour * 60 + hours.opens.minute
    length = (hours.closes.hour * 60 + hours.closes.minute - opens - 1) % (24 * 60) + 1
    for day in sorted(hours.days):
        for minute in range(length):
            yield (day * 24 * 60 + opens + minute) % _WEEK_MINUTES


def _numbers(days: Iterable[str]) -> frozenset[int]:
    return frozenset(DAYS.index(day) for day in days)


def _time(text: str) -> time:
    return time() if text == "24:00" else time.fromisoformat(text)
