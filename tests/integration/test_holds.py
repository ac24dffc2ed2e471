"""Holds: what is held is not sent, what is not held goes on, and a release lets all go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from fulfillment import operations
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.work import audit
from fulfillment.errors import HoldUnknown, NothingToHold, ReasonMissing
from fulfillment.models import HELD_BY_HAND, Hold, HoldScope, Operation, Task, Transition
from fulfillment.tasks import scan_runnable
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def a_shop() -> tuple[Order, Order]:
    """Two orders of two items; each has `one` at alpha and `two` at beta, side by side."""
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"one": desk.task("alpha"), "two": desk.task("beta")})
    made = [
        desk.order(desk.item(), desk.item(item_id="2"), customer_id=customer)
        for customer in ("C-1", "C-2")
    ]
    return made[0], made[1]


def name_of(scope: HoldScope, order: Order) -> str:
    return {
        HoldScope.ORDER: order.reference,
        HoldScope.ITEM: f"{order.reference}/2",
        HoldScope.PLAN: str(desk.plan_of(order).pk),
        HoldScope.TASK: str(desk.tasks_of(order)["one@1"].pk),
        HoldScope.TARGET: "beta",
        HoldScope.ACTION: "alpha/one",
        HoldScope.CUSTOMER: "C-1",
    }[scope]


HELD = {
    HoldScope.ORDER: {"a one@1", "a one@2", "a two@1", "a two@2"},
    HoldScope.PLAN: {"a one@1", "a one@2", "a two@1", "a two@2"},
    HoldScope.CUSTOMER: {"a one@1", "a one@2", "a two@1", "a two@2"},
    HoldScope.ITEM: {"a one@2", "a two@2"},
    HoldScope.TASK: {"a one@1"},
    HoldScope.TARGET: {"a two@1", "a two@2", "b two@1", "b two@2"},
    HoldScope.ACTION: {"a one@1", "a one@2", "b one@1", "b one@2"},
}


def ready(a: Order, b: Order) -> set[str]:
    return {
        f"{name} {key}"
        for name, order in (("a", a), ("b", b))
        for key, state in desk.states_of(order).items()
        if state == "READY"
    }


@pytest.mark.parametrize("scope", HELD_BY_HAND)
def test_what_is_held_waits_and_everything_else_goes_on(
    systems: ScriptedSystems, scope: HoldScope
) -> None:
    a, b = a_shop()
    placed = operations.place_hold(
        scope=scope, name=name_of(scope, a), reason="Fraud check", actor=by("ann")
    )
    desk.drain()
    assert ready(a, b) == HELD[scope]
    assert placed.hold_id is not None
    assert operations.release_hold(hold_id=placed.hold_id, reason="All well", actor=by("bob"))
    desk.drain()
    assert ready(a, b) == set()
    for order in (a, b):
        order.refresh_from_db()
        assert order.state == "COMPLETED"
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_many_held_commands_hide_nobody_behind_them(systems: ScriptedSystems) -> None:
    desk.target("alpha", sender_slots=2)
    desk.workflow({"one": desk.task()})
    desk.submit_all(*[desk.request(priority=9, customer_id="C-held") for _ in range(300)])
    desk.submit_all(*[desk.request(priority=9, customer_id="C-held") for _ in range(300)])
    free = desk.order()
    operations.place_hold(scope=HoldScope.CUSTOMER, name="C-held", reason="x", actor=by("ann"))
    assert desk.drain() == 1
    free.refresh_from_db()
    assert free.state == "COMPLETED"


def test_two_holds_on_the_same_order_have_to_go_both(systems: ScriptedSystems) -> None:
    order, _ = a_shop()
    first = operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="One", actor=by("ann")
    )
    second = operations.place_hold(
        scope=HoldScope.CUSTOMER, name="C-1", reason="Two", actor=by("ann")
    )
    assert first.hold_id
    assert second.hold_id
    desk.drain()
    operations.release_hold(hold_id=first.hold_id, reason="x", actor=by("ann"))
    desk.drain()
    assert set(desk.states_of(order).values()) == {"READY"}
    operations.release_hold(hold_id=second.hold_id, reason="x", actor=by("ann"))
    desk.drain()
    assert set(desk.states_of(order).values()) == {"SUCCEEDED"}


def test_a_hold_keeps_nobody_from_asking_what_became_of_a_command(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    desk.drain()
    for scope, name in (
        (HoldScope.ORDER, order.reference),
        (HoldScope.TARGET, "alpha"),
        (HoldScope.ACTION, "alpha/one"),
    ):
        operations.place_hold(scope=scope, name=name, reason="x", actor=by("ann"))
    clock(10)
    desk.drain()
    assert len(systems.queried) == 1
    assert desk.states_of(order) == {"one@1": "SUCCEEDED"}


def test_a_hold_that_is_placed_before_the_order_has_tasks_holds_them_too(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    operations.place_hold(scope=HoldScope.CUSTOMER, name="C-1", reason="x", actor=by("ann"))
    order = desk.order()
    assert desk.drain() == 0
    assert systems.sent == []
    assert desk.states_of(order) == {"one@1": "READY", "two@1": "PENDING"}


def test_a_hold_ends_by_itself_when_its_time_is_over(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order, _ = a_shop()
    operations.place_hold(
        scope=HoldScope.ORDER,
        name=order.reference,
        reason="x",
        actor=by("ann"),
        until=desk.now() + timedelta(hours=1),
    )
    desk.drain()
    clock(3590)
    scan_runnable()
    desk.drain()
    assert "READY" in desk.states_of(order).values()
    clock(20)
    scan_runnable()
    desk.drain()
    assert set(desk.states_of(order).values()) == {"SUCCEEDED"}
    hold = Hold.objects.get()
    assert (hold.released_by, hold.release_reason) == ("scanner", "Its time is over.")


def test_tasks_of_a_hold_whose_release_was_cut_short_are_let_go_by_the_scanner(
    systems: ScriptedSystems,
) -> None:
    order, _ = a_shop()
    operations.place_hold(scope=HoldScope.ORDER, name=order.reference, reason="x", actor=by("ann"))
    desk.drain()
    assert Task.objects.exclude(held_by=None).count() == 4
    Hold.objects.update(released_at=desk.now())
    scan_runnable()
    assert not Task.objects.exclude(held_by=None).exists()


def test_who_held_what_and_why_is_on_record(systems: ScriptedSystems) -> None:
    order, _ = a_shop()
    placed = operations.place_hold(
        scope=HoldScope.ITEM, name=f"{order.reference}/1", reason="Site survey", actor=by("ann")
    )
    assert placed.hold_id
    operations.release_hold(hold_id=placed.hold_id, reason="Survey done", actor=by("bob"))
    assert not operations.release_hold(hold_id=placed.hold_id, reason="again", actor=by("eve"))
    trail = Transition.objects.filter(fulfillment_id=order.fulfillment_id, entity="hold")
    assert [(row.name, row.from_state, row.to_state, row.actor, row.cause) for row in trail] == [
        ("place_hold", "", "PLACED", "ann", "Site survey"),
        ("release_hold", "PLACED", "RELEASED", "bob", "Survey done"),
    ]
    log = Operation.objects.filter(subject=f"item:{order.reference}/1").order_by("id")
    assert [(row.kind, row.actor) for row in log] == [
        ("place_hold", "ann"),
        ("release_hold", "bob"),
    ]


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (HoldScope.ORDER, "O-0"),
        (HoldScope.ORDER, ""),
        (HoldScope.ITEM, "O-0/1"),
        (HoldScope.ITEM, "O-0"),
        (HoldScope.PLAN, "0"),
        (HoldScope.PLAN, "9" * 40),
        (HoldScope.TASK, "x"),
        (HoldScope.TARGET, "nobody"),
        (HoldScope.ACTION, "alpha"),
        (HoldScope.ACTION, "nobody/one"),
        (HoldScope.CUSTOMER, ""),
    ],
)
def test_what_does_not_exist_can_not_be_held(scope: HoldScope, name: str) -> None:
    desk.target("alpha")
    with pytest.raises(NothingToHold):
        operations.place_hold(scope=scope, name=name, reason="x", actor=by("ann"))
    assert not Hold.objects.exists()


def test_nobody_holds_anything_without_saying_why(systems: ScriptedSystems) -> None:
    order, _ = a_shop()
    with pytest.raises(ReasonMissing):
        operations.place_hold(
            scope=HoldScope.ORDER, name=order.reference, reason="  ", actor=by("ann")
        )
    with pytest.raises(HoldUnknown):
        operations.release_hold(hold_id=0, reason="x", actor=by("ann"))


@pytest.mark.parametrize(
    ("name", "is_held"), [("beta/otherwise", True), ("beta/one", False), ("alpha/one", False)]
)
def test_a_hold_on_an_action_holds_the_fallback_that_would_ask_for_it(
    systems: ScriptedSystems, name: str, is_held: bool
) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"one": desk.task(fallback=[{"target": "beta", "action": "otherwise"}])})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.rejected()))
    operations.place_hold(scope=HoldScope.ACTION, name=name, reason="Not now.", actor=by("anna"))
    assert (desk.claim("beta") == []) is is_held
    (task,) = desk.tasks_of(order).values()
    assert (task.held_by_id is not None) is is_held


def a_parked_task(systems: ScriptedSystems, clock: Clock) -> tuple[Order, Claim, int]:
    """It has failed once; its next attempt has met a hold on its target."""
    desk.target("alpha")
    desk.target("beta")
    way = {"target": "beta", "action": "instead"}
    desk.workflow({"one": desk.task(fallback=[way])})
    order = desk.order()
    (sent,) = desk.claim()
    desk.settle(desk.result(sent, desk.failed()))
    placed = operations.place_hold(
        scope=HoldScope.ACTION, name="alpha/one", reason="Fraud check", actor=by("ann")
    )
    clock(60)
    assert desk.claim() == []
    assert desk.tasks_of(order)["one@1"].waits_for == "HOLD"
    assert placed.hold_id is not None
    return order, sent, placed.hold_id


def test_another_way_is_not_kept_by_a_hold_on_the_one_before(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order, sent, _ = a_parked_task(systems, clock)
    # What was sent before has been refused after all, as is known late.
    desk.settle(desk.result(sent, desk.rejected(), attempt_id=None))
    desk.drain()
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"


def test_what_has_ended_under_a_hold_waits_for_nothing_after_its_release(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order, sent, hold = a_parked_task(systems, clock)
    desk.settle(desk.result(sent, desk.succeeded(), attempt_id=None))
    operations.release_hold(hold_id=hold, reason="All well", actor=by("bob"))
    task = desk.tasks_of(order)["one@1"]
    assert (task.state, task.waits_for, task.held_by_id) == ("SUCCEEDED", "", None)
