"""A process dies in the middle of its work; what others make of it afterwards is complete."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import celery
import pytest
from django.core.management import call_command

from adapters.sandbox.systems import SYSTEMS
from fulfillment import subscribers
from fulfillment.engine import audit, deliveries, outbox
from fulfillment.models import (
    Attempt,
    Command,
    Delivery,
    InboundEvent,
    OutboxEvent,
    Purpose,
    Task,
)
from oms.embedded.layout import layout_of
from oms.environment import CHECKOUT
from oms.intake import feasibility
from oms.models import ApiClient, Order
from tests import desk
from tests.chaos.proxy import Proxy
from tests.conftest import ENVIRONMENT
from tests.crash import desk_worker
from tests.receiver import Receiver
from tests.sandbox import Sandbox
from tests.waiting import until


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    process = Sandbox(tmp_path / "ledger.sqlite3")
    yield process
    process.kill()


class Desk:
    """The desk's database and target systems, shared with child processes."""

    def __init__(self, url: str, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._clock = 0.0
        self._variables = {
            "DATABASE_URL": url,
            "OMS_SANDBOX_URL": sandbox.url,
            "OMS_SECRET_KEY": "of the tests alone",
        }

    def child(
        self, *arguments: str, failpoint: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """A part of the work in a process of its own, which dies at `failpoint`."""
        return subprocess.run(
            [sys.executable, "-m", "tests.crash.desk_worker", *arguments],
            cwd=CHECKOUT,
            env={
                **os.environ,
                **self._variables,
                "OMS_FAILPOINTS": failpoint,
                "DESK_CLOCK_SECONDS": str(self._clock),
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def background(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The same, while the test looks on; it is gone at the end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.desk_worker", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, **self._variables, "DESK_CLOCK_SECONDS": str(self._clock)},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def dies(self, *arguments: str, at: str) -> None:
        done = self.child(*arguments, failpoint=at)
        assert done.returncode == -signal.SIGKILL, f"{at} was never reached: {done.stderr}"

    def later(self, seconds: float) -> None:
        """Time passes, for this process and for the children that come."""
        self._clock += seconds
        desk.advance(seconds)

    def stops_before(self, target: str) -> None:
        """Everything else goes on until this target system has something to do."""
        waiting = Task.objects.filter(target_id=target, state="READY")
        self._go_on(waiting.exists, *(name for name in SYSTEMS if name != target))

    def finish(self) -> None:
        """Whoever comes next goes on with the work until nothing is left."""
        self._go_on(lambda: desk_worker.unfinished() == 0)

    def _go_on(self, done: Callable[[], bool], *targets: str) -> None:
        """Look again and again as time passes on the database's clock.

        What the sandbox accepts it does in real time, so it is real time that runs out here.
        """

        def look() -> bool:
            desk_worker.work(*targets)
            if not done():
                self.later(60)
                return False
            return True

        try:
            until(look)
        except pytest.fail.Exception:
            still_open = Task.objects.exclude(state="SUCCEEDED").values_list("key", "state")
            pytest.fail(f"It does not go on; open: {sorted(still_open)}")

    def nothing_is_lost_or_done_twice(self) -> None:
        orders = list(Order.objects.all())
        assert len(orders) == 7
        assert {order.state for order in orders} == {"COMPLETED"}
        for order in orders:
            effects = self.sandbox.effects(order.reference)
            keys = set(
                Command.objects.filter(task__plan__fulfillment_id=order.fulfillment_id).values_list(
                    "idempotency_key", flat=True
                )
            )
            assert keys <= set(effects)
            assert set(effects.values()) == {1}
            assert audit.verify(fulfillment_id=order.fulfillment_id) == []
        self.every_event_is_published()

    def every_event_is_published(self) -> None:
        while outbox.publish_events():
            pass
        written = {str(pk) for pk in OutboxEvent.objects.values_list("pk", flat=True)}
        assert len(written) >= 2 * Order.objects.count()
        assert set(published()) == written


def published() -> list[str]:
    """Ids of the events in the stream, in its order."""
    with celery.current_app.connection_for_read() as connection:
        rows = connection.default_channel.client.xrange(outbox.STREAM)
    return [fields[b"event_id"].decode() for _, fields in rows]


@pytest.fixture
def shop(committed_db: str, redis_url: str, sandbox: Sandbox, settings: Any) -> Desk:
    settings.OMS_SANDBOX_URL = sandbox.url
    call_command("targets", "load", "examples/targets/sandbox.yaml", verbosity=0)
    call_command("workflows", "publish", verbosity=0)
    return Desk(committed_db, sandbox)


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


@pytest.mark.parametrize("target", [name for name in SYSTEMS if name != "blackbox"])
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
    desk.workflow({"one": desk.task()})
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
    subscribers.subscribe(name="shop", url=receiver.origin)
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
    subscribers.subscribe(name="shop", url=receiver.origin)
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order()
    desk.drain(["alpha"])
    shop.dies("publish", at="outbox.streamed_before_marked")
    assert not Delivery.objects.exists()
    written = outbox.publish_events()
    assert deliveries.deliver() == written == len(receiver.received)


_BY_CHANCE = sorted(
    {point.partition("@")[0] for point in [*_IN_SUBMISSION, *_AT_WORK]}
    | {"scanning.holding_rows", "sending.after_query", "sweeping.before_settling"}
)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_processes_may_die_at_random(shop: Desk, seed: int) -> None:
    """Whoever takes the orders in and all who work on them, each with a chance of 5 % at one
    failpoint, whenever it comes by there."""
    dice = random.Random(seed)
    ends: list[int] = []

    def process(*arguments: str) -> int:
        chance = f"{dice.choice(_BY_CHANCE)}%5:{seed}"
        done = shop.child(*arguments, failpoint=chance, OMS_FAILPOINTS_RUN=str(len(ends)))
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        ends.append(done.returncode)
        return done.returncode

    def everything_is_done() -> bool:
        process("work")
        shop.later(60)
        return desk_worker.unfinished() == 0

    until(lambda: process("submit") == 0)
    until(everything_is_done, seconds=90)
    assert -signal.SIGKILL in ends
    shop.nothing_is_lost_or_done_twice()


@pytest.mark.parametrize("number", [0, 3, 6, 9, 12])
def test_a_commit_whose_reply_is_lost_is_done_once(
    shop: Desk, committed_db: str, tmp_path: Path, number: int
) -> None:
    """The connection is cut when PostgreSQL has committed and before the worker hears of it."""
    with wire(tmp_path) as proxy:
        through = {"DATABASE_URL": proxy.url(committed_db)}
        ApiClient.objects.create(name="a-client")
        proxy.cut_at_commit()
        assert shop.child("submit", **through).returncode == 0
        assert proxy.cuts == 1
        assert Order.objects.count() == 7
        proxy.cut_at_commit(skip=number)
        shop.child("work", **through)
        assert proxy.cuts == 2
    shop.finish()
    shop.nothing_is_lost_or_done_twice()


@contextmanager
def wire(folder: Path) -> Iterator[Proxy]:
    if not ENVIRONMENT.embedded_database:
        pytest.skip("The wire goes between sockets of this machine.")
    proxy = Proxy(folder=folder / "wire", upstream=layout_of(ENVIRONMENT.home).sockets)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def test_a_request_whose_sender_died_before_the_reply_is_done_once(shop: Desk) -> None:
    """Between the last byte of a request and the first of its reply no code of ours runs."""
    desk_worker.submit()
    shop.stops_before("payment")
    shop.sandbox.script(
        {"match": {"target": "payment"}, "behaviour": {"kind": "succeed_then_timeout"}}
    )
    done = Task.objects.filter(target_id="payment").values_list(
        "commands__idempotency_key", flat=True
    )
    keys = [key for key in done if key]
    with shop.background("work", "payment") as worker:
        until(lambda: sum(shop.sandbox.executed(key) for key in keys) > 0)
        worker.kill()
    assert Attempt.objects.filter(finished_at=None, task__target_id="payment").exists()
    shop.sandbox.script()
    shop.finish()
    shop.nothing_is_lost_or_done_twice()


def test_every_failpoint_in_the_code_is_tried_here() -> None:
    placed = {
        name
        for package in ("oms", "fulfillment")
        for file in (CHECKOUT / package).rglob("*.py")
        for name in re.findall(r'failpoints\.reach\(\s*"([^"]+)"', file.read_text())
    }
    tests = "".join(file.read_text() for file in (CHECKOUT / "tests").rglob("test_*.py"))
    assert {name for name in placed if name not in tests} == set()
