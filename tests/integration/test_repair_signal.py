"""Reporting by hand what somebody else has just reported (`signal.send`)."""

from __future__ import annotations

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.plans import signals
from fulfillment.errors import SubjectChanged
from fulfillment.models import Signal
from fulfillment.operations.repair import Request
from oms.models import Order
from tests import by_hand, desk
from tests.desk import ScriptedSystems
from tests.together import together

ANN, BOB = desk.by("ann"), desk.by("bob")


def waiting() -> Order:
    """An order whose payment is awaited."""
    desk.target("alpha")
    wait = {"milestone": "paid", "within": "P1D", "otherwise": "fail"}
    desk.workflow({"pay": desk.step(wait=wait), "ship": desk.task(after=["pay"])})
    order = desk.order()
    desk.finish()
    return order


@pytest.fixture
def order(db: None, systems: ScriptedSystems) -> Order:
    return waiting()


def report(order: Order, *, expected: str = "", **more: object) -> Request:
    return by_hand.request(
        Action.SIGNAL_SEND, by_hand.of(order), expected=expected, **{"name": "paid", **more}
    )


@pytest.mark.parametrize("more", [{}, {"key": "INV/7"}])
def test_who_reports_it_second_is_told_who_was_first(order: Order, more: dict[str, str]) -> None:
    seen = by_hand.previewed(report(order, **more), actor=ANN).version
    assert by_hand.previewed(report(order, **more), actor=BOB).version == seen
    operations.perform(actor=ANN, request=report(order, expected=seen, **more))
    with pytest.raises(SubjectChanged, match=r"Send signal at .*, by ann: The customer has rung"):
        operations.perform(actor=BOB, request=report(order, expected=seen, **more))
    assert Signal.objects.filter(source="by hand").count() == 1


def test_what_came_from_outside_meanwhile_is_looked_at_again(order: Order) -> None:
    seen = by_hand.previewed(report(order), actor=ANN).version
    own = order.fulfillment.business_key or order.reference
    signals.receive(
        source="shop",
        event_id="e-1",
        name="paid",
        subject=signals.of_order(business_key=own),
        payload={},
    )
    with pytest.raises(SubjectChanged, match="has changed since you looked at it"):
        operations.perform(actor=ANN, request=report(order, expected=seen))


def test_who_has_seen_nothing_reports_it_all_the_same(order: Order) -> None:
    for _ in range(2):
        operations.perform(actor=ANN, request=report(order))
    assert Signal.objects.filter(source="by hand").count() == 2


def test_another_order_s_reports_do_not_matter(order: Order) -> None:
    other = desk.order()
    seen = by_hand.previewed(report(order), actor=ANN).version
    operations.perform(actor=BOB, request=report(other))
    operations.perform(actor=ANN, request=report(order, expected=seen))


def test_of_several_at_once_one_reports_it(committed_db: None, systems: ScriptedSystems) -> None:
    order = waiting()
    seen = by_hand.previewed(report(order), actor=ANN).version

    def attempt() -> bool:
        try:
            operations.perform(actor=BOB, request=report(order, expected=seen))
        except SubjectChanged:
            return False
        return True

    assert sorted(together(*[attempt] * 4)) == [False, False, False, True]
