"""What the tasks of a plan make of it: milestones, optional tasks, blocked and completed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fulfillment.models import OutboxEvent, Task, Transition
from oms.models import Milestone, Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def plan_moves(order: Order) -> list[str]:
    rows = Transition.objects.filter(fulfillment_id=order.fulfillment_id, entity="plan")
    return list(rows.values_list("name", flat=True))


@pytest.mark.parametrize("outcome", [desk.rejected(), desk.failed(retryable=False)])
def test_an_optional_task_that_fails_does_not_hold_up_the_order(
    systems: ScriptedSystems, outcome: desk.Outcome
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "needed": desk.task(),
            "extra": desk.task(required=False),
            "after_extra": desk.task(required=False, after=["extra"]),
            "behind_it": desk.task(required=False, after=["after_extra"]),
        }
    )
    systems.sends["extra"] = [outcome]
    order = desk.order()
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert desk.states_of(order) == {
        "needed@1": "SUCCEEDED",
        "extra@1": "FAILED_FINAL",
        "after_extra@1": "SKIPPED_BY_POLICY",
        "behind_it@1": "SKIPPED_BY_POLICY",
    }
    assert "block" not in plan_moves(order)
    assert sorted(systems.actions()) == ["extra", "needed"]


def test_what_waits_for_an_optional_task_is_skipped_only_when_that_has_failed(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "needed": desk.task(),
            "extra": desk.task(required=False, outputs={"number": "string"}),
            "after_extra": desk.task(required=False, after=["extra"]),
        }
    )
    systems.sends["extra"] = [desk.succeeded()]  # and a person has to find the number
    order = desk.order()
    desk.drain()
    assert desk.states_of(order) == {
        "needed@1": "SUCCEEDED",
        "extra@1": "AWAITING_MANUAL",
        "after_extra@1": "PENDING",
    }
    assert desk.plan_of(order).state == "BLOCKED"
    command = next(one for one in systems.sent if one.action == "extra")
    task = desk.tasks_of(order)["extra@1"]
    desk.settle(
        desk.Result(
            task_id=task.pk,
            plan_id=task.plan_id,
            fulfillment_id=task.fulfillment_id,
            node=task.node,
            outcome=desk.succeeded(number="N-1"),
        )
    )
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert desk.states_of(order)["after_extra@1"] == "SUCCEEDED"
    assert command.idempotency_key


def test_optional_tasks_under_way_are_waited_for(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"needed": desk.task(), "extra": desk.task(required=False)})
    systems.sends["extra"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    assert desk.states_of(order) == {"needed@1": "SUCCEEDED", "extra@1": "ACCEPTED"}
    assert desk.plan_of(order).state == "RUNNING"


def test_a_mandatory_task_that_fails_blocks_its_plan_and_not_its_neighbours(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "fails": desk.task(),
            "after_it": desk.task(after=["fails"]),
            "healthy": desk.task(),
            "healthy_too": desk.task(after=["healthy"]),
        }
    )
    systems.sends["fails"] = [desk.rejected("no_credit")]
    broken, sound = desk.order(), desk.order()
    desk.drain()
    assert desk.states_of(broken) == {
        "fails@1": "FAILED_FINAL",
        "after_it@1": "PENDING",
        "healthy@1": "SUCCEEDED",
        "healthy_too@1": "SUCCEEDED",
    }
    plan = desk.plan_of(broken)
    assert plan.state == "BLOCKED"
    assert plan.blocked_reason == "fails@1: no_credit: The target says no."
    broken.refresh_from_db()
    sound.refresh_from_db()
    assert (broken.state, sound.state) == ("IN_PROGRESS", "COMPLETED")


def test_a_plan_is_blocked_only_when_nothing_moves_any_more(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"fails": desk.task(), "slow": desk.task()})
    order = desk.order()
    fails, slow = desk.claim(limit=2)
    desk.settle(desk.result(fails, desk.rejected()))
    assert desk.plan_of(order).state == "RUNNING"
    desk.settle(desk.result(slow, desk.succeeded()))
    assert desk.plan_of(order).state == "BLOCKED"


def test_every_reason_is_named_when_several_tasks_are_to_blame(systems: ScriptedSystems) -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"first": desk.task(), "second": desk.task()})
    systems.sends["first"] = [desk.rejected("no_credit")]
    systems.sends["second"] = [desk.unknown("timeout")]
    order = desk.order()
    desk.drain()
    reasons = desk.plan_of(order).blocked_reason.splitlines()
    assert [reason.partition(":")[0] for reason in reasons] == ["first@1", "second@1"]
    assert "no_credit" in reasons[0]
    assert "timeout" in reasons[1]


def test_a_blocked_plan_goes_on_when_the_answer_comes_after_all(systems: ScriptedSystems) -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown()))
    assert desk.plan_of(order).state == "BLOCKED"
    desk.settle(desk.result(claim, desk.succeeded()))
    plan = desk.plan_of(order)
    assert (plan.state, plan.blocked_reason) == ("RUNNING", "")
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert plan_moves(order)[-3:] == ["block", "unblock", "complete"]


def test_a_late_success_of_the_last_task_completes_a_blocked_plan(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task()})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown()))
    desk.settle(desk.result(claim, desk.succeeded()))
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert desk.plan_of(order).blocked_reason == ""


def test_an_input_that_can_not_be_made_waits_for_a_person(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(),
            "two": desk.task(after=["one"], input={"site": "${item.place.id}"}),
        }
    )
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["two@1"]
    assert task.state == "AWAITING_MANUAL"
    assert "item.place.id" in task.blocked_reason
    assert "two@1" in desk.plan_of(order).blocked_reason
    assert systems.actions() == ["one"]


# --- milestones -------------------------------------------------------------------------------


def test_a_milestone_is_reached_once_and_with_the_last_of_its_carriers(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task(), "two": desk.task(after=["one"])},
        milestones={"installed": {"title": "Installed", "reached_by": "one"}},
    )
    order = desk.order(desk.item(), desk.item(item_id="2"), desk.item(item_id="3"))
    claims = desk.claim(limit=3)
    for claim in claims[:2]:
        desk.settle(desk.result(claim, desk.succeeded()))
    assert not Milestone.objects.exists()
    desk.settle(desk.result(claims[2], desk.succeeded()))
    reached = Milestone.objects.get()
    assert (reached.order_id, reached.name, reached.title) == (order.pk, "installed", "Installed")
    for claim in claims:
        desk.settle(desk.result(claim, desk.succeeded()))
    desk.drain()
    assert list(Milestone.objects.values()) == [
        {
            "id": reached.pk,
            "order_id": order.pk,
            "name": "installed",
            "title": "Installed",
            "reached_at": reached.reached_at,
        }
    ]


def test_carriers_that_succeed_in_one_batch_reach_their_milestone_once(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task()}, milestones={"installed": {"title": "Done", "reached_by": "one"}}
    )
    orders = [desk.order(desk.item(), desk.item(item_id="2")) for _ in range(3)]
    claims = desk.claim(limit=6)
    desk.settle(*(desk.result(claim, desk.succeeded()) for claim in claims))
    assert sorted(Milestone.objects.values_list("order_id", flat=True)) == [o.pk for o in orders]


def test_a_milestone_that_the_customer_was_told_is_not_reached_again(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task()}, milestones={"installed": {"title": "Done", "reached_by": "one"}}
    )
    order = desk.order()
    told = Milestone.objects.create(
        order=order, name="installed", title="Done before", reached_at=order.submitted_at
    )
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    reached = Milestone.objects.get()
    assert (reached.pk, reached.title, reached.reached_at) == (
        told.pk,
        "Done before",
        order.submitted_at,
    )


@pytest.mark.parametrize("outcome", [desk.accepted(), desk.rejected(), desk.unknown()])
def test_no_milestone_without_confirmation(systems: ScriptedSystems, outcome: desk.Outcome) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task()}, milestones={"installed": {"title": "Done", "reached_by": "one"}}
    )
    desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, outcome))
    assert not Milestone.objects.exists()


# --- what subscribers hear --------------------------------------------------------------------


def test_the_events_of_an_order_are_written_with_its_states(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order(external_id="X-events")
    desk.drain()
    events = OutboxEvent.objects.filter(fulfillment=order.fulfillment_id).order_by("id")
    assert [(event.event_type, event.payload.get("state")) for event in events] == [
        ("OrderStarted", "IN_PROGRESS"),
        ("CustomerNotified", None),
        ("OrderCompleted", "COMPLETED"),
        ("CustomerNotified", None),
    ]
    assert {event.payload["external_id"] for event in events} == {"X-events"}
    assert all(event.published_at is None for event in events)


def test_the_end_of_plan_and_order_is_timed(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    clock(3600)
    desk.drain()
    order.refresh_from_db()
    plan = desk.plan_of(order)
    assert order.finished_at is not None
    assert order.finished_at == plan.finished_at == Task.objects.get().changed_at
    assert (order.finished_at - order.submitted_at).total_seconds() >= 3600
