"""A process dies in the middle of its work; what others make of it afterwards is complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fulfillment import subscribers
from fulfillment.authority.actors import engine
from fulfillment.engine.outbound import deliveries, outbox
from fulfillment.engine.work import audit
from fulfillment.models import (
    Attempt,
    Command,
    Delivery,
    InboundEvent,
    OutboxEvent,
    Purpose,
    Task,
)
from oms.demo import samples
from oms.intake import feasibility
from tests import desk
from tests.crash import desk_worker
from tests.crash.conftest import Desk, published
from tests.receiver import Receiver

_IN_SUBMISSION = ["unit.before_flush", "unit.before_commit", "unit.after_commit"]
_AT_WORK = [
    *(f"unit.before_flush@{number}" for number in (1, 9, 14)),
    *(f"unit.before_commit@{number}" for number in (2, 8, 11, 14)),
    *(f"unit.after_commit@{number}" for number in (2, 8, 11, 14)),
    *(f"settlement.before_successors@{number}" for number in (1, 4)),
    *(f"settlement.inside@{number}" for number in (2, 5)),
    *(f"sending.before_claim@{number}" for number in (1, 12)),
    *(f"sending.before_send@{number}" for number in (1, 12)),
    *(f"sending.after_send@{number}" for number in (1, 6, 14)),
    "feasibility.before_deciding",
]


@pytest.mark.parametrize("point", [*_IN_SUBMISSION, *_AT_WORK])
def test_crash_anywhere(shop: Desk, point: str) -> None:
    """crash-anywhere: no order is lost, stuck for ever, or fulfilled twice."""
    if point in _IN_SUBMISSION:
        shop.dies("submit", at=point)
    desk_worker.submit()  # the client sends it again, or for the first time
    if point in _AT_WORK:
        shop.dies("work", at=point)
    shop.finish()
    shop.nothing_is_lost_or_done_twice()


def test_one_crash_after_another(shop: Desk) -> None:
    desk_worker.submit()
    for number in range(1, 7):
        shop.dies("work", at=f"sending.after_send@{number}")
        shop.later(60)
    shop.finish()
    shop.nothing_is_lost_or_done_twice()


ASKED = sorted({one["match"]["target"] for one in samples.BEHAVIOURS if "target" in one["match"]})
"""The systems that the samples need: every kind of them is among these."""


@pytest.mark.parametrize("target", ASKED)
def test_a_system_that_did_it_for_a_worker_that_died_does_it_once(shop: Desk, target: str) -> None:
    """Whether it deduplicates, answers questions, both, or reports later."""
    desk_worker.submit()
    shop.stops_before(target)
    shop.dies("work", target, at="sending.after_send")
    assert Attempt.objects.filter(finished_at=None, task__target_id=target).exists()
    shop.finish()
    shop.nothing_is_lost_or_done_twice()


def test_recovery_may_die_as_well(shop: Desk) -> None:
    desk_worker.submit()
    shop.stops_before("payment")
    shop.dies("work", "payment", at="sending.after_send")
    lost = Task.objects.filter(target_id="payment", state="DISPATCHED")
    in_doubt = Task.objects.filter(target_id="payment", state="OUTCOME_UNKNOWN")
    questions = Attempt.objects.filter(purpose=Purpose.QUERY, task__target_id="payment")
    shop.later(600)
    shop.dies("work", "payment", at="sweeping.before_settling")
    shop.dies("work", "payment", at="unit.before_commit")  # the sweeper
    assert lost.exists()
    shop.dies("work", "payment", at="unit.after_commit")
    assert in_doubt.exists()
    shop.later(60)
    shop.dies("work", "payment", at="sending.after_query")
    assert questions.filter(finished_at=None).exists()
    shop.later(600)
    shop.child("work", "payment")  # whose answer was lost is to be asked again
    shop.later(600)
    shop.dies("work", "payment", at="sending.after_send")  # the next question
    assert questions.filter(finished_at=None).exists()
    shop.finish()
    shop.nothing_is_lost_or_done_twice()


def test_without_the_fast_path_the_scanner_may_die(
    shop: Desk, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.OMS_FAST_PATH = False
    monkeypatch.setenv("OMS_FAST_PATH", "off")
    desk_worker.submit()
    feasibility.assess()
    ready = Task.objects.filter(state="READY")
    shop.dies("work", at="scanning.holding_rows")
    assert not ready.exists()
    shop.dies("work", at="unit.before_commit")
    assert not ready.exists()
    shop.dies("work", at="unit.after_commit")
    assert ready.exists()
    shop.finish()
    shop.nothing_is_lost_or_done_twice()


@pytest.mark.parametrize(
    ("point", "duplicate"),
    [
        ("callback.stored_not_applied", False),
        ("unit.before_flush", False),
        ("unit.before_commit", False),
        ("unit.after_commit", True),
        ("callback.committed_before_200", True),
    ],
)
def test_a_report_whose_receiver_died_moves_its_task_once(
    shop: Desk, systems: Any, point: str, duplicate: bool
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain(["alpha"])
    command = Command.objects.get(task__plan__fulfillment_id=order.fulfillment_id)
    event = json.dumps(
        {
            "source": "alpha",
            "event_id": "e-1",
            "idempotency_key": command.idempotency_key,
            "outputs": {},
        }
    )
    shop.dies("report", event, at=point)
    assert InboundEvent.objects.exists() == duplicate
    again = shop.child("report", event)
    assert again.stdout.split() == ["APPLIED", str(duplicate)]
    assert InboundEvent.objects.count() == 1
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_events_are_published_again_when_their_publisher_died(
    shop: Desk, systems: Any, redis_url: str
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, messages=desk.SILENT)
    desk.order()
    desk.drain(["alpha"])
    shop.dies("publish", at="outbox.streamed_before_marked")
    assert OutboxEvent.objects.filter(published_at=None).count() == 2
    assert outbox.publish_events() == 2
    assert not OutboxEvent.objects.filter(published_at=None).exists()
    names = published()
    assert len(names) == 4
    assert names[:2] == names[2:], "in order, under the ids by which subscribers deduplicate"


@pytest.fixture
def receiver(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A subscriber to everything, which this process and its children may send to."""
    deliveries.forget()
    one = Receiver()
    settings.OMS_WEBHOOK_ALLOWED_ORIGINS = [one.origin]
    monkeypatch.setenv("OMS_WEBHOOK_ALLOWED_ORIGINS", one.origin)
    yield one
    one.close()


@pytest.mark.parametrize(
    ("point", "arrived_before"),
    [
        ("outbox.claimed_before_send", 0),
        ("outbox.sent_before_marked", 1),
        ("outbox.sent_before_marked@3", 3),
    ],
)
def test_an_event_whose_sender_died_is_sent_again_under_the_same_id(
    shop: Desk, systems: Any, redis_url: str, receiver: Receiver, point: str, arrived_before: int
) -> None:
    subscribers.subscribe(name="shop", url=receiver.origin, actor=engine("a test"))
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    desk.order()
    desk.drain(["alpha"])
    outbox.publish_events()
    shop.dies("deliver", at=point)
    assert len(receiver.received) == arrived_before
    assert Delivery.objects.filter(state="DELIVERED").count() == max(0, arrived_before - 1)
    assert deliveries.deliver() == 0, "until its lease ends nobody else sends it, or what follows"
    shop.later(60)
    assert deliveries.deliver() == Delivery.objects.count() - max(0, arrived_before - 1)
    ids = [request.message_id for request in receiver.received]
    assert len(set(ids)) == len(ids) - bool(arrived_before) == Delivery.objects.count()
    assert ids == sorted(ids, key=lambda name: int(name.removeprefix("evt-")))


def test_deliveries_survive_a_relay_that_died(
    shop: Desk, systems: Any, redis_url: str, receiver: Receiver
) -> None:
    subscribers.subscribe(name="shop", url=receiver.origin, actor=engine("a test"))
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order()
    desk.drain(["alpha"])
    shop.dies("publish", at="outbox.streamed_before_marked")
    assert not Delivery.objects.exists()
    written = outbox.publish_events()
    assert deliveries.deliver() == written == len(receiver.received)
