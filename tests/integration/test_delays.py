"""Delay detected: customers of late orders are told once, and never why."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fulfillment import stuck
from fulfillment.models import OutboxEvent
from oms import delays
from oms.changes import cancelling
from oms.models import Notification, Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
SECRET = "Provisioning API returned 503 at 10.0.0.7"


def delayed(order: Order) -> list[Notification]:
    return list(Notification.objects.filter(order=order, occasion="delayed").order_by("channel"))


def test_a_promised_date_that_has_passed_is_told_once(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order(
        customer_email="anna@example.org", promised_at=desk.now() + timedelta(hours=1)
    )
    assert delays.tell_delays() == 0
    desk.advance(3601)
    assert delays.tell_delays() == 1
    letter, hook = delayed(order)
    assert (letter.state, hook.state) == ("QUEUED", "SENT")
    assert letter.body.endswith("is delayed. We are working on it.")
    assert delays.tell_delays() == 0
    desk.drain()
    assert delays.tell_delays() == 0
    assert len(delayed(order)) == 2


def test_a_new_version_of_the_order_may_be_late_again(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order(promised_at=desk.now() - timedelta(hours=1))
    assert delays.tell_delays() == 1
    Order.objects.filter(pk=order.pk).update(version=2)
    assert delays.tell_delays() == 1
    assert [one.order_version for one in delayed(order)] == [1, 2]


def test_an_order_that_is_done_in_time_is_never_late(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order(promised_at=desk.now() + timedelta(hours=1))
    desk.drain()
    desk.advance(7200)
    assert delays.tell_delays() == 0


def test_a_stuck_plan_is_told_after_the_workflows_patience(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, tell_delay_after="PT2H")
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    assert stuck.detect_stuck() == 1
    desk.advance(7000)
    assert delays.tell_delays() == 0
    desk.advance(300)
    assert delays.tell_delays() == 1
    assert len(delayed(order)) == 1


def test_silence_is_kept_and_still_counted(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, messages={"delayed": {"message": "x", "channels": []}})
    order = desk.order(promised_at=desk.now() - timedelta(hours=1))
    assert delays.tell_delays() == 1
    assert delays.tell_delays() == 0
    assert delayed(order) == []


def test_no_internal_error_ever_reaches_a_customer(systems: ScriptedSystems) -> None:
    """Whatever tasks, plans and cases say of trouble, no message to a customer says it."""
    desk.target("alpha")
    desk.target("beta", idempotent=False, status_query=False)
    desk.workflow(
        {
            "one": desk.task(),
            "two": desk.task("beta", after=["one"]),
            "three": desk.task(after=["one"]),
        },
        milestones={
            "begun": {"title": "We have begun", "reached_by": "one", "tell": "We have begun."},
            "done": {"title": "Done", "reached_by": "two", "tell": "It is done."},
        },
    )
    trouble = desk.failed(SECRET)
    systems.sends["one"] = [trouble, desk.succeeded()]
    systems.sends["two"] = [desk.unknown(SECRET)]
    systems.sends["three"] = [desk.rejected(SECRET)]
    order = desk.order(customer_email="anna@example.org", customer_name="Anna")
    for _ in range(4):
        desk.drain()
        desk.advance(3600)
        stuck.detect_stuck()
        delays.tell_delays()
    plan = desk.plan_of(order)
    reasons = [task.blocked_reason for task in desk.tasks_of(order).values()] + [plan.stuck_reason]
    assert any(SECRET in reason for reason in reasons)
    said = list(Notification.objects.filter(order=order))
    assert {one.occasion for one in said} == {"accepted", "milestone:begun", "delayed"}
    told = [text for one in said for text in (one.subject, one.body)]
    told += [
        str(event.payload) for event in OutboxEvent.objects.filter(event_type="CustomerNotified")
    ]
    internal = {SECRET, *filter(None, reasons), "alpha", "beta", "BLOCKED", "AWAITING_MANUAL"}
    assert not [(text, word) for text in told for word in internal if word in text]


def test_who_wants_an_order_cancelled_is_not_told_that_it_is_delayed(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(compensation={"action": "undo_one", "input": {}}),
            "two": desk.task(after=["one"]),
        }
    )
    systems.sends["two"] = [desk.failed(retryable=False)]
    order = desk.order(promised_at=desk.now() + timedelta(hours=1))
    desk.finish()
    cancelling.cancel(order=order, requested_by="a client", reason="Enough.")
    desk.advance(3601)
    assert delays.tell_delays() == 0
    assert delayed(order) == []
