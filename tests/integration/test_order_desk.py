"""The page of an order: who may do what from it, and how it stands for its customer and inside."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.work.running import run_unit
from fulfillment.models import FalloutCase, HoldScope, Task
from oms.changes import amending, cancelling
from oms.changes.requesting import Wish
from oms.intake.feasibility import request_of
from oms.models import Order
from oms.queries.item_progress import Is, item_standings
from oms.queries.orders import newest_plan, waits_of_tasks
from oms.queries.progress import structured
from oms.queries.versions import Change, changes, versions_of
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.pages import address_of, text_of
from tests.people import operator

pytestmark = pytest.mark.django_db


def page_of(client: Client, order: Order) -> str:
    return text_of(client, address_of(Order, "change", order.pk))


def seen_by(client: Client, *actions: Action, **scopes: Any) -> Client:
    """Signed in as somebody who may look at orders, and do these things."""
    user = operator("olga", *actions, **scopes)
    user.user_permissions.add(Permission.objects.get(codename="view_order"))
    client.force_login(User.objects.get(pk=user.pk))
    return client


def forms_in(page: str) -> set[tuple[str, str]]:
    """The operations that it leads to: action and subject."""
    base = re.escape(reverse("admin:fulfillment_operate", args=["a", "b"]).removesuffix("a/b"))
    return {(a, s) for a, s in re.findall(rf'href="{base}([a-z_.]+)/([^"]+)"', page)}


# --- what may be done -----------------------------------------------------------------------------


def test_beside_a_failed_task_stands_what_gets_it_on(client: Client, halfway: Order) -> None:
    task = desk.tasks_of(halfway)["two@1"]
    case = FalloutCase.objects.get(fulfillment_id=halfway.fulfillment_id)
    may = (Action.TASK_RETRY, Action.TASK_WAIVE, Action.CASE_ASSIGN)
    page = page_of(seen_by(client, *may), halfway)
    assert forms_in(page) == {
        ("task.retry", f"task:{task.pk}"),
        ("task.waive", f"task:{task.pk}"),
        ("case.assign", f"case:{case.pk}"),
    }
    fitting = page[page.index("order-fitting") : page.index("What they ordered")]
    assert "Try again: Use it" in fitting
    assert fitting.index("Try again") < fitting.index("Waive")


def test_what_is_not_theirs_to_do_is_not_shown(client: Client, halfway: Order) -> None:
    page = page_of(seen_by(client), halfway)
    assert forms_in(page) == set()
    assert "Nothing that you may do would change this order now." in page


def test_what_they_may_do_elsewhere_only_is_not_shown_here(client: Client, halfway: Order) -> None:
    everything = tuple(one for one in Action if not one.value.startswith("approve."))
    page = page_of(seen_by(client, *everything, regions=["nowhere"]), halfway)
    assert forms_in(page) == set()
    page = page_of(seen_by(client, Action.TASK_RETRY, targets=["alpha"]), halfway)
    assert {action for action, _ in forms_in(page)} == {"task.retry"}


def test_a_hold_is_released_from_here(client: Client, halfway: Order) -> None:
    hold = operations.place_hold(
        scope=HoldScope.ORDER, name=halfway.reference, reason="Fraud?", actor=by("ann")
    )
    page = page_of(seen_by(client, Action.HOLD_RELEASE), halfway)
    assert forms_in(page) == {("hold.release", f"hold:{hold.hold_id}")}
    assert f"Release: hold {hold.hold_id}" in page
    assert "Fraud?" in page


def test_what_is_complete_offers_no_repair(client: Client, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    desk.drain()
    repairs = (
        Action.TASK_RETRY,
        Action.PLAN_TERMINATE,
        Action.ORDER_CANCEL,
        Action.HOLD_PLACE,
    )
    page = page_of(seen_by(client, *repairs), order)
    assert forms_in(page) == set()
    assert "Everything in it is done." in page


def test_many_tasks_in_trouble_cost_no_more_than_one(
    client: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    may = (Action.TASK_RETRY, Action.TASK_WAIVE, Action.CASE_ASSIGN, Action.CASE_CLOSE)
    seen_by(client, *may)
    counts = []
    for size in (1, 1, 12):
        systems.sends["one"] = [desk.rejected()] * size
        order = desk.order(*[desk.item(item_id=str(number)) for number in range(size)])
        desk.drain()
        with CaptureQueriesContext(connection) as asked:
            page = page_of(client, order)
        assert len({s for a, s in forms_in(page) if a == "task.retry"}) == size
        counts.append(len(asked))
    assert counts[2] <= counts[1]


# --- how it stands --------------------------------------------------------------------------------


def test_both_sides_stand_beside_each_other(boss: Client, halfway: Order) -> None:
    page = page_of(boss, halfway)
    customer = page[page.index("What the customer knows") : page.index("How it is inside")]
    inside = page[page.index("How it is inside") : page.index("What now")]
    assert "▶</span> in progress" in customer
    assert "It is ready" in customer
    assert "It is being carried out." in customer
    assert "■</span> blocked" in inside
    assert "Nothing of it moves until somebody helps or decides." in inside
    assert "“Use it” (two@1)" in page[page.index("What now") :]


def test_the_part_that_looks_again_is_answered_alone(boss: Client, halfway: Order) -> None:
    address = address_of(Order, "change", halfway.pk)
    alone = boss.get(
        address, headers={"HX-Request": "true", "HX-Target": "order-now"}
    ).content.decode()
    assert alone.lstrip().startswith('<section id="order-now"')
    assert f'hx-get="{address}"' in alone
    assert "order-entries" not in alone
    stranger = Client()
    stranger.force_login(User.objects.create(username="guest", is_staff=True))
    headers = {"HX-Request": "true", "HX-Target": "order-now"}
    assert stranger.get(address, headers=headers).status_code == 403


def test_each_item_says_how_far_it_is(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.target("billing", domain="billing")
    desk.workflow(
        {"one": desk.task(), "bill": desk.task("billing", after=["one"])},
        milestones={"active": {"title": "It is active", "reached_by": "one"}},
        activation="one",
        billing={"task": "bill", "milestone": "active"},
    )
    systems.sends["one"] = [desk.succeeded(), desk.rejected()]
    systems.sends["bill"] = [desk.rejected()]
    order = desk.order(desk.item(item_id="a"), desk.item(item_id="b"), desk.item(item_id="c"))
    desk.drain()
    order = Order.objects.prefetch_related("items", "milestones").get(pk=order.pk)
    plan = newest_plan(order)
    assert plan is not None
    far = structured(orders=[order], plans={order.fulfillment_id: plan})[order.pk]
    shown = {
        one.item.item_id: one
        for one in item_standings(order=order, plan=plan, far=far, troubles=waits_of_tasks(order))
    }
    assert {name: one.percent for name, one in shown.items()} == {"a": 50, "b": 0, "c": 100}
    assert (shown["a"].service, shown["a"].billing) == (Is.THERE, Is.MISSING)
    assert (shown["b"].service, shown["b"].billing) == (Is.NOT_YET, Is.NOT_YET)
    assert (shown["c"].service, shown["c"].billing) == (Is.THERE, Is.THERE)
    assert [wait.task for wait in shown["a"].waits] == ["bill@1"]
    assert not shown["c"].waits


def test_locks_say_who_has_them(boss: Client, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    lock = {"resource": "customer", "key": "${order.customer.id}"}
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])}, locks=[lock])
    systems.sends["one"] = [desk.accepted()]
    first, second = desk.order(), desk.order()
    desk.drain()
    keeper, waiter = page_of(boss, first), page_of(boss, second)
    assert "the whole order, to its end" in keeper
    assert "waits for it" in waiter
    assert f'href="{reverse("order_page", args=[first.reference])}"' in waiter


# --- versions -------------------------------------------------------------------------------------


def test_each_version_says_what_it_has_changed(boss: Client, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input={"quantity": "${item.quantity}"})})
    systems.sends["one"] = [desk.failed(retry_after=timedelta(hours=1))] * 9
    order = desk.order(desk.item(item_id="a"), desk.item(item_id="b"))
    desk.drain()
    for version, items in (
        (2, [desk.item(item_id="a", quantity=3), desk.item(item_id="b")]),
        (3, [desk.item(item_id="a", quantity=3), desk.item("thing", item_id="<script>c")]),
    ):
        was = request_of(Order.objects.get(pk=order.pk))
        wanted = desk.request(*items, external_id=was.external_id, customer_id=was.customer_id)
        wish = Wish(order=wanted, version=version, reason="They rang.")
        run_unit(
            lambda unit, wish=wish: amending.amend(unit, order_id=order.pk, wish=wish),
            fulfillment_ids=[order.fulfillment_id],
            actor="ann",
        )
    order = Order.objects.prefetch_related("items").get(pk=order.pk)
    assert order.version == 3
    newest, middle, first = versions_of(order).versions
    assert [(one.item, one.what, one.before, one.after) for one in middle.changes] == [
        ("a", "quantity", "1", "3")
    ]
    assert [(one.item, one.before, one.after) for one in newest.changes] == [
        ("b", "add 1 × thing", ""),
        ("<script>c", "", "add 1 × thing"),
    ]
    assert (first.changes, newest.is_current) == ((), True)
    assert newest.request is not None
    page = page_of(boss, order)
    told = page[page.index('id="order-versions"') :]
    assert "Version 3, as it is now" in told
    assert "&lt;script&gt;c" in told
    assert "They rang." in told
    assert "left out since version 3" in page


def test_a_change_is_told_value_by_value() -> None:
    before = {
        "customer": {"id": "C", "name": "Ann"},
        "region": "EU",
        "items": [{"item_id": "1", "place": {"id": "X"}, "price": {"one_off": "1.00"}}],
    }
    after = {
        "customer": {"id": "C", "name": "Anna"},
        "region": "EU",
        "items": [{"item_id": "1", "place": {"id": "Y"}, "price": None}],
    }
    assert list(changes(before=before, after=after)) == [
        Change(item="", what="customer name", before="Ann", after="Anna"),
        Change(item="1", what="place id", before="X", after="Y"),
        Change(item="1", what="price, once", before="1.00", after=""),
    ]


def test_requests_to_cancel_stand_with_the_versions(
    boss: Client, systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    assert "nobody has asked to change or to cancel it" in page_of(boss, order)
    cancelling.cancel(order=order, requested_by="anna", reason="Ordered twice.")
    page = page_of(boss, order)
    told = page[page.index('id="order-versions"') :]
    assert "Ordered twice." in told
    assert "◔</span> assessing" in told
    assert "nobody has asked" not in told


def test_a_correlation_id_can_be_copied(boss: Client, halfway: Order) -> None:
    page = page_of(boss, halfway)
    assert f'data-copy="{halfway.fulfillment.correlation_id}"' in page
    task = Task.objects.get(key="one@1")
    assert f'data-copy="{task.commands.get().idempotency_key}"' in page


def test_the_picture_of_a_large_plan_comes_after_the_page(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow({f"t{number}": desk.task() for number in range(61)})
    order = desk.order()
    page = page_of(boss, order)
    assert 'hx-trigger="load"' in page
    assert "It is being drawn" in page
    assert "61 tasks in 1 step" not in page
    address = address_of(Order, "change", order.pk)
    headers = {"HX-Request": "true", "HX-Target": "order-plan"}
    picture = boss.get(address, headers=headers).content.decode()
    assert picture.count(address_of(Task, "change", 0)[:-9]) >= 61
    assert 'hx-trigger="load"' not in picture
    assert picture.lstrip().startswith('<section id="order-plan"')
