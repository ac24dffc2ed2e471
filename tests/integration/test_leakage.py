"""Revenue leakage: active without billing, and billed without service (reference §31.4, §35)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from fulfillment import operations, stuck
from fulfillment.engine.work import audit
from fulfillment.engine.work.port import Notice, PlanChange
from fulfillment.models import FalloutCase
from oms import leakage, tasks
from oms import leaks as leaks_of
from oms.intake.requests import ItemRequest
from oms.lifecycle import OrderLifecycle
from oms.models import Asset, BillingMatch, Leak, Order
from tests import desk, shipped
from tests.api import Api
from tests.desk import ScriptedSystems, by
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db

ACTIVE, BILLED = Leak.ACTIVE_WITHOUT_BILLING, Leak.BILLED_WITHOUT_SERVICE
HOURS = 3600
LATER = desk.failed(retry_after=timedelta(minutes=10))
PRICED: dict[str, Any] = {"recurring_price": Decimal(49), "currency": "EUR", "quantity": 2}


def a_service(**more: Any) -> None:
    """activate and bill stand side by side: either may be the first."""
    desk.target("alpha")
    desk.workflow(
        **{
            "tasks": {"activate": desk.task(), "bill": desk.task()},
            "fulfils": [{"offering": "thing", "actions": ["add", "modify", "disconnect"]}],
            "billing_trigger": "order_submit",
            "activation": "activate",
            "billing": {"task": "bill", "within": "PT4H"},
            **more,
        }
    )


def an_order(*items: Any, **fields: Any) -> Order:
    """Drained."""
    order = desk.order(*items, billing_account="BA-1", **fields)
    desk.drain()
    return order


def changed(action: str, asset: str) -> Order:
    return an_order(ItemRequest(item_id="1", action=action, offering="thing", asset=asset))


def leaks() -> list[str]:
    """What open cases are about."""
    rows = FalloutCase.objects.filter(category="LEAKAGE", state="OPEN").order_by("pk")
    return [case.reason_code for case in rows]


def gaps() -> list[tuple[str, Leak | None]]:
    rows = BillingMatch.objects.filter(due_at__isnull=False).select_related("item")
    return [(row.item.item_id, row.leak) for row in rows.order_by("pk")]


def look_after(hours: float) -> int:
    desk.advance(hours * HOURS)
    return leakage.find_leaks()


def retried(order: Order, task: str) -> Order:
    """Tried again by hand, and worked off."""
    failed = desk.tasks_of(order)[task]
    operations.retry(task_id=failed.pk, reason="again", actor=by("an operator"))
    desk.finish()
    order.refresh_from_db()
    return order


def test_what_is_active_and_not_billed_in_time_has_a_case(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [desk.rejected()]
    order = an_order(desk.item(**PRICED))
    assert gaps() == [("1", ACTIVE)]
    assert look_after(3.9) == 0
    assert look_after(0.2) == 1
    case = FalloutCase.objects.get(category="LEAKAGE")
    assert (case.severity, case.owner_queue) == ("HIGH", "billing")
    assert case.revenue_impact == "98.00 EUR recurring"
    assert (case.revenue_amount, case.revenue_currency) == (98, "EUR")
    assert case.fulfillment_id == order.fulfillment_id
    assert case.task_id == desk.tasks_of(order)["bill@1"].pk
    assert "bill@1 is FAILED_FINAL" in case.explanation
    assert "is active and not billed" in case.title


def test_what_is_billed_and_not_active_in_time_has_a_case(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["activate"] = [desk.rejected()]
    an_order(desk.item(**PRICED))
    assert gaps() == [("1", BILLED)]
    assert look_after(4.1) == 1
    case = FalloutCase.objects.get(category="LEAKAGE")
    assert case.reason_code == "billed_without_service"
    assert case.customer_impact == "The customer pays for what is not there."
    assert case.revenue_impact == ""
    assert "activate@1 is FAILED_FINAL" in case.explanation


@pytest.mark.parametrize("late", ["activate", "bill"])
def test_the_case_closes_by_itself_when_the_other_follows(
    systems: ScriptedSystems, late: str
) -> None:
    a_service()
    systems.sends[late] = [desk.rejected()]
    order = an_order()
    assert look_after(5) == 1
    assert retried(order, f"{late}@1").state == "COMPLETED"
    assert leakage.find_leaks() == 0
    assert (leaks(), gaps()) == ([], [])
    assert FalloutCase.objects.get(category="LEAKAGE").resolved_by == "leakage detector"
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    assert look_after(100) == 0


def test_both_in_time_open_nothing(systems: ScriptedSystems) -> None:
    a_service()
    an_order()
    assert BillingMatch.objects.get().leak is None
    assert gaps() == []
    assert look_after(100) == 0
    assert not FalloutCase.objects.exists()


@pytest.mark.parametrize("first", ["activate", "bill"])
def test_either_may_be_the_first(systems: ScriptedSystems, first: str) -> None:
    a_service()
    order = desk.order()
    claims = {claim.command.action: claim for claim in desk.claim(limit=2)}
    desk.settle(desk.result(claims[first], desk.succeeded()))
    assert gaps() == [("1", ACTIVE if first == "activate" else BILLED)]
    desk.advance(60)
    (second,) = {"activate", "bill"} - {first}
    desk.settle(desk.result(claims[second], desk.succeeded()))
    match = BillingMatch.objects.get()
    assert match.service_at is not None
    assert match.billed_at is not None
    assert (match.service_at < match.billed_at) is (first == "activate")
    assert (gaps(), match.due_at) == ([], None)
    assert order.items.get() == match.item


def test_both_of_one_batch_are_no_gap(systems: ScriptedSystems) -> None:
    a_service()
    desk.order()
    desk.settle(*(desk.result(claim, desk.succeeded()) for claim in desk.claim(limit=2)))
    match = BillingMatch.objects.get()
    assert match.service_at == match.billed_at
    assert match.due_at is None


def test_each_item_leaks_by_itself(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [desk.succeeded(), desk.rejected()]
    systems.sends["activate"] = [desk.succeeded(), desk.succeeded(), desk.rejected()]
    an_order(desk.item(), desk.item(item_id="2"), desk.item(item_id="3"))
    assert gaps() == [("2", ACTIVE), ("3", BILLED)]
    assert look_after(5) == 2
    assert leaks() == ["active_without_billing", "billed_without_service"]


def test_a_billing_that_was_skipped_is_found_when_the_order_is_complete(
    systems: ScriptedSystems,
) -> None:
    a_service(
        tasks={
            "activate": desk.task(),
            "bill": desk.task(only_if="item.characteristics.free != 'yes'"),
        }
    )
    order = an_order(desk.item(characteristics={"free": "yes"}))
    order.refresh_from_db()
    assert (order.state, desk.states_of(order)["bill@1"]) == ("COMPLETED", "SKIPPED_BY_POLICY")
    assert look_after(5) == 1
    assert "bill@1 is SKIPPED_BY_POLICY" in FalloutCase.objects.get().explanation


def test_a_skipped_activation_activates_nothing(systems: ScriptedSystems) -> None:
    a_service(
        tasks={
            "activate": desk.task(only_if="item.characteristics.idle != 'yes'"),
            "bill": desk.task(),
        }
    )
    order = an_order(desk.item(characteristics={"idle": "yes"}))
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert not Asset.objects.exists()
    assert gaps() == [("1", BILLED)]
    assert look_after(5) == 1


def told(order: Order, task: str, *, waived: bool = False) -> None:
    """The order desk hears of a task once more, or that it was waived."""
    plan = desk.newest_plan_of(order)
    OrderLifecycle().notify(
        notices=[
            Notice(
                fulfillment_id=order.fulfillment_id,
                plan_id=plan.pk,
                graph_id=plan.graph_id,
                change=PlanChange.TASK_SUCCEEDED,
                node=desk.tasks_of(order)[task].node,
                waived=waived,
            )
        ],
        now=desk.now(),
    )


def test_who_waives_a_billing_does_not_bill(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["activate"] = [LATER]
    systems.sends["bill"] = [LATER]
    order = an_order()
    told(order, "bill@1", waived=True)
    assert not BillingMatch.objects.exists()
    told(order, "activate@1", waived=True)  # done in another way
    assert gaps() == [("1", ACTIVE)]


def test_hearing_of_it_again_opens_nothing(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [LATER]
    order = an_order()
    before = BillingMatch.objects.values().get()
    desk.advance(2 * HOURS)
    told(order, "activate@1")
    assert BillingMatch.objects.values().get() == before
    desk.drain()
    matched = BillingMatch.objects.values().get()
    assert matched["due_at"] is None
    desk.advance(HOURS)
    for task in ("activate@1", "bill@1"):
        told(order, task)
    assert BillingMatch.objects.values().get() == matched
    assert look_after(100) == 0


def test_a_leak_has_one_case_also_when_a_person_has_closed_it(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [desk.rejected()]
    an_order()
    assert look_after(5) == 1
    assert look_after(30) == 0  # looked at again, and left to its case
    case = FalloutCase.objects.get(category="LEAKAGE")
    operations.close_case(case_id=case.pk, resolution="a present", actor=by("an operator"))
    assert look_after(30) == 0
    assert FalloutCase.objects.filter(category="LEAKAGE").count() == 1
    assert gaps() == [("1", ACTIVE)]


def test_what_was_done_and_never_told_is_no_leak(systems: ScriptedSystems) -> None:
    """As when it was done under a release that did not listen."""
    a_service()
    an_order()
    for lost in ("service_at", "billed_at"):
        BillingMatch.objects.update(**{lost: None, "due_at": desk.now()})
        assert leakage.find_leaks() == 0
        match = BillingMatch.objects.get()
        assert (match.due_at, getattr(match, lost) is None) == (None, False)
    assert not FalloutCase.objects.exists()


def test_without_an_activation_the_complete_order_is_the_service(
    systems: ScriptedSystems,
) -> None:
    a_service(tasks={"bill": desk.task(), "deliver": desk.task(after=["bill"])}, activation=None)
    systems.sends["deliver"] = [desk.rejected()]
    order = an_order()
    assert gaps() == [("1", BILLED)]
    assert look_after(5) == 1
    assert "Its order is not complete." in FalloutCase.objects.get(category="LEAKAGE").explanation
    assert retried(order, "deliver@1").state == "COMPLETED"
    leakage.find_leaks()
    assert (leaks(), gaps()) == ([], [])


def test_an_order_level_billing_counts_for_all_items(systems: ScriptedSystems) -> None:
    a_service(tasks={"activate": desk.task(), "bill": desk.task(scope="order")})
    systems.sends["activate"] = [desk.succeeded(), desk.rejected()]
    an_order(desk.item(), desk.item(item_id="2"))
    assert gaps() == [("2", BILLED)]
    assert BillingMatch.objects.count() == 2


@pytest.mark.parametrize(
    "more",
    [
        {"billing": None},
        {"billing": None, "activation": None, "billing_trigger": None, "provides": "nothing"},
    ],
)
def test_what_is_not_billed_has_no_match(systems: ScriptedSystems, more: dict[str, Any]) -> None:
    a_service(**more)
    an_order()
    assert not BillingMatch.objects.exists()


def test_what_is_disconnected_and_still_billed_is_found(systems: ScriptedSystems) -> None:
    a_service()
    added = an_order()
    systems.sends["bill"] = [desk.rejected()]
    changed("disconnect", f"{added.reference}-1")
    assert gaps() == [("1", BILLED)]
    assert look_after(5) == 1
    explanation = FalloutCase.objects.get(category="LEAKAGE").explanation
    assert "has been switched off since" in explanation
    assert "and is still billed" in explanation


def test_the_page_of_what_is_disconnected_says_what_is_off_and_what_goes_on(
    client: Client, systems: ScriptedSystems
) -> None:
    a_service()
    added = an_order()
    systems.sends["bill"] = [desk.rejected()]
    order = changed("disconnect", f"{added.reference}-1")
    client.force_login(User.objects.create_superuser("boss"))
    page = text_of(client, address_of(Order, "change", order.pk))
    assert "✓</span> switched off" in page
    assert "⚠</span> still billed" in page
    assert "not billed" not in page
    assert "✓</span> active" not in page
    assert "Items active" not in page
    assert "Active items billed" not in page


def test_a_fan_out_activates_with_its_end(systems: ScriptedSystems) -> None:
    """Not with its beginning, nor with one of its elements."""
    a_service(
        tasks={
            "activate": desk.task(
                for_each={"over": "${item.characteristics.sites}"}, input={"site": "${element}"}
            ),
            "bill": desk.task(after=["activate"]),
        },
        billing={"task": "bill", "within": "PT4H"},
    )
    systems.sends["activate"] = [desk.succeeded(), LATER]
    order = desk.order(desk.item(characteristics={"sites": ["a", "b"]}))
    desk.finish()
    assert not Asset.objects.exists()
    assert not BillingMatch.objects.exists()
    desk.advance(HOURS)
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert Asset.objects.get().state == "ACTIVE"
    assert BillingMatch.objects.get().leak is None


def migrated(order: Order) -> None:
    (done,) = operations.migrate_orders(
        workflow="thing", version=2, orders=[order.reference], reason="a contract", actor=by("me")
    )
    assert done.verdict is operations.Verdict.MOVED


def test_an_order_that_moves_goes_by_the_billing_of_its_new_version(
    systems: ScriptedSystems,
) -> None:
    """What was active before it moved is active, whether or not that version billed."""
    a_service(billing=None)
    systems.sends["bill"] = [LATER]
    order = an_order()
    assert not BillingMatch.objects.exists()
    a_service(version=2, billing={"task": "bill", "within": "PT1H"})
    migrated(order)
    assert gaps() == [("1", ACTIVE)]
    assert Asset.objects.count() == 1
    assert look_after(1.1) == 1
    desk.drain()
    assert leakage.find_leaks() == 0
    assert (leaks(), gaps()) == ([], [])


def test_an_order_that_moves_to_more_time_has_it(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [LATER]
    order = an_order()
    a_service(version=2, billing={"task": "bill", "within": "P1D"})
    migrated(order)
    assert look_after(5) == 0
    assert look_after(18) == 0
    assert look_after(2) == 1


def test_an_order_that_moves_to_where_nothing_is_billed_leaks_no_more(
    systems: ScriptedSystems,
) -> None:
    a_service()
    systems.sends["bill"] = [LATER]
    order = an_order()
    assert look_after(5) == 1
    a_service(version=2, billing=None)
    migrated(order)
    assert look_after(25) == 0
    assert (leaks(), BillingMatch.objects.count()) == ([], 0)


def test_a_leak_is_no_reason_why_nothing_moves(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [desk.accepted()]
    an_order()
    desk.advance(5 * HOURS)
    leakage.find_leaks()
    stuck.detect_stuck()
    assert set(FalloutCase.objects.filter(state="OPEN").values_list("category", flat=True)) == {
        "LEAKAGE",
        "STUCK",
    }


def test_one_that_cannot_be_looked_into_stops_no_other(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_service()
    systems.sends["bill"] = [desk.rejected()] * 3
    orders = [an_order() for _ in range(3)]
    culprit = orders[1].reference
    open_case = leakage.cases.open_case

    def fails_for_one(unit: Any, *, fallout: Any) -> int:
        if culprit in fallout.title:
            raise ValueError("this one")
        return open_case(unit, fallout=fallout)

    monkeypatch.setattr(leakage.cases, "open_case", fails_for_one)
    assert look_after(5) == 2
    monkeypatch.undo()
    assert leakage.find_leaks() == 1


def test_nested_lines_without_tasks_are_worth_something_as_well(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [desk.rejected()] * 2
    price = {"recurring_price": Decimal("2.5"), "one_off_price": Decimal(10), "currency": "EUR"}
    order = an_order(
        desk.item(**PRICED),
        desk.item("cable", item_id="2", parent_id="1", **price),
        desk.item(item_id="3", parent_id="1", **price),
    )
    found = {gap.item.item_id: leaks_of.in_words(gap.worth) for gap in leaks_of.gaps(order=order)}
    assert found == {
        "1": "100.50 EUR recurring, 10.00 EUR once",
        "3": "2.50 EUR recurring, 10.00 EUR once",
    }


def listed(*options: str) -> list[str]:
    out = StringIO()
    call_command("leakage", "list", *options, stdout=out)
    return out.getvalue().splitlines()


def test_leaks_are_listed_with_what_they_are_worth(systems: ScriptedSystems) -> None:
    a_service()
    assert listed() == ["Nothing leaks."]
    systems.sends["bill"] = [desk.rejected()] * 2
    first, second = an_order(desk.item(**PRICED)), an_order(desk.item(**PRICED))
    systems.sends["activate"] = [desk.rejected()]
    third = an_order()
    assert listed() == ["Nothing leaks."]
    assert len(listed("--all")) == 4
    look_after(5)
    (case, _, _) = FalloutCase.objects.filter(category="LEAKAGE").order_by("pk")
    rows = listed()
    assert [row.split()[0] for row in rows[:3]] == [
        order.reference for order in (first, second, third)
    ]
    assert f"case {case.pk}" in rows[0]
    assert "98.00 EUR recurring" in rows[0]
    assert "BILLED_WITHOUT_SERVICE" in rows[2]
    assert "no price" in rows[2]
    assert rows[3] == "Active and not billed, together: 196.00 EUR recurring"
    operations.close_case(case_id=case.pk, resolution="a present", actor=by("an operator"))
    assert "case closed" in listed()[0]


def test_the_order_shows_its_gaps(systems: ScriptedSystems, boss: Client) -> None:
    a_service()
    systems.sends["bill"] = [desk.rejected()]
    order = an_order(desk.item(**PRICED))
    api = Api()
    (gap,) = api.get(f"/orders/{order.reference}").json()["fulfilment"]["gaps"]
    assert (gap["item"], gap["leak"], gap["case"]) == ("1", "ACTIVE_WITHOUT_BILLING", None)
    assert (gap["worth"], gap["due_at"] is None) == ("98.00 EUR recurring", False)
    look_after(5)
    (gap,) = api.get(f"/orders/{order.reference}").json()["fulfilment"]["gaps"]
    assert (gap["case"], gap["due_at"]) == (FalloutCase.objects.get(category="LEAKAGE").pk, None)
    page = text_of(boss, address_of(Order, "change", order.pk))
    assert "Service and billing" in page
    assert "active, not billed" in page
    assert "98.00 EUR recurring" in page


def test_a_sub_process_activates_with_its_end(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {"inner": desk.task()},
        offering="part",
        subprocess={},
        fulfils=[],
        billing_trigger=None,
    )
    a_service(tasks={"activate": desk.step(use="part"), "bill": desk.task(after=["activate"])})
    systems.sends["inner"] = [desk.rejected()]
    order = an_order()
    desk.finish()
    assert (Asset.objects.count(), BillingMatch.objects.count()) == (0, 0)
    assert retried(order, "activate/inner@1").state == "COMPLETED"
    assert BillingMatch.objects.get().leak is None


def test_a_line_that_works_and_is_not_billed_is_found_and_billed(
    systems: ScriptedSystems,
) -> None:
    """The shipped workflow, from the order to the case and to its end."""
    shipped.open_shop("broadband")
    shipped.later((datetime(2030, 7, 10, 8, tzinfo=UTC) - desk.now()).total_seconds())
    systems.sends["create_subscription"] = [desk.rejected("account_closed")]
    order = shipped.order("broadband/own-device")
    shipped.report(order, "appointment_confirmed", slot="2030-07-16T09:00:00+02:00")
    shipped.later(6 * 24 * HOURS)
    tasks.find_leaks()
    assert leaks() == []
    shipped.later(4 * HOURS)
    tasks.find_leaks()
    (case,) = FalloutCase.objects.filter(category="LEAKAGE")
    assert case.revenue_impact
    assert "start_billing@1 is FAILED_FINAL" in case.explanation
    assert retried(order, "start_billing@1").state == "COMPLETED"
    tasks.find_leaks()
    assert (leaks(), gaps()) == ([], [])
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_goods_that_are_paid_and_do_not_leave_are_found(systems: ScriptedSystems) -> None:
    shipped.open_shop("ecommerce-order")
    systems.sends["ship"] = [desk.rejected("no_carrier")]
    order = shipped.order("webshop-single")
    shipped.later(47 * HOURS)
    tasks.find_leaks()
    assert leaks() == []
    shipped.later(2 * HOURS)
    tasks.find_leaks()
    assert set(leaks()) == {"billed_without_service"}
    assert retried(order, "ecommerce-order/ship_order").state == "COMPLETED"
    tasks.find_leaks()
    assert leaks() == []
