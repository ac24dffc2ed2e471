"""Calendars and windows as people write them, and windows as graphs store them."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fulfillment.definitions.calendar_rows import load_calendars
from fulfillment.definitions.calendar_specs import (
    CalendarSpec,
    WindowSpec,
    window_document,
    window_from_document,
)
from fulfillment.definitions.calendars import Window, never_opens
from fulfillment.definitions.source import read_source

SHIPPED = Path(__file__).parents[2] / "templates" / "calendars.yaml"
WINDOW = {
    "days": ["mon", "fri"],
    "from": "08:00",
    "to": "17:00",
    "timezone": "Europe/Vienna",
    "calendar": "office",
}
CALENDAR = {
    "title": "Office",
    "timezone": "Europe/Vienna",
    "hours": [{"days": ["mon"], "from": "08:00", "to": "17:00"}],
}


def faults(model: type[WindowSpec] | type[CalendarSpec], given: dict[str, Any]) -> dict[str, str]:
    """Place -> code and message of everything that is wrong."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate(given)
    return {
        ".".join(map(str, one["loc"])): f"{one['type']} {one['msg']}"
        for one in refused.value.errors()
    }


def test_a_window_is_read_as_it_is_written() -> None:
    assert WindowSpec.model_validate(WINDOW).window() == Window(
        days=frozenset({0, 4}),
        opens=time(8),
        closes=time(17),
        timezone="Europe/Vienna",
        calendar="office",
    )
    whole_day = {**WINDOW, "from": "00:00", "to": "24:00", "calendar": None}
    read = WindowSpec.model_validate(whole_day).window()
    assert (read.opens, read.closes, read.calendar) == (time(), time(), None)


@pytest.mark.parametrize(
    ("change", "place", "fault"),
    [
        ({"timezone": "Europe/Viena"}, "timezone", "time_zone 'Europe/Viena' is no IANA time zone"),
        ({"timezone": "Europe/Viena"}, "timezone", "Did you mean 'Europe/Vienna'?"),
        ({"timezone": "localtime"}, "timezone", "time_zone 'localtime'"),
        ({"timezone": "../../etc/passwd"}, "timezone", "time_zone"),
        ({"timezone": ""}, "timezone", "time_zone"),
        ({"from": "8:00"}, "from", "time_of_day '8:00' is no time of the day"),
        ({"from": "24:00"}, "from", "time_of_day"),
        ({"from": "08:00\n"}, "from", "time_of_day"),
        ({"from": "０８:００"}, "from", "time_of_day"),
        ({"to": "25:00"}, "to", "time_of_day"),
        ({"to": "17:60"}, "to", "time_of_day"),
        ({"to": 1020}, "to", "time_of_day"),
        ({"to": "08:00"}, "to", "no_time 'from' and 'to' are the same"),
        ({"from": "00:00", "to": "00:00"}, "to", 'a whole day is "00:00" to "24:00"'),
        ({"days": []}, "days", "no_days at least one day is needed"),
        ({"days": ["mon", "mon"]}, "days", "day_twice mon: each day is named once"),
        ({"days": ["monday"]}, "days.0", "literal_error"),
        ({"calendar": "The Office"}, "calendar", "string_pattern_mismatch"),
        ({"until": "17:00"}, "until", "extra_forbidden"),
        ({"opens": "08:00"}, "opens", "extra_forbidden"),
    ],
)
def test_a_window_with_a_fault_says_where_and_which(
    change: dict[str, Any], place: str, fault: str
) -> None:
    found = faults(WindowSpec, {**WINDOW, **change})
    assert list(found) == [place]
    assert fault in found[place]


def test_all_faults_of_a_window_are_told_at_once() -> None:
    assert list(faults(WindowSpec, {"days": [], "from": "8", "timezone": "x"})) == [
        "days",
        "from",
        "to",
        "timezone",
    ]


@pytest.mark.parametrize(
    ("holidays", "place", "fault"),
    [
        ({"country": "XX"}, "country", "country there are no holidays of a country 'XX'"),
        ({"country": "at"}, "country", "Did you mean 'AT'?"),
        ({"country": "AT", "subdivision": "77"}, "subdivision", "AT has no part '77'"),
        ({"subdivision": "9"}, "subdivision", "needs 'country' as well"),
        ({"extra": ["2027-02-29"]}, "extra.0", "date '2027-02-29' is no date"),
        ({"extra": ["20270228"]}, "extra.0", "date"),
        ({"extra": [20270228]}, "extra.0", "date"),
        ({"country": "AT", "removed": ["8.12.2027"]}, "removed.0", "date"),
        ({"removed": ["2027-12-08"]}, "removed", "nothing to remove from without a country"),
        (
            {"country": "AT", "extra": ["2027-12-08"], "removed": ["2027-12-08"]},
            "removed",
            "date_in_both 2027-12-08 is in 'extra' as well",
        ),
        ({"days": []}, "days", "extra_forbidden"),
    ],
)
def test_holidays_with_a_fault_say_where_and_which(
    holidays: dict[str, Any], place: str, fault: str
) -> None:
    found = faults(CalendarSpec, {**CALENDAR, "holidays": holidays})
    assert list(found) == [f"holidays.{place}"]
    assert fault in found[f"holidays.{place}"]


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        ([("mon", "08:00", "12:00"), ("mon", "11:59", "17:00")], "both have mon 11:59"),
        ([("sun", "22:00", "06:00"), ("mon", "05:00", "10:00")], "both have mon 05:00"),
        ([("tue", "00:00", "24:00"), ("mon", "23:00", "01:00")], "both have tue 00:00"),
    ],
)
def test_hours_that_overlap_are_refused(hours: list[tuple[str, str, str]], told: str) -> None:
    written = [{"days": [day], "from": opens, "to": closes} for day, opens, closes in hours]
    found = faults(CalendarSpec, {**CALENDAR, "hours": written})
    assert "hours[1] overlaps hours[0]" in found[""]
    assert told in found[""]


def test_hours_may_meet() -> None:
    meeting = [("sun", "22:00", "06:00"), ("mon", "06:00", "12:00"), ("mon", "12:00", "24:00")]
    written = [{"days": [day], "from": opens, "to": closes} for day, opens, closes in meeting]
    spec = CalendarSpec.model_validate({**CALENDAR, "hours": written})
    assert len(spec.calendar(name="office").hours) == 3


def test_a_calendar_comes_back_from_its_row_as_it_was() -> None:
    holidays = {"country": "AT", "extra": ["2027-12-24"], "removed": ["2027-12-08"]}
    spec = CalendarSpec.model_validate({**CALENDAR, "holidays": holidays})
    stored = json.loads(json.dumps(spec.row_document()))
    assert stored["hours"] == [{"days": ["mon"], "from": "08:00", "to": "17:00"}]
    assert CalendarSpec.from_row(title="Office", document=stored) == spec
    rule = spec.calendar(name="office").holidays
    assert date(2027, 12, 24) in rule
    assert date(2027, 12, 8) not in rule


def test_the_shipped_calendars_are_an_office_in_vienna_and_always() -> None:
    shipped = load_calendars(path=SHIPPED).calendars
    assert list(shipped) == ["office", "always"]
    office = shipped["office"].calendar(name="office")
    assert office.timezone == "Europe/Vienna"
    assert [str(one) for one in office.hours] == ["mon–fri 08:00–17:00"]
    assert not office.works_on(date(2026, 10, 26))
    assert office.works_on(date(2026, 10, 27))
    always = shipped["always"].calendar(name="always")
    assert [str(one) for one in always.hours] == ["every day 00:00–24:00"]


def test_the_examples_of_the_documentation_can_be_loaded(tmp_path: Path) -> None:
    text = (SHIPPED.parents[1] / "docs" / "calendars.md").read_text()
    calendars, window = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "calendars.yaml"
    file.write_text(calendars)
    office = load_calendars(path=file).calendars["office"].calendar(name="office")
    assert [str(one) for one in office.hours][-1] == "fri 08:00–12:00"
    source = read_source(text=window, file="window.yaml")
    assert source.faults == []
    nights = WindowSpec.model_validate(source.data["window"]).window()
    assert never_opens(window=nights, calendar=office, now=datetime(2026, 3, 1, tzinfo=UTC)) is None


@given(
    st.builds(
        Window,
        days=st.frozensets(st.integers(0, 6), min_size=1),
        opens=st.builds(time, hour=st.integers(0, 23), minute=st.integers(0, 59)),
        closes=st.builds(time, hour=st.integers(0, 23), minute=st.integers(0, 59)),
        timezone=st.just("Europe/Vienna"),
        calendar=st.none() | st.just("office"),
    )
)
def test_a_stored_window_comes_back_as_it_was_and_can_be_read_as_one_is_written(
    window: Window,
) -> None:
    stored = json.loads(json.dumps(window_document(window)))
    assert window_from_document(stored) == window
    if window.opens != window.closes or window.opens == time():
        assert WindowSpec.model_validate(stored).window() == window
        assert WindowSpec.model_validate(stored).model_dump(mode="json") == stored


def test_equal_windows_are_stored_equally_however_they_are_written() -> None:
    first = WindowSpec.model_validate({**WINDOW, "to": "00:00"}).window()
    second = WindowSpec.model_validate({**WINDOW, "days": ["fri", "mon"], "to": "24:00"}).window()
    assert window_document(first) == window_document(second)
