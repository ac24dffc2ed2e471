"""Who waits for a milestone of another order learns at once that it will not come."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.engine.plans import scanning, signals
from fulfillment.engine.work import audit
from fulfillment.models import FalloutCase, Signal
from oms.models import Milestone, Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

REFRESHED = {"refreshed": {"title": "Fresh", "reached_by": "refresh", "shared": True}}
# By the quantity: skipped, not chosen, or done.
TASKS: dict[str, dict[str, Any]] = {
    "skipped": {"refresh": desk.task(only_if="item.quantity > 1"), "last": desk.task()},
    "not chosen": {
        "route": desk.step(
            decide=[{"when": "item.quantity > 1", "create": ["refresh"]}, {"otherwise": []}]
        ),
        "refresh": desk.task(),
        "last": desk.task(),
    },
    "failed, and not needed": {"refresh": desk.task(required=False), "last": desk.task()},
}


def publish(how: str = "skipped", **wait: Any) -> None:
    desk.target("alpha")
    desk.workflow(TASKS[how], offering="data", milestones=REFRESHED)
    given = {"milestone": "refreshed", "order": "data-1", "within": "PT6H", "otherwise": "fail"}
    desk.workflow(
        {"wait": desk.step(title="Fresh data", wait={**given, **wait}), "report": desk.task()},
        offering="report",
    )


def waiting() -> Order:
    return desk.order(desk.item("report"))


def data(quantity: int = 1) -> Order:
    order = desk.order(desk.item("data", quantity=quantity), external_id="data-1")
    told()
    return order


def told() -> None:
    desk.finish()
    scanning.scan()
    signals.apply_new()
    desk.finish()


def wait_of(order: Order) -> Any:
    return desk.tasks_of(order)["wait@1"]


@pytest.mark.parametrize("how", TASKS)
def test_who_waits_and_who_begins_to_wait_learn_that_it_will_not_come(
    systems: ScriptedSystems, how: str
) -> None:
    publish(how)
    systems.sends["refresh"] = [desk.rejected()]
    early = waiting()
    other = data()
    assert wait_of(early).state == "FAILED_FINAL"
    assert wait_of(early).blocked_reason == (
        f"Fresh data: refreshed will not be reported. Order {other.reference} goes on without it; "
        "left out or failed: A task."
    )
    assert FalloutCase.objects.get(task=wait_of(early)).reason_code == "will_not_come"
    late = waiting()
    assert wait_of(late).blocked_reason == wait_of(early).blocked_reason
    assert not Milestone.objects.exists()
    for order in (early, late, other):
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []


@pytest.mark.parametrize("how", ["skipped", "not chosen"])
def test_it_comes_as_ever_when_its_task_is_done(systems: ScriptedSystems, how: str) -> None:
    publish(how)
    order = waiting()
    data(quantity=2)
    assert wait_of(order).state == "SUCCEEDED"
    assert not Signal.objects.filter(will_not_come=True).exists()


def test_the_order_may_go_on_without_it(systems: ScriptedSystems) -> None:
    publish(otherwise="continue")
    order = waiting()
    data()
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_a_person_is_told_at_once_and_a_report_by_hand_still_ends_it(
    systems: ScriptedSystems,
) -> None:
    publish(otherwise="escalate")
    order = waiting()
    other = data()
    assert wait_of(order).state == "AWAITING_MANUAL"
    assert "A report still ends it" in FalloutCase.objects.get().explanation
    operations.send_signal(
        order_reference=other.reference, name="refreshed", actor=by("ann"), reason="It was me."
    )
    assert wait_of(order).state == "SUCCEEDED"
    assert wait_of(waiting()).state == "SUCCEEDED"


def test_one_item_that_leaves_it_out_does_not_keep_the_others_from_it(
    systems: ScriptedSystems,
) -> None:
    """Whichever of them comes to its end first."""
    publish("not chosen")
    for number, quantities in enumerate([(1, 2), (2, 1)]):
        order = desk.order(
            *[desk.item("data", item_id=str(one), quantity=one) for one in quantities],
            external_id=f"data-{number}",
        )
        told()
        order.refresh_from_db()
        assert order.state == "COMPLETED"
    assert Milestone.objects.filter(name="refreshed").count() == 2
    assert not Signal.objects.filter(will_not_come=True).exists()


def test_what_a_later_decision_leaves_out_completes_the_milestone(
    systems: ScriptedSystems,
) -> None:
    """The others had reached it before it was known that nothing more belongs to it."""
    desk.target("alpha")
    beta = desk.task("beta")
    desk.target("beta")
    decide = [{"when": "item.quantity > 1", "create": ["refresh"]}, {"otherwise": []}]
    desk.workflow(
        {
            "ask": {**beta, "only_if": "item.quantity == 1"},
            "route": desk.step(after=["ask"], decide=decide),
            "refresh": desk.task(),
            "last": desk.task(),
        },
        offering="data",
        milestones=REFRESHED,
    )
    order = desk.order(desk.item("data", quantity=2), desk.item("data", item_id="2"))
    desk.drain(["alpha"])
    assert desk.states_of(order)["refresh@1"] == "SUCCEEDED"
    assert not Milestone.objects.exists()
    desk.drain()
    assert Milestone.objects.filter(name="refreshed").count() == 1
