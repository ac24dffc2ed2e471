"""A plan's deadline, and when the clocks that a customer was promised stand still."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations, stuck
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.tasks.outcomes import NOT_SENT
from fulfillment.engine.timing import jeopardy, standing
from fulfillment.models import (
    HELD_BY_HAND,
    CaseCategory,
    ClockPolicy,
    FalloutCase,
    Hold,
    HoldScope,
    ManualTask,
    Plan,
    Task,
)
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]
HOUR = 3600
WITHIN = {"within": "PT10H"}
ASKED = {"milestone": "papers_sent", "within": "P30D", "otherwise": "escalate"}


@pytest.fixture(autouse=True)
def alpha(systems: ScriptedSystems) -> None:
    desk.target("alpha", asynchronous=True)
    desk.target("beta")


def an_order(tasks: dict[str, Any] | None = None, **workflow: Any) -> Order:
    desk.workflow(tasks or {"one": desk.task()}, **{"deadline": WITHIN, **workflow})
    return desk.order()


def place(scope: HoldScope, name: str, policy: ClockPolicy = ClockPolicy.STOP, **more: Any) -> int:
    placed = operations.place_hold(
        scope=scope,
        name=name,
        reason="x",
        actor=by("ann"),
        clock_policy=policy,
        patience=timedelta(0),
        **more,
    )
    assert placed.hold_id is not None
    return placed.hold_id


def release(hold: int) -> None:
    operations.release_hold(hold_id=hold, reason="x", actor=by("ann"))


def late() -> list[FalloutCase]:
    return list(FalloutCase.objects.filter(category=CaseCategory.LATE, state="OPEN"))


def left(order: Order) -> timedelta:
    """What is left of the plan's time, to the minute."""
    finish_by = desk.newest_plan_of(order).finish_by
    assert finish_by is not None
    return timedelta(minutes=round((finish_by - desk.now()).total_seconds() / 60))


def test_a_plan_that_is_not_done_in_time_is_told_of_once(clock: Clock) -> None:
    order = an_order({"rest": desk.step(wait={"delay": "PT11H"}), "one": desk.task(after=["rest"])})
    clock(10 * HOUR - 1)
    assert sweeping.sweep() == 0
    clock(2)
    assert sweeping.sweep() == 1
    (case,) = late()
    assert (case.plan_id, case.reason_code) == (desk.plan_of(order).pk, "deadline_passed")
    assert sweeping.sweep() == 0
    clock(HOUR)
    sweeping.sweep()
    desk.finish()
    order.refresh_from_db()
    assert (order.state, late()) == ("COMPLETED", [])


def test_of_several_workflows_the_shortest_deadline_counts() -> None:
    desk.workflow({"one": desk.task()}, offering="a", deadline={"within": "PT10H"})
    desk.workflow({"one": desk.task()}, offering="b", deadline={"within": "PT2H"})
    desk.workflow({"one": desk.task()}, offering="c")
    order = desk.order(*[desk.item(name, item_id=name) for name in "abc"])
    assert left(order) == timedelta(hours=2)


def test_a_late_plan_is_still_looked_at_when_nothing_moves(clock: Clock) -> None:
    order = an_order({"one": desk.task()}, stalls_after="PT20H")
    place(HoldScope.TARGET, "alpha", ClockPolicy.RUN)
    clock(10 * HOUR + 1)
    sweeping.sweep()
    assert len(late()) == 1
    clock(10 * HOUR)
    assert stuck.detect_stuck() == 1
    assert FalloutCase.objects.filter(
        category=CaseCategory.STUCK, plan=desk.plan_of(order)
    ).exists()


# Holds


@pytest.mark.parametrize("scope", HELD_BY_HAND)
def test_a_hold_that_stops_the_clocks_gives_back_the_time(scope: HoldScope, clock: Clock) -> None:
    order = an_order({"one": desk.task(timeouts={"schedule_to_start": "PT8H"})})
    (task,) = desk.tasks_of(order).values()
    name = {
        HoldScope.ORDER: order.reference,
        HoldScope.PLAN: str(desk.plan_of(order).pk),
        HoldScope.ITEM: f"{order.reference}/1",
        HoldScope.TASK: str(task.pk),
        HoldScope.TARGET: "alpha",
        HoldScope.ACTION: "alpha/one",
        HoldScope.CUSTOMER: "C-1",
    }[scope]
    clock(2 * HOUR)
    hold = place(scope, name)
    clock(100 * HOUR)
    assert desk.drain() == 0
    sweeping.sweep()
    assert late() == []
    assert sweeping.sweep() == 0  # it is noted that they stand still
    release(hold)
    assert left(order) == timedelta(hours=8)
    task.refresh_from_db()
    assert task.start_by is not None
    assert round((task.start_by - desk.now()) / timedelta(minutes=1)) == 6 * 60
    assert (task.stopped_at, task.stopped_by_id) == (None, None)
    clock(6 * HOUR + 1)
    sweeping.sweep()
    assert [case.task_id for case in late()] == [task.pk]


def test_a_hold_whose_clocks_run_gives_nothing_back(clock: Clock) -> None:
    order = an_order()
    hold = place(HoldScope.ORDER, order.reference, ClockPolicy.RUN)
    clock(4 * HOUR)
    release(hold)
    assert left(order) == timedelta(hours=6)


def test_a_short_hold_that_nobody_has_noticed_gives_back_its_time(clock: Clock) -> None:
    order = an_order()
    hold = place(HoldScope.CUSTOMER, "C-1")
    clock(HOUR)
    release(hold)
    assert left(order) == timedelta(hours=10)


def test_holds_on_others_stop_nothing(clock: Clock) -> None:
    order = an_order()
    for scope, name in ((HoldScope.CUSTOMER, "C-2"), (HoldScope.ACTION, "beta/other")):
        hold = place(scope, name)
        clock(HOUR)
        release(hold)
    assert left(order) == timedelta(hours=8)


def test_time_held_twice_is_given_back_once(clock: Clock) -> None:
    order = an_order()
    first = place(HoldScope.ORDER, order.reference)
    clock(HOUR)
    second = place(HoldScope.CUSTOMER, "C-1")
    clock(HOUR)
    release(first)
    clock(20 * HOUR)
    assert sweeping.sweep() == 0
    assert desk.plan_of(order).stopped_by_id == second
    release(second)
    assert left(order) == timedelta(hours=10)


def test_a_hold_within_a_hold_is_part_of_it(clock: Clock) -> None:
    order = an_order()
    outer = place(HoldScope.ORDER, order.reference)
    clock(HOUR)
    inner = place(HoldScope.CUSTOMER, "C-1")
    clock(HOUR)
    release(inner)
    clock(HOUR)
    release(outer)
    assert left(order) == timedelta(hours=10)


def test_a_clock_that_began_under_the_hold_gets_back_what_it_has_lost(clock: Clock) -> None:
    hold = place(HoldScope.CUSTOMER, "C-1")
    clock(5 * HOUR)
    order = an_order({"one": desk.task(timeouts={"schedule_to_close": "PT3H"})})
    clock(2 * HOUR)
    release(hold)
    assert left(order) == timedelta(hours=10)
    (task,) = desk.tasks_of(order).values()
    assert task.close_by is not None
    assert round((task.close_by - desk.now()) / timedelta(minutes=1)) == 3 * 60


def test_a_hold_that_ends_by_itself_counts_to_its_end(clock: Clock) -> None:
    order = an_order()
    place(HoldScope.ORDER, order.reference, until=desk.now() + timedelta(hours=2))
    clock(5 * HOUR)
    operations.release_ended_holds()
    assert left(order) == timedelta(hours=7)


def test_a_hold_does_not_keep_a_target_from_reporting(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"one": desk.task(timeouts={"callback": "PT1H"})})
    systems.sends["one"] = [desk.accepted()]
    desk.drain()
    place(HoldScope.ORDER, order.reference)
    clock(HOUR + 1)
    sweeping.sweep()
    assert desk.states_of(order)["one@1"] == "OUTCOME_UNKNOWN"


def test_what_was_on_its_way_when_the_hold_came_gets_back_all_of_its_time(clock: Clock) -> None:
    order = an_order({"one": desk.task(timeouts={"schedule_to_close": "PT3H"})})
    (claim,) = desk.claim()
    hold = place(HoldScope.ORDER, order.reference)
    clock(HOUR)
    desk.settle(desk.result(claim, NOT_SENT))
    clock(HOUR)
    release(hold)
    (task,) = desk.tasks_of(order).values()
    assert task.close_by is not None
    assert round((task.close_by - desk.now()) / timedelta(minutes=1)) == 3 * 60


def test_nothing_is_given_up_while_its_clock_stands_still(clock: Clock) -> None:
    timeouts = {"schedule_to_close": "PT3H", "when_unsent": "cancel"}
    order = an_order({"one": desk.task(timeouts=timeouts)})
    (claim,) = desk.claim()
    place(HoldScope.ORDER, order.reference)
    clock(4 * HOUR)
    desk.settle(desk.result(claim, desk.failed()))
    assert desk.states_of(order)["one@1"] == "FAILED_RETRYABLE"


def test_what_ends_while_its_clock_stands_still_is_not_touched_again(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"one": desk.task(timeouts={"schedule_to_close": "PT3H"})})
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    hold = place(HoldScope.ORDER, order.reference)
    clock(20 * HOUR)
    sweeping.sweep()
    assert Task.objects.get().stopped_by_id == hold
    desk.settle(desk.result(claim, desk.succeeded(), attempt_id=None, attempt_number=None))
    assert (Task.objects.get().stopped_by_id, Plan.objects.get().stopped_by_id) == (None, None)
    before = Task.objects.values().get(), Plan.objects.values().get()
    release(hold)
    assert (Task.objects.values().get(), Plan.objects.values().get()) == before
    assert standing.set_all_going() == 0


def test_what_a_crash_has_left_standing_is_set_going_by_the_scanner(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = an_order()
    hold = place(HoldScope.CUSTOMER, "C-1")
    clock(3 * HOUR)
    with monkeypatch.context() as dying:
        dying.setattr(standing, "set_all_going", lambda: 0)
        release(hold)
    assert Hold.objects.get().released_at is not None
    assert desk.plan_of(order).stopped_at is not None
    clock(20 * HOUR)
    assert sweeping.sweep() == 0
    scanning.scan()
    assert left(order) == timedelta(hours=-10)  # ten, less the twenty since the release


# Waits for the customer


def tell(order: Order, name: str = "papers_sent") -> None:
    operations.send_signal(
        order_reference=order.reference, name=name, actor=by("ann"), reason="They are here."
    )


def test_the_deadline_stands_still_while_the_customer_is_waited_for(clock: Clock) -> None:
    order = an_order(
        {"papers": desk.step(wait=ASKED, clock="stop"), "one": desk.task(after=["papers"])}
    )
    clock(50 * HOUR)
    assert sweeping.sweep() == 0
    tell(order)
    assert left(order) == timedelta(hours=10)
    assert desk.plan_of(order).stopped_at is None


def test_it_goes_on_with_the_last_of_several_waits(clock: Clock) -> None:
    order = an_order(
        {
            "papers": desk.step(wait=ASKED, clock="stop"),
            "rest": desk.step(wait={"delay": "PT5H"}, clock="stop"),
            "other": desk.step(wait={"delay": "PT1H"}),
        }
    )
    clock(2 * HOUR)
    tell(order)
    clock(2 * HOUR)
    assert desk.plan_of(order).stopped_at is not None
    clock(HOUR + 1)
    sweeping.sweep()
    assert desk.plan_of(order).state == "COMPLETED"
    assert desk.plan_of(order).stopped_at is None


def test_a_person_may_be_the_customer(clock: Clock) -> None:
    work = {
        "queue": "customers",
        "role": "agent",
        "instructions": "Call them.",
        "outcomes": {"yes": "proceed", "no": "refuse"},
        "within": "P9D",
        "otherwise": "escalate",
    }
    order = an_order({"ask": desk.step(manual=work, clock="stop"), "one": desk.task(after=["ask"])})
    clock(30 * HOUR)
    sweeping.sweep()
    assert late() == []
    operations.decide(
        manual_id=ManualTask.objects.get().pk, outcome="yes", values={}, actor=by("ann"), reason="x"
    )
    assert left(order) == timedelta(hours=10)


def test_a_hold_during_a_wait_for_the_customer_stops_no_more_than_that(clock: Clock) -> None:
    order = an_order(
        {"papers": desk.step(wait=ASKED, clock="stop"), "one": desk.task(after=["papers"])}
    )
    clock(HOUR)
    hold = place(HoldScope.ORDER, order.reference)
    clock(HOUR)
    tell(order)
    assert desk.plan_of(order).stopped_by_id == hold
    clock(HOUR)
    release(hold)
    assert left(order) == timedelta(hours=10)


# Another version of the plan


def moved(order: Order, **workflow: Any) -> Plan:
    """Its plan goes on under version 2 of the workflow."""
    tasks = {"rest": desk.step(wait={"delay": "P9D"}), "one": desk.task(after=["rest"])}
    desk.workflow(tasks, version=2, **workflow)
    (done,) = operations.migrate_orders(
        workflow="thing", version=2, orders=[order.reference], actor=by("ann"), reason="x"
    )
    assert done.verdict is operations.Verdict.MOVED, done.reasons
    return desk.newest_plan_of(order)


def to_be_moved(**workflow: Any) -> Order:
    return an_order({"rest": desk.step(wait={"delay": "P9D"})}, **workflow)


def test_a_plan_that_takes_over_takes_the_deadline_along(clock: Clock) -> None:
    order = to_be_moved()
    hold = place(HoldScope.ORDER, order.reference)
    clock(HOUR)
    release(hold)
    clock(HOUR)
    moved(order, deadline=WITHIN)
    assert left(order) == timedelta(hours=9)


def test_a_clock_that_stands_still_does_so_in_the_plan_that_takes_over(clock: Clock) -> None:
    order = to_be_moved()
    hold = place(HoldScope.ORDER, order.reference)
    clock(20 * HOUR)
    sweeping.sweep()
    plan = moved(order, deadline=WITHIN)
    assert (plan.stopped_by_id, left(order)) == (hold, timedelta(hours=-10))
    release(hold)
    assert left(order) == timedelta(hours=10)


def test_a_clock_of_which_nobody_knew_that_it_stands_still_does_so_all_the_same(
    clock: Clock,
) -> None:
    order = to_be_moved()
    hold = place(HoldScope.ORDER, order.reference)
    clock(5 * HOUR)
    moved(order, deadline=WITHIN)
    clock(HOUR)
    release(hold)
    assert left(order) == timedelta(hours=10)


def test_a_version_that_allows_more_time_is_late_later(clock: Clock) -> None:
    order = to_be_moved()
    clock(11 * HOUR)
    sweeping.sweep()
    assert len(late()) == 1
    moved(order, deadline={"within": "PT15H"})
    assert (late(), left(order)) == ([], timedelta(hours=4))


def test_a_version_that_allows_less_time_is_late_at_once(clock: Clock) -> None:
    order = to_be_moved()
    clock(5 * HOUR)
    moved(order, deadline={"within": "PT4H"})
    sweeping.sweep()
    assert len(late()) == 1


def test_who_is_late_stays_late_in_the_plan_that_takes_over(clock: Clock) -> None:
    order = to_be_moved()
    clock(11 * HOUR)
    sweeping.sweep()
    plan = moved(order, deadline=WITHIN)
    assert (plan.finish_by, len(late())) == (None, 1)
    assert plan.late_since is not None
    assert sweeping.sweep() == 0


def test_a_version_without_a_deadline_is_never_late(clock: Clock) -> None:
    order = to_be_moved()
    clock(11 * HOUR)
    sweeping.sweep()
    plan = moved(order)
    assert (plan.finish_by, late()) == (None, [])


def test_the_clocks_of_a_task_move_with_it(clock: Clock, systems: ScriptedSystems) -> None:
    one = desk.task(timeouts={"schedule_to_close": "PT3H", "callback": "P1D", "heartbeat": "PT2H"})
    desk.workflow({"one": one})
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    before = Task.objects.values("close_by", "report_by", "progress", "not_before").get()
    desk.workflow({"one": one, "two": desk.task(after=["one"])}, version=2)
    operations_done = operations.migrate_orders(
        workflow="thing", version=2, orders=[order.reference], actor=by("ann"), reason="x"
    )
    assert [done.verdict for done in operations_done] == [operations.Verdict.MOVED]
    moved_row = Task.objects.filter(key="one@1")
    assert moved_row.values("close_by", "report_by", "progress", "not_before").get() == before
    clock(3 * HOUR + 1)
    sweeping.sweep()
    assert moved_row.get().state == "OUTCOME_UNKNOWN"


# What the customer was promised


def test_a_promise_stands_still_with_the_hold_and_is_given_back_its_time(clock: Clock) -> None:
    promised = desk.now() + timedelta(hours=10)
    desk.workflow({"one": desk.task()})
    order = desk.order(promised_at=promised)
    clock(HOUR)
    hold = place(HoldScope.ORDER, order.reference)
    clock(100 * HOUR)
    jeopardy.look()
    plan = desk.plan_of(order)
    assert (plan.at_risk_since, plan.stopped_by_id) == (None, hold)
    release(hold)
    plan = desk.plan_of(order)
    assert plan.due_at is not None
    assert round((plan.due_at - promised) / timedelta(minutes=1)) == 100 * 60
    clock(10 * HOUR)
    jeopardy.look()
    assert desk.plan_of(order).at_risk_since is not None


def test_a_plan_that_takes_over_keeps_the_promise() -> None:
    promised = desk.now() + timedelta(days=10)
    desk.workflow({"rest": desk.step(wait={"delay": "P9D"})})
    order = desk.order(promised_at=promised)
    assert moved(order).due_at == promised


def test_a_time_that_stands_still_is_not_up_when_an_answer_comes(
    clock: Clock, systems: ScriptedSystems
) -> None:
    """It was on the wire when the hold was placed, and nobody has looked at its clock since."""
    order = an_order(
        {"one": desk.task(timeouts={"schedule_to_close": "PT5M", "when_unsent": "cancel"})}
    )
    (sent,) = desk.claim()
    hold = place(HoldScope.ORDER, order.reference)
    clock(HOUR)
    desk.settle(desk.result(sent, desk.failed()))
    assert desk.states_of(order)["one@1"] == "FAILED_RETRYABLE"
    release(hold)
    systems.sends["one"] = [desk.succeeded()]
    clock(60)
    desk.finish()
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"


# What the engine fails with


def unreadable(order: Order) -> None:
    Task.objects.filter(plan=desk.plan_of(order)).update(node=77)


def test_a_hold_that_can_not_be_released_keeps_no_other_from_it(clock: Clock) -> None:
    """The same run of the scanner selects and hints behind it."""
    poisoned = an_order({"one": desk.task(timeouts={"schedule_to_start": "PT8H"})})
    for scope, name in ((HoldScope.ORDER, poisoned.reference), (HoldScope.CUSTOMER, "C-9")):
        place(scope, name, until=desk.now() + timedelta(hours=1))
    unreadable(poisoned)
    clock(2 * HOUR)
    assert operations.release_ended_holds() == 1
    assert Hold.objects.get(released_at=None).scope == HoldScope.ORDER


def test_an_order_whose_clocks_can_not_be_stopped_keeps_no_hold_from_its_release(
    clock: Clock,
) -> None:
    poisoned = an_order({"one": desk.task(timeouts={"schedule_to_start": "PT8H"})})
    well = desk.order()
    hold = place(HoldScope.CUSTOMER, "C-1")
    unreadable(poisoned)
    clock(2 * HOUR)
    release(hold)
    assert left(well) == timedelta(hours=10)
    assert left(poisoned) == timedelta(hours=8)


def test_clocks_that_can_not_go_on_keep_no_others_from_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_BATCH", 1)
    poisoned = an_order()
    well = desk.order()
    with monkeypatch.context() as patched:
        patched.setattr(standing, "set_all_going", int)  # It dies right after the release.
        for order in (poisoned, well):
            hold = place(HoldScope.ORDER, order.reference)
            clock(HOUR)
            release(hold)
    unreadable(poisoned)
    assert standing.set_all_going() == 1
    assert left(well) == timedelta(hours=9)


def test_deadlines_that_can_not_fall_due_keep_no_others_from_it(clock: Clock) -> None:
    poisoned, well = an_order(), desk.order()
    unreadable(poisoned)
    clock(10 * HOUR + 1)
    sweeping.sweep(limit=1)
    (case,) = late()
    assert case.plan_id == desk.plan_of(well).pk
