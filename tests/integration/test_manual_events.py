"""Subscribers hear of what people have to decide, and of tasks that no target system does."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.engine.dispatch import sweeping
from fulfillment.models import ManualTask, OutboxEvent, Subscription
from oms.changes import cancelling
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db


def subscribe(*event_types: str) -> None:
    Subscription.objects.create(
        name="desk",
        url="https://desk.example/hook",
        secret="whsec_c2VjcmV0",
        event_types=list(event_types),
    )


def asked(**manual: Any) -> Order:
    desk.target("alpha")
    spec = {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Look at it.",
        "outcomes": {"approved": "proceed", "rejected": "refuse"},
        "within": "PT5H",
        "otherwise": "rejected",
        **manual,
    }
    desk.workflow(
        {
            "approve": desk.step(title="Approve it", manual=spec),
            "ship": desk.task(after=["approve"]),
        }
    )
    order = desk.order()
    desk.finish()
    return order


def heard() -> list[tuple[str, dict[str, Any]]]:
    rows = OutboxEvent.objects.exclude(event_type__startswith="Order").order_by("pk")
    return [(row.event_type, row.payload) for row in rows if row.event_type != "CustomerNotified"]


def test_a_manual_task_is_told_when_it_is_opened_and_when_it_is_decided(
    systems: ScriptedSystems,
) -> None:
    subscribe("ManualTaskOpened", "ManualTaskDecided")
    order = asked()
    manual = ManualTask.objects.get()
    ((opened, said),) = heard()
    assert opened == "ManualTaskOpened"
    assert said == {
        "task": "approve@1",
        "manual_task": manual.pk,
        "title": "Approve it",
        "queue": "approvals",
        "role": "manager",
        "origin": "WORKFLOW",
        "state": "OPEN",
        "claimed_by": None,
        "outcomes": ["approved", "rejected"],
        "due_at": manual.due_at.isoformat(),
        "outcome": None,
        "decided_by": None,
        "reason": None,
    }
    operations.decide(manual_id=manual.pk, outcome="approved", actor=by("ann"), reason="Fine.")
    kind, said = heard()[-1]
    assert kind == "ManualTaskDecided"
    assert (said["outcome"], said["decided_by"], said["reason"]) == ("approved", "ann", "Fine.")
    event = OutboxEvent.objects.get(event_type="ManualTaskDecided")
    assert event.task_id == desk.tasks_of(order)["approve@1"].pk


def test_a_deadline_decides_under_its_own_name(systems: ScriptedSystems, clock: Any) -> None:
    subscribe("ManualTaskDecided")
    asked()
    clock(5 * 3600 + 1)
    sweeping.sweep()
    ((_, said),) = heard()
    assert (said["outcome"], said["decided_by"]) == ("rejected", "deadline")


def test_nothing_is_written_that_nobody_wants_to_hear(systems: ScriptedSystems) -> None:
    asked()
    assert heard() == []


def test_what_no_target_system_does_has_no_target_in_its_events(systems: ScriptedSystems) -> None:
    subscribe("FulfillmentTaskSucceeded")
    asked()
    operations.decide(
        manual_id=ManualTask.objects.get().pk, outcome="approved", actor=by("ann"), reason="Fine."
    )
    desk.finish()
    told = {said["task"]: said["target"] for _, said in heard()}
    assert told == {"approve@1": None, "ship@1": "alpha"}


def test_a_manual_task_that_nobody_has_to_decide_any_more_is_told(
    systems: ScriptedSystems,
) -> None:
    subscribe("ManualTaskWithdrawn")
    order = asked()
    manual = ManualTask.objects.get()
    cancelling.cancel(order=order, requested_by="ann", reason="no more need")
    manual.refresh_from_db()
    assert manual.state == "WITHDRAWN"
    ((kind, said),) = heard()
    assert (kind, said["manual_task"]) == ("ManualTaskWithdrawn", manual.pk)
