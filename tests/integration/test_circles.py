"""Orders that wait for each other: the circle is found and broken, with a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fulfillment.engine.plans import circles, settlement, signals
from fulfillment.engine.tasks.outcomes import Result
from fulfillment.engine.work import audit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import FalloutCase, Resource, Transition
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
READY = {"ready": {"title": "Ready", "reached_by": "go", "shared": True}}


def until(order: str, otherwise: str = "escalate") -> dict[str, Any]:
    return {"milestone": "ready", "order": order, "within": "P1D", "otherwise": otherwise}


def an_offering(name: str, waits_for: str, **more: Any) -> None:
    """wait for `ready` of another order → go, which reaches `ready`."""
    wait = desk.step(wait=until(waits_for, **more))
    desk.workflow({"wait": wait, "go": desk.task(after=["wait"])}, offering=name, milestones=READY)


def ordered(offering: str, **fields: Any) -> Order:
    return desk.order(desk.item(offering), external_id=offering.upper(), **fields)


def finish() -> None:
    """Also what one order's milestone means to another."""
    desk.finish()
    while signals.apply_new():
        desk.finish()


def in_a_ring(*names: str, **more: Any) -> list[Order]:
    desk.target("alpha")
    for name, other in zip(names, (*names[1:], names[0]), strict=True):
        an_offering(name, other.upper(), **more)
    return [ordered(name, priority=-position) for position, name in enumerate(names)]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_ring_of_milestones_is_broken_once(systems: ScriptedSystems, size: int) -> None:
    orders = in_a_ring(*"abcde"[:size], otherwise="continue")
    assert circles.break_circles() == 1
    finish()
    for order in orders:
        order.refresh_from_db()
        assert order.state == "COMPLETED"
    (case,) = FalloutCase.objects.filter(reason_code="waited_in_a_circle")
    # The least important of them no longer waits.
    assert case.fulfillment_id == orders[-1].fulfillment_id
    assert all(order.reference in case.explanation for order in orders)
    record = Transition.objects.get(name="break_circle")
    assert record.details["milestone"] == "ready"
    assert audit.verify(fulfillment_id=case.fulfillment_id) == []
    assert circles.break_circles(lately=None) == 0


def test_what_a_template_says_about_waiting_in_vain_is_done(systems: ScriptedSystems) -> None:
    first, second = in_a_ring("a", "b")
    assert circles.break_circles() == 1
    assert desk.states_of(second)["wait@1"] == "AWAITING_MANUAL"
    assert desk.states_of(first)["wait@1"] == "ACCEPTED"


def test_a_lock_that_an_order_keeps_may_be_part_of_a_circle(systems: ScriptedSystems) -> None:
    """The first keeps the customer and waits for the second, which waits for the customer."""
    desk.target("alpha")
    customer = {"resource": "customer", "key": "${order.customer.id}"}
    desk.workflow(
        {
            "begin": desk.task(),
            "wait": desk.step(after=["begin"], wait=until("B", "continue")),
            "end": desk.task(after=["wait"]),
        },
        offering="a",
        locks=[customer],
    )
    desk.workflow({"go": desk.task()}, offering="b", locks=[customer], milestones=READY)
    first, second = ordered("a"), ordered("b")
    desk.finish()
    assert desk.states_of(second)["go@1"] == "READY"
    assert circles.break_circles(lately=None) == 1
    finish()
    for order in (first, second):
        order.refresh_from_db()
        assert order.state == "COMPLETED"


def test_who_waits_for_what_comes_all_the_same_is_left_alone(systems: ScriptedSystems) -> None:
    """The second reaches its milestone beside its own wait, not behind it."""
    desk.target("alpha")
    an_offering("a", "B")
    desk.workflow(
        {"go": desk.task(), "wait": desk.step(wait=until("A"))}, offering="b", milestones=READY
    )
    ordered("a"), ordered("b")
    assert circles.break_circles(lately=None) == 0
    finish()
    assert set(Order.objects.values_list("state", flat=True)) == {"COMPLETED"}


def test_a_line_of_orders_is_no_circle(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    an_offering("a", "B")
    an_offering("b", "C")
    an_offering("c", "NOBODY")
    ordered("a"), ordered("b"), ordered("c")
    assert circles.break_circles(lately=None) == 0


def test_with_room_for_others_a_lock_closes_no_circle(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    pool = {"resource": "pool", "key": "P"}
    desk.workflow(
        {"begin": desk.task(), "wait": desk.step(after=["begin"], wait=until("B"))},
        offering="a",
        locks=[pool],
    )
    desk.workflow({"go": desk.task()}, offering="b", locks=[pool], milestones=READY)
    Resource.objects.update(capacity=2)
    ordered("a"), ordered("b")
    finish()
    assert circles.break_circles(lately=None) == 0
    assert set(Order.objects.values_list("state", flat=True)) == {"COMPLETED"}


def test_an_order_that_waits_for_very_many_may_be_in_a_circle(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    others = [f"N{number}" for number in range(25)]
    desk.workflow(
        {
            "go": desk.task(after=["wait"]),
            "wait": desk.step(wait=until("B", "continue")),
            **{name.lower(): desk.step(wait=until(name, "continue")) for name in others},
        },
        offering="a",
        milestones=READY,
    )
    an_offering("b", "C")
    an_offering("c", "A")
    an_offering("n", "NOBODY")
    ring = [ordered(name) for name in "abc"]
    for name in others:
        desk.order(desk.item("n"), external_id=name)
    assert circles.break_circles(lately=None) == 1
    (case,) = FalloutCase.objects.filter(reason_code="waited_in_a_circle")
    assert case.facts["orders"] == [order.reference for order in ring]


def test_an_order_may_be_in_a_circle_with_two_of_its_waits(systems: ScriptedSystems) -> None:
    """Neither of the two others waits for what comes behind the wait for itself."""
    desk.target("alpha")
    both = {name: {"title": name, "reached_by": name, "shared": True} for name in ("left", "right")}
    desk.workflow(
        {
            "for_b": desk.step(wait=until("B", "continue")),
            "left": desk.task(after=["for_b"]),
            "for_c": desk.step(wait=until("C", "continue")),
            "right": desk.task(after=["for_c"]),
        },
        offering="a",
        milestones=both,
    )
    for name, milestone in (("b", "right"), ("c", "left")):
        wait = desk.step(wait={**until("A", "continue"), "milestone": milestone})
        desk.workflow(
            {"wait": wait, "go": desk.task(after=["wait"])}, offering=name, milestones=READY
        )
    orders = [ordered(name) for name in "abc"]
    assert circles.break_circles() == 1
    finish()
    for order in orders:
        order.refresh_from_db()
        assert order.state == "COMPLETED"


def test_a_circle_that_can_not_be_broken_keeps_no_other_from_it(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = in_a_ring("a", "b", otherwise="continue")
    an_offering("c", "D", otherwise="continue")
    an_offering("d", "C", otherwise="continue")
    others = [ordered("c"), ordered("d")]
    apply = settlement.apply

    def fail_with_the_first(unit: Unit, results: Sequence[Result]) -> list[Result]:
        if unit.fulfillments.keys() & {order.fulfillment_id for order in broken}:
            raise RuntimeError("the graph burns")
        return apply(unit, results)

    monkeypatch.setattr(settlement, "apply", fail_with_the_first)
    assert circles.break_circles() == 1
    (case,) = FalloutCase.objects.filter(reason_code="waited_in_a_circle")
    assert case.fulfillment_id in {order.fulfillment_id for order in others}


def test_many_ways_through_the_same_orders_are_gone_once(systems: ScriptedSystems) -> None:
    """Twelve waits of each of nine orders for the next: thousands of millions of ways."""
    desk.target("alpha")
    names = [f"o{number}" for number in range(10)]
    for name, following in zip(names, [*names[1:], "nobody"], strict=True):
        waits = {f"w{n}": desk.step(wait=until(following.upper())) for n in range(12)}
        desk.workflow(
            {**waits, "go": desk.task(after=list(waits))}, offering=name, milestones=READY
        )
    for name in names:
        ordered(name)
    assert circles.break_circles() == 0
