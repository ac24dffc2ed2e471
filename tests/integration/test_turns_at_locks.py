"""Nobody waits for ever for a lock that is free, or that its own order has; none outlives it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.engine.plans import scanning
from fulfillment.engine.work import locking
from fulfillment.models import HoldScope, LockRelease, Resource, ResourceLock, Task
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

CUSTOMER = {"resource": "customer", "key": "${order.customer.id}"}
REGION = {"resource": "region", "key": "${order.region}"}


def moved(*orders: Order) -> None:
    done = operations.migrate_orders(
        workflow="thing",
        version=2,
        orders=[order.reference for order in orders],
        actor=by("anna"),
        reason="The new one.",
    )
    assert {str(one.verdict) for one in done} == {"moved"}


def nothing_is_left() -> None:
    assert not ResourceLock.objects.exists()
    assert not LockRelease.objects.exists()
    assert not Task.objects.exclude(waits_for_lock="").exists()


def test_what_waits_for_its_order_s_lock_goes_on_when_the_order_has_it(
    systems: ScriptedSystems,
) -> None:
    """Of three at once one is called up, and takes the lock for all."""
    for name in ("alpha", "beta"):
        desk.target(name)
    tasks: dict[str, Any] = {name: desk.task() for name in "abc"} | {"d": desk.task("beta")}
    desk.workflow(tasks, locks=[CUSTOMER])
    first = desk.order()
    claims = desk.claim(limit=3)
    assert {claim.fulfillment_id for claim in claims} == {first.fulfillment_id}
    second = desk.order()
    assert desk.claim(limit=10) == []
    desk.settle(*(desk.result(one, desk.succeeded()) for one in claims))
    desk.drain(["beta"])
    assert Task.objects.filter(waits_for_lock="customer:C-1").count() == 4
    locking.wake()
    (begun,) = desk.claim(limit=1)
    assert begun.fulfillment_id == second.fulfillment_id
    assert not Task.objects.exclude(waits_for_lock="").exists()
    desk.settle(desk.result(begun, desk.succeeded()))
    desk.drain()
    second.refresh_from_db()
    assert second.state == "COMPLETED"
    scanning.scan()
    nothing_is_left()


def test_what_a_new_version_locks_besides_does_not_keep_what_the_order_has(
    systems: ScriptedSystems,
) -> None:
    """It ends before it has sent anything for which it would have taken the new one."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, locks=[CUSTOMER])
    order = desk.order(region="AT")
    (claim,) = desk.claim()
    desk.workflow({"one": desk.task()}, locks=[CUSTOMER, REGION], version=2)
    moved(order)
    desk.settle(desk.result(claim, desk.succeeded()))
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    nothing_is_left()


def test_who_is_withdrawn_waits_in_no_line(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(locks=[CUSTOMER])})
    first, second, third = (desk.order() for _ in range(3))
    (claim,) = desk.claim(limit=3)
    assert claim.fulfillment_id == first.fulfillment_id
    desk.workflow({"other": desk.task()}, version=2)
    moved(second)
    assert desk.states_of(second)["other@1"] == "READY"
    desk.settle(desk.result(claim, desk.succeeded()))
    locking.wake()
    # Its turn is not lost on who is not there any more.
    assert third.fulfillment_id in {claim.fulfillment_id for claim in desk.claim(limit=3)}
    assert not Task.objects.exclude(waits_for_lock="").exists()


def test_orders_that_move_to_versions_with_more_locks_do_not_wait_for_each_other(
    systems: ScriptedSystems,
) -> None:
    """Each keeps what the other would lock besides: whoever keeps a lock waits for none."""
    desk.target("alpha")
    tasks = {"one": desk.task(), "two": desk.task(after=["one"])}
    desk.workflow(tasks, locks=[CUSTOMER])
    desk.workflow(tasks, offering="other", locks=[REGION])
    first, second = desk.order(region="AT"), desk.order(desk.item("other"), region="AT")
    claims = desk.claim(limit=2)
    assert ResourceLock.objects.count() == len(claims) == 2
    for offering in ("thing", "other"):
        desk.workflow(tasks, offering=offering, locks=[CUSTOMER, REGION], version=2)
        (done,) = operations.migrate_orders(
            workflow=offering, version=2, orders=None, actor=by("anna"), reason="x"
        )
        assert str(done.verdict) == "unsafe"
        assert "which is in use" in done.reasons[0]
    desk.settle(*(desk.result(claim, desk.succeeded()) for claim in claims))
    desk.drain()
    for order in (first, second):
        order.refresh_from_db()
        assert order.state == "COMPLETED"
    nothing_is_left()


def test_what_a_new_version_locks_besides_is_taken_at_once_where_it_is_free(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    tasks = {"one": desk.task(), "two": desk.task(after=["one"])}
    desk.workflow(tasks, locks=[CUSTOMER])
    order = desk.order(region="AT")
    (claim,) = desk.claim()
    desk.workflow(tasks, locks=[CUSTOMER, REGION], version=2)
    moved(order)
    kept = ResourceLock.objects.filter(plan=desk.newest_plan_of(order), task=None)
    assert set(kept.values_list("name", flat=True)) == {"customer:C-1", "region:AT"}
    desk.settle(desk.result(claim, desk.succeeded()))
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    nothing_is_left()


def test_room_in_a_pool_does_not_lie_idle_because_those_called_up_are_held(
    systems: ScriptedSystems,
) -> None:
    """One keeps its share for long; the two that are first in line for the other are held."""
    desk.target("alpha")
    desk.workflow({"change": desk.task(locks=[{"resource": "numbers", "key": "AT"}])})
    Resource.objects.filter(name="numbers").update(capacity=2)
    desk.order()
    desk.order()
    _, ends = desk.claim(limit=2)
    *held, last = [desk.order() for _ in range(3)]
    assert desk.claim(limit=5) == []
    for order in held:
        operations.place_hold(
            scope=HoldScope.ORDER,
            name=order.reference,
            actor=by("anna"),
            reason="Wait.",
            patience=timedelta(0),
        )
    desk.settle(desk.result(ends, desk.succeeded()))
    scanning.scan()
    assert desk.claim(limit=5) == []
    scanning.scan()
    (claim,) = desk.claim(limit=5)
    assert claim.fulfillment_id == last.fulfillment_id
    scanning.scan()
    assert not LockRelease.objects.exists()
