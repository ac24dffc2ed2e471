"""Commands to a broker and replies from it, with a real Redis and a real sandbox."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from kombu import Connection, Producer

from adapters.contract import NotNow, Reply
from adapters.registry import AdapterMisconfigured
from fulfillment.engine import replies, scanning, sending, sweeping, targets
from fulfillment.models import Attempt, Command, Disposition, InboundEvent, TargetSystem, Task
from oms.embedded.layout import layout_of
from oms.models import Order
from tests import desk
from tests.sandbox import Sandbox
from tests.waiting import until

QUEUE = "fieldwork"
REPLIES = "fieldwork.replies"


@pytest.fixture
def sandbox(tmp_path: Path, redis_url: str) -> Iterator[Sandbox]:
    process = Sandbox(tmp_path / "ledger.sqlite3", "--broker", redis_url)
    yield process
    process.kill()


@pytest.fixture
def broker(redis_url: str) -> Iterator[Any]:
    """A client of the Redis that carries the messages."""
    with Connection(redis_url) as connection:
        yield connection.default_channel.client


@pytest.fixture
def fieldwork(committed_db: str, redis_url: str) -> TargetSystem:
    return desk.target(
        QUEUE,
        adapter="messaging",
        settings={"queue": QUEUE, "reply_queue": REPLIES, "redelivery_after": 1},
        asynchronous=True,
        status_query=False,
    )


@pytest.fixture
def fetching(fieldwork: TargetSystem) -> Iterator[None]:
    """The process `manage.py replies`, as a thread of this one."""
    stop = threading.Event()
    thread = threading.Thread(target=replies.run, kwargs={"stop": stop})
    thread.start()
    yield
    stop.set()
    thread.join()


def visit(**spec: Any) -> Order:
    """An order of one visit, and a task that follows."""
    desk.target("alpha")
    desk.workflow(
        {
            "book_visit": desk.task(QUEUE, outputs={"visit_id": "string"}, **spec),
            "then": desk.task("alpha", depends_on=[{"output": "book_visit.visit_id"}]),
        }
    )
    return desk.order()


def completes(order: Order) -> None:
    def completed() -> bool:
        desk.drain()
        order.refresh_from_db()
        return bool(order.state == "COMPLETED")

    until(completed)


def book(order: Order) -> Command:
    """The command of the visit, published."""
    sending.drain(target=QUEUE)
    return Command.objects.get(task__fulfillment_id=order.fulfillment_id, target_id=QUEUE)


def state(order: Order) -> str:
    return desk.states_of(order)["book_visit@1"]


def push(redis_url: str, body: bytes, **properties: Any) -> None:
    """A message on the reply queue, as the other side sends it."""
    with Connection(redis_url) as connection:
        Producer(connection).publish(
            body, routing_key=REPLIES, content_type="application/json", **properties
        )


def report(command: Command, event: str = "e-1", **changes: Any) -> bytes:
    return json.dumps(
        {
            "event_id": event,
            "idempotency_key": command.idempotency_key,
            "status": "succeeded",
            "outputs": {"visit_id": "V-1"},
            **changes,
        }
    ).encode()


# --- the whole way -------------------------------------------------------------------------------


def test_an_order_over_a_broker_completes(sandbox: Sandbox, fetching: None) -> None:
    order = visit()
    completes(order)
    (command,) = Command.objects.filter(target_id=QUEUE)
    assert sandbox.effects(order.reference) == {command.idempotency_key: 1}
    (event,) = InboundEvent.objects.all()
    assert (event.source, event.disposition) == (QUEUE, Disposition.APPLIED)
    assert event.idempotency_key == command.idempotency_key


def test_the_example_workflow_completes(
    committed_db: str, sandbox: Sandbox, settings: Any, redis_url: str
) -> None:
    settings.OMS_SANDBOX_URL = sandbox.url
    call_command("targets", "load", "examples/targets/sandbox.yaml", verbosity=0)
    call_command("workflows", "publish", "examples/workflows/site-visit/v1.yaml", verbosity=0)
    order = desk.order(desk.item("site-visit"))
    stop = threading.Event()
    thread = threading.Thread(target=replies.run, kwargs={"stop": stop})
    thread.start()
    completes(order)
    stop.set()
    thread.join()
    assert set(sandbox.effects(order.reference).values()) == {1}
    assert len(sandbox.effects(order.reference)) == 3


# --- what comes in -------------------------------------------------------------------------------


def test_a_reply_that_comes_five_times_in_any_order_moves_its_task_once(
    fieldwork: TargetSystem, redis_url: str, request: pytest.FixtureRequest
) -> None:
    orders = [visit(), *(desk.order() for _ in range(4))]
    sending.drain(target=QUEUE)
    sent = [
        report(command, event=f"e-{command.pk}")
        for command in Command.objects.filter(target_id=QUEUE)
        for _ in range(5)
    ]
    random.Random(7).shuffle(sent)
    for body in sent:
        push(redis_url, body)
    request.getfixturevalue("fetching")
    for order in orders:
        completes(order)
    until(lambda: waiting(redis_url) == 0)
    assert Counter(InboundEvent.objects.values_list("disposition", flat=True)) == {"APPLIED": 5}
    for order in orders:
        moves = order.fulfillment.transitions.filter(entity="task", to_state="SUCCEEDED")
        assert moves.count() == 2


def waiting(redis_url: str) -> int:
    """Messages on the reply queue that are not acknowledged."""
    with Connection(redis_url) as connection:
        client = connection.default_channel.client
        return int(client.llen(REPLIES) + client.hlen(f"{REPLIES}.unacked"))


def test_the_properties_of_a_message_may_stand_for_the_ids_in_its_body(
    fieldwork: TargetSystem, fetching: None, redis_url: str
) -> None:
    order = visit()
    command = book(order)
    assert state(order) == "ACCEPTED"
    body = b'{"status": "succeeded", "outputs": {"visit_id": "V-1"}}'
    push(redis_url, body, message_id="m-1", correlation_id=command.idempotency_key)
    completes(order)
    assert InboundEvent.objects.get().event_id == "m-1"


def test_plain_json_on_the_list_is_a_reply_as_well(
    fieldwork: TargetSystem, fetching: None, broker: Any
) -> None:
    order = visit()
    broker.lpush(REPLIES, report(book(order)))
    completes(order)


def test_a_reply_that_is_faster_than_our_own_settlement_counts(
    fieldwork: TargetSystem, fetching: None, redis_url: str
) -> None:
    order = visit()
    (claim,) = desk.claim(QUEUE)
    push(redis_url, report(Command.objects.get(target_id=QUEUE)))
    until(lambda: state(order) == "SUCCEEDED")
    desk.settle(desk.result(claim, desk.accepted()))
    assert state(order) == "SUCCEEDED"
    completes(order)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "rejected", "error": {"code": "no_technician"}}, "FAILED_FINAL"),
        ({"status": "failed", "error": {"code": "van", "retryable": True}}, "FAILED_RETRYABLE"),
        ({"status": "failed", "error": {"code": "van"}}, "FAILED_FINAL"),
    ],
)
def test_a_reply_that_is_no_success_says_what_follows(
    fieldwork: TargetSystem, fetching: None, redis_url: str, changes: Any, expected: str
) -> None:
    order = visit()
    push(redis_url, report(book(order), **changes))
    until(lambda: state(order) == expected)
    assert changes["error"]["code"] in desk.tasks_of(order)["book_visit@1"].blocked_reason


@pytest.mark.parametrize(
    ("body", "properties", "reason"),
    [
        (b'{"status": "succee', {}, "not usable JSON"),
        (b"\xff\xfe", {}, "not usable JSON"),
        (b"[]", {}, "not a JSON object"),
        (b'{"event_id": "a", "idempotency_key": "k", "status": "perhaps"}', {}, "status"),
        (b'{"event_id": "a\\u0000", "idempotency_key": "k", "status": "failed"}', {}, "NUL"),
        (b'{"idempotency_key": "k", "status": "failed"}', {}, "event_id"),
        (
            b'{"event_id": "a", "idempotency_key": "k", "status": "failed"}',
            {"correlation_id": "other"},
            "correlation_id",
        ),
        (b'{"status": "failed"}', {"message_id": "m\x00", "correlation_id": "k"}, "message_id"),
    ],
)
def test_what_nobody_can_read_is_parked_with_the_reason_and_stops_nothing(
    fieldwork: TargetSystem,
    fetching: None,
    redis_url: str,
    body: bytes,
    properties: Any,
    reason: str,
) -> None:
    order = visit()
    command = book(order)
    for _ in range(2):
        push(redis_url, body, **properties)
    push(redis_url, report(command))
    completes(order)
    parked = InboundEvent.objects.get(disposition=Disposition.UNMATCHED)
    assert reason in parked.body["reason"]
    assert parked.idempotency_key == properties.get("correlation_id", "")
    assert waiting(redis_url) == 0


def test_a_reply_about_an_unknown_key_is_parked_unmatched(
    fieldwork: TargetSystem, fetching: None, redis_url: str
) -> None:
    push(redis_url, b'{"event_id": "a", "idempotency_key": "nobody\'s", "status": "succeeded"}')
    until(lambda: InboundEvent.objects.filter(disposition="UNMATCHED").exists())
    assert InboundEvent.objects.get().idempotency_key == "nobody's"


def test_a_target_reports_on_its_own_commands_alone(
    fieldwork: TargetSystem, fetching: None, redis_url: str
) -> None:
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task("alpha")})
    desk.order()
    (claim,) = desk.claim("alpha")
    desk.settle(desk.result(claim, desk.accepted()))
    push(redis_url, report(Command.objects.get(target_id="alpha")))
    until(InboundEvent.objects.exists)
    assert InboundEvent.objects.get().disposition == Disposition.UNMATCHED
    assert Task.objects.get(pk=claim.task_id).state == "ACCEPTED"


def test_a_reply_that_is_too_long_goes_to_the_dead_letters(
    fieldwork: TargetSystem, fetching: None, redis_url: str, broker: Any
) -> None:
    order = visit()
    command = book(order)
    push(redis_url, report(command, event="big", note="x" * 1024 * 1024), message_id="big")
    push(redis_url, report(command))
    completes(order)
    (dead,) = broker.lrange(f"{REPLIES}.dead", 0, -1)
    envelope = json.loads(dead)
    assert "longer than" in envelope["headers"]["reason"]
    assert envelope["properties"]["message_id"] == "big"
    assert not InboundEvent.objects.filter(event_id="big").exists()


# --- trouble -------------------------------------------------------------------------------------
