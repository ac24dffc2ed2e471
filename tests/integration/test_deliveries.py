"""Events on their way to subscribers: in sequence, at least once, and nobody waits for another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from adapters.signatures import SignatureRefused, verify
from fulfillment import subscribers
from fulfillment.engine.outbound import deliveries, outbox
from fulfillment.engine.work import hints
from fulfillment.models import (
    Command,
    Delivery,
    FalloutCase,
    Fulfillment,
    OutboxEvent,
    Subscription,
)
from oms.environment import CHECKOUT
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.receiver import Received, Receiver, Reply
from tests.together import closing, together
from tests.waiting import until

Clock = Callable[[float], None]


class Subscribers:
    """Receivers, each with its subscription."""

    def __init__(self, settings: LazySettings) -> None:
        self._settings = settings
        self._receivers: list[Receiver] = []
        self.over = threading.Event()

    def add(self, name: str = "shop", *events: str) -> Receiver:
        receiver = Receiver()
        self._receivers.append(receiver)
        self._settings.OMS_WEBHOOK_ALLOWED_ORIGINS = [one.origin for one in self._receivers]
        subscribers.subscribe(
            name=name, url=f"{receiver.origin}/hook", event_types=events, actor=desk.by("ann")
        )
        return receiver

    def hang(self, _: Received) -> Reply:
        self.over.wait(60)
        return Reply()

    def close(self) -> None:
        self.over.set()
        for receiver in self._receivers:
            receiver.close()


@pytest.fixture
def subscribed(settings: LazySettings) -> Iterator[Subscribers]:
    deliveries.forget()
    made = Subscribers(settings)
    yield made
    made.close()


def fulfil(count: int = 1, *, tasks: int = 2) -> list[Order]:
    """Orders of some tasks one after the other, completed."""
    desk.target("alpha")
    names = [f"task{number}" for number in range(tasks)]
    desk.workflow(
        {
            name: desk.task(after=names[number - 1 : number] if number else [])
            for number, name in enumerate(names)
        },
        messages=desk.SILENT,
    )
    answers = desk.submit_all(*[desk.request() for _ in range(count)])
    desk.drain()
    return list(Order.objects.filter(reference__in=[answer.reference for answer in answers]))


def relay() -> None:
    outbox.publish_events()
    deliveries.deliver()


def types(requests: list[Received]) -> list[str]:
    return [request.event["eventType"] for request in requests]


def states() -> dict[str, int]:
    found: dict[str, int] = {}
    for state in Delivery.objects.values_list("state", flat=True):
        found[state] = found.get(state, 0) + 1
    return found


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_task_events_are_written_only_when_somebody_wants_them(
    systems: ScriptedSystems, subscribed: Subscribers
) -> None:
    fulfil()
    assert not OutboxEvent.objects.filter(event_type__startswith="Fulfillment").exists()
    subscribed.add("a", "FulfillmentTaskSucceeded", "OrderCompleted")
    (order,) = fulfil()
    written = OutboxEvent.objects.filter(fulfillment=order.fulfillment_id).order_by("id")
    assert [event.event_type for event in written] == [
        "OrderStarted",
        "FulfillmentTaskSucceeded",
        "FulfillmentTaskSucceeded",
        "OrderCompleted",
    ]
    Subscription.objects.update(active=False)
    (order,) = fulfil()
    assert OutboxEvent.objects.filter(fulfillment=order.fulfillment_id).count() == 2


@pytest.mark.django_db
def test_every_end_of_a_task_has_its_event(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str
) -> None:
    receiver = subscribed.add("a")
    desk.target("alpha")
    desk.target("blind", status_query=False, idempotent=False)
    desk.workflow(
        {
            "good": desk.task(),
            "refused": desk.task(required=False),
            "lost": desk.task("blind", required=False),
        }
    )
    systems.sends["refused"] = [desk.rejected("no_stock")]
    systems.sends["lost"] = [desk.unknown()]
    order = desk.order(external_id="SHOP-1")
    desk.drain()
    relay()
    heard = [request.event for request in receiver.received]
    assert {event["eventType"] for event in heard} == {
        "OrderStarted",
        "CustomerNotified",
        "FulfillmentPlanRunning",
        "FulfillmentTaskSucceeded",
        "FulfillmentTaskFailed",
        "FulfillmentTaskOutcomeUnknown",
        "FulfillmentTaskAwaitingManual",
        "ManualTaskOpened",
        "FulfillmentPlanBlocked",
    }
    assert {event["externalId"] for event in heard} == {"SHOP-1"}
    assert [event["sequence"] for event in heard] == list(range(1, len(heard) + 1))
    failed = next(event for event in heard if event["eventType"] == "FulfillmentTaskFailed")
    task = desk.tasks_of(order)["refused@1"]
    assert failed["task"] == "refused@1"
    assert failed["taskId"] == str(task.pk)
    assert failed["causationId"] == f"cmd-{Command.objects.get(task=task).pk}"
    assert failed["data"]["reason"].startswith("no_stock")


@pytest.mark.django_db
def test_the_envelope_is_that_of_the_contract(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str
) -> None:
    receiver = subscribed.add("a", "FulfillmentTaskSucceeded", "OrderCompleted")
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order(external_id="SHOP-1")
    desk.drain()
    relay()
    succeeded, completed = (request.event for request in receiver.received)
    task = desk.tasks_of(order)["one@1"]
    row = OutboxEvent.objects.get(event_type="FulfillmentTaskSucceeded")
    occurred_at = datetime.fromisoformat(succeeded.pop("occurredAt"))
    assert occurred_at == row.occurred_at
    assert occurred_at.utcoffset() == timedelta(0)
    cause = f"cmd-{Command.objects.get().pk}"
    correlation_id = Fulfillment.objects.get().correlation_id
    assert succeeded == {
        "eventId": f"evt-{row.pk}",
        "eventType": "FulfillmentTaskSucceeded",
        "orderId": order.reference,
        "externalId": "SHOP-1",
        "planId": str(task.plan_id),
        "taskId": str(task.pk),
        "task": "one@1",
        "resultRef": None,
        "correlationId": correlation_id,
        "causationId": cause,
        "sequence": 1,
        "data": {"state": "SUCCEEDED", "target": "alpha", "attempts": 1, "reason": ""},
    }
    assert completed["planId"] == str(task.plan_id)
    assert completed["causationId"] == cause
    assert completed["sequence"] == 2
    assert completed["data"] == {"state": "COMPLETED", "version": 1}


@pytest.mark.django_db
def test_who_subscribes_later_gets_what_happens_later(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str
) -> None:
    fulfil()
    receiver = subscribed.add()
    relay()
    assert receiver.received == []
    (order,) = fulfil()
    relay()
    assert set(receiver.by_order()) == {order.reference}


@pytest.mark.django_db
def test_each_gets_what_it_asked_for(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str
) -> None:
    some, every = subscribed.add("some", "OrderCompleted"), subscribed.add("every")
    fulfil(tasks=1)
    relay()
    assert types(some.received) == ["OrderCompleted"]
    assert types(every.received) == [
        "FulfillmentPlanRunning",
        "OrderStarted",
        "FulfillmentTaskSucceeded",
        "FulfillmentPlanCompleted",
        "OrderCompleted",
    ]
    assert every.received[-1].message_id == some.received[0].message_id


# --- how it is sent -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_signatures_hold_and_a_changing_secret_loses_nothing(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str
) -> None:
    receiver = subscribed.add("shop", "OrderCompleted")
    row = Subscription.objects.get()
    old = row.secret

    def holds(secret: str) -> bool:
        request = receiver.received[-1]
        try:
            message_id = verify(
                headers=request.headers,
                body=request.body,
                secrets=[secret],
                now_seconds=time.time(),
            )
        except SignatureRefused:
            return False
        return message_id == request.event["eventId"]

    fulfil()
    relay()
    assert (holds(old), holds("whsec_b3RoZXI=")) == (True, False)
    new = subscribers.begin_rotation(subscription=row, actor=desk.by("ann"))
    fulfil()
    relay()
    assert (holds(old), holds(new)) == (True, True)
    subscribers.finish_rotation(subscription=row, actor=desk.by("ann"))
    fulfil()
    relay()
    assert (holds(old), holds(new)) == (False, True)
    assert len(receiver.received) == 3


@pytest.mark.django_db
def test_a_signature_holds_by_the_documented_example(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str
) -> None:
    receiver = subscribed.add("shop", "OrderCompleted")
    fulfil()
    relay()
    (request,) = receiver.received
    example = (CHECKOUT / "docs" / "events.md").read_text().split("```python")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(example, names)
    secret = Subscription.objects.get().secret
    assert names["verified"](request.headers, request.body, secret)
    assert not names["verified"](request.headers, request.body + b" ", secret)
    stale = {**request.headers, "webhook-timestamp": "1700000000"}
    assert not names["verified"](stale, request.body, secret)


@pytest.mark.django_db
def test_an_order_waits_for_its_oldest_event_while_another_goes_on(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str, clock: Clock
) -> None:
    receiver = subscribed.add()
    troubled, well = fulfil(2)
    refused: list[str] = []

    def script(request: Received) -> Reply:
        if request.event["orderId"] == troubled.reference and len(refused) < 2:
            refused.append(request.message_id)
            return Reply(status=503)
        return Reply()

    receiver.script = script
    relay()
    assert len(receiver.by_order()[troubled.reference]) == 1
    events = [request.event for request in receiver.by_order()[well.reference]]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert len(events) > 3
    for _ in range(2):
        clock(3600)
        relay()
    told = [request.message_id for request in receiver.by_order()[troubled.reference]]
    assert told[:3] == [told[0]] * 3, "the same event under the same id until it is taken"
    assert len(told) == 2 + len(events)
    assert told[2:] == sorted(told[2:], key=lambda name: int(name.removeprefix("evt-")))
    assert states() == {"DELIVERED": 2 * len(events)}


@pytest.mark.django_db
def test_retry_after_is_honoured(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str, clock: Clock
) -> None:
    receiver = subscribed.add("shop", "OrderCompleted")
    receiver.script = lambda _: Reply(status=429, headers={"Retry-After": "1000"})
    fulfil()
    relay()
    delivery = Delivery.objects.get()
    assert delivery.not_before - desk.now() > timedelta(seconds=900)
    assert delivery.last_answer == "It answered 429."
    clock(900)
    relay()
    assert len(receiver.received) == 1
    clock(101)
    receiver.script = lambda _: Reply()
    relay()
    assert states() == {"DELIVERED": 1}


@pytest.mark.django_db
def test_who_never_takes_an_event_leaves_a_dead_letter_and_a_case(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str, clock: Clock
) -> None:
    receiver = subscribed.add("shop")
    (order,) = fulfil(tasks=1)
    poison: list[str] = []

    def script(request: Received) -> Reply:
        poison[:] = poison or [request.message_id]
        return Reply(status=500 if request.message_id in poison else 200)

    receiver.script = script
    for _ in range(deliveries.POLICY.maximum_attempts + 1):
        relay()
        clock(2 * 3600)
    told = [request.message_id for request in receiver.received]
    assert told.count(poison[0]) == deliveries.POLICY.maximum_attempts
    assert states() == {"DEAD": 1, "DELIVERED": 4}
    dead = Delivery.objects.get(state="DEAD")
    assert dead.last_answer == "It answered 500."
    assert dead.finished_at is not None
    case = FalloutCase.objects.get()
    assert (case.state, case.category, case.fulfillment_id) == (
        "OPEN",
        "UNDELIVERED",
        order.fulfillment_id,
    )
    assert case.facts[poison[0]]["answer"] == "It answered 500."
    sequence = [
        request.event["sequence"]
        for request in receiver.received
        if request.message_id != poison[0]
    ]
    assert sequence == [2, 3, 4, 5], "the gap shows"

    receiver.script = lambda _: Reply()
    assert subscribers.send_again(deliveries=Delivery.objects.all(), actor=desk.by("ann")) == 1
    relay()
    assert states() == {"DELIVERED": 5}
    assert receiver.received[-1].message_id == poison[0]
    case.refresh_from_db()
    assert (case.state, case.resolved_by) == ("RESOLVED", "ann")


@pytest.mark.django_db
def test_who_is_gone_is_switched_off_and_keeps_what_it_had_not_taken(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str, clock: Clock
) -> None:
    receiver = subscribed.add("shop")
    receiver.script = lambda _: Reply(status=410)
    fulfil(tasks=1)
    relay()
    assert not Subscription.objects.get().active
    assert states() == {"PENDING": 5}
    assert FalloutCase.objects.get().reason_code == "subscription.gone"
    clock(7200)
    relay()
    assert len(receiver.received) == 1
    receiver.script = lambda _: Reply()
    subscribers.switch(subscription=Subscription.objects.get(), active=True, actor=desk.by("ann"))
    relay()
    assert states() == {"DELIVERED": 5}
    assert FalloutCase.objects.get().state == "RESOLVED"


@pytest.mark.django_db
def test_nothing_is_sent_to_an_address_that_became_forbidden(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str, settings: LazySettings
) -> None:
    receiver = subscribed.add("shop", "OrderCompleted")
    fulfil()
    settings.OMS_WEBHOOK_ALLOWED_ORIGINS = []
    relay()
    assert receiver.received == []
    assert "Port" in Delivery.objects.get().last_answer


@pytest.mark.django_db
def test_who_fails_again_and_again_is_left_in_peace_for_a_while(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str, clock: Clock
) -> None:
    receiver = subscribed.add("shop", "OrderCompleted")
    receiver.script = lambda _: Reply(status=500)
    fulfil(20)
    relay()
    tried = len(receiver.received)
    assert tried < 20
    relay()
    assert len(receiver.received) == tried
    clock(31)
    relay()
    assert len(receiver.received) == tried + 1, "one request tells whether it is well again"
    receiver.script = lambda _: Reply()
    clock(3600)
    relay()
    assert states() == {"DELIVERED": 20}


# --- several at once ------------------------------------------------------------------------------


def test_a_subscriber_that_hangs_slows_nobody_else(
    committed_db: str, redis_url: str, systems: ScriptedSystems, subscribed: Subscribers
) -> None:
    hanging, well = subscribed.add("hanging"), subscribed.add("well")
    hanging.script = subscribed.hang
    fulfil(10)
    outbox.publish_events()
    loop = threading.Thread(target=closing(deliveries.deliver), daemon=True)
    loop.start()
    waiting = Delivery.objects.filter(subscription__name="well", state="PENDING")
    until(lambda: not waiting.exists())
    assert len(hanging.received) <= deliveries._AT_ONCE_PER_SUBSCRIBER
    # What happens while somebody hangs finds the loop at work, and is sent by it.
    fulfil(1)
    outbox.publish_events()
    assert waiting.exists()
    assert deliveries.deliver() == 0
    until(lambda: not waiting.exists())
    assert loop.is_alive()
    deliveries.stop()
    try:
        subscribed.over.set()
        loop.join(30)
        assert not loop.is_alive()
    finally:
        deliveries._stopping.clear()
    assert len(well.received) == Delivery.objects.filter(subscription__name="well").count()


def test_five_hundred_events_drain_each_once_and_in_sequence(
    committed_db: str, redis_url: str, systems: ScriptedSystems, subscribed: Subscribers
) -> None:
    one, two = subscribed.add("one"), subscribed.add("two")
    fulfil(50, tasks=6)
    assert OutboxEvent.objects.count() >= 500
    together(*[outbox.publish_events] * 2)
    together(*[deliveries.deliver] * 3)
    assert set(states()) == {"DELIVERED"}
    for receiver in (one, two):
        assert len(receiver.received) == OutboxEvent.objects.count()
        for requests in receiver.by_order().values():
            numbers = [request.event["sequence"] for request in requests]
            assert numbers == list(range(1, len(numbers) + 1))


def test_the_sequence_holds_while_events_are_being_written(
    committed_db: str, redis_url: str, systems: ScriptedSystems, subscribed: Subscribers
) -> None:
    receiver = subscribed.add()
    done = threading.Event()

    def work() -> None:
        try:
            fulfil(40, tasks=4)
        finally:
            done.set()

    def relay_all() -> None:
        while not done.is_set():
            outbox.publish_events(limit=7)
            deliveries.deliver()

    together(work, relay_all, relay_all)
    relay()
    assert set(states()) == {"DELIVERED"}
    assert len(receiver.received) == OutboxEvent.objects.count() == 40 * 8
    for requests in receiver.by_order().values():
        assert [request.event["sequence"] for request in requests] == list(range(1, 9))


def test_two_processes_never_have_the_same_order_on_the_wire(
    committed_db: str, redis_url: str, systems: ScriptedSystems, subscribed: Subscribers
) -> None:
    """Two loops as two processes have them; each order's events still come one after another."""
    receiver = subscribed.add()
    fulfil(6)
    outbox.publish_events()
    loops = [deliveries._Deliverer() for _ in range(2)]
    together(*[loop.run for loop in loops])
    assert set(states()) == {"DELIVERED"}
    for requests in receiver.by_order().values():
        numbers = [request.event["sequence"] for request in requests]
        assert numbers == list(range(1, len(numbers) + 1))


# --- the relay ------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_without_redis_subscribers_get_their_events(
    systems: ScriptedSystems, subscribed: Subscribers, broker_away: None
) -> None:
    receiver = subscribed.add("shop", "OrderCompleted")
    fulfil(3)
    for _ in range(2):
        relay()
    assert types(receiver.received) == ["OrderCompleted"] * 3
    assert OutboxEvent.objects.filter(published_at=None).count() == OutboxEvent.objects.count()


@pytest.mark.django_db
def test_what_the_stream_gets_later_is_not_delivered_twice(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str
) -> None:
    receiver = subscribed.add("shop", "OrderCompleted")
    fulfil(3)
    outbox._fan_out_all()
    relay()
    assert len(receiver.received) == 3
    assert not OutboxEvent.objects.filter(published_at=None).exists()


def test_a_commit_with_events_that_somebody_wants_wakes_the_relay(
    committed_db: str,
    redis_url: str,
    systems: ScriptedSystems,
    subscribed: Subscribers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nudged: list[str] = []
    monkeypatch.setattr(hints, "nudge", lambda *, task, **_: nudged.append(task))
    fulfil()
    assert hints.PUBLISH_EVENTS not in nudged
    subscribed.add("shop", "OrderCompleted")
    fulfil()
    assert nudged.count(hints.PUBLISH_EVENTS) == 1


# --- how far behind -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_lag_of_each_subscriber_shows(
    systems: ScriptedSystems, subscribed: Subscribers, redis_url: str, clock: Clock
) -> None:
    behind, _ = subscribed.add("behind", "OrderCompleted"), subscribed.add("well")
    behind.script = lambda _: Reply(status=500)
    fulfil(3)
    relay()
    Delivery.objects.filter(pk=Delivery.objects.filter(subscription__name="behind")[0].pk).update(
        state="DEAD"
    )
    clock(100)
    first, second = subscribers.lags()
    assert (first.name, first.pending, first.dead) == ("behind", 2, 1)
    assert first.oldest is not None
    assert first.oldest >= timedelta(seconds=100)
    assert first.last_answer == "It answered 500."
    assert (second.name, second.pending, second.dead, second.oldest) == ("well", 0, 0, None)


@pytest.mark.django_db
def test_subscriptions_are_managed_by_command(
    systems: ScriptedSystems,
    subscribed: Subscribers,
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
    settings: LazySettings,
) -> None:
    def run(*arguments: str) -> str:
        call_command("subscriptions", *arguments)
        return capsys.readouterr().out

    receiver = subscribed.add("other")
    added = run("add", "shop", receiver.origin, "--event", "OrderCompleted")
    row = Subscription.objects.get(name="shop")
    assert row.secret in added
    listed = run("list")
    assert row.secret not in listed
    assert f"{receiver.origin}  OrderCompleted" in listed
    assert run("rotate", "shop").startswith("whsec_")
    with pytest.raises(CommandError, match="changing already"):
        run("rotate", "shop")
    run("rotate", "shop", "--finish")
    assert "switched off" in (run("remove", "shop"), run("list"))[1]
    run("resume", "shop")
    fulfil()
    outbox.publish_events()
    Delivery.objects.filter(subscription=row).update(state="DEAD")
    assert "dead 1" in run("lag")
    assert run("redeliver", "shop").startswith("1 dead")
    with pytest.raises(CommandError, match="no subscription 'nobody'"):
        run("redeliver", "nobody")
    with pytest.raises(CommandError, match="not a public address"):
        run("add", "evil", "http://169.254.169.254/latest")
    with pytest.raises(CommandError, match="no name of an event"):
        run("add", "typo", receiver.origin, "--event", "Order Completed")
    with pytest.raises(CommandError, match="already"):
        run("add", "shop", receiver.origin)
    assert sorted(Subscription.objects.values_list("name", flat=True)) == ["other", "shop"]
