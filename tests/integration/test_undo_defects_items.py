"""Items are given up one after the other, and beside what their client asks for (§14, §20)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from adapters.contract import Command as ToTarget
from adapters.contract import Outcome
from fulfillment import operations
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import rest
from fulfillment.engine.work.running import run_unit
from fulfillment.models import FalloutCase, Hold, ManualTask, Task
from fulfillment.states import PlanState, TaskState
from oms.changes import amending, cancelling
from oms.changes.requesting import Wish
from oms.intake.feasibility import request_of
from oms.models import AmendmentRequest, AmendmentState, CancellationState, Mode, Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

UNDONE = {"then": "compensate", "of": "item"}


def some_items(count: int = 3, **more: Any) -> Order:
    """reserve → build → finish for each item, and one message for all of them."""
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {
            "reserve": desk.task(compensation={"action": "release"}),
            "build": desk.task(
                after=["reserve"],
                input={"n": "${item.quantity}"},
                compensation={"action": "tear_down"},
            ),
            "finish": desk.task("beta", after=["build"]),
            "tell": desk.task(after=["finish"], scope="order"),
        },
        **{"on_failure": UNDONE, **more},
    )
    return desk.order(*(desk.item(item_id=str(at + 1)) for at in range(count)))


def answers(systems: ScriptedSystems, action: str, **by_item: Outcome) -> None:
    """What the target says of an item first, such as `_2=desk.rejected()`; else, that it is
    done."""

    def answer(command: ToTarget) -> Outcome:
        key = Task.objects.get(commands__pk=command.command_id).key
        return by_item.pop("_" + key.rpartition("@")[2], desk.succeeded())

    systems.sends[action] = [answer] * 20


def test_an_item_is_given_up_while_another_is_still_being_undone(
    systems: ScriptedSystems,
) -> None:
    order = some_items()
    answers(systems, "build", _2=desk.rejected())
    answers(systems, "finish", _3=desk.rejected())
    desk.drain(["alpha"])
    rest.look()
    (undo,) = desk.claim()
    assert undo.command.action == "release"
    desk.drain(["beta"])
    rest.look()
    plan = desk.newest_plan_of(order)
    assert plan.context["given_up"] == [2, 3]
    desk.settle_call(undo, desk.succeeded())
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED
    assert sorted(one for one in systems.actions() if one in ("release", "tear_down")) == [
        "release",  # That of item 2 was claimed above, and answered by hand.
        "tear_down",
    ]
    assert not FalloutCase.objects.filter(state="OPEN").exists()


def test_a_failure_for_which_all_is_undone_outdoes_one_for_which_an_item_is(
    systems: ScriptedSystems,
) -> None:
    """Of the item something is still under way; meanwhile the whole order fails."""
    for name in ("alpha", "beta", "gamma", "delta"):
        desk.target(name)
    desk.workflow(
        {
            "reserve": desk.task(compensation={"action": "release"}),
            "paint": desk.task("beta", after=["reserve"]),
            "build": desk.task("gamma", after=["reserve"]),
        },
        on_failure=UNDONE,
    )
    desk.workflow(
        {"pay": desk.task("delta")}, offering="payment", workflow="payment", on_failure="compensate"
    )
    systems.sends["paint"] = [desk.accepted()]
    systems.sends["build"] = [desk.rejected()]
    systems.sends["pay"] = [desk.rejected()]
    order = desk.order(desk.item(), desk.item("payment", item_id="2"))
    (pay,) = desk.claim("delta")
    desk.drain(["alpha"])
    desk.drain(["beta"])
    desk.drain(["gamma"])
    rest.look()
    assert desk.newest_plan_of(order).giving_up
    desk.settle_call(pay, desk.rejected())
    systems.queries["paint"] = [desk.succeeded()]
    desk.advance(400)
    sweeping.sweep()
    desk.finish()
    rest.look()
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.FAILED
    assert systems.actions().count("release") == 1


def test_a_cancellation_that_waits_is_decided_although_an_item_is_given_up_first(
    systems: ScriptedSystems,
) -> None:
    order = some_items(2)
    answers(systems, "build", _1=desk.accepted(), _2=desk.rejected())
    desk.drain(["alpha"])
    asked = cancelling.cancel(order=order, requested_by="a client", reason="no more need")
    assert asked.request.state == CancellationState.ASSESSING
    rest.look()
    plan = desk.newest_plan_of(order)
    assert plan.rest_due_at is not None
    assert Hold.objects.filter(released_at=None, subject=f"change:{plan.pk}").exists()
    systems.queries["build"] = [desk.succeeded()]
    desk.advance(400)
    sweeping.sweep()
    desk.finish()
    assert "finish" not in systems.actions()
    rest.look()
    desk.finish()
    asked.request.refresh_from_db()
    assert asked.request.state == CancellationState.DONE
    assert desk.newest_plan_of(order).state == PlanState.CANCELLED
    assert systems.actions().count("release") == 2


def test_an_amendment_that_waits_is_decided_after_an_item_is_given_up(
    systems: ScriptedSystems,
) -> None:
    order = some_items(2)
    answers(systems, "build", _1=desk.accepted())
    desk.drain(["alpha"])
    (finish,) = desk.claim("beta")  # Of item 2.
    request = amend(order, quantity=4)
    assert request.state == AmendmentState.ASSESSING
    desk.settle_call(finish, desk.rejected())
    rest.look()
    plan = desk.newest_plan_of(order)
    assert plan.context["given_up"] == [2]
    request.refresh_from_db()
    assert (request.state, plan.rest_due_at is None) == (AmendmentState.ASSESSING, False)
    systems.queries["build"] = [desk.succeeded()]
    desk.advance(400)
    sweeping.sweep()
    desk.finish()
    rest.look()
    request.refresh_from_db()
    assert request.state == AmendmentState.APPLIED
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def amend(order: Order, **changes: Any) -> AmendmentRequest:
    """Its first item becomes another."""
    order = Order.objects.get(pk=order.pk)
    now = request_of(order)
    items = [replace(item, position=0) for item in now.items]
    wish = Wish(
        order=replace(now, items=[replace(items[0], **changes), *items[1:]]),
        version=order.version + 1,
        mode=Mode.AUTO,
        reason="the customer rang",
    )
    return run_unit(
        partial(amending.amend, order_id=order.pk, wish=wish),
        fulfillment_ids=[order.fulfillment_id],
        actor="ann",
    )


def test_what_is_under_way_for_all_items_goes_on_when_one_is_given_up(
    systems: ScriptedSystems,
) -> None:
    """It is for the others then, which is no reason to wait, and none to give nothing up."""
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {
            "announce": desk.task("beta", scope="order", compensation={"action": "recall"}),
            "reserve": desk.task(compensation={"action": "release"}),
            "build": desk.task(after=["reserve"]),
        },
        on_failure=UNDONE,
    )
    systems.sends["announce"] = [desk.accepted()]
    order = desk.order(desk.item(), desk.item(item_id="2"))
    answers(systems, "build", _2=desk.rejected())
    desk.drain(["beta"])
    desk.drain(["alpha"])
    rest.look()
    assert not FalloutCase.objects.filter(reason_code="cannot_be_undone").exists()
    plan = desk.newest_plan_of(order)
    assert (plan.version, plan.context["given_up"]) == (2, [2])
    (announce,) = Task.objects.filter(plan=plan, target_id="beta")
    assert announce.state == TaskState.ACCEPTED
    systems.queries["announce"] = [desk.succeeded()]
    desk.advance(400)
    sweeping.sweep()
    desk.finish()
    rest.look()
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED
    assert systems.actions().count("release") == 1
    assert "recall" not in systems.actions()


def test_an_approval_that_is_refused_gives_nothing_else_up(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    approval = {"queue": "finance", "role": "clerk", "within": "PT1H"}
    desk.target("beta")
    desk.workflow(
        {
            "pay": desk.task(
                compensation={"action": "refund", "approval": approval},
                input={"n": "${item.quantity}"},
            ),
            "ship": desk.task("beta", after=["pay"]),
        },
        on_failure="compensate",
    )
    order = desk.order()
    desk.drain(["alpha"])
    assert amend(order, quantity=4).state == AmendmentState.APPLIED
    asked = ManualTask.objects.get(state="OPEN")
    operations.decide(
        manual_id=asked.pk, outcome="leave_it", values={}, reason="too late", actor=by("a clerk")
    )
    plan = desk.newest_plan_of(order)
    assert (plan.state, plan.giving_up) == (PlanState.BLOCKED, "")
    assert FalloutCase.objects.filter(state="OPEN", task__key="undo.v2/pay@1~approval").exists()


def test_what_can_not_be_undone_does_not_keep_an_order_from_going_on_without_what_failed(
    systems: ScriptedSystems,
) -> None:
    """Nothing of it would be undone."""
    desk.target("alpha")
    desk.workflow(
        {
            "list": desk.task(outputs={"sites": "list"}),
            "ship": desk.task(
                depends_on=[{"output": "list.sites"}],
                for_each={"over": "${tasks.list.sites}"},
                input={"site": "${element}"},
                irreversible=True,
            ),
            "bill": desk.task(after=["list"]),
        },
        on_failure="continue",
    )
    systems.sends["list"] = [desk.succeeded(sites=["a", "b"])]
    systems.sends["ship"] = [desk.succeeded(), desk.rejected()]
    order = desk.order()
    desk.finish()
    rest.look()
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED
    assert "bill" in systems.actions()
