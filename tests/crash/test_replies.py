"""The process that fetches replies, and the workers that publish commands, die at their work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Producer

from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.work import audit
from fulfillment.models import Command, InboundEvent
from oms.environment import CHECKOUT
from oms.models import Order
from tests import desk
from tests.crash.nursery import Nursery
from tests.sandbox import Sandbox
from tests.waiting import until

POPPED, RECORDED = "replies.popped_before_recorded", "replies.recorded_before_acked"


class Fieldwork:
    """Orders over a target system that is reached by messages, and processes that serve it."""

    def __init__(self, database_url: str, redis_url: str, nursery: Nursery) -> None:
        self._redis_url = redis_url
        self._nursery = nursery
        self._clock = 0.0
        self._variables = {"DATABASE_URL": database_url, "OMS_SECRET_KEY": "of the tests alone"}
        self._running: list[subprocess.Popen[bytes]] = []
        desk.target(
            "fieldwork",
            adapter="messaging",
            settings={
                "queue": "fieldwork",
                "reply_queue": "fieldwork.replies",
                "redelivery_after": 1,
            },
            asynchronous=True,
            status_query=False,
        )
        desk.workflow(
            {
                "one": desk.task("fieldwork", outputs={"reference": "string"}),
                "two": desk.task("fieldwork", depends_on=[{"output": "one.reference"}]),
            }
        )

    def _environment(self, failpoint: str) -> dict[str, str]:
        return {
            **os.environ,
            **self._variables,
            "OMS_FAILPOINTS": failpoint,
            "DESK_CLOCK_SECONDS": str(self._clock),
        }

    def fetch(self, *, failpoint: str = "") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "replies"],
            cwd=CHECKOUT,
            env=self._environment(failpoint),
        )
        self._running.append(process)
        return process

    def work(self, *, failpoint: str = "") -> int:
        """One look of a worker at what can be sent now; the code with which it ended."""
        environment = self._environment(failpoint)
        return self._nursery.perform(["work", "fieldwork"], environment=environment).returncode

    def later(self, seconds: float) -> None:
        self._clock += seconds
        desk.advance(seconds)

    def reply(self, command: Command) -> None:
        """What the other side sends when it has done it."""
        with Connection(self._redis_url) as connection:
            Producer(connection).publish(
                json.dumps({"status": "succeeded", "outputs": {"reference": "R"}}).encode(),
                routing_key="fieldwork.replies",
                content_type="application/json",
                message_id=f"e-{command.pk}",
                correlation_id=command.idempotency_key,
            )

    def waiting(self) -> int:
        """Replies that are not acknowledged."""
        with Connection(self._redis_url) as connection:
            client = connection.default_channel.client
            return int(client.llen("fieldwork.replies") + client.hlen("fieldwork.replies.unacked"))

    def end(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def fieldwork(committed_db: str, redis_url: str, nursery: Nursery) -> Iterator[Fieldwork]:
    scene = Fieldwork(committed_db, redis_url, nursery)
    yield scene
    scene.end()


@pytest.mark.parametrize(("point", "recorded"), [(POPPED, 0), (RECORDED, 1)])
def test_a_reply_whose_receiver_died_moves_its_task_once(
    fieldwork: Fieldwork, point: str, recorded: int
) -> None:
    order = desk.order()
    assert fieldwork.work() == 0
    command = Command.objects.get()
    assert desk.states_of(order)["one@1"] == "ACCEPTED"
    dying = fieldwork.fetch(failpoint=point)
    fieldwork.reply(command)
    assert dying.wait() == -signal.SIGKILL
    assert InboundEvent.objects.count() == recorded
    assert fieldwork.waiting() == 1
    fieldwork.fetch()
    # Between its two places a reply is for a moment in neither.
    until(lambda: desk.states_of(order)["one@1"] == "SUCCEEDED")
    until(lambda: fieldwork.waiting() == 0)
    assert InboundEvent.objects.get().disposition == "APPLIED"
    moves = order.fulfillment.transitions.filter(entity="task", to_state="SUCCEEDED")
    assert moves.count() == 1
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


@pytest.mark.parametrize("point", [POPPED, RECORDED])
def test_whoever_dies_and_however_often_each_command_has_one_effect(
    fieldwork: Fieldwork, redis_url: str, tmp_path: Path, point: str
) -> None:
    sandbox = Sandbox(tmp_path / "ledger.sqlite3", "--broker", redis_url)
    orders = [desk.order() for _ in range(4)]
    fetching = fieldwork.fetch(failpoint=f"{point}@2")
    deaths = {"fetching": 0, "working": 0}

    def look() -> bool:
        nonlocal fetching
        if fetching.poll() is not None:
            deaths["fetching"] += 1
            fetching = fieldwork.fetch(failpoint=f"{point}@2" if deaths["fetching"] < 3 else "")
        dies = deaths["working"] < 2
        if fieldwork.work(failpoint="sending.after_send@2" if dies else "") != 0:
            deaths["working"] += 1
        fieldwork.later(60)
        sweeping.sweep()
        scanning.scan()
        return not Order.objects.exclude(state="COMPLETED").exists()

    until(look, seconds=120)
    sandbox_effects: dict[str, Any] = {}
    for order in orders:
        sandbox_effects |= sandbox.effects(order.reference)
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    sandbox.kill()
    assert deaths["working"] == 2
    assert deaths["fetching"] >= 1
    assert set(sandbox_effects) == set(Command.objects.values_list("idempotency_key", flat=True))
    assert set(sandbox_effects.values()) == {1}


def test_asked_to_stop_it_ends_in_good_order_and_leaves_the_rest_on_the_queue(
    fieldwork: Fieldwork,
) -> None:
    first, second = desk.order(), desk.order()
    assert fieldwork.work() == 0
    commands = {c.fulfillment_id: c for c in Command.objects.all()}
    fetching = fieldwork.fetch()
    fieldwork.reply(commands[first.fulfillment_id])
    until(lambda: desk.states_of(first)["one@1"] == "SUCCEEDED")
    fetching.terminate()
    assert fetching.wait() == 0
    fieldwork.reply(commands[second.fulfillment_id])
    assert fieldwork.waiting() == 1
    assert desk.states_of(second)["one@1"] == "ACCEPTED"
    fieldwork.fetch()
    until(lambda: desk.states_of(second)["one@1"] == "SUCCEEDED")
