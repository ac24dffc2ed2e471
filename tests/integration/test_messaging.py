"""Commands to a broker and replies from it, with a real Redis and a real sandbox."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from kombu import Connection, Producer

from adapters.contract import Reply, ReplySource
from adapters.registry import AdapterMisconfigured
from fulfillment.engine.dispatch import replies, sending, sweeping
from fulfillment.engine.store import targets
from fulfillment.models import Attempt, Command, Disposition, InboundEvent, TargetSystem, Task
from oms.embedded import redis
from oms.embedded.layout import Layout, layout_of, prepare_servers
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
    with fetched():
        yield


@contextmanager
def fetched() -> Iterator[None]:
    """`manage.py replies` as a thread of this process, for the time of the block."""
    stop = threading.Event()
    thread = threading.Thread(target=replies.run, kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
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
    with fetched():
        completes(order)
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


@pytest.fixture
def own_redis(home: Path, fieldwork: TargetSystem) -> Iterator[Layout]:
    """A Redis of the test's own, which carries the target's messages and may be stopped."""
    layout = layout_of(home)
    prepare_servers(layout)
    redis.start(layout)
    fieldwork.settings = {**fieldwork.settings, "broker_url": layout.redis_url()}
    fieldwork.save()
    targets.forget()
    yield layout
    redis.stop(layout)


def test_a_broker_that_is_away_costs_time_and_nothing_else(
    own_redis: Layout, tmp_path: Path
) -> None:
    redis.stop(own_redis)
    order = visit()
    sending.drain(target=QUEUE)
    task = desk.tasks_of(order)["book_visit@1"]
    assert (task.state, task.attempts) == ("FAILED_RETRYABLE", 1)
    assert "broker_unreachable" in task.blocked_reason
    redis.start(own_redis)
    sandbox = Sandbox(tmp_path / "own.sqlite3", "--broker", own_redis.redis_url())
    with fetched():
        desk.advance(60)
        completes(order)
    assert set(sandbox.effects(order.reference).values()) == {1}
    sandbox.kill()


def test_connections_recover_when_the_broker_was_restarted(
    own_redis: Layout, tmp_path: Path
) -> None:
    sandbox = Sandbox(tmp_path / "own.sqlite3", "--broker", own_redis.redis_url())
    with fetched():
        completes(visit())
        redis.stop(own_redis)
        away = desk.order()
        sending.drain(target=QUEUE)
        assert state(away) == "FAILED_RETRYABLE"
        redis.start(own_redis)
        back = desk.order()
        sending.drain(target=QUEUE)
        assert state(back) in ("ACCEPTED", "SUCCEEDED")
        completes(back)
        desk.advance(60)
        completes(away)
    sandbox.kill()


def test_a_reply_waits_for_a_database_that_is_away(
    fieldwork: TargetSystem, redis_url: str, broker: Any, committed_db: str
) -> None:
    order = visit()
    command = book(order)
    with fetched():
        # Which queues there are is in the database: it has to be read before that is away.
        until(lambda: any(one.name == f"replies-{QUEUE}" for one in threading.enumerate()))
        with database_away():
            push(redis_url, report(command))
            until(lambda: broker.hlen(f"{REPLIES}.unacked") == 1)
        until(lambda: state(order) == "SUCCEEDED")
        until(lambda: waiting(redis_url) == 0)


def test_a_reply_that_could_not_be_recorded_is_there_for_the_next_process(
    fieldwork: TargetSystem, redis_url: str, broker: Any
) -> None:
    order = visit()
    command = book(order)
    with database_away():
        stop = threading.Event()
        source = targets._build(fieldwork)
        assert isinstance(source, ReplySource)
        push(redis_url, report(command))

        def record(reply: Reply) -> None:
            stop.set()
            replies.record(reply, target=QUEUE, stop=stop)

        source.receive_replies(record=record, stop=stop)
    assert (broker.llen(REPLIES), broker.hlen(f"{REPLIES}.unacked")) == (1, 0)
    with fetched():
        completes(order)


@contextmanager
def database_away() -> Iterator[None]:
    """Nobody gets a connection to the test's database, and those who had one have lost it."""
    name = connection.settings_dict["NAME"]
    connection.close()
    with psycopg.connect(
        settings.ENVIRONMENT.database_owner_url, dbname="postgres", autocommit=True
    ) as owner:
        owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND usename IS NOT NULL",
            [name],
        )
        # Whoever asks for one is told so, only sooner than it would be.
        connection.pool.timeout = 0.5  # type: ignore[attr-defined]
        try:
            yield
        finally:
            owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            # A pool that has failed takes its time before it tries again.
            connection.close_pool()  # type: ignore[attr-defined]


def test_a_command_whose_worker_died_after_the_publication_has_one_effect(
    sandbox: Sandbox, fetching: None
) -> None:
    order = visit()
    (claim,) = desk.claim(QUEUE)
    adapter = targets.adapter_for(TargetSystem.objects.get(pk=QUEUE))
    adapter.send(command=claim.command)  # and the worker that did this is gone
    completes(order)
    assert set(sandbox.effects(order.reference).values()) == {1}
    assert Attempt.objects.filter(finished_at=None, task__target_id=QUEUE).count() == 1
    desk.advance(600)
    sweeping.sweep()
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_a_reply_that_never_comes_is_asked_for_by_sending_again(
    sandbox: Sandbox, fetching: None
) -> None:
    sandbox.script({"behaviour": {"kind": "never_call_back"}, "times": 1})
    order = visit(retry={"maximum_attempts": 3}, timeouts={"callback": "PT1M"})
    book(order)
    assert state(order) == "ACCEPTED"
    desk.advance(120)
    sweeping.sweep()
    assert state(order) == "READY", "under the same key; the target deduplicates"
    desk.advance(120)
    completes(order)
    assert list(sandbox.effects(order.reference).values()) == [1]


@pytest.mark.parametrize("kind", ["duplicate_callback", "callback_before_answer", "latency"])
def test_what_the_sandbox_does_to_replies_changes_nothing(
    sandbox: Sandbox, fetching: None, kind: str
) -> None:
    sandbox.script({"behaviour": {"kind": kind}})
    order = visit()
    completes(order)
    assert list(sandbox.effects(order.reference).values()) == [1]


def test_a_garbled_reply_of_the_sandbox_is_parked(sandbox: Sandbox, fetching: None) -> None:
    sandbox.script({"behaviour": {"kind": "garbage"}, "times": 1})
    order = visit()
    book(order)
    until(lambda: InboundEvent.objects.filter(disposition="UNMATCHED").exists())
    assert state(order) == "ACCEPTED"


def test_a_sandbox_that_is_killed_replies_after_its_return(
    sandbox: Sandbox, fetching: None, redis_url: str
) -> None:
    sandbox.script({"behaviour": {"kind": "asynchronous", "latency_ms": 1000}})
    order = visit()
    book(order)
    until(lambda: len(sandbox.effects(order.reference)) == 1)
    sandbox.kill()
    sandbox.start("--broker", redis_url)
    completes(order)
    assert list(sandbox.effects(order.reference).values()) == [1]


# --- rows ----------------------------------------------------------------------------------------


def test_a_target_that_comes_goes_or_changes_is_noticed(
    committed_db: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "_LOOK_SECONDS", 0.1)

    def threads() -> set[str]:
        return {one.name for one in threading.enumerate() if one.name.startswith("replies-")}

    with fetched():
        row = desk.target(
            QUEUE,
            adapter="messaging",
            settings={"queue": QUEUE, "reply_queue": "others"},
            asynchronous=True,
            status_query=False,
        )
        until(lambda: threads() == {"replies-fieldwork"})
        row.settings = {"queue": QUEUE, "reply_queue": REPLIES}
        row.save()
        push(redis_url, b'{"event_id": "a", "idempotency_key": "k", "status": "failed"}')
        until(InboundEvent.objects.exists)
        row.delete()
        until(lambda: threads() == set())


def test_a_reply_queue_belongs_to_one_target(
    fieldwork: TargetSystem, tmp_path: Path, redis_url: str, broker: Any
) -> None:
    file = tmp_path / "targets.yaml"
    file.write_text(
        "targets:\n"
        "  second:\n"
        "    title: Another\n"
        "    queue: crm\n"
        "    adapter: messaging\n"
        f"    settings: {{queue: second, reply_queue: {REPLIES}}}\n"
        "    idempotent: true\n"
        "    status_query: false\n"
        "    asynchronous: true\n"
    )
    with pytest.raises(CommandError, match="share its reply queue with 'fieldwork'"):
        call_command("targets", "load", str(file))
    # Behind the door's back: then nobody's replies are fetched, rather than the wrong one's.
    row = TargetSystem.objects.get(pk=QUEUE)
    row.pk = "second"
    row.save(force_insert=True)
    assert replies._sources() == {}


@pytest.mark.parametrize("name", ["crm", "orchestration"])
def test_the_engines_own_queues_are_refused(committed_db: str, name: str) -> None:
    row = TargetSystem(
        name="greedy",
        queue="crm",
        adapter="messaging",
        settings={"queue": "greedy", "reply_queue": name},
        idempotent=True,
        status_query=False,
        asynchronous=True,
    )
    with pytest.raises(AdapterMisconfigured, match="engine's own"):
        targets.check(row)
