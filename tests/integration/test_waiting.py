"""Why tasks wait: every hold, pause, breaker and limit is named, with who, why and until when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fulfillment import operations
from fulfillment.models import HELD_BY_HAND, HoldScope, TargetSystem, Task
from fulfillment.waits import waiting
from fulfillment.waits.conditions import KeptBy, statuses
from fulfillment.waits.waiting import Wait
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]


def _order(**target: object) -> Order:
    desk.target("alpha", **target)
    desk.workflow({"one": desk.task()})
    return desk.order()


def _wait(order: Order) -> Wait:
    found = waiting.waiting(fulfillment_ids=[order.fulfillment_id])
    (wait,) = found[order.fulfillment_id]
    return wait


def _hold(scope: HoldScope, name: str, **more: object) -> int:
    placed = operations.place_hold(
        scope=scope, name=name, reason="Why not.", actor=by("anna"), **more
    )
    assert placed.hold_id is not None
    return placed.hold_id


def test_what_nothing_keeps_waits_for_a_free_slot(systems: ScriptedSystems) -> None:
    wait = _wait(_order())
    assert wait.reason == "It waits for a free slot of alpha."
    assert (wait.kept_by, wait.until, wait.sends, wait.maximum_attempts) == (None, None, 0, 5)


def test_what_is_tried_again_says_which_attempt_and_when(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = _order(retry_policies={"one": {"maximum_attempts": 3}})
    systems.sends["one"] = [desk.failed(retry_after=timedelta(seconds=30)) for _ in range(3)]
    desk.drain()
    wait = _wait(order)
    assert "it is tried again, attempt 2 of 3." in wait.reason
    assert (wait.sends, wait.maximum_attempts) == (1, 3)
    assert wait.until == Task.objects.get().not_before
    clock(60)
    desk.drain()
    assert "attempt 3 of 3." in _wait(order).reason
    clock(60)
    desk.drain()
    assert _wait(order).reason.startswith("It failed, and is not tried again by itself.")


def test_what_is_on_the_wire_says_which_attempt_it_is(systems: ScriptedSystems) -> None:
    order = _order()
    desk.claim()
    assert _wait(order).reason == "It is being sent to alpha: attempt 1 of 5."


def test_a_policy_of_the_workflow_goes_before_the_target_s(systems: ScriptedSystems) -> None:
    desk.target("alpha", retry_policies={"*": {"maximum_attempts": 3}})
    desk.workflow(
        {"one": desk.task(retry="patient")}, retry_policies={"patient": {"maximum_attempts": 9}}
    )
    assert _wait(desk.order()).maximum_attempts == 9


@pytest.mark.parametrize("met", [False, True], ids=["not met", "met by a claim"])
@pytest.mark.parametrize("scope", HELD_BY_HAND)
def test_every_hold_is_named_before_and_after_a_claim_has_met_it(
    systems: ScriptedSystems, scope: HoldScope, met: bool
) -> None:
    order = _order()
    names = {
        HoldScope.ORDER: order.reference,
        HoldScope.PLAN: str(desk.plan_of(order).pk),
        HoldScope.ITEM: f"{order.reference}/1",
        HoldScope.TASK: str(Task.objects.get().pk),
        HoldScope.TARGET: "alpha",
        HoldScope.ACTION: "alpha/one",
        HoldScope.CUSTOMER: "C-1",
    }
    hold = _hold(scope, names[scope])
    if met:
        desk.drain()
    wait = _wait(order)
    assert wait.kept_by is KeptBy.HOLD
    assert wait.reason.startswith(f"Held ({scope.lower()}:{names[scope]}) by anna since ")
    assert wait.reason.endswith("“Why not.”")
    assert wait.until is None
    operations.release_hold(hold_id=hold, reason="x", actor=by("anna"))
    assert _wait(order).kept_by is None


def test_of_several_holds_the_oldest_is_named_and_the_latest_end_counts(
    systems: ScriptedSystems,
) -> None:
    order = _order()
    soon, later = (desk.now() + timedelta(hours=hours) for hours in (1, 2))
    _hold(HoldScope.ORDER, order.reference, until=later)
    _hold(HoldScope.CUSTOMER, "C-1", until=soon)
    wait = _wait(order)
    assert f"order:{order.reference}" in wait.reason
    assert "1 more keeps it as well." in wait.reason
    assert wait.until == later
    _hold(HoldScope.ACTION, "alpha/one")
    assert _wait(order).until is None


def test_a_hold_whose_time_is_over_keeps_nothing(systems: ScriptedSystems, clock: Clock) -> None:
    order = _order()
    _hold(HoldScope.ORDER, order.reference, until=desk.now() + timedelta(hours=1))
    assert _wait(order).kept_by is KeptBy.HOLD
    clock(3601)
    assert _wait(order).kept_by is None


def test_a_hold_on_another_order_is_not_named(systems: ScriptedSystems) -> None:
    order = _order()
    _hold(HoldScope.ORDER, desk.order().reference)
    assert _wait(order).kept_by is None


def test_a_paused_target_keeps_what_is_to_be_sent_and_what_is_to_be_asked(
    systems: ScriptedSystems,
) -> None:
    doubtful = _order(reconcile_after=timedelta(hours=1))
    systems.sends["one"] = [desk.unknown()]
    desk.drain()
    ready = desk.order()
    operations.pause_target(target="alpha", reason="They move house.", actor=by("anna"))
    for order in (doubtful, ready):
        wait = _wait(order)
        assert wait.kept_by is KeptBy.PAUSE
        assert "alpha is paused by anna since " in wait.reason
        assert "“They move house.”" in wait.reason
        assert wait.until is None
    operations.resume_target(target="alpha", reason="x", actor=by("anna"))
    assert [_wait(order).kept_by for order in (doubtful, ready)] == [None, None]


def test_a_hold_is_no_reason_not_to_ask(systems: ScriptedSystems) -> None:
    order = _order(reconcile_after=timedelta(hours=1))
    systems.sends["one"] = [desk.unknown()]
    desk.drain()
    _hold(HoldScope.ORDER, order.reference)
    wait = _wait(order)
    assert wait.kept_by is None
    assert "it is being asked" in wait.reason


def test_an_open_breaker_says_why_and_until_when(systems: ScriptedSystems, clock: Clock) -> None:
    order = _order(breaker_failures=1, breaker_pause=timedelta(minutes=5))
    systems.sends["one"] = [desk.failed("http_503"), desk.failed("http_503")]
    desk.drain()
    another = desk.order()
    wait, other = _wait(order), _wait(another)
    until = TargetSystem.objects.get().condition.breaker_until
    for one in (wait, other):
        assert one.kept_by is KeptBy.BREAKER
        assert "alpha does not answer properly (http_503: Nothing happened.)" in one.reason
        assert f"left alone until {until:%Y-%m-%d %H:%M:%S} UTC" in one.reason
        assert one.until == until
    assert "attempt 2 of 5." in wait.reason
    assert [state.value for state in statuses()["alpha"].states] == ["BREAKER_OPEN"]
    clock(300)
    status = statuses()["alpha"]
    assert [state.value for state in status.states] == ["PROBING"]
    assert "the next call finds out whether it does again" in status.why
    assert _wait(another).kept_by is None
    desk.claim()  # the probe
    assert "attempt 2 of 5. The last time: http_503" in _wait(order).reason
    assert "one call at a time finds out" in _wait(another).reason


def test_a_breaker_that_is_switched_off_keeps_nothing(systems: ScriptedSystems) -> None:
    order = _order(breaker_failures=1, breaker_pause=timedelta(minutes=5))
    systems.sends["one"] = [desk.failed()]
    desk.drain()
    desk.target("alpha", breaker_failures=None)
    assert _wait(order).kept_by is None
    assert [state.value for state in statuses()["alpha"].states] == ["WELL"]


def test_limits_that_are_used_up_are_named(systems: ScriptedSystems) -> None:
    _order(concurrency_limit=1)
    desk.claim()
    wait = _wait(desk.order())
    assert (wait.kept_by, wait.until) == (KeptBy.LIMIT, None)
    assert wait.reason == "alpha has as many calls under way as it may have: 1."


def test_a_rate_that_is_used_up_says_when_it_goes_on(systems: ScriptedSystems) -> None:
    _order(rate_per_second=0.1)
    desk.drain()
    wait = _wait(desk.order())
    assert wait.kept_by is KeptBy.LIMIT
    assert "The rate limit of alpha, 0.1 per second, is used up for the moment." in wait.reason
    assert wait.until is not None
    assert wait.until > desk.now()


def test_what_is_put_off_does_not_wait_for_limits_of_this_moment(systems: ScriptedSystems) -> None:
    order = _order(concurrency_limit=1)
    systems.sends["one"] = [desk.failed(retry_after=timedelta(hours=1))]
    desk.drain()
    desk.order()
    desk.claim()
    wait = _wait(order)
    assert wait.kept_by is None
    assert wait.until == Task.objects.get(fulfillment_id=order.fulfillment_id).not_before


def test_a_target_without_a_worker_has_reasons_all_the_same(systems: ScriptedSystems) -> None:
    order = _order()
    desk.target("alpha", queue="nowhere")
    assert _wait(order).reason == "It waits for a free slot of alpha."


def test_reasons_of_many_orders_cost_no_more_than_those_of_one(systems: ScriptedSystems) -> None:
    def cost(orders: list[Order]) -> int:
        with CaptureQueriesContext(connection) as asked:
            found = waiting.waiting(fulfillment_ids=[order.fulfillment_id for order in orders])
        assert len(found) == len(orders)
        return len(asked)

    names = [f"target-{number}" for number in range(6)]
    for name in names:
        desk.target(name)
    desk.workflow({f"t{number}": desk.task(name) for number, name in enumerate(names)})
    orders = [desk.order() for _ in range(12)]
    for order in orders:
        _hold(HoldScope.ORDER, order.reference)
    assert cost(orders[:1]) == cost(orders)
