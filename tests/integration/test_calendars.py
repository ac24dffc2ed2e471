"""Business calendars as rows: loaded from a file, edited live, read by the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client

from fulfillment import operations
from fulfillment.definitions.calendar_specs import WindowSpec
from fulfillment.definitions.calendars import is_open
from fulfillment.engine.store import calendars
from fulfillment.errors import CalendarInvalid, CalendarUnknown
from fulfillment.models import BusinessCalendar, Operation
from oms.environment import CHECKOUT
from tests.desk import by
from tests.pages import address_of, text_of
from tests.waiting import until

pytestmark = pytest.mark.django_db
SHIPPED = CHECKOUT / "templates" / "calendars.yaml"
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri"]
MONDAY = datetime(2026, 3, 2, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    calendars.forget()
    yield
    calendars.forget()


def said(*arguments: str, **options: Any) -> str:
    output = StringIO()
    call_command("calendars", *arguments, stdout=output, **options)
    return output.getvalue()


def spec(*days: str, holidays: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "timezone": "Europe/Vienna",
        "hours": [{"days": list(days), "from": "08:00", "to": "17:00"}],
        "holidays": holidays or {},
    }


def calendar(name: str = "office", **values: Any) -> BusinessCalendar:
    row = BusinessCalendar(name=name, title="Office", **{"spec": spec(*WEEKDAYS), **values})
    operations.edit_calendar(row=row, actor=by("anna"))
    return row


def works_on_monday() -> bool:
    return calendars.get("office").works_on(MONDAY.date())


# --- loading -------------------------------------------------------------------------------------


def test_the_shipped_calendars_are_loaded_and_a_deployment_leaves_edits_alone() -> None:
    assert said("load", str(SHIPPED)) == "office added\nalways added\n"
    edited = spec(*WEEKDAYS, holidays={"extra": ["2026-03-02"]})
    operations.edit_calendar(
        row=BusinessCalendar(name="office", title="Office", spec=edited), actor=by("anna")
    )
    assert said("load", str(SHIPPED), verbosity=2) == "Left as they are: always, office\n"
    assert not works_on_monday()
    assert said("load", str(SHIPPED), "--overwrite") == "office updated\nalways unchanged\n"
    calendars.forget()
    assert works_on_monday()


def test_what_was_loaded_and_edited_stands_in_the_log_of_operations() -> None:
    said("load", str(SHIPPED))
    calendar(spec=spec("mon"))
    calendar(spec=spec("mon"))
    done = Operation.objects.filter(subject="calendar:office").order_by("pk")
    assert [one.kind for one in done] == ["add_calendar", "edit_calendar"]
    added, edit = done
    assert added.reason == "loaded from calendars.yaml"
    assert added.after["holidays"]["country"] == "AT"
    assert edit.before["hours"][0]["days"] == WEEKDAYS
    assert edit.after["hours"][0]["days"] == ["mon"]
    assert "timezone" not in edit.after


def test_a_file_with_a_fault_loads_nothing_and_every_fault_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "calendars.yaml"
    file.write_text(
        "calendars:\n"
        "  good:\n"
        "    title: Good\n"
        "    timezone: Europe/Vienna\n"
        '    hours: [{days: [mon], from: "08:00", to: "17:00"}]\n'
        "  bad:\n"
        "    title: Bad\n"
        "    timezone: Europe/Viena\n"
        '    hours: [{days: [], from: "8:00", to: "17:00"}]\n'
        "    holidays: {country: XX}\n"
    )
    with pytest.raises(CommandError) as refused:
        said("load", str(file))
    text = str(refused.value)
    assert f"{file}:8 calendars.bad.timezone [shape.time_zone]" in text
    assert "Did you mean 'Europe/Vienna'?" in text
    assert f"{file}:9 calendars.bad.hours[0].days [shape.no_days]" in text
    assert f"{file}:9 calendars.bad.hours[0].from [shape.time_of_day]" in text
    assert f"{file}:10 calendars.bad.holidays.country [shape.country]" in text
    assert not BusinessCalendar.objects.exists()


def test_calendars_are_listed_and_shown() -> None:
    said("load", str(SHIPPED))
    listed = said("list").splitlines()
    assert [line.split()[:2] for line in listed] == [
        ["always", "Etc/UTC"],
        ["office", "Europe/Vienna"],
    ]
    assert "mon–fri 08:00–17:00" in listed[1]
    shown = said("show", "office", "--year", "2031")
    assert "Holidays of 2031: 13" in shown
    assert "2031-10-26 Sun  National Day" in shown
    assert "Now: working time, until" in said("show", "always")
    with pytest.raises(CommandError, match="There is no calendar 'nowhere'"):
        said("show", "nowhere")


def test_a_stack_has_the_shipped_calendars_when_it_starts() -> None:
    call_command("prepare", stdout=StringIO())
    assert set(calendars.every()) >= {"office", "always"}


# --- the engine ----------------------------------------------------------------------------------


def test_a_calendar_is_remembered_briefly_and_an_edit_works_live(
    django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calendar()
    monkeypatch.setattr(calendars, "_REMEMBERED_SECONDS", 600.0)
    with django_assert_num_queries(1):
        assert works_on_monday()
        assert works_on_monday()
    calendars.forget()
    monkeypatch.setattr(calendars, "_REMEMBERED_SECONDS", 0.01)
    assert works_on_monday()
    calendar(spec=spec(*WEEKDAYS, holidays={"extra": ["2026-03-02"]}))
    until(lambda: not works_on_monday())


def test_a_window_is_asked_with_the_calendar_that_it_names() -> None:
    calendar(spec=spec("tue"))
    given = {"days": WEEKDAYS, "from": "08:00", "to": "17:00", "timezone": "Europe/Vienna"}
    bound = WindowSpec.model_validate({**given, "calendar": "office"}).window()
    assert not calendars.is_open(window=bound, at=MONDAY)
    opens = datetime(2026, 3, 3, 7, tzinfo=UTC)
    assert calendars.next_opening(window=bound, at=MONDAY) == opens
    free = WindowSpec.model_validate(given).window()
    assert calendars.named_by(free) is None
    assert calendars.is_open(window=free, at=MONDAY)
    office = calendars.every()["office"]
    assert is_open(window=bound, calendar=office, at=opens)


def test_an_unknown_calendar_says_how_one_is_made() -> None:
    with pytest.raises(CalendarUnknown, match="`manage.py calendars load`"):
        calendars.get("nowhere")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"timezone": "Europe/Viena"}, "timezone: 'Europe/Viena' is no IANA time zone"),
        ({"hours": []}, "hours: Tuple should have at least 1 item"),
        ({"lunch": "12:00"}, "lunch: Extra inputs are not permitted"),
        ({"holidays": {"removed": ["2026-01-01"]}}, "nothing to remove from without a country"),
    ],
)
def test_a_calendar_that_can_not_be_used_is_refused_and_never_used(
    given: dict[str, Any], words: str
) -> None:
    with pytest.raises(CalendarInvalid, match=words):
        calendar(spec={**spec("mon"), **given})
    assert not BusinessCalendar.objects.exists()
    # Behind the door's back.
    BusinessCalendar.objects.create(name="office", title="Office", spec={**spec("mon"), **given})
    with pytest.raises(CalendarInvalid, match=words):
        calendars.get("office")


# --- the admin -----------------------------------------------------------------------------------


def _form(**changes: str) -> dict[str, str]:
    nights = {"days": ["mon"], "from": "22:00", "to": "06:00"}
    spec = {"timezone": "Europe/Vienna", "hours": [nights], "holidays": {"country": "AT"}}
    return {
        "name": "nights",
        "title": "Nights",
        "spec": json.dumps(spec),
        "why": "Night shift.",
        **changes,
    }


def test_an_operator_adds_and_edits_a_calendar(boss: Client) -> None:
    assert boss.post(address_of(BusinessCalendar, "add"), _form()).status_code == 302
    row = BusinessCalendar.objects.get()
    assert (row.pk, row.spec["holidays"]["removed"]) == ("nights", [])
    change = address_of(BusinessCalendar, "change", "nights")
    page = text_of(boss, change)
    assert "mon 22:00–06:00" in page
    assert "Christmas Day" in page
    assert boss.post(change, _form(name="days", title="Late")).status_code == 302
    row = BusinessCalendar.objects.get()
    assert (row.pk, row.title) == ("nights", "Late")
    done = Operation.objects.latest("pk")
    assert (done.kind, done.actor, done.reason) == ("edit_calendar", "boss", "Night shift.")
    assert change in text_of(boss, address_of(Operation, "change", done.pk))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spec": "{"}, "valid JSON"),
        ({"spec": "[1]"}, "Give one JSON object"),
        ({"spec": ""}, "This field is required"),
        ({"spec": '{"timezone": "Europe/Vienna"}'}, "hours: Field required"),
        ({"spec": '{"title": "x"}'}, "timezone: Field required"),
        ({"name": "No spaces"}, "valid “slug”"),
        ({"name": "Nights"}, "Small letters"),
        ({"title": ""}, "This field is required"),
    ],
)
def test_a_calendar_that_windows_could_not_use_is_refused_with_the_reason(
    boss: Client, change: dict[str, str], words: str
) -> None:
    response = boss.post(address_of(BusinessCalendar, "add"), _form(**change))
    assert response.status_code == 200
    assert words in response.content.decode()
    assert not BusinessCalendar.objects.exists()


def test_a_calendar_is_never_deleted_because_windows_name_it(boss: Client) -> None:
    calendar()
    address = address_of(BusinessCalendar, "delete", "office")
    assert boss.post(address, {"post": "yes"}).status_code == 403


def test_who_may_only_look_edits_no_calendar(client: Client) -> None:
    calendar()
    guest = User.objects.create(username="guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_businesscalendar"))
    client.force_login(guest)
    address = address_of(BusinessCalendar, "change", "office")
    assert "mon–fri 08:00–17:00" in text_of(client, address)
    assert client.post(address, _form()).status_code == 403
    assert BusinessCalendar.objects.get().title == "Office"


def test_a_row_written_past_every_check_is_shown_with_what_is_wrong(boss: Client) -> None:
    BusinessCalendar.objects.create(name="odd", title="Odd", spec={"timezone": "Nowhere"})
    assert "is no IANA time zone" in text_of(boss, address_of(BusinessCalendar, "changelist"))
    assert "is no IANA time zone" in text_of(boss, address_of(BusinessCalendar, "change", "odd"))
