"""When a window is open, and when so much working time has passed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, reject
from hypothesis import strategies as st

from fulfillment.definitions.calendars import (
    Calendar,
    Hours,
    Window,
    business_deadline,
    is_open,
    never_opens,
    next_opening,
    window_fault,
    working_time,
)
from fulfillment.definitions.holiday_rules import Holidays
from fulfillment.errors import NeverOpens

VIENNA, NEW_YORK = ZoneInfo("Europe/Vienna"), ZoneInfo("America/New_York")
WEEKDAYS, EVERY_DAY = frozenset(range(5)), frozenset(range(7))
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def hours(opens: str, closes: str, days: frozenset[int] = WEEKDAYS) -> Hours:
    return Hours(days=days, opens=time.fromisoformat(opens), closes=time.fromisoformat(closes))


def window(
    opens: str,
    closes: str,
    days: frozenset[int] = EVERY_DAY,
    timezone: str = "Europe/Vienna",
    calendar: str | None = None,
) -> Window:
    return Window(
        days=days,
        opens=time.fromisoformat(opens),
        closes=time.fromisoformat(closes),
        timezone=timezone,
        calendar=calendar,
    )


OFFICE = Calendar(
    name="office",
    timezone="Europe/Vienna",
    hours=(hours("08:00", "17:00"),),
    holidays=Holidays(country="AT"),
)
ALWAYS = Calendar(name="always", timezone="Etc/UTC", hours=(hours("00:00", "00:00", EVERY_DAY),))
WORKING_DAYS = window("08:00", "17:00", calendar="office")
LATE = window("22:00", "04:00", frozenset({4}), calendar="office")


def vienna(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=VIENNA).astimezone(UTC)


def new_york(text: str, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK, fold=fold).astimezone(UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def opening(window: Window, at: datetime, calendar: Calendar | None = None) -> datetime:
    return next_opening(window=window, calendar=calendar, at=at)


def deadline(start: datetime, duration: timedelta, calendar: Calendar = OFFICE) -> datetime:
    return business_deadline(calendar=calendar, start=start, duration=duration)


# --- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-03-02T07:59:59.999999", False),
        ("2026-03-02T08:00", True),
        ("2026-03-02T16:59:59.999999", True),
        ("2026-03-02T17:00", False),
        ("2026-03-01T12:00", False),
    ],
)
def test_a_window_is_open_from_its_first_moment_until_before_its_last(
    at: str, expected: bool
) -> None:
    one = window("08:00", "17:00", WEEKDAYS)
    assert is_open(window=one, calendar=None, at=vienna(at)) is expected


def test_the_next_opening_is_now_when_it_is_open_and_in_utc() -> None:
    at = new_york("2026-03-02T05:00").astimezone(NEW_YORK)
    found = opening(window("08:00", "17:00"), at)
    assert found == at
    assert found.tzinfo is UTC


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    fridays = window("22:00", "04:00", frozenset({4}))
    assert is_open(window=fridays, calendar=None, at=vienna("2026-03-07T03:59"))
    assert not is_open(window=fridays, calendar=None, at=vienna("2026-03-06T03:59"))
    assert opening(fridays, vienna("2026-03-07T04:00")) == vienna("2026-03-13T22:00")


def test_a_whole_day_lasts_from_midnight_to_midnight() -> None:
    sundays = window("00:00", "00:00", frozenset({6}))
    assert is_open(window=sundays, calendar=None, at=vienna("2026-03-01T00:00"))
    assert is_open(window=sundays, calendar=None, at=vienna("2026-03-01T23:59:59"))
    assert not is_open(window=sundays, calendar=None, at=vienna("2026-03-02T00:00"))


def test_the_year_ends_within_a_window() -> None:
    nights = window("23:00", "01:00")
    assert is_open(window=nights, calendar=None, at=vienna("2027-01-01T00:30"))
    mondays = window("08:00", "09:00", frozenset({0}))
    assert opening(mondays, vienna("2026-12-28T09:00")) == vienna("2027-01-04T08:00")


def test_two_places_open_at_different_moments() -> None:
    at = utc("2026-07-01T00:00")
    assert opening(window("08:00", "17:00"), at) == utc("2026-07-01T06:00")
    there = window("08:00", "17:00", timezone="America/New_York")
    assert opening(there, at) == utc("2026-07-01T12:00")


# --- clocks that change --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "before", "change"),
    [
        ("Europe/Vienna", vienna("2026-03-28T12:00"), utc("2026-03-29T01:00")),
        ("America/New_York", new_york("2026-03-07T12:00"), utc("2026-03-08T07:00")),
    ],
)
def test_what_opens_in_the_hour_that_is_skipped_opens_when_the_clock_is_put_forward(
    place: str, before: datetime, change: datetime
) -> None:
    assert opening(window("02:30", "05:00", timezone=place), before) == change
    assert opening(window("02:00", "05:00", timezone=place), before) == change


def test_what_lies_within_the_hour_that_is_skipped_does_not_open_that_day() -> None:
    short = window("02:10", "02:50")
    assert opening(short, vienna("2026-03-28T12:00")) == vienna("2026-03-30T02:10")


def test_what_closes_in_the_hour_that_is_skipped_closes_when_the_clock_is_put_forward() -> None:
    one = window("01:00", "02:30")
    assert is_open(window=one, calendar=None, at=utc("2026-03-29T00:59:59"))
    assert not is_open(window=one, calendar=None, at=utc("2026-03-29T01:00"))


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    one = window("02:15", "02:45")
    first = opening(one, vienna("2026-10-25T00:00"))
    assert first == utc("2026-10-25T00:15")
    second = opening(one, first + 30 * MINUTE)
    assert second == utc("2026-10-25T01:15")
    assert opening(one, second + 30 * MINUTE) == vienna("2026-10-26T02:15")


def test_a_clock_that_is_put_back_past_an_opening_closes_the_window_again() -> None:
    one = window("01:30", "06:00", timezone="America/New_York")
    assert is_open(window=one, calendar=None, at=utc("2026-11-01T05:59"))
    assert not is_open(window=one, calendar=None, at=utc("2026-11-01T06:00"))
    assert opening(one, utc("2026-11-01T06:00")) == new_york("2026-11-01T01:30", fold=1)


def test_where_midnight_is_put_back_the_next_day_s_opening_may_come_first() -> None:
    """In São Paulo the clock went from 24:00 back to 23:00 of the same evening."""
    one = window("23:30", "23:10", timezone="America/Sao_Paulo")
    closed = utc("2017-02-19T01:15")  # 23:15, for the first time
    assert opening(one, closed) == closed + 15 * MINUTE
    assert is_open(window=one, calendar=None, at=closed + 45 * MINUTE)  # 23:00 again
    assert opening(one, closed + 55 * MINUTE) == closed + 75 * MINUTE


def test_where_a_clock_is_put_back_over_midnight_yesterday_s_window_may_open_today() -> None:
    """In St John's the clock went from 00:01 on Sunday back to 23:01 on Saturday."""
    fridays = window("23:40", "23:30", frozenset({4}), timezone="America/St_Johns")
    sunday = utc("2010-11-07T02:30:30")  # 00:00:30, for the first time
    assert opening(fridays, sunday) == sunday + 30 * timedelta(seconds=1)


def test_a_day_that_a_place_has_skipped_does_not_open() -> None:
    fridays = window("08:00", "17:00", frozenset({4}), timezone="Pacific/Apia")
    apia = ZoneInfo("Pacific/Apia")
    at = datetime(2011, 12, 29, 12, tzinfo=apia)  # the last day before Saturday, 31 December
    assert opening(fridays, at) == datetime(2012, 1, 6, 8, tzinfo=apia)


# --- working days --------------------------------------------------------------------------------


def test_a_window_of_working_days_stays_shut_on_weekends_and_holidays() -> None:
    thursday = vienna("2026-12-24T17:00")  # then Christmas, St Stephen's, and a weekend
    assert opening(WORKING_DAYS, thursday, OFFICE) == vienna("2026-12-28T08:00")
    new_year = vienna("2026-12-31T17:00")
    assert opening(WORKING_DAYS, new_year, OFFICE) == vienna("2027-01-04T08:00")


def test_a_window_that_opens_before_a_holiday_lasts_into_it() -> None:
    office = Calendar(
        name="office",
        timezone="Europe/Vienna",
        hours=(hours("08:00", "17:00"),),
        holidays=Holidays(extra=frozenset({date(2026, 3, 7), date(2026, 3, 13)})),
    )
    assert is_open(window=LATE, calendar=office, at=vienna("2026-03-07T02:00"))
    assert not is_open(window=LATE, calendar=office, at=vienna("2026-03-14T02:00"))
    assert opening(LATE, vienna("2026-03-07T04:00"), office) == vienna("2026-03-20T22:00")


def test_a_holiday_begins_and_ends_at_the_window_s_midnight() -> None:
    all_day = window("00:00", "00:00", calendar="office")
    eve = vienna("2026-05-13T23:59:59")  # the next day is Ascension Day, a Thursday
    assert is_open(window=all_day, calendar=OFFICE, at=eve)
    assert not is_open(window=all_day, calendar=OFFICE, at=vienna("2026-05-14T00:00"))
    assert opening(all_day, vienna("2026-05-14T00:00"), OFFICE) == vienna("2026-05-15T00:00")


def test_holidays_are_known_for_any_year_and_can_be_added_and_taken_out() -> None:
    rule = Holidays(
        country="AT",
        extra=frozenset({date(2031, 12, 24)}),
        removed=frozenset({date(2031, 12, 8)}),
    )
    for easter_monday in (date(1961, 4, 3), date(2026, 4, 6), date(2077, 4, 12)):
        assert easter_monday in rule
        assert easter_monday + DAY not in rule
    assert date(2030, 12, 8) in rule
    assert date(2031, 12, 8) not in rule
    assert date(2031, 12, 24) in rule
    assert list(rule.in_year(2031).items())[-3:] == [
        (date(2031, 12, 24), "extra"),
        (date(2031, 12, 25), "Christmas Day"),
        (date(2031, 12, 26), "Saint Stephen's Day"),
    ]


def test_a_day_off_for_new_year_may_lie_in_the_year_before() -> None:
    assert date(2021, 12, 31) in Holidays(country="US")
    assert date(2022, 12, 31) not in Holidays(country="US")


def test_parts_of_a_country_have_holidays_of_their_own() -> None:
    assert date(2026, 8, 15) in Holidays(country="DE", subdivision="SL")
    assert date(2026, 8, 15) not in Holidays(country="DE", subdivision="BE")


# --- windows that never open ---------------------------------------------------------------------


def test_a_window_on_days_on_which_nobody_works_never_opens() -> None:
    now = utc("2026-03-01T00:00")
    sundays = window("08:00", "17:00", frozenset({6}), calendar="office")
    with pytest.raises(NeverOpens, match="Nobody works on these days in the calendar 'office'"):
        opening(sundays, now, OFFICE)
    why = never_opens(window=sundays, calendar=OFFICE, now=now)
    assert why is not None
    assert "sun 08:00–17:00 Europe/Vienna, working days of office" in why
    assert never_opens(window=WORKING_DAYS, calendar=OFFICE, now=now) is None


def test_a_window_of_holidays_alone_never_opens() -> None:
    closed = {date(2026, 1, 3) + number * 7 * DAY for number in range(160)}
    saturdays = Calendar(
        name="office",
        timezone="Europe/Vienna",
        hours=(hours("08:00", "17:00", frozenset({5})),),
        holidays=Holidays(extra=frozenset(closed)),
    )
    with pytest.raises(NeverOpens, match="has holidays on all these days"):
        opening(WORKING_DAYS, utc("2026-01-01T00:00"), saturdays)
    later = opening(WORKING_DAYS, utc("2027-06-01T00:00"), saturdays)
    assert later.date() == max(closed) + 7 * DAY


def test_publishing_is_told_of_windows_that_can_not_be_used() -> None:
    now = utc("2026-03-01T00:00")
    calendars = {"office": OFFICE, "always": ALWAYS}
    unknown = window("08:00", "17:00", calendar="officce")
    fault = window_fault(window=unknown, calendars=calendars, now=now, path="tasks.a.window")
    assert fault is not None
    assert (fault.code, fault.path) == ("window.unknown_calendar", "tasks.a.window")
    assert "always, office" in fault.message
    sundays = window("08:00", "17:00", frozenset({6}), calendar="office")
    fault = window_fault(window=sundays, calendars=calendars, now=now)
    assert fault is not None
    assert fault.code == "window.never_opens"
    assert window_fault(window=WORKING_DAYS, calendars=calendars, now=now) is None


@pytest.mark.parametrize("calendar", [None, ALWAYS])
def test_a_window_is_asked_with_the_calendar_that_it_names(calendar: Calendar | None) -> None:
    with pytest.raises(ValueError, match="names the calendar 'office'"):
        is_open(window=WORKING_DAYS, calendar=calendar, at=utc("2026-03-01T00:00"))


def test_a_moment_without_time_zone_is_refused() -> None:
    naive = datetime(2026, 3, 1)  # noqa: DTZ001
    with pytest.raises(ValueError, match="no time zone"):
        is_open(window=WORKING_DAYS, calendar=OFFICE, at=naive)
    with pytest.raises(ValueError, match="no time zone"):
        deadline(naive, HOUR)


@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_moments_at_the_end_of_time_are_refused_with_the_same_error(at: datetime) -> None:
    with pytest.raises(NeverOpens, match="Calendars end"):
        opening(window("08:00", "17:00"), at)
    with pytest.raises(NeverOpens, match="Calendars end"):
        deadline(at, HOUR)


# --- deadlines -----------------------------------------------------------------------------------


def test_a_deadline_counts_over_the_night_and_the_weekend() -> None:
    friday = vienna("2026-03-06T15:00")
    assert deadline(friday, HOUR) == vienna("2026-03-06T16:00")
    assert deadline(friday, 2 * HOUR) == vienna("2026-03-06T17:00")
    assert deadline(friday, 2 * HOUR + MINUTE) == vienna("2026-03-09T08:01")
    assert deadline(friday, 12 * HOUR) == vienna("2026-03-10T09:00")


def test_a_deadline_counts_over_holidays_and_the_end_of_the_year() -> None:
    eve = vienna("2026-12-23T16:00")
    # Thursday the 24th is worked; Christmas; weekend; Monday to Thursday; New Year; weekend.
    assert deadline(eve, 10 * HOUR) == vienna("2026-12-24T17:00")
    assert deadline(eve, 11 * HOUR) == vienna("2026-12-28T09:00")
    assert deadline(eve, 46 * HOUR) == vienna("2026-12-31T17:00")
    assert deadline(eve, 47 * HOUR) == vienna("2027-01-04T09:00")


def test_outside_working_hours_no_time_passes() -> None:
    saturday, monday = vienna("2026-03-07T13:00"), vienna("2026-03-09T08:00")
    assert deadline(saturday, HOUR) == monday + HOUR == deadline(monday, HOUR)
    assert deadline(saturday, timedelta(0)) == saturday


def test_a_deadline_over_a_change_of_the_clock_counts_time_that_passes() -> None:
    nights = Calendar(
        name="nights", timezone="Europe/Vienna", hours=(hours("22:00", "06:00", EVERY_DAY),)
    )
    spring, autumn = vienna("2026-03-28T22:00"), vienna("2026-10-24T22:00")
    assert deadline(spring, 7 * HOUR, nights) == vienna("2026-03-29T06:00")
    assert deadline(spring, 8 * HOUR, nights) == vienna("2026-03-29T23:00")
    assert deadline(autumn, 9 * HOUR, nights) == vienna("2026-10-25T06:00")


def test_a_lunch_break_is_not_working_time() -> None:
    shop = Calendar(
        name="shop",
        timezone="America/New_York",
        hours=(hours("13:00", "17:00"), hours("08:00", "12:00")),
    )
    assert deadline(new_york("2026-03-02T11:00"), 2 * HOUR, shop) == new_york("2026-03-02T14:00")


def test_around_the_clock_a_deadline_is_a_plain_addition() -> None:
    start = vienna("2026-03-28T22:00")
    assert deadline(start, timedelta(days=366), ALWAYS) == start.astimezone(UTC) + 366 * DAY


def test_hours_that_overlap_count_once() -> None:
    doubled = Calendar(
        name="doubled",
        timezone="Europe/Vienna",
        hours=(hours("08:00", "12:00"), hours("09:00", "17:00"), hours("16:00", "09:00")),
    )
    monday = vienna("2026-03-02T08:00")
    assert deadline(monday, 30 * HOUR, doubled) == monday + 30 * HOUR


def test_where_midnight_is_put_back_working_time_still_comes_in_sequence() -> None:
    late = Calendar(
        name="late", timezone="America/Sao_Paulo", hours=(hours("23:30", "23:10", EVERY_DAY),)
    )
    since = utc("2017-02-19T01:00")  # 23:00, for the first time
    assert list(islice(working_time(calendar=late, since=since), 4)) == [
        (since, since + 10 * MINUTE),
        (since + 30 * MINUTE, since + 60 * MINUTE),
        (since + 60 * MINUTE, since + 70 * MINUTE),
        (since + 90 * MINUTE, since + 25 * HOUR + 10 * MINUTE),
    ]


def test_a_calendar_with_too_little_time_says_so_instead_of_searching_for_ever() -> None:
    rare = Calendar(
        name="rare",
        timezone="Europe/Vienna",
        hours=(hours("08:00", "08:01", frozenset({0})),),
        holidays=Holidays(country="AT"),
    )
    with pytest.raises(NeverOpens, match="has less working time than 366 days"):
        deadline(utc("2026-03-01T00:00"), timedelta(days=366), rare)


def test_a_deadline_never_lies_before_its_start() -> None:
    with pytest.raises(ValueError, match="negative"):
        deadline(utc("2026-03-01T00:00"), -HOUR)


# --- properties ----------------------------------------------------------------------------------

PLACES = [
    "Europe/Vienna",
    "America/New_York",
    "America/Sao_Paulo",  # changed at midnight
    "America/Havana",
    "Atlantic/Azores",
    "Australia/Lord_Howe",  # changes by half an hour
    "Asia/Kathmandu",
    "Pacific/Apia",
]
clocks = st.builds(time, hour=st.integers(0, 23), minute=st.sampled_from([0, 1, 10, 30, 45, 59]))
day_sets = st.frozensets(st.integers(0, 6), min_size=1)
holiday_sets = st.frozensets(st.dates(date(2011, 10, 1), date(2019, 3, 1)), max_size=30)
moments = st.datetimes(datetime(2011, 10, 1), datetime(2019, 3, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def around_changes(draw: st.DrawFn, place: str) -> datetime:
    """Often within a day of the moment at which the clock there changes."""
    at = draw(moments)
    if draw(st.booleans()):
        zone = ZoneInfo(place)
        for _ in range(400):
            if (at + DAY).astimezone(zone).utcoffset() != at.astimezone(zone).utcoffset():
                break
            at += DAY
    return at


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, Calendar | None, datetime]:
    place = draw(st.sampled_from(PLACES))
    calendar = None
    if draw(st.booleans()):
        worked = Hours(days=draw(day_sets), opens=draw(clocks), closes=draw(clocks))
        calendar = Calendar(
            name="some",
            timezone="Europe/Vienna",
            hours=(worked,),
            holidays=Holidays(extra=draw(holiday_sets)),
        )
    one = Window(
        days=draw(day_sets),
        opens=draw(clocks),
        closes=draw(clocks),
        timezone=place,
        calendar=calendar and calendar.name,
    )
    return one, calendar, draw(around_changes(place))


def shown_open(one: Window, calendar: Calendar | None, at: datetime) -> bool:
    """By looking at the clock: the day is worked, and the time lies between."""
    clock = at.astimezone(ZoneInfo(one.timezone))
    minutes = clock.time()
    today, yesterday = clock.date(), clock.date() - DAY

    def worked(day: date) -> bool:
        if day.weekday() not in one.days:
            return False
        return calendar is None or (
            day not in calendar.holidays and day.weekday() in calendar.hours[0].days
        )

    if one.opens < one.closes:
        return worked(today) and one.opens <= minutes < one.closes
    return (worked(today) and one.opens <= minutes) or (worked(yesterday) and minutes < one.closes)


@given(windows())
def test_a_window_is_open_when_the_clock_there_says_so(
    drawn: tuple[Window, Calendar | None, datetime],
) -> None:
    one, calendar, at = drawn
    for number in range(0, 72 * 60, 25):
        moment = at + number * MINUTE
        found = is_open(window=one, calendar=calendar, at=moment)
        assert found is shown_open(one, calendar, moment)


@given(windows(), st.data())
def test_the_next_opening_is_the_first_moment_at_which_the_window_is_open(
    drawn: tuple[Window, Calendar | None, datetime], data: st.DataObject
) -> None:
    one, calendar, at = drawn
    try:
        found = opening(one, at, calendar)
    except NeverOpens:
        assert never_opens(window=one, calendar=calendar, now=at) is not None
        found = at + 731 * DAY
    else:
        assert found >= at
        assert shown_open(one, calendar, found)
    assume(found > at)
    just_before = found - timedelta(microseconds=1)
    sampled = data.draw(st.lists(st.datetimes(at.replace(tzinfo=None), found.replace(tzinfo=None))))
    last_days = [found - number * 10 * MINUTE for number in range(1, 300)]
    for moment in [just_before, *(one.replace(tzinfo=UTC) for one in sampled), *last_days]:
        if at <= moment < found:
            assert not shown_open(one, calendar, moment)


@st.composite
def calendars(draw: st.DrawFn) -> tuple[Calendar, datetime]:
    place = draw(st.sampled_from(PLACES))
    worked = draw(
        st.lists(
            st.builds(Hours, days=day_sets, opens=clocks, closes=clocks), min_size=1, max_size=3
        )
    )
    calendar = Calendar(
        name="some",
        timezone=place,
        hours=tuple(worked),
        holidays=Holidays(extra=draw(holiday_sets)),
    )
    return calendar, draw(around_changes(place))


durations = st.timedeltas(timedelta(0), timedelta(hours=100))


def within_ten_years(start: datetime, duration: timedelta, calendar: Calendar) -> datetime:
    """The deadline; calendars with too little time for one are not what is looked at."""
    try:
        return deadline(start, duration, calendar)
    except NeverOpens:
        reject()


@given(calendars(), durations, durations, st.timedeltas(timedelta(0), timedelta(days=9)))
def test_a_longer_or_a_later_wait_never_ends_earlier(
    drawn: tuple[Calendar, datetime], one: timedelta, other: timedelta, later: timedelta
) -> None:
    calendar, start = drawn
    short, long = sorted((one, other))
    ends = within_ten_years(start, short, calendar)
    assert ends >= start + short
    assert ends <= within_ten_years(start, long, calendar)
    assert ends <= within_ten_years(start + later, short, calendar)


@given(calendars(), durations, durations)
@example((OFFICE, utc("2026-12-23T15:00")), 3 * HOUR, 20 * HOUR)
def test_two_waits_in_a_row_end_when_one_of_both_lengths_does(
    drawn: tuple[Calendar, datetime], one: timedelta, other: timedelta
) -> None:
    calendar, start = drawn
    between = within_ten_years(start, one, calendar)
    if one and other:
        assert within_ten_years(between, other, calendar) == within_ten_years(
            start, one + other, calendar
        )


@given(calendars())
def test_working_time_comes_in_sequence_and_is_what_the_clock_shows(
    drawn: tuple[Calendar, datetime],
) -> None:
    calendar, start = drawn
    found = []
    for begins, ends in working_time(calendar=calendar, since=start):
        if begins > start + 4 * DAY:
            break
        assert (found[-1][1] if found else start) <= begins < ends
        found.append((begins, ends))
    each = [
        Window(days=one.days, opens=one.opens, closes=one.closes, timezone=calendar.timezone)
        for one in calendar.hours
    ]
    not_holidays = Calendar(
        name="-",
        timezone="Etc/UTC",
        hours=(hours("00:00", "00:00", EVERY_DAY),),
        holidays=calendar.holidays,
    )
    for number in range(0, 4 * 24 * 60, 30):
        at = start + number * MINUTE
        counted = any(begins <= at < ends for begins, ends in found)
        assert counted is any(shown_open(one, not_holidays, at) for one in each)
