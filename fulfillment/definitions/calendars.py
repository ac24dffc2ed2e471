"""Business calendars and execution windows: when people work, and when a task may be sent.

Pure: the moment is passed in. What counts is the clock on the wall of the time zone. A stretch
that begins at 08:00 and ends at 17:00 lasts while that clock shows 08:00 or later and not yet
17:00, so an hour that the clock shows twice counts twice, and one that it skips does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from fulfillment.definitions.holiday_rules import Holidays
from fulfillment.definitions.local_time import Stretch, stretches, wall_clock
from fulfillment.errors import Fault, NeverOpens

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = timedelta(days=1)
_LONGEST_CLOSED = timedelta(days=731)
_FARTHEST_DEADLINE = timedelta(days=3653)
_YEARS = range(2, 9980)
"""Outside them a search would leave what a datetime can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """A stretch of local time on some days of the week."""

    days: frozenset[int]
    """Monday is 0."""
    opens: time
    closes: time
    """Not later than `opens`: on the next day."""

    def on(self, day: date) -> tuple[datetime, datetime]:
        """What the clock shows at the beginning and at the end, if it begins that day."""
        closing_day = day + _DAY if self.closes <= self.opens else day
        return datetime.combine(day, self.opens), datetime.combine(closing_day, self.closes)

    def __str__(self) -> str:
        return f"{days_in_words(self.days)} {self.opens:%H:%M}–{closing_text(self.closes)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Working hours of some place, and its holidays. The hours may overlap each other."""

    name: str
    timezone: str
    """IANA name."""
    hours: tuple[Hours, ...]
    holidays: Holidays = field(default_factory=Holidays)

    def works_on(self, day: date) -> bool:
        """Whether any working hours begin on that day."""
        weekday = day.weekday()
        return any(weekday in one.days for one in self.hours) and day not in self.holidays


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Hours):
    """When a task may be sent: on these days, between these times, of this time zone."""

    timezone: str
    """IANA name."""
    calendar: str | None = None
    """Opens only on days on which this calendar's people work; None: on holidays too."""

    def __str__(self) -> str:
        # Not super(): a dataclass with slots is another class than the one that is defined here.
        text = f"{Hours.__str__(self)} {self.timezone}"
        return text if self.calendar is None else f"{text}, working days of {self.calendar}"


def is_open(*, window: Window, calendar: Calendar | None, at: datetime) -> bool:
    """Whether a task with this window may be sent at that moment.

    `calendar` is the one that the window names. A window that lasts over midnight belongs to the
    day on which it opens. Raises ValueError for a naive moment or another calendar, NeverOpens
    for a moment far outside this age.
    """
    return _is_open(window, _needed(window, calendar), _utc(at))


def next_opening(*, window: Window, calendar: Calendar | None, at: datetime) -> datetime:
    """The first moment from `at` on at which the window is open, in UTC: `at` when it is now.

    Raises NeverOpens when there is none within two years, and what `is_open` raises.
    """
    calendar, at = _needed(window, calendar), _utc(at)
    if _is_open(window, calendar, at):
        return at
    found: list[datetime] = []
    for day in _days(at, window.timezone, _LONGEST_CLOSED):
        found_before = bool(found)
        if _opens_on(window, calendar, day):
            found += [start for start, _ in _stretches(window, window.timezone, day) if start > at]
        # One day more: where a clock is put back, that one's time may come before this one's.
        if found_before:
            break
    if not found:
        raise NeverOpens(
            f"The window “{window}” is not open at any time in the two years from "
            f"{at:%Y-%m-%d %H:%M} UTC on. {_cause(window, calendar)}"
        )
    return min(found)


def never_opens(*, window: Window, calendar: Calendar | None, now: datetime) -> str | None:
    """Why the window is impossible; None when it opens within two years of `now`."""
    try:
        next_opening(window=window, calendar=calendar, at=now)
    except NeverOpens as error:
        return str(error)
    return None


def window_fault(
    *, window: Window, calendars: Mapping[str, Calendar], now: datetime, path: str = ""
) -> Fault | None:
    """What publishing refuses a well-shaped window for: an unknown calendar, or no opening."""
    calendar = None
    if window.calendar is not None:
        calendar = calendars.get(window.calendar)
        if calendar is None:
            known = ", ".join(sorted(calendars)) or "none"
            message = (
                f"There is no calendar {window.calendar!r} (there are: {known}). Load it with "
                "`manage.py calendars load`, or name another."
            )
            return Fault(code="window.unknown_calendar", path=path, message=message)
    why = never_opens(window=window, calendar=calendar, now=now)
    return None if why is None else Fault(code="window.never_opens", path=path, message=why)


def working_time(*, calendar: Calendar, since: datetime) -> Iterator[Stretch]:
    """The calendar's working time from that moment on, for ten years, in sequence."""
    reached = _utc(since)
    pending: list[Stretch] = []
    for day in _days(reached, calendar.timezone, _FARTHEST_DEADLINE):
        if day not in calendar.holidays:
            for hours in calendar.hours:
                if day.weekday() in hours.days:
                    pending += _stretches(hours, calendar.timezone, day)
        pending.sort()
        # What begins on a later day of the zone can't begin before.
        sure = datetime.combine(day, time(), UTC)
        while pending and pending[0][0] < sure:
            begins, ends = pending.pop(0)
            begins = max(begins, reached)
            if begins < ends:
                yield begins, ends
                reached = ends


def business_deadline(*, calendar: Calendar, start: datetime, duration: timedelta) -> datetime:
    """When so much working time has passed since `start`, in UTC.

    Outside working hours no time passes; a deadline at closing time is not moved to the next
    morning. Nothing to wait for ends at `start`. Raises NeverOpens when it would take longer than
    ten years, and ValueError for a naive moment or a negative duration.
    """
    start = _utc(start)
    if duration < timedelta(0):
        raise ValueError(f"A deadline lies ahead; {duration} is negative.")
    if not duration:
        return start
    left = duration
    for begins, ends in working_time(calendar=calendar, since=start):
        if ends - begins >= left:
            return begins + left
        left -= ends - begins
    raise NeverOpens(
        f"The calendar {calendar.name!r} has less working time than {duration} in the ten years "
        f"from {start:%Y-%m-%d %H:%M} UTC on. Give it more hours, or the deadline less time."
    )


def days_in_words(days: frozenset[int]) -> str:
    """`mon–fri`, `sat, sun`, `every day`."""
    if len(days) == len(DAYS):
        return "every day"
    ordered = sorted(days)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{DAYS[ordered[0]]}–{DAYS[ordered[-1]]}"
    return ", ".join(DAYS[day] for day in ordered)


def closing_text(closes: time) -> str:
    """HH:MM; the midnight at which something ends is 24:00."""
    return "24:00" if closes == time() else f"{closes:%H:%M}"


def _is_open(window: Window, calendar: Calendar | None, at: datetime) -> bool:
    shown = wall_clock(timezone=window.timezone, at=at)
    for day in (shown.date(), shown.date() - _DAY):
        opens, closes = window.on(day)
        if opens <= shown < closes and _opens_on(window, calendar, day):
            return True
    return False


def _opens_on(window: Window, calendar: Calendar | None, day: date) -> bool:
    return day.weekday() in window.days and (calendar is None or calendar.works_on(day))


def _stretches(hours: Hours, timezone: str, day: date) -> tuple[Stretch, ...]:
    begins, ends = hours.on(day)
    return stretches(timezone=timezone, begins=begins, ends=ends)


def _days(since: datetime, timezone: str, length: timedelta) -> Iterator[date]:
    """Days there on which what is open at `since` or within `length` of it may have begun."""
    today = wall_clock(timezone=timezone, at=since).date()
    # Two days back: over midnight, and where a clock is put back over midnight as well.
    for number in range(-2, length.days + 2):
        yield today + timedelta(days=number)


def _needed(window: Window, calendar: Calendar | None) -> Calendar | None:
    if window.calendar is None:
        return None
    if calendar is None or calendar.name != window.calendar:
        given = "none" if calendar is None else repr(calendar.name)
        raise ValueError(f"The window names the calendar {window.calendar!r}; given is {given}.")
    return calendar


def _cause(window: Window, calendar: Calendar | None) -> str:
    if calendar is None:
        return "It names no days."
    if not any(window.days & hours.days for hours in calendar.hours):
        return f"Nobody works on these days in the calendar {calendar.name!r}: name other days."
    return f"The calendar {calendar.name!r} has holidays on all these days."


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone.")
    if moment.year not in _YEARS:
        raise NeverOpens(f"Calendars end long before {moment:%Y-%m-%d}; give another date.")
    return moment.astimezone(UTC)
