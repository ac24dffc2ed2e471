"""Jeopardy: told before a promise is broken, from how long such tasks usually take."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from fulfillment import operations, stuck
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.plans.rerunning import rerun
from fulfillment.engine.store.database import cursor
from fulfillment.engine.timing import durations, jeopardy
from fulfillment.engine.work.running import run_unit
from fulfillment.errors import DefinitionInvalid
from fulfillment.models import (
    ClockPolicy,
    FalloutCase,
    Fulfillment,
    HoldScope,
    MeasuredDuration,
    OutboxEvent,
    Plan,
    Task,
    Transition,
)
from oms.changes import cancelling
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    durations.forget()


def a_chain(**more: Any) -> WorkflowDefinition:
    """one → two → three, of an hour, two hours and a moment; `extra` is not needed."""
    desk.target("alpha")
    definition = desk.workflow(
        {
            "one": desk.task(),
            "two": desk.task(after=["one"]),
            "three": desk.task(after=["two"]),
            "extra": desk.task(required=False),
        },
        **more,
    )
    takes(one=3600, two=7200, extra=90_000)
    return definition


def takes(**seconds: float) -> None:
    for task, median in seconds.items():
        MeasuredDuration.objects.create(
            workflow="thing",
            task=task,
            median_seconds=median,
            p90_seconds=2 * median,
            samples=100,
            measured_at=desk.now(),
        )
    durations.forget()


def promised(hours: float, **fields: Any) -> Order:
    return desk.order(promised_at=desk.now() + timedelta(hours=hours), **fields)


def plan_of(order: Order) -> Plan:
    return desk.plan_of(order)


def done(action: str) -> None:
    """One command of this action, the first that is claimed."""
    (claim,) = [one for one in desk.claim(limit=10) if one.command.action == action]
    desk.settle(desk.result(claim, desk.succeeded()))


def near(moment: datetime | None, *, hours: float) -> bool:
    assert moment is not None
    return abs(moment - desk.now() - timedelta(hours=hours)) < timedelta(seconds=5)


def test_a_plan_is_looked_at_when_it_may_become_too_late_and_not_before(
    systems: ScriptedSystems,
) -> None:
    a_chain()
    order = promised(5)
    assert near(plan_of(order).look_at, hours=2)
    assert jeopardy.look() == 0
    desk.advance(2 * 3600 + 1)
    assert jeopardy.look() == 1
    plan = plan_of(order)
    # Nothing has begun to be done; it takes three hours, and there are less than three.
    assert near(plan.estimated_at, hours=3)
    assert plan.at_risk_since is not None


def test_jeopardy_is_raised_before_the_promise_is_broken_and_told_once(
    systems: ScriptedSystems,
) -> None:
    a_chain()
    order = promised(2)
    assert jeopardy.look() == 1
    plan = plan_of(order)
    assert plan.at_risk_since is not None
    assert plan.due_at is not None
    assert plan.at_risk_since < plan.due_at
    assert near(plan.estimated_at, hours=3)
    (case,) = FalloutCase.objects.all()
    assert (case.category, case.reason_code, case.state) == ("JEOPARDY", "will_be_late", "OPEN")
    assert f"manage.py why {order.reference}" in case.explanation
    desk.advance(120)
    jeopardy.look()
    assert FalloutCase.objects.count() == 1
    assert Transition.objects.filter(name="in_jeopardy").count() == 1


def test_the_case_says_what_has_become_of_it_since(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(2)
    jeopardy.look()
    before = FalloutCase.objects.get()
    desk.advance(2 * 3600 + 60)
    jeopardy.look()
    (case,) = FalloutCase.objects.all()
    assert (case.reason_code, case.severity) == ("late", "HIGH")
    assert case.title == f"{order.reference} · is late already"
    assert case.facts["promised"] == before.facts["promised"]
    assert case.facts["estimated"] > before.facts["estimated"]


def test_done_though_late_nobody_need_hurry_any_more(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(2)
    jeopardy.look()
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    case = FalloutCase.objects.get()
    assert (case.state, case.resolution) == ("RESOLVED", "It is done.")
    assert plan_of(order).look_at is None


def test_a_version_that_takes_over_is_late_as_the_one_before(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(2)
    jeopardy.look()
    before = plan_of(order)
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])}, version=2)
    (moved,) = operations.migrate_orders(
        workflow="thing",
        version=2,
        orders=[order.reference],
        reason="shorter",
        actor=by("ann"),
    )
    assert moved.verdict == "moved"
    after = Plan.objects.get(pk=moved.plan_id)
    assert (after.at_risk_since, after.estimated_at) == (before.at_risk_since, before.estimated_at)
    assert FalloutCase.objects.get().state == "OPEN"
    assert jeopardy.look() == 1
    assert FalloutCase.objects.get().state == "OPEN"
    assert Transition.objects.filter(name="in_jeopardy").count() == 1
    done("one")
    desk.advance(60)
    jeopardy.look()
    desk.drain()
    assert FalloutCase.objects.get().state == "RESOLVED"


def test_what_is_undone_is_promised_to_nobody_and_no_longer_late(
    systems: ScriptedSystems, client: Client
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(compensation={"action": "undo_one", "input": {}}),
            "two": desk.task(after=["one"]),
        }
    )
    takes(one=3600, two=7200)
    order = promised(2)
    done("one")
    desk.advance(60)
    desk.advance(3600)
    jeopardy.look()
    assert FalloutCase.objects.get().state == "OPEN"
    client.force_login(User.objects.create_superuser("boss"))
    page = f"/admin/oms/order/{order.pk}/change/"
    assert ", promised for" in client.get(page).content.decode()
    cancelling.cancel(order=order, requested_by="client a-client", reason="No longer needed.")
    undoing = desk.newest_plan_of(order)
    assert (undoing.due_at, undoing.at_risk_since, undoing.estimated_at) == (None, None, None)
    case = FalloutCase.objects.get()
    assert (case.state, case.resolution) == ("RESOLVED", "No time is promised for it any more.")
    assert ", promised for" not in client.get(page).content.decode()


def test_what_has_been_done_counts(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(3.5)
    done("one")
    desk.advance(1800)
    # Three hours are left; what is still to be done takes two and a half.
    jeopardy.look()
    assert plan_of(order).at_risk_since is None
    desk.advance(3600)
    jeopardy.look()
    plan = plan_of(order)
    # Two hours are left, and it takes two: it is looked at again soon.
    assert plan.at_risk_since is not None or near(plan.look_at, hours=1 / 60)


def test_what_takes_longer_than_usual_comes_into_jeopardy(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(3.25)
    assert desk.claim(limit=10)
    for minutes in (14, 30, 30):
        desk.advance(minutes * 60)
        jeopardy.look()
    assert plan_of(order).at_risk_since is None
    # After an hour it should have ended; every further minute makes the order later.
    desk.advance(60 * 60)
    jeopardy.look()
    assert plan_of(order).at_risk_since is not None


def test_it_is_over_when_the_order_will_be_in_time_after_all(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(2.5)
    jeopardy.look()
    assert plan_of(order).at_risk_since is not None
    done("one")
    desk.advance(200)
    jeopardy.look()
    plan = plan_of(order)
    assert plan.at_risk_since is None
    assert FalloutCase.objects.get().state == "RESOLVED"


def test_a_finished_plan_is_not_looked_at(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(4)
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    desk.advance(5 * 3600)
    jeopardy.look()
    plan = plan_of(order)
    assert (plan.look_at, plan.at_risk_since) == (None, None)


def test_an_order_that_is_done_is_in_nobodys_way(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(2)
    jeopardy.look()
    assert FalloutCase.objects.get().state == "OPEN"
    desk.drain()
    assert plan_of(order).state == "COMPLETED"
    assert FalloutCase.objects.get().state == "RESOLVED"


def test_a_plan_that_takes_over_is_in_jeopardy_until_it_is_in_time(
    systems: ScriptedSystems,
) -> None:
    a_chain(priority="${plan.in_jeopardy ? 50 : order.priority}")
    order = promised(2)
    jeopardy.look()
    desk.workflow(
        {"three": desk.task()},
        version=2,
        priority="${plan.in_jeopardy ? 50 : order.priority}",
    )
    (moved,) = operations.migrate_orders(
        workflow="thing", version=2, orders=[order.reference], actor=by("ann"), reason="x"
    )
    assert moved.verdict is operations.Verdict.MOVED, moved.reasons
    assert desk.newest_plan_of(order).at_risk_since is not None
    jeopardy.look()
    assert desk.newest_plan_of(order).at_risk_since is None
    assert FalloutCase.objects.get().state == "RESOLVED"
    assert Fulfillment.objects.get().priority == 0
    assert desk.tasks_of(order)["three@1"].priority == 0


def turned_down(order: Order, action: str) -> None:
    (claim,) = [one for one in desk.claim(limit=10) if one.command.action == action]
    desk.settle(desk.result(claim, desk.rejected()))


def again(order: Order, key: str) -> None:
    operations.retry(task_id=desk.tasks_of(order)[key].pk, actor=by("ann"), reason="x")


def test_what_has_failed_for_good_is_still_to_be_done(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(2.5)
    turned_down(order, "one")
    jeopardy.look()
    assert near(plan_of(order).estimated_at, hours=3)


def test_what_is_tried_again_by_hand_takes_as_long_as_usual(systems: ScriptedSystems) -> None:
    a_chain()
    order = promised(20)
    turned_down(order, "one")
    desk.advance(16.5 * 3600)
    again(order, "one@1")
    assert desk.claim(limit=10)
    desk.advance(1800)
    jeopardy.look()
    assert near(plan_of(order).estimated_at, hours=2.5)


def test_what_is_tried_again_by_hand_is_as_urgent_as_its_order(systems: ScriptedSystems) -> None:
    a_chain(priority="${plan.in_jeopardy ? 50 : order.priority}")
    order = promised(2)
    turned_down(order, "one")
    jeopardy.look()
    again(order, "one@1")
    assert desk.tasks_of(order)["one@1"].priority == 50


def test_under_a_hold_that_stops_the_clock_nobody_is_late_already(
    systems: ScriptedSystems,
) -> None:
    a_chain()
    order = promised(5)
    operations.place_hold(
        scope=HoldScope.ORDER,
        name=order.reference,
        reason="x",
        actor=by("ann"),
        clock_policy=ClockPolicy.STOP,
        patience=timedelta(0),
    )
    desk.advance(6 * 3600)
    jeopardy.look()
    assert plan_of(order).at_risk_since is None
    MeasuredDuration.objects.update(median_seconds=20_000)
    durations.forget()
    desk.advance(3 * 3600)
    jeopardy.look()
    case = FalloutCase.objects.get()
    assert (case.reason_code, case.severity) == ("will_be_late", "MEDIUM")
    told = datetime.fromisoformat(case.facts["promised"])
    assert near(told, hours=5)


def test_an_order_without_a_promise_is_never_in_jeopardy(systems: ScriptedSystems) -> None:
    a_chain()
    order = desk.order()
    assert plan_of(order).look_at is None
    desk.advance(10**7)
    assert jeopardy.look() == 0


def test_a_time_that_is_waited_for_counts_with_that_time(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "wait": desk.step(wait={"until": "${order.requested_at}"}),
            "then": desk.task(after=["wait"]),
        }
    )
    takes(then=7200)
    now = desk.now()
    order = desk.order(requested_at=now + timedelta(hours=6), promised_at=now + timedelta(hours=7))
    jeopardy.look()
    plan = plan_of(order)
    assert plan.estimated_at == now + timedelta(hours=8)
    assert plan.at_risk_since is not None


def test_branches_that_were_not_taken_do_not_count(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "route": desk.step(
                after=["one"],
                decide=[{"when": "order.priority > 5", "create": ["slow"]}, {"otherwise": []}],
            ),
            "one": desk.task(),
            "slow": desk.task(),
            "end": desk.task(join="deferred", after=["slow"]),
        }
    )
    takes(slow=36_000)
    order = promised(9)
    jeopardy.look()
    assert plan_of(order).at_risk_since is not None
    done("one")
    desk.advance(400)
    jeopardy.look()
    assert plan_of(order).at_risk_since is None


def test_priority_follows_from_the_order_and_again_in_jeopardy(systems: ScriptedSystems) -> None:
    a_chain(
        priority="${plan.in_jeopardy ? 50 : order.customer.tier == 'gold' ? 10 : order.priority}"
    )
    plain, gold = promised(2, priority=3), promised(9, customer_tier="gold")
    rows = dict(Fulfillment.objects.values_list("id", "priority"))
    assert (rows[plain.fulfillment_id], rows[gold.fulfillment_id]) == (3, 10)
    (claim,) = desk.claim()
    assert claim.fulfillment_id == gold.fulfillment_id
    jeopardy.look()
    priorities = set(
        Task.objects.filter(fulfillment_id=plain.fulfillment_id).values_list("priority", flat=True)
    )
    assert priorities == {50}
    (claim,) = desk.claim()
    assert claim.fulfillment_id == plain.fulfillment_id


@pytest.mark.parametrize(
    "text", ["soon", "${order.region}x", "${order.customer.tier + 'x'}", "${order.nothing}"]
)
def test_a_priority_that_is_no_number_is_refused(systems: ScriptedSystems, text: str) -> None:
    desk.target("alpha")
    with pytest.raises(DefinitionInvalid) as refused:
        desk.workflow({"one": desk.task()}, priority=text)
    assert any(fault.path == "priority" for fault in refused.value.faults)


def test_durations_are_measured_from_what_has_ended_lately(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    for minutes in (1, 2, 9):
        desk.order()
        (claim,) = desk.claim()
        desk.advance(60 * minutes)
        desk.settle(desk.result(claim, desk.succeeded()))
        desk.drain()
    assert durations.measure() == 2
    one = MeasuredDuration.objects.get(task="one")
    assert one.samples == 3
    assert abs(one.median_seconds - 120) < 2
    assert one.p90_seconds > one.median_seconds
    assert MeasuredDuration.objects.get(task="two").median_seconds < 2
    durations.measure()
    assert MeasuredDuration.objects.count() == 2


def test_the_looks_are_by_index(systems: ScriptedSystems) -> None:
    with cursor() as raw:
        raw.execute("SET LOCAL enable_seqscan = off")
        raw.execute("EXPLAIN " + jeopardy._DUE.replace("%s", "10"))
        plan = "\n".join(row[0] for row in raw.fetchall())
    assert "plan_look" in plan
    assert OutboxEvent.objects.count() == 0


def test_what_will_be_late_has_a_case_of_its_own_when_nothing_moves(
    systems: ScriptedSystems,
) -> None:
    """That it will be late does not say what keeps it."""
    a_chain()
    order = promised(1)
    desk.advance(1)
    jeopardy.look()
    desk.advance(24 * 3600)
    assert stuck.detect_stuck() == 1
    found = {case.category: case for case in FalloutCase.objects.filter(state="OPEN")}
    assert set(found) == {"JEOPARDY", "STUCK"}
    assert found["STUCK"].plan_id == plan_of(order).pk


def test_what_can_not_be_measured_keeps_nothing_else_from_it(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.workflow({"two": desk.task()}, offering="other")
    poisoned = desk.order()
    desk.order(desk.item("other"))
    desk.drain()
    Task.objects.filter(plan=plan_of(poisoned)).update(node=77)
    assert durations.measure() == 1
    assert MeasuredDuration.objects.get().task == "two"


def test_what_has_failed_for_good_has_yet_to_be_done(systems: ScriptedSystems) -> None:
    """Told while there is time for help, and not when the promise is broken."""
    a_chain()
    systems.sends["three"] = [desk.rejected()]
    takes(three=3600)
    order = promised(4)
    desk.drain()
    assert desk.states_of(order)["three@1"] == "FAILED_FINAL"
    desk.advance(3 * 3600 + 120)
    jeopardy.look()
    assert plan_of(order).at_risk_since is not None


def test_what_is_tried_again_by_hand_takes_as_long_as_any(systems: ScriptedSystems) -> None:
    a_chain()
    systems.sends["one"] = [desk.rejected()]
    order = promised(4)
    desk.drain()
    desk.advance(3600 * 3 // 2)
    run_unit(
        lambda unit: rerun(unit, task_id=desk.tasks_of(order)["one@1"].pk),
        fulfillment_ids=[order.fulfillment_id],
        actor="ann",
    )
    desk.claim()
    Plan.objects.update(look_at=desk.now())
    jeopardy.look()
    assert near(plan_of(order).estimated_at, hours=3)
