"""Structured progress: five kinds of partial fulfilment, computed from the tasks."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fulfillment.queries import fulfillments
from oms.models import Order
from oms.queries.progress import NOTHING, Structured, structured
from tests import desk
from tests.api import Api
from tests.desk import ScriptedSystems
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db


def a_service(**more: Any) -> None:
    """prepare → activate → bill per item, then one task for the whole order."""
    desk.target("alpha")
    desk.workflow(
        {
            "prepare": desk.task(),
            "activate": desk.task(after=["prepare"]),
            "bill": desk.task(after=["activate"]),
            "extra": desk.task(after=["prepare"], required=False),
        },
        activation="activate",
        billing={"task": "bill", "milestone": "active"},
        milestones={
            "prepared": {"title": "Prepared", "reached_by": "prepare"},
            "active": {"title": "Active", "reached_by": "activate"},
        },
        **more,
    )


def far(order: Order) -> Structured:
    (found,) = structured(
        orders=[order], plans=fulfillments.newest_plans(fulfillment_ids=[order.fulfillment_id])
    ).values()
    return found


def test_each_kind_says_what_is_there_and_what_is_missing(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["activate"] = [desk.succeeded(), desk.rejected()]
    systems.sends["bill"] = [desk.rejected()]
    systems.sends["extra"] = [desk.rejected(), desk.succeeded()]
    order = desk.order(desk.item(item_id="base"), desk.item(item_id="add-on"))
    desk.drain()
    found = far(order)
    assert (found.tasks.mandatory, found.tasks.done, found.tasks.share) == (6, 3, 0.5)
    assert set(found.operational.there) == {"prepare@1", "prepare@2", "activate@1", "extra@2"}
    assert set(found.operational.missing) == {"activate@2", "bill@1", "bill@2", "extra@1"}
    assert found.commercial.missing == ("base", "add-on")
    assert not found.commercial.is_partial
    assert (found.customer_visible.there, found.customer_visible.missing) == (
        ("prepared",),
        ("active",),
    )
    assert (found.asset.there, found.asset.missing) == (("base",), ("add-on",))
    assert found.asset.is_partial
    assert (found.billing.there, found.billing.missing) == ((), ("base",))


@pytest.mark.parametrize(("declared", "usable"), [("with_billing", ()), ("before_billing", ("1",))])
def test_what_the_customer_may_use_before_billing_is_declared(
    systems: ScriptedSystems, declared: str, usable: tuple[str, ...]
) -> None:
    a_service(entitlement=declared)
    systems.sends["bill"] = [desk.failed()]
    order = desk.order()
    desk.drain()
    found = far(order)
    assert found.billing.missing == ("1",)
    assert found.entitled.there == usable
    assert found.entitlement == {"1": declared}
    desk.advance(60)
    desk.drain()
    assert far(order).entitled.there == ("1",)


def test_a_complete_order_misses_nothing(systems: ScriptedSystems) -> None:
    a_service()
    order = desk.order(desk.item(), desk.item(item_id="2"))
    desk.drain()
    found = far(order)
    assert found.tasks.share == 1.0
    for part in (
        found.operational,
        found.commercial,
        found.customer_visible,
        found.billing,
        found.asset,
        found.entitled,
    ):
        assert part.there
        assert part.missing == ()


def test_one_item_may_be_complete_before_another(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [desk.succeeded(), desk.rejected()]
    order = desk.order(desk.item(item_id="add-on"), desk.item(item_id="base"))
    desk.drain()
    found = far(order)
    assert (found.commercial.there, found.commercial.missing) == (("add-on",), ("base",))


def test_what_is_skipped_is_neither_active_nor_billed(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "must": desk.task(),
            "try": desk.task(required=False),
            "activate": desk.task(after=["try"], required=False),
        },
        activation="activate",
    )
    systems.sends["try"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert desk.states_of(order)["activate@1"] == "SKIPPED_BY_POLICY"
    assert far(order).asset.missing == ("1",)


def test_an_order_without_a_plan_has_nothing(systems: ScriptedSystems) -> None:
    order = desk.order(desk.item("unheard-of"))
    assert order.state == "REJECTED"
    assert far(order) == NOTHING


def test_many_orders_cost_one_query(systems: ScriptedSystems) -> None:
    a_service()
    for _ in range(5):
        desk.order(desk.item(), desk.item(item_id="2"))
    orders = list(Order.objects.prefetch_related("items", "milestones"))
    plans = fulfillments.newest_plans(fulfillment_ids=[order.fulfillment_id for order in orders])
    structured(orders=orders, plans=plans)
    with CaptureQueriesContext(connection) as asked:
        assert len(structured(orders=orders, plans=plans)) == 5
    assert len(asked) == 1


def test_the_api_and_the_admin_show_it(systems: ScriptedSystems, boss: Client) -> None:
    a_service()
    systems.sends["bill"] = [desk.rejected()]
    api = Api()
    order = desk.order()
    desk.drain()
    shown = api.get(f"/orders/{order.reference}").json()["fulfilment"]
    assert shown["tasks"] == {"mandatory": 3, "done": 2, "share": 0.6667}
    assert shown["partial"]["billing"] == {"partial": False, "there": [], "missing": ["1"]}
    assert shown["partial"]["asset"] == {"partial": False, "there": ["1"], "missing": []}
    assert shown["partial"]["operational"]["partial"]
    assert shown["entitlement"] == {"1": "with_billing"}
    assert shown["entitled"]["there"] == []
    page = text_of(boss, address_of(Order, "change", order.pk))
    assert "Active items billed" in page
    assert "unbilled" in page


def test_branches_that_were_not_taken_and_elements_are_no_part_of_it(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "route": desk.step(
                decide=[{"when": "item.quantity > 5", "create": ["big"]}, {"otherwise": ["small"]}]
            ),
            "big": desk.task(),
            "small": desk.task(),
            "each": desk.task(for_each={"over": "${item.characteristics.parts}"}),
        }
    )
    order = desk.order(desk.item(characteristics={"parts": [1, 2, 3]}))
    assert (far(order).tasks.mandatory, far(order).tasks.done) == (3, 1)
    assert "big@1" not in far(order).operational.missing
    desk.finish()
    assert (far(order).tasks.mandatory, far(order).tasks.done) == (3, 3)
    assert set(far(order).operational.there) == {"route@1", "small@1", "each@1"}


def test_a_closing_task_of_the_order_does_not_keep_items_from_being_fulfilled(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {"make": desk.task(), "close": desk.task(after=["make"], scope="order")},
    )
    systems.sends["make"] = [desk.succeeded(), desk.accepted()]
    order = desk.order(desk.item(item_id="one"), desk.item(item_id="two"))
    desk.drain()
    found = far(order)
    assert (found.commercial.there, found.commercial.missing) == (("one",), ("two",))
    assert found.commercial.is_partial
