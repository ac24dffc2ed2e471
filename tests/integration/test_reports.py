"""Reports in the admin: their numbers, their files, and who sees them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from fulfillment import operations
from fulfillment.authority.roles import load_roles
from fulfillment.errors import NotPossible
from fulfillment.models import HoldScope, Plan, Task
from oms.admin.report_values import in_time
from oms.changes import cancelling
from oms.figures import durations, keeping, reading
from oms.figures.reading import Span
from oms.models import BillingMatch, CountedDay, Figure, Measure, Order
from oms.reports import files
from oms.reports.catalog import REPORTS
from oms.reports.counted import TASK_SUCCESS
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.people import operator

pytestmark = pytest.mark.django_db
ALL = reverse("desk_reports")


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def today() -> date:
    return desk.now().astimezone(UTC).date()


def figure(
    measure: Measure,
    subject: str,
    action: str = "",
    outcome: str = "",
    *,
    count: int = 1,
    day: date | None = None,
    seconds: float | None = None,
) -> None:
    Figure.objects.create(
        measure=measure,
        starts_at=midnight(day or today()),
        subject=subject,
        action=action,
        outcome=outcome,
        bucket=durations.NONE if seconds is None else durations.bucket_of(seconds),
        count=count,
    )


def many_figures(days: int, *, subjects: int = 3) -> None:
    """Every measure on each of the last days, of as many target systems and offerings."""
    outcomes = {
        Measure.ORDERS: ("COMPLETED", "FAILED"),
        Measure.ORDERS_WITH_CASE: ("COMPLETED",),
        Measure.ORDERS_BY_HAND: ("BY_HAND", "REPAIRED", "DECIDED"),
        Measure.TASKS: ("SUCCEEDED", "FAILED_FINAL"),
        Measure.SENDS: ("FIRST", "AGAIN"),
        Measure.DOUBTS: ("timeout", "lease_lost"),
        Measure.CASES: ("STUCK", "REFUSED", "LEAKAGE"),
        Measure.CANCELLATIONS: ("DONE", "DENIED"),
    }
    timed = (Measure.CYCLES, Measure.PLANS)
    Figure.objects.bulk_create(
        Figure(
            measure=measure,
            starts_at=midnight(today() - timedelta(days=day)),
            subject=f"{measure.lower()}-{subject}",
            action="do" if measure in (Measure.TASKS, Measure.SENDS) else "",
            outcome=outcome,
            bucket=100 + subject if measure in timed else durations.NONE,
            count=1 + day,
        )
        for day in range(days)
        for measure in Measure
        for subject in range(subjects)
        for outcome in outcomes.get(measure, ("",))
    )
    CountedDay.objects.bulk_create(
        CountedDay(day=today() - timedelta(days=day), counted_at=desk.now(), is_closed=day > 0)
        for day in range(days)
    )


def page(client: Client, name: str, **query: str) -> Any:
    answer = client.get(reverse("desk_report", args=[name]), query)
    assert answer.status_code == 200
    return answer


def shown(client: Client, name: str, table: str, **query: str) -> list[list[str]]:
    """The texts of a table's rows, and of its total, if it has one."""
    tables = page(client, name, **query).context["tables"]
    (found,) = (one for one in tables if one.table.name == table)
    rows = [*found.rows, *([found.total] if found.total else [])]
    return [[value.text for value in row] for row in rows]


def file(client: Client, name: str, table: str, **query: str) -> list[list[str]]:
    answer = client.get(reverse("desk_report_file", args=[name, table]), query)
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/csv")
    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    return list(csv.reader(io.StringIO(text)))


def test_every_report_is_one_click_away(boss: Client) -> None:
    text = boss.get(ALL).content.decode()
    for report in REPORTS.values():
        assert reverse("desk_report", args=[report.name]) in text
        one = page(boss, report.name).content.decode()
        assert report.told in one
        assert "How this is counted" in one
    assert boss.get(f"{ALL}/nothing").status_code == 404
    assert boss.get(f"{ALL}/retries/nothing.csv").status_code == 404


def test_whoever_may_not_see_orders_sees_no_report(client: Client) -> None:
    clerk = operator("clerk")
    client.force_login(clerk)
    places = (ALL, f"{ALL}/retries", f"{ALL}/retries/by-kind.csv")
    for place in places:
        assert client.get(place).status_code == 403
    assert ALL not in client.get("/admin/").content.decode()
    clerk.user_permissions.add(Permission.objects.get(codename="view_order"))
    client.force_login(User.objects.get(pk=clerk.pk))
    for place in places:
        assert client.get(place).status_code == 200
    assert ALL in client.get("/admin/").content.decode()


@pytest.mark.parametrize("role", ["Auditor", "Senior operations", "Finance operations"])
def test_the_roles_that_come_with_it_see_reports(client: Client, role: str) -> None:
    load_roles()
    user = operator("somebody")
    user.groups.add(Group.objects.get(name=role))
    client.force_login(user)
    assert client.get(ALL).status_code == 200


def test_rates_and_their_totals(boss: Client) -> None:
    figure(Measure.TASKS, "alpha", "make", "SUCCEEDED", count=999)
    figure(Measure.TASKS, "alpha", "make", "FAILED_FINAL", count=1)
    figure(Measure.TASKS, "beta", "bill", "SUCCEEDED", count=1)
    figure(Measure.TASKS, "beta", "bill", "FAILED_FINAL", count=3)
    figure(Measure.TASKS, "beta", "bill", "CANCELLED", count=5)
    assert shown(boss, "task-success", "by-kind") == [
        ["alpha", "make", "1,000", "999", "1", "0", "0", "0", "99.9 %"],
        ["beta", "bill", "9", "1", "3", "0", "0", "5", "25.0 %"],
        ["", "", "1,009", "1,000", "4", "0", "0", "5", "99.6 %"],
    ]
    by_time = shown(boss, "task-success", "by-time")
    assert len(by_time) == 31
    assert by_time[-2][1] == by_time[-1][1] == "1,009"
    assert by_time[0][1:] == ["0", "0", "0", "0", "0", "0", "–"]


def test_medians_of_days_are_put_together(boss: Client) -> None:
    yesterday = today() - timedelta(days=1)
    figure(Measure.CYCLES, "fibre", count=3, seconds=60)
    figure(Measure.CYCLES, "fibre", count=2, seconds=7200, day=yesterday)
    figure(Measure.ORDERS, "fibre", "", "CANCELLED", count=9)
    (fibre,) = page(boss, "cycle-times").context["tables"][0].table.rows
    _, completed, median, p90, failed, cancelled, rejected = fibre.values
    assert (completed, failed, cancelled, rejected) == (5, 0, 9, 0)
    assert median == pytest.approx(60, rel=0.05)
    assert p90 == pytest.approx(7200, rel=0.05)


def test_a_time_is_chosen(boss: Client) -> None:
    for days in range(40):
        figure(Measure.SENDS, "alpha", "make", "AGAIN", day=today() - timedelta(days=days))

    def retries(**query: str) -> str:
        return shown(boss, "retries", "by-kind", **query)[-1][2]

    first, last = today() - timedelta(days=39), today() - timedelta(days=35)
    assert retries(period="today") == "1"
    assert retries(period="7") == "7"
    assert retries(period="30") == retries() == retries(period="nonsense") == "30"
    assert retries(period="range", **{"from": str(first), "to": str(last)}) == "5"
    year = str(today() - timedelta(days=390))
    assert retries(period="range", **{"from": year, "to": str(today())}) == "40"
    for wrong in (
        {"from": str(last), "to": str(first)},
        {"from": "2026-02-31", "to": str(last)},
        {"to": str(last)},
        {"from": "1990-01-01", "to": str(last)},
        {"from": str(today() + timedelta(days=2)), "to": str(today() + timedelta(days=3))},
        {"from": "0001-01-01", "to": "9999-12-31"},
    ):
        answer = page(boss, "retries", period="range", **wrong)
        assert answer.context["chosen"].complaint, wrong


def test_today_is_told_by_the_hour_and_a_year_by_the_week(boss: Client) -> None:
    figure(Measure.SENDS, "alpha", "make", "AGAIN", count=2)
    hours = shown(boss, "retries", "by-time", period="today")
    assert hours[0][:2] == ["00:00", "2"]
    assert len(hours) == desk.now().astimezone(UTC).hour + 2
    since = str(today() - timedelta(days=200))
    weeks = shown(boss, "retries", "by-time", period="range", **{"from": since, "to": str(today())})
    assert weeks[0][0].startswith("week of ")
    assert len(weeks) in (30, 31)
    assert weeks[-1][1] == weeks[-2][1] == "2"


@pytest.mark.parametrize("name", list(REPORTS))
def test_a_file_has_what_its_table_has(boss: Client, name: str) -> None:
    many_figures(10)
    for one in page(boss, name).context["tables"]:
        if one.table.name == "by-age" or not one.table.rows:
            continue
        head, *rows = file(boss, name, one.table.name)
        assert head == [column.name for column in one.table.columns]
        assert rows == [[files.cell(value) for value in row.values] for row in one.table.rows]
        assert len(rows) == len(one.rows)


def test_numbers_of_files_are_unformatted_and_no_text_is_a_formula(boss: Client) -> None:
    figure(Measure.TASKS, "=cmd|' /C calc'!A0", "+1", "SUCCEEDED", count=12_345)
    figure(Measure.TASKS, "-b", "@c", "FAILED_FINAL", count=2)
    _, first, second = file(boss, "task-success", "by-kind")
    assert first[:4] == ["'=cmd|' /C calc'!A0", "'+1", "12345", "12345"]
    assert second[:2] == ["'-b", "'@c"]
    assert float(first[-1]) == 1.0
    assert files.cell(-3) == "-3"
    assert files.cell("\t=1") == "'\t=1"
    assert files.cell(" =1") == "' =1"
    assert files.cell(None) == ""


def test_what_customers_and_systems_are_called_is_only_text(boss: Client) -> None:
    figure(Measure.ORDERS, "<script>alert(1)</script>", "", "COMPLETED")
    text = page(boss, "cycle-times").content.decode()
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_long_table_ends_and_its_file_goes_on(boss: Client) -> None:
    many_figures(1, subjects=250)
    answer = page(boss, "plan-times", period="today")
    assert "And 50 more: the CSV has all of them." in answer.content.decode()
    assert len(file(boss, "plan-times", "by-kind", period="today")) == 251


def test_reports_say_how_up_to_date_they_are(boss: Client) -> None:
    assert "Nothing of this time has been counted yet" in boss.get(ALL).content.decode()
    CountedDay.objects.create(day=today(), counted_at=desk.now(), is_closed=False)
    text = boss.get(ALL).content.decode()
    assert f"{desk.now().astimezone(UTC):%Y-%m-%d %H:}" in text
    assert "29 days of it are not counted" in text


def test_what_is_not_billed_stands_in_its_report_with_its_worth(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    orders = [
        desk.order(
            desk.item(
                recurring_price=Decimal("49.90"),
                one_off_price=Decimal(10),
                currency="EUR",
                quantity=2,
            ),
            billing_account="B-1",
        ),
        desk.order(
            desk.item(recurring_price=Decimal(500_000), currency="IDR"), billing_account="B-1"
        ),
        desk.order(),
    ]
    for order in orders:
        BillingMatch.objects.create(
            item=order.items.get(),
            service_at=order.submitted_at,
            due_at=order.submitted_at,
            filed=True,
        )
    in_time = desk.order()
    BillingMatch.objects.create(
        item=in_time.items.get(), service_at=in_time.submitted_at, due_at=in_time.submitted_at
    )
    assert shown(boss, "unbilled", "at-stake") == [
        ["no price", "1", "0.00", "0.00"],
        ["EUR", "1", "99.80", "20.00"],
        ["IDR", "1", "500,000.00", "0.00"],
    ]
    listed = page(boss, "unbilled").context["tables"][1]
    assert [row[0].text for row in listed.rows] == [order.reference for order in orders]
    assert listed.rows[0][0].address == reverse("order_page", args=[orders[0].reference])
    assert shown(boss, "unserved", "at-stake") == []
    assert "3</span>" in boss.get(ALL).content.decode()


def test_stuck_orders_stand_in_their_report(boss: Client, halfway: Order) -> None:
    plan = desk.plan_of(halfway)
    type(plan).objects.filter(pk=plan.pk).update(
        stuck_at=desk.now() - timedelta(hours=30), stuck_reason="Nobody <b>moves</b> it."
    )
    assert shown(boss, "stuck", "by-age")[-3:] == [
        ["1 to 7 days", "1"],
        ["more than 7 days", "0"],
        ["", "1"],
    ]
    answer = page(boss, "stuck")
    assert halfway.reference in answer.content.decode()
    assert "Nobody &lt;b&gt;moves&lt;/b&gt; it." in answer.content.decode()


def test_a_number_leads_to_the_list_of_what_it_counts(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.messy_run(orders=6, seed=2)
    for task in Task.objects.filter(state="FAILED_FINAL")[:3]:
        with suppress(NotPossible):
            operations.retry(task_id=task.pk, actor=by("ann"), reason="They have mended it.")
    cancelled = desk.order()
    cancelling.cancel(order=cancelled, requested_by="a client", reason="Too late.")
    desk.finish()
    keeping.keep_up()
    led: set[tuple[str, str, str, bool]] = set()
    for name in REPORTS:
        for one in page(boss, name, period="7").context["tables"]:
            for row in [*one.rows, one.total]:
                for column, value in zip(one.table.columns, row, strict=False):
                    place = (name, one.table.name, column.name, row is one.total)
                    if not value.address or not value.is_number or place in led:
                        continue
                    answer = boss.get(value.address)
                    assert answer.status_code == 200, value.address
                    assert str(answer.context["cl"].result_count) == value.text, value.address
                    led.add(place)
    assert {place[:3] for place in led} >= {
        ("cycle-times", "by-time", "completed"),
        ("cycle-times", "by-time", "cancelled"),
        ("fallout", "by-time", "orders_ended"),
        ("fallout", "by-reason", "cases"),
        ("manual", "by-operation", "times"),
        ("cancellations", "by-time", "cancelled"),
    }


def test_a_real_day_stands_in_the_reports(boss: Client, systems: ScriptedSystems) -> None:
    desk.messy_run(orders=4, seed=2)
    keeping.keep_up()
    tables = TASK_SUCCESS.tables(
        Span(first=today() - timedelta(days=1), last=today(), now=desk.now().astimezone(UTC))
    )
    assert tables[-1].total[1] == tables[0].total[2] > 0
    ends = Counter(row.values[0] for row in tables[0].rows)
    assert set(ends) <= {"alpha", "beta", "gamma"}
    for name in REPORTS:
        page(boss, name, period="today")


@pytest.mark.parametrize("name", ["", *REPORTS])
def test_a_report_asks_as_much_however_much_there_is(boss: Client, name: str) -> None:
    address = reverse("desk_report", args=[name]) if name else ALL

    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            assert boss.get(address).status_code == 200
        return len(found)

    queries()
    before = queries()
    many_figures(30, subjects=20)
    assert queries() == before


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.05, "0.1 s"),
        (9.94, "9.9 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3 * 86_400 + 7300, "3 d 2 h"),
        (86_400 + 59, "1 d"),
    ],
)
def test_durations_are_told_in_two_units_at_most(seconds: float, words: str) -> None:
    assert in_time(seconds) == words


def test_what_was_done_to_no_order_is_neither_counted_nor_listed(boss: Client) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    for scope, name in ((HoldScope.TARGET, "alpha"), (HoldScope.ORDER, order.reference)):
        operations.place_hold(scope=scope, name=name, reason="x", actor=by("ann"))
    keeping.keep_up()
    tables = page(boss, "manual", period="today").context["tables"]
    (table,) = (one for one in tables if one.table.name == "by-operation")
    (row,) = table.rows
    assert row[1].text == "1"
    assert boss.get(row[1].address).context["cl"].result_count == 1


def test_an_old_day_that_is_counted_anew_makes_today_no_newer() -> None:
    old = desk.now() - timedelta(hours=5)
    for back, at in ((0, old), (1, desk.now())):
        CountedDay.objects.create(
            day=today() - timedelta(days=back), counted_at=at, is_closed=back > 0
        )
    span = Span(first=today() - timedelta(days=1), last=today(), now=desk.now().astimezone(UTC))
    assert reading.counted(span).as_of == old


def test_a_plan_that_is_over_is_not_stuck(boss: Client, halfway: Order) -> None:
    """As Today has it, and the list of stuck orders."""
    Plan.objects.filter(fulfillment=halfway.fulfillment_id).update(
        stuck_at=desk.now(), state="SUPERSEDED"
    )
    assert halfway.reference not in str(shown(boss, "stuck", "orders"))
    assert shown(boss, "stuck", "by-age") == [["", "0"]]
