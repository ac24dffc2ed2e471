"""Schedules: when they are due, through every change of the clocks, and what is wrong with them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fulfillment.errors import DefinitionInvalid
from oms.environment import CHECKOUT
from oms.occurrences import (
    ScheduleSpec,
    content_of,
    following,
    latest,
    load_schedules,
    order_id,
)


def schedule(cron: str, timezone: str = "Europe/Vienna", **more: Any) -> ScheduleSpec:
    return ScheduleSpec.model_validate(
        {"title": "A job", "cron": cron, "timezone": timezone, "offering": "job", **more}
    )


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def last_before(spec: ScheduleSpec, text: str, **within: float) -> str:
    at = utc(text)
    found = latest(spec=spec, at=at, since=at - timedelta(**within))
    return "" if found is None else f"{found.at:%Y-%m-%d %H:%M}"


def next_after(spec: ScheduleSpec, text: str) -> str:
    found = following(spec=spec, after=utc(text))
    return "" if found is None else f"{found.at:%Y-%m-%d %H:%M}"


def test_it_goes_by_the_clock_of_its_time_zone() -> None:
    spec = schedule("0 6 * * *")
    assert next_after(spec, "2026-01-10 00:00") == "2026-01-10 05:00"
    assert next_after(spec, "2026-07-10 00:00") == "2026-07-10 04:00"
    assert last_before(spec, "2026-07-10 04:00", hours=1) == "2026-07-10 04:00"
    assert last_before(spec, "2026-07-10 03:59", hours=1) == ""
    assert last_before(spec, "2026-07-10 03:59", days=1) == "2026-07-09 04:00"


def test_of_what_was_missed_the_last_one_counts() -> None:
    spec = schedule("0 * * * *")
    assert last_before(spec, "2026-07-10 09:10", hours=5) == "2026-07-10 09:00"


def test_a_day_has_to_fit_every_field() -> None:
    friday_13 = schedule("0 12 13 * fri", "UTC")
    assert next_after(friday_13, "2026-01-01 00:00") == "2026-02-13 12:00"
    assert next_after(schedule("0 0 29 2 *", "UTC"), "2024-03-01 00:00") == "2028-02-29 00:00"
    assert next_after(schedule("0 0 * * sun", "UTC"), "2026-07-10 00:00") == "2026-07-12 00:00"


def test_what_a_clock_skips_happens_an_hour_later_and_what_it_shows_twice_once() -> None:
    spec = schedule("30 2 * * *")
    assert next_after(spec, "2026-03-28 12:00") == "2026-03-29 01:30"  # 03:30 as the clock shows
    assert next_after(spec, "2026-03-29 12:00") == "2026-03-30 00:30"
    first = next_after(spec, "2026-10-24 12:00")
    assert first == "2026-10-25 00:30"
    assert next_after(spec, "2026-10-25 00:30") == "2026-10-26 01:30"


def test_an_order_has_the_same_name_whoever_submits_it() -> None:
    at = utc("2026-07-10 22:10")
    daily, often = schedule("0 0 * * *"), schedule("*/10 * * * *")
    for spec, expected in ((daily, "job-2026-07-11"), (often, "job-2026-07-11T0010")):
        found = latest(spec=spec, at=at, since=at - timedelta(hours=1))
        assert found is not None
        assert order_id(name="job", spec=spec, occurrence=found) == expected


def test_dates_are_filled_in_as_the_schedules_clock_has_them() -> None:
    spec = schedule(
        "0 0 * * *",
        characteristics={
            "date": "${occurrence.date}",
            "file": "${occurrence.day_before}.csv",
            "until": "${occurrence.at}",
            "year": "${int(occurrence.date.substring(0, 4))}",
            "parts": [1, 2],
        },
    )
    found = following(spec=spec, after=utc("2026-12-31 12:00"))
    assert found is not None
    assert content_of(spec=spec, occurrence=found) == {
        "date": "2027-01-01",
        "file": "2026-12-31.csv",
        "until": "2026-12-31T23:00:00Z",
        "year": 2027,
        "parts": [1, 2],
    }


def test_the_shipped_schedules_have_no_faults() -> None:
    found = load_schedules(path=CHECKOUT / "templates" / "schedules.yaml").schedules
    assert {"data-refresh", "daily-report", "nightly-backup", "retention-cleanup"} <= set(found)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"cron": "0 6 * *"}, "no cron expression"),
        ({"cron": "0 25 * * *"}, "no cron expression"),
        ({"cron": "0 6 31 2 *"}, "never occurs"),
        ({"timezone": "Europe/Viena"}, "Did you mean 'Europe/Vienna'"),
        ({"offering": ""}, "offering"),
        ({"offerings": "job"}, "Did you mean 'offering'"),
        ({"catch_up": "1 hour"}, "is not a duration"),
        ({"characteristics": {"date": "${occurrence.dat}"}}, "occurrence.date"),
        ({"characteristics": {"date": "${order.region}"}}, "occurrence"),
    ],
)
def test_a_schedule_that_can_not_be_used_is_refused_with_its_line(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    given = {"title": "A job", "cron": "0 6 * * *", "timezone": "UTC", "offering": "job", **changed}
    file = tmp_path / "schedules.yaml"
    file.write_text(json.dumps({"schedules": {"job": given}}, indent=1))
    with pytest.raises(DefinitionInvalid) as caught:
        load_schedules(path=file)
    assert told in str(caught.value)
    assert f"{file}:" in str(caught.value)
