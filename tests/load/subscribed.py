"""The engine with a subscriber to every event, as a side of its own.

A process outside the stack takes the events and answers at once. What they cost is the difference
to the same engine in the same run; when the last one was delivered is measured beside it.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.load.engine_side import Engine
from tests.load.parts import BenchFailed, Tell
from tests.load.sides import PATIENCE_SECONDS, TASKS_PER_ORDER, wait_for
from tests.load.stacks import BenchStack
from tests.load.started import started
from tests.load.talking import Talking

_RECEIVER = Path(__file__).with_name("foreign") / "receiver.py"
_ORIGINS = "OMS_WEBHOOK_ALLOWED_ORIGINS"
_OF_AN_ORDER = {
    "OrderStarted": 1,
    "OrderCompleted": 1,
    "CustomerNotified": 2,
    "FulfillmentPlanRunning": 1,
    "FulfillmentPlanCompleted": 1,
    "FulfillmentTaskSucceeded": TASKS_PER_ORDER,
}
EVENTS_PER_ORDER = sum(_OF_AN_ORDER.values())


def a_place() -> int:
    """A free port for the receiver, to which this run's stack may send.

    To be called before the stack's environment is read.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    os.environ[_ORIGINS] = _origin(port)
    return port


class Subscribed:
    """Everything that happens is sent to somebody."""

    name = "engine_subscribed"

    def __init__(self, engine: Engine, stack: BenchStack, *, port: int) -> None:
        from fulfillment.authority.actors import engine as an_engine
        from fulfillment.subscribers import subscribe

        self._engine = engine
        self._stack = stack
        self._port = port
        self._receiver: Talking | None = None
        self._orders = 0
        self._delivered: dict[int, list[float]] = {}
        self.settings: Mapping[str, Any] = {
            **engine.settings,
            "task_events": "Celery's, and every event of the engine to one subscriber",
            "events_per_order": EVENTS_PER_ORDER,
        }
        self._subscription = subscribe(
            name="bench", url=f"{_origin(port)}/events", actor=an_engine("bench")
        )
        self._let_hear(False)

    @contextmanager
    def workers(self) -> Iterator[None]:
        command = [sys.executable, str(_RECEIVER), str(self._port)]
        name = "receiver"
        with started(command, stack=self._stack, name=name, talking=True) as process:
            self._receiver = Talking(process, log=str(self._stack.layout.logs))
            self._orders = 0
            self._let_hear(True)
            try:
                with self._engine.workers():
                    yield
            finally:
                self._let_hear(False)

    def run(self, count: int, /, *, tell: Tell) -> float:
        began = time.perf_counter()
        took = self._engine.run(count, tell=tell)
        self._orders += count
        self._wait_for_events()  # The next one finds nothing under way.
        rate = count * EVENTS_PER_ORDER / (time.perf_counter() - began)
        self._delivered.setdefault(count, []).append(rate)
        return took

    @property
    def delivered(self) -> list[float]:
        """Events per second of each round, until the last one was delivered."""
        return self._delivered[max(self._delivered)]  # Others warm up, or are alone.

    def verify(self) -> Mapping[str, int]:
        """The engine's own counts, and each event has come, once or again."""
        self._wait_for_events()
        found = dict(self._engine.verify())
        return {**found, "events": self._heard()["events"], "received": self._heard()["received"]}

    def _wait_for_events(self) -> None:
        expected = self._orders * EVENTS_PER_ORDER
        wait_for(
            lambda: self._heard()["events"] >= expected,
            seconds=PATIENCE_SECONDS,
            pause_seconds=0.02,
            otherwise=lambda: f"{self._heard()['events']:,} of {expected:,} events have come.",
        )
        if (found := self._heard()["events"]) != expected:
            raise BenchFailed(f"{found:,} events have come instead of {expected:,}.")

    def _heard(self) -> dict[str, Any]:
        assert self._receiver is not None
        return self._receiver.ask({"count": True})

    def _let_hear(self, active: bool) -> None:
        type(self._subscription).objects.filter(pk=self._subscription.pk).update(active=active)


def _origin(port: int) -> str:
    return f"http://127.0.0.1:{port}"
