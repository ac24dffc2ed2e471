"""What an operation reaches has to be allowed, and approved, as if it were done by itself (§30)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority import actors
from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.dispatch.callbacks import Report
from fulfillment.errors import ApprovalNeeded, Denied, SubjectChanged
from fulfillment.models import Command, InboundEvent, ManualTask, Signal, Task
from fulfillment.states import TaskState
from oms.models import CancellationRequest, Order
from tests import by_hand, desk, manual_work, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def denied(asked: operations.Request, actor: actors.Actor, why: str) -> None:
    """And nothing is changed by it."""
    before = by_hand.everything()
    with pytest.raises(Denied, match=why):
        operations.perform(actor=actor, request=asked)
    assert by_hand.differing(before) == []


# --- planning anew -------------------------------------------------------------------------------


@pytest.fixture
def charged(systems: ScriptedSystems) -> Order:
    """reserve is done, charge has failed for good, where it moves money."""
    desk.target("alpha", domain="logistics")
    desk.target("biller", domain="payment")
    desk.workflow(
        {
            "reserve": desk.task(
                outputs={"number": "string"}, compensation={"action": "release", "input": {}}
            ),
            "charge": desk.task("biller", after=["reserve"]),
        }
    )
    systems.sends["reserve"] = [desk.succeeded(number="N-1"), desk.succeeded(number="N-2")]
    systems.sends["charge"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    systems.sent.clear()
    return order


def test_planning_anew_charges_nobody_again_without_payment_control(
    charged: Order, systems: ScriptedSystems
) -> None:
    asked = by_hand.request(Action.PLAN_REGENERATE, by_hand.of(charged))
    anna = people.anybody("anna", Action.PLAN_REGENERATE)
    before = by_hand.everything()
    with pytest.raises(ApprovalNeeded, match="approve.payment"):
        operations.perform(actor=anna, request=asked)
    assert by_hand.differing(before) == []
    by_hand.done_by_two(asked, actor=anna)
    desk.finish()
    assert systems.actions() == ["charge"]


def test_what_fails_to_charge_meanwhile_is_not_charged_again_by_the_way(
    systems: ScriptedSystems,
) -> None:
    """Who has to approve is looked at again under the locks."""
    desk.target("alpha", domain="logistics")
    desk.target("biller", domain="payment")
    desk.workflow({"ship": desk.task(), "charge": desk.task("biller")})
    systems.sends["ship"] = [desk.rejected()]
    systems.sends["charge"] = [desk.rejected()]
    order = desk.order()
    desk.drain(["alpha"])
    asked = by_hand.request(Action.PLAN_REGENERATE, by_hand.of(order))
    anna = people.anybody("anna", Action.PLAN_REGENERATE)
    prepared = operations.prepared(actor=anna, request=asked)
    assert prepared.needs is None
    desk.finish()
    assert desk.states_of(order)["charge@1"] == "FAILED_FINAL"
    before = by_hand.everything()
    with pytest.raises(SubjectChanged, match="more is done by it"):
        prepared.perform()
    assert by_hand.differing(before) == []


def test_undoing_by_planning_anew_is_a_compensation(charged: Order) -> None:
    asked = by_hand.request(Action.PLAN_REGENERATE, by_hand.of(charged), redo=["reserve@1"])
    denied(asked, people.anybody("anna", Action.PLAN_REGENERATE), "permission plan.compensate")


# --- a manual decision ---------------------------------------------------------------------------


def test_cancelling_by_a_decision_after_activation_takes_a_senior(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "activate": desk.task(compensation={"action": "deactivate", "input": {}}),
            "review": desk.step(after=["activate"], manual=manual_work.a_question()),
        },
        activation="activate",
    )
    order = desk.order()
    desk.finish()
    user = people.operator("anna", Action.MANUAL_DECIDE, Action.ORDER_CANCEL)
    user.groups.add(Group.objects.create(name="manager"))
    actor = people.actor(user)
    asked = by_hand.request(
        Action.MANUAL_DECIDE, f"manual:{manual_work.the_one(order).pk}", outcome="cancelled"
    )
    with pytest.raises(ApprovalNeeded, match="approve.senior"):
        operations.perform(actor=actor, request=asked)
    assert not CancellationRequest.objects.exists()
    by_hand.done_by_two(asked, actor=actor)
    assert CancellationRequest.objects.get(order=order).requested_by == "anna"


def test_cancelling_by_a_decision_about_one_item_takes_authority_for_all(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"review": desk.step(manual=manual_work.a_question())})
    desk.workflow({"build": desk.task()}, offering="palace")
    order = desk.order(desk.item(), desk.item("palace", item_id="2"))
    manual = manual_work.the_one(order)
    user = people.operator("anna", Action.MANUAL_DECIDE, Action.ORDER_CANCEL, products=["thing"])
    user.groups.add(Group.objects.create(name="manager"))
    actor = people.actor(user)
    asked = by_hand.request(Action.MANUAL_DECIDE, f"manual:{manual.pk}", outcome="cancelled")
    denied(asked, actor, "product palace, thing")
    assert ManualTask.objects.get().state == "OPEN"


# --- lists ---------------------------------------------------------------------------------------


def test_a_list_that_charges_is_retried_by_two_people(systems: ScriptedSystems) -> None:
    desk.target("biller", domain="payment")
    desk.workflow(
        {"charge": desk.task("biller", for_each={"over": "${item.characteristics.numbers}"})}
    )
    systems.sends["charge"] = [desk.rejected()]
    order = desk.order(desk.item(characteristics={"numbers": ["1"]}))
    desk.finish()
    end = next(
        one
        for one in desk.tasks_of(order).values()
        if not one.element and one.state == TaskState.FAILED_FINAL
    )
    asked = by_hand.request(Action.TASK_RETRY, f"task:{end.pk}")
    with pytest.raises(ApprovalNeeded, match="approve.payment"):
        operations.perform(actor=people.anybody("tim", Action.TASK_RETRY), request=asked)
    owner = order.client.owner
    denied(asked, actors.client(name="shop", owner=owner), "may charge somebody")
    elsewhere = people.actor(people.operator("sue", Action.TASK_RETRY, domains=["logistics"]))
    denied(asked, elsewhere, "kind of target payment")
    assert Command.objects.filter(task__fulfillment=order.fulfillment_id).count() == 1


# --- compensations -------------------------------------------------------------------------------


def test_what_is_undone_with_it_is_within_the_grant_and_decides_who_approves(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha", domain="logistics")
    desk.target("biller", domain="billing")
    desk.workflow(
        {
            "reserve": desk.task(
                outputs={"number": "string"}, compensation={"action": "release", "input": {}}
            ),
            "charge": desk.task(
                "biller",
                depends_on=[{"output": "reserve.number"}],
                input={"number": "${tasks.reserve.number}"},
                compensation={"action": "refund", "input": {}},
            ),
            "ship": desk.task(after=["charge"]),
        }
    )
    systems.sends["reserve"] = [desk.succeeded(number="N-1"), desk.succeeded(number="N-2")]
    systems.sends["ship"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    asked = by_hand.request(Action.PLAN_COMPENSATE, f"task:{order.reference}/reserve@1")
    narrow = people.operator("sue", Action.PLAN_COMPENSATE, domains=["logistics"])
    denied(asked, people.actor(narrow), "kind of target billing, logistics")
    wide = people.anybody("anna", Action.PLAN_COMPENSATE)
    assert by_hand.asked_for(asked, actor=wide).needs == Action.APPROVE_FINANCE


# --- signals -------------------------------------------------------------------------------------


def test_a_signal_about_a_key_reaches_orders_anywhere(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order(region="ID")
    ida = people.actor(people.operator("ida", Action.SIGNAL_SEND, regions=["ID"]))
    asked = by_hand.request(
        Action.SIGNAL_SEND, by_hand.of(order), name="paid", key="K-1", payload={}
    )
    denied(asked, ida, "region unknown")
    assert not Signal.objects.exists()
    operations.perform(
        actor=ida, request=by_hand.request(Action.SIGNAL_SEND, by_hand.of(order), name="paid")
    )
    operations.perform(actor=people.anybody("all", Action.SIGNAL_SEND), request=asked)
    assert Signal.objects.count() == 2


# --- events --------------------------------------------------------------------------------------


def test_saying_that_a_charge_was_reported_takes_payment_control(
    systems: ScriptedSystems,
) -> None:
    desk.target("biller", domain="payment")
    desk.workflow({"charge": desk.task("biller")})
    systems.sends["charge"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    callbacks.receive(
        report=Report(
            source="biller",
            event_id="e-1",
            idempotency_key="unknown",
            outcome=desk.succeeded(),
            body={"event_id": "e-1", "idempotency_key": "unknown", "status": "succeeded"},
        )
    )
    event = InboundEvent.objects.get()
    asked = by_hand.request(
        Action.EVENT_MATCH, f"event:{event.pk}", task=f"{order.reference}/charge@1"
    )
    anna = people.anybody("anna", Action.EVENT_MATCH)
    with pytest.raises(ApprovalNeeded, match="approve.payment"):
        operations.perform(actor=anna, request=asked)
    assert desk.states_of(order)["charge@1"] == "ACCEPTED"
    by_hand.done_by_two(asked, actor=anna)
    assert desk.states_of(order)["charge@1"] == "SUCCEEDED"


# --- amounts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["customer:C-1", "target:alpha"])
def test_a_grant_up_to_an_amount_does_not_cover_what_has_none_known(
    subject: str, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    price: dict[str, Any] = {"one_off_price": Decimal("9000"), "currency": "EUR"}
    desk.order(desk.item(**price))
    small: dict[str, Any] = {"maximum_amount": Decimal(100), "currency": "EUR"}
    ida = people.actor(people.operator("ida", Action.HOLD_PLACE, **small))
    denied(by_hand.request(Action.HOLD_PLACE, subject), ida, "amount unknown")


def test_an_order_without_a_price_is_within_every_amount(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    small: dict[str, Any] = {"maximum_amount": Decimal(100), "currency": "EUR"}
    ida = people.actor(people.operator("ida", Action.HOLD_PLACE, **small))
    asked = by_hand.request(Action.HOLD_PLACE, by_hand.of(order))
    assert operations.perform(actor=ida, request=asked).result["hold"]
    assert Task.objects.exists()
