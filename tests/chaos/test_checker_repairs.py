"""Orders that are repaired by hand break no promise, wherever they stand."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.outbound import outbox
from fulfillment.engine.plans import rest
from fulfillment.errors import FulfillmentError
from fulfillment.states import PLAN_TERMINAL
from oms.models import Order
from tests import by_hand, desk, people
from tests.chaos.books import Run
from tests.chaos.test_checker_flow import TASKS, decided, received

MOMENTS = ("before anything", "reported", "decided", "half of the list", "all but the last")
LIST = {"number": "string"}


@pytest.fixture
def run(books_run: Run) -> Run:
    undone = {"action": "put_back", "input": {}}
    desk.workflow(
        {
            "reserve": desk.task(
                "inventory", outputs=LIST, compensation={**undone, "action": "release"}
            ),
            **TASKS,
            "note": desk.task("crm", compensation={**undone, "action": "strike_out"}),
        }
    )
    return books_run


def brought_to(run: Run, moment: str) -> Order:
    """An order that goes no further by itself."""
    at = MOMENTS.index(moment)
    desk.systems.sends["reserve"] = [desk.succeeded(number="N-1"), desk.succeeded(number="N-2")]
    if moment == "half of the list":
        desk.systems.sends["each"] = [desk.succeeded()] + [desk.rejected("not_done")] * 3
    if moment == "all but the last":
        desk.systems.sends["close"] = [desk.rejected("not_done")]
    order = run.order(desk.item(quantity=2, characteristics={"parts": list(range(4))}))
    desk.finish()
    if at > 0:
        received(order, condition="as new")
        run.told(event_id=f"e-{order.pk}", name="goods_received")
        desk.finish()
    if at > 1:
        decided(run, order)
    if at > 2:
        desk.finish()
    return order


def settled(run: Run) -> None:
    for _ in range(5):
        desk.finish()
        rest.look()
    outbox.publish_events()
    run.finish()


def repaired(action: Action, order: Order, subject: str = "", **parameters: Any) -> None:
    """By two people where it needs two."""
    anna = people.anybody("anna", action, Action.PLAN_COMPENSATE, Action.TASK_WAIVE)
    asked = by_hand.request(action, subject or by_hand.of(order), **parameters)
    if operations.prepared(actor=anna, request=asked).needs is None:
        operations.perform(actor=anna, request=asked)
    else:
        by_hand.done_by_two(asked, actor=anna)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_order_that_is_completed_by_force(run: Run, systems: Any, moment: str) -> None:
    order = brought_to(run, moment)
    repaired(Action.ORDER_FORCE_COMPLETE, order)
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert run.violations(at_the_end=False) == []
    settled(run)
    assert run.violations() == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_order_that_is_given_up(run: Run, systems: Any, moment: str) -> None:
    order = brought_to(run, moment)
    repaired(Action.PLAN_TERMINATE, order)
    assert run.violations(at_the_end=False) == []
    settled(run)
    order.refresh_from_db()
    assert order.state == "FAILED"
    assert "release" in systems.actions()
    assert run.violations() == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_was_reserved_is_undone_and_done_again(run: Run, systems: Any, moment: str) -> None:
    order = brought_to(run, moment)
    repaired(Action.PLAN_COMPENSATE, order, f"task:{order.reference}/reserve@1")
    assert run.violations(at_the_end=False) == []
    settled(run)
    assert systems.actions().count("reserve") == 2
    assert run.violations(at_the_end=False) == []
    assert desk.newest_plan_of(order).state not in PLAN_TERMINAL or moment == "decided"


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_was_reserved_is_undone_and_left(run: Run, systems: Any, moment: str) -> None:
    order = brought_to(run, moment)
    subject = f"task:{order.reference}/reserve@1"
    repaired(Action.PLAN_COMPENSATE, order, subject, and_then="leave")
    settled(run)
    assert systems.actions().count("release") == 1
    assert run.violations(at_the_end=False) == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_rest_is_planned_anew(run: Run, systems: Any, moment: str) -> None:
    order = brought_to(run, moment)
    try:
        repaired(Action.PLAN_REGENERATE, order)
    except FulfillmentError as error:
        assert error.code == "operation.not_possible"
        assert moment != "all but the last"
    repaired(Action.PLAN_REGENERATE, order, redo=["reserve@1"])
    assert run.violations(at_the_end=False) == []
    settled(run)
    assert run.violations(at_the_end=False) == []
    if moment == "all but the last":
        order.refresh_from_db()
        assert order.state == "COMPLETED"
