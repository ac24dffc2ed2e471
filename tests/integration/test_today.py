"""Today: every figure is right and leads to a list of as many rows, for whoever may see it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from fulfillment import operations
from fulfillment.admin.figures import Figure, counted
from fulfillment.models import (
    CaseState,
    Disposition,
    FalloutCase,
    HoldScope,
    InboundEvent,
    Incident,
    ManualTask,
    Plan,
    TargetCondition,
)
from fulfillment.queries import open_cases, workload
from fulfillment.queries.workload import Age
from oms.admin import counts as side_bar
from oms.models import Order
from oms.queries import day as orders_of_the_day
from oms.queries import today as words
from oms.queries.today import Part, in_words, today
from oms.states import OrderState
from tests import crowd, desk
from tests.desk import ScriptedSystems, by
from tests.pages import questions
from tests.people import operator

pytestmark = pytest.mark.django_db
ALL = frozenset(Part)


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("boss"))
    return client


def page(client: Client) -> Any:
    answer = client.get(reverse("admin:index"))
    assert answer.status_code == 200
    return answer


def figures(context: Any) -> Iterator[Figure]:
    for name in ("pressing", "stuck", "retries", "under_way", "ended"):
        yield from context[name]


def rows_behind(client: Client, address: str) -> int:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return int(answer.context["cl"].result_count)


def refused(*codes: str, **fields: Any) -> list[Order]:
    """Orders whose first task a target system refuses, each for its reason."""
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    desk.systems.sends["one"] = [desk.rejected(code) for code in codes]
    made = [desk.order(**fields) for _ in codes]
    desk.finish()
    return made


def sold(amount: str, currency: str = "EUR", **fields: Any) -> Order:
    """An order of one item with this price."""
    one = desk.item(one_off_price=Decimal(amount), currency=currency)
    return desk.order(one, billing_account="BA-1", **fields)


# --- the figures ----------------------------------------------------------------------------------


def test_an_empty_day_says_so(boss: Client) -> None:
    context = page(boss).context
    assert context["sentences"] == [
        "Nothing needs anybody now: no order is under way, and none has ended today."
    ]
    assert context["pressing"] == []
    assert "no order is stuck" in context["well"]


def test_a_day_on_which_all_goes_well_is_quiet(boss: Client) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    for _ in range(2):
        desk.order()
    desk.finish()
    desk.order()
    (sentence,) = page(boss).context["sentences"]
    assert sentence == "Nothing needs anybody now. 1 order is under way, 2 have ended today."


def test_orders_are_counted_by_state_and_those_that_ended_before_today_are_not() -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    made = [desk.order() for _ in range(3)]
    desk.finish()
    desk.order()
    now = workload.now()
    yesterday = orders_of_the_day.midnight(now) - timedelta(seconds=1)
    Order.objects.filter(pk=made[0].pk).update(finished_at=yesterday)
    found = orders_of_the_day.orders(now=now)
    assert found.under_way == {OrderState.IN_PROGRESS: 1}
    assert found.ended_today == {OrderState.COMPLETED: 2}


def test_stuck_orders_are_told_by_age() -> None:
    made = refused(*["no"] * 5)
    now = workload.now()
    ages = [timedelta(minutes=59), timedelta(hours=1), timedelta(hours=5), timedelta(hours=25)]
    for order, age in zip(made, ages, strict=False):
        Plan.objects.filter(fulfillment=order.fulfillment_id).update(stuck_at=now - age)
    found = workload.stuck(now=now)
    assert found.by_age == dict.fromkeys(Age, 1)
    assert (found.total, found.since) == (4, now - ages[-1])


def test_cases_are_told_by_what_they_have_in_common() -> None:
    refused("no", "no", "never")
    now = workload.now()
    first, *_ = FalloutCase.objects.order_by("pk")
    FalloutCase.objects.filter(pk=first.pk).update(sla_due_at=now - timedelta(minutes=1))
    found = open_cases.fallout(now=now)
    assert [(one.title, one.cases, one.overdue, one.soon) for one in found.reasons] == [
        ("alpha one: no", 2, 1, 0),
        ("alpha one: never", 1, 0, 0),
    ]
    assert (found.total, found.overdue, found.unassigned) == (3, 1, 3)


def test_the_cases_of_an_incident_are_called_as_it_is() -> None:
    refused(*["no"] * 3)
    operations.group_cases()
    (reason,) = open_cases.fallout(now=workload.now()).reasons
    assert reason.incident_id is not None
    assert reason.cases == 3
    assert in_words(today(parts=ALL))[0] == "All 3 open cases have one cause: alpha one: no."


def test_a_case_whose_clock_stands_still_is_not_overdue() -> None:
    refused("no")
    now = workload.now()
    FalloutCase.objects.update(sla_due_at=now - timedelta(hours=1), sla_paused_at=now)
    found = open_cases.fallout(now=now)
    assert (found.total, found.overdue) == (1, 0)


def test_revenue_at_risk_counts_each_item_once() -> None:
    """However many cases name it; what is in use and not billed stands apart."""
    refused("no")
    order = sold("5.00")
    (case,) = FalloutCase.objects.all()
    both = {"1": {"EUR": ["100.00", "20.00"]}, "2": {"USD": ["0", "7.50"]}}
    FalloutCase.objects.update(revenue=both, revenue_amount=120, revenue_currency="EUR")
    again = {**both, "3": {"EUR": ["1.00", "0"]}}
    for subject, category, revenue, fulfillment in (
        ("x:1", "REFUSED", again, case.fulfillment_id),
        ("x:2", "LEAKAGE", {"1": {"EUR": ["0", "20.00"]}}, order.fulfillment_id),
    ):
        case.pk, case._state.adding = None, True
        case.subject, case.category, case.revenue = subject, category, revenue
        case.fulfillment_id, case.revenue_currency = fulfillment, "EUR"
        case.save(force_insert=True)
    found = {one.currency: one for one in open_cases.money_at_risk()}
    assert (found["EUR"].waits, found["EUR"].leaks) == (Decimal(121), Decimal(20))
    assert (found["USD"].waits, found["USD"].leaks) == (Decimal("7.50"), Decimal(0))
    assert (found["EUR"].cases, found["USD"].cases) == (3, 0)


def test_what_is_in_use_and_not_billed_does_not_wait_as_well() -> None:
    """Its billing has failed, which has a case, and so it leaks, which has another."""
    refused("no")
    (case,) = FalloutCase.objects.all()
    revenue = {"1": {"EUR": ["0", "49.00"]}, "2": {"EUR": ["0", "1.00"]}}
    FalloutCase.objects.update(revenue=revenue, revenue_currency="EUR")
    case.pk, case._state.adding, case.subject, case.category = None, True, "x:1", "LEAKAGE"
    case.revenue, case.revenue_currency = {"1": {"EUR": ["0", "49.00"]}}, "EUR"
    case.save(force_insert=True)
    (found,) = open_cases.money_at_risk()
    assert (found.waits, found.leaks, found.total) == (Decimal(1), Decimal(49), Decimal(50))


def test_blocked_orders_of_high_value_are_named(settings: Any) -> None:
    settings.OMS_HIGH_VALUE = {"": Decimal(1000), "JPY": Decimal(150_000)}
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.systems.sends["one"] = [desk.rejected()] * 5
    dear = desk.order(
        desk.item(one_off_price=Decimal(600), currency="EUR"),
        desk.item(item_id="2", recurring_price=Decimal(200), currency="EUR", quantity=2),
        billing_account="BA-1",
    )
    for cheap in (("999.99", "EUR"), ("149999", "JPY")):
        sold(*cheap)
    yen = sold("300000", "JPY")
    desk.finish()
    moving = sold("5000")
    found = orders_of_the_day.blocked_of_high_value()
    assert [(one.reference, one.worth, one.currency) for one in found] == [
        (yen.reference, 300_000, "JPY"),
        (dear.reference, 1000, "EUR"),
    ]
    FalloutCase.objects.filter(fulfillment=dear.fulfillment_id).update(category="UNDELIVERED")
    assert [one.reference for one in orders_of_the_day.blocked_of_high_value()] == [yen.reference]
    assert moving.reference not in {one.reference for one in found}


def test_a_currency_without_a_limit_has_no_orders_of_high_value(settings: Any) -> None:
    settings.OMS_HIGH_VALUE = {"JPY": Decimal(1)}
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.systems.sends["one"] = [desk.rejected()]
    sold("1000000")
    desk.finish()
    assert orders_of_the_day.blocked_of_high_value() == []


def test_more_than_are_counted_are_told_as_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "MOST", 2)
    refused(*["no"] * 4)
    assert open_cases.fallout(now=workload.now()).total == 3
    monkeypatch.setattr(words, "MOST", 2)
    assert in_words(today(parts=ALL)) == [
        "More than 2 cases are open; of those due first, 2 have one cause: alpha one: no."
    ]
    assert counted(3, at_most=2) == "2+"
    assert counted(3, or_more=True) == "3+"
    assert counted(10_000) == "10,000"
    assert counted(10_001) == "10,000+"


# --- in words -------------------------------------------------------------------------------------


def test_the_day_is_told_in_sentences(systems: ScriptedSystems) -> None:
    made = refused("no", "no", "never")
    now = workload.now()
    for order, hours in zip(made, (2, 1), strict=False):
        Plan.objects.filter(fulfillment=order.fulfillment_id).update(
            stuck_at=now - timedelta(hours=hours)
        )
    FalloutCase.objects.filter(reason_code="never").update(sla_due_at=now - timedelta(minutes=1))
    assert in_words(today(parts=ALL)) == [
        "2 orders are stuck, the oldest for 2 h.",
        "2 of 3 open cases have one cause: alpha one: no.",
        "1 case is overdue.",
    ]


def test_reports_about_no_known_task_need_somebody() -> None:
    for number in range(2):
        InboundEvent.objects.create(
            source="alpha",
            event_id=f"e-{number}",
            idempotency_key="unknown",
            body={},
            disposition=Disposition.UNMATCHED,
            received_at=workload.now(),
        )
    told = "reports of target systems are about no task that is known."
    assert in_words(today(parts=ALL)) == [f"2 {told}"]
    many = replace(today(parts=ALL), backlog=replace(workload.backlog(), unmatched=1000))
    assert in_words(many) == [f"More than 999 {told}"]


def test_a_target_system_that_is_paused_is_named() -> None:
    desk.target("alpha")
    operations.pause_target(target="alpha", reason="They move.", actor=by("ann"))
    assert in_words(today(parts=ALL)) == ["alpha is stopped by somebody."]


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture
def busy(systems: ScriptedSystems) -> dict[str, Order]:
    """A dozen kinds of waits, and something of everything that presses."""
    found = crowd.one_of_each()
    now = workload.now()
    FalloutCase.objects.filter(fulfillment=found["failed"].fulfillment_id).update(
        sla_due_at=now - timedelta(hours=1)
    )
    FalloutCase.objects.exclude(fulfillment=found["failed"].fulfillment_id).update(
        sla_due_at=now + timedelta(minutes=30)
    )
    ManualTask.objects.filter(decided_at=None).update(due_at=now - timedelta(minutes=1))
    Plan.objects.filter(fulfillment=found["time"].fulfillment_id).update(at_risk_since=now)
    InboundEvent.objects.create(
        source="alpha",
        event_id="e-1",
        idempotency_key="unknown",
        body={},
        disposition=Disposition.UNMATCHED,
        received_at=now,
    )
    return found


def test_every_figure_leads_to_a_list_of_as_many_rows(
    boss: Client, busy: dict[str, Order], settings: Any
) -> None:
    settings.OMS_HIGH_VALUE = {"": Decimal(10)}
    busy["failed"].items.update(one_off_price=Decimal(50), currency="EUR")
    context = page(boss).context
    shown = list(figures(context))
    words = {figure.words for figure in shown}
    assert {
        "orders stuck",
        "high-value orders blocked",
        "cases overdue",
        "cases due within the hour",
        "manual tasks overdue",
        "orders that will be late",
        "cases open",
        "to decide",
        "events unmatched",
        "in progress",
        "alpha",  # Tries again.
    } <= words
    for figure in shown:
        assert str(rows_behind(boss, figure.address)) == figure.number, figure
    for name in ("reasons", "queues", "money", "systems"):
        for row in context[name]:
            for text, address in row.numbers:
                if address:
                    assert str(rows_behind(boss, address)) == text, (name, row.title)
    assert context["reasons"]
    assert context["queues"]
    assert any(address for row in context["systems"] for _, address in row.numbers)


def test_what_is_held_or_called_at_a_system_in_trouble_is_in_its_list(
    boss: Client, systems: ScriptedSystems
) -> None:
    """A held task is not about to be sent, and its number does not count it."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    orders = [desk.order() for _ in range(3)]
    operations.place_hold(
        scope=HoldScope.ORDER, name=orders[0].reference, reason="x", actor=by("ann")
    )
    desk.claim(limit=1)
    # Not by the operation, which waits until the call has ended.
    TargetCondition.objects.update(paused_at=desk.now(), paused_by="ann", pause_reason="x")
    (row,) = page(boss).context["systems"]
    assert [text for text, _ in row.numbers] == ["1", "1"]
    for text, address in row.numbers:
        assert str(rows_behind(boss, address)) == text


def test_cases_of_an_incident_lead_to_those_and_no_others(boss: Client) -> None:
    refused(*["no"] * 3)
    operations.group_cases()
    incident = Incident.objects.get()
    refused("no")  # The same, and not grouped yet.
    refused("never")
    rows = page(boss).context["reasons"]
    assert sorted(row.numbers[0][0] for row in rows) == ["1", "1", "3"]
    assert [row.address for row in rows if row.address] == [
        reverse("admin:fulfillment_incident_change", args=[incident.pk])
    ]
    for row in rows:
        text, address = row.numbers[0]
        assert str(rows_behind(boss, address)) == text, row.title


def test_every_address_on_it_answers(boss: Client, busy: dict[str, Order]) -> None:
    text = page(boss).content.decode()
    main = text[text.index('id="desk-live"') :]
    addresses = {one.replace("&amp;", "&") for one in re.findall(r'href="(/admin/[^"]*)"', main)}
    assert len(addresses) > 15
    for address in addresses:
        assert boss.get(address).status_code == 200, address


def test_what_somebody_may_not_see_is_left_out(client: Client, busy: dict[str, Order]) -> None:
    user = operator("casey")
    user.user_permissions.add(Permission.objects.get(codename="view_falloutcase"))
    client.force_login(user)
    context = page(client).context
    assert {figure.words for figure in context["pressing"]} == {
        "cases overdue",
        "cases due within the hour",
        "cases open",
    }
    assert not context["systems"]
    assert not context["queues"]
    assert not context["retries"]
    assert context["day"].orders is None
    assert not any("stuck" in sentence for sentence in context["sentences"])
    client.force_login(operator("nobody"))
    context = page(client).context
    assert context["pressing"] == []
    assert context["sentences"] == ["Nothing needs anybody now."]
    assert context["well"] == []


def test_names_of_customers_are_only_text(boss: Client, settings: Any) -> None:
    settings.OMS_HIGH_VALUE = {"": Decimal(1)}
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.systems.sends["one"] = [desk.rejected("<script>alert(1)</script>")]
    sold("50", customer_name="<script>alert(2)</script>")
    desk.finish()
    text = page(boss).content.decode()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(2)" in text


# --- filters and the side bar ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["stuck=nonsense", "needs=nonsense", "ended=nonsense", "stuck=any&needs=at-risk"]
)
def test_a_filter_of_orders_that_means_nothing_finds_nothing(
    boss: Client, busy: dict[str, Order], query: str
) -> None:
    assert rows_behind(boss, f"{reverse('admin:oms_order_changelist')}?{query}") == 0


def test_an_order_with_several_stuck_plans_stands_in_the_list_once(boss: Client) -> None:
    (order,) = refused("no")
    plan = desk.plan_of(order)
    Plan.objects.filter(pk=plan.pk).update(stuck_at=workload.now())
    address = f"{reverse('admin:oms_order_changelist')}?stuck=any"
    assert rows_behind(boss, address) == 1


def counts(client: Client) -> dict[str, str]:
    text = page(client).content.decode()
    side = text[text.index('id="nav-sidebar-apps"') : text.index('id="desk-live"')]
    found = re.findall(r"<span>([^<]*)</span>\s*<span class=\"desk-count\">([^<]*)<", side)
    return {title.strip(): number for title, number in found}


def test_the_side_bar_counts_what_waits(boss: Client, busy: dict[str, Order]) -> None:
    found = counts(boss)
    assert found["Unmatched events"] == "1"
    assert found["To decide"] == str(ManualTask.objects.filter(decided_at=None).count())
    assert found["Fallout"] == str(FalloutCase.objects.exclude(state=CaseState.RESOLVED).count())
    assert found["Stuck orders"] == str(Plan.objects.filter(workload.IS_STUCK).count())
    assert "To approve" not in found  # Nothing waits there.


def test_the_side_bar_counts_nothing_where_nothing_waits(boss: Client) -> None:
    assert counts(boss) == {}


def test_counts_of_the_side_bar_are_one_query(
    boss: Client, busy: dict[str, Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = reverse("admin:fulfillment_hold_changelist")
    boss.get(address)
    counted_too = questions(lambda: boss.get(address))
    monkeypatch.setattr(
        side_bar,
        "_backlog",
        lambda request: workload.Backlog(
            **dict.fromkeys(
                ("to_decide", "fallout", "incidents", "to_approve", "unmatched", "stuck"), 0
            )
        ),
    )
    assert questions(lambda: boss.get(address)) == counted_too - 1


def links(client: Client) -> str:
    text = page(client).content.decode()
    return text[text.index("Elsewhere") : text.index('id="desk-live"')]


def test_flower_and_the_docs_of_the_api_open_in_a_new_tab(boss: Client, settings: Any) -> None:
    settings.OMS_FLOWER_URL, settings.OMS_FLOWER_PORT = "", 5678
    found = links(boss)
    assert re.search(r'href="http://testserver:5678"\s+target="_blank" rel="noopener"', found)
    assert re.search(r'href="/api/docs/"\s+target="_blank"', found)
    settings.OMS_FLOWER_URL = "https://flower.example"
    assert 'href="https://flower.example"' in links(boss)


def test_a_flower_that_does_not_run_is_not_offered(boss: Client, settings: Any) -> None:
    settings.OMS_FLOWER_URL, settings.OMS_FLOWER_PORT = "", None
    assert "Flower" not in links(boss)
    settings.OMS_FLOWER_PORT = 5678
    boss.force_login(operator("nobody"))
    assert "Flower" not in links(boss)
    assert "API docs" in links(boss)
