"""A desk whose work is done by processes that may be told to die."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import celery
import pytest
from django.core.management import call_command

from adapters.sandbox.systems import SYSTEMS
from fulfillment.engine import audit, outbox
from fulfillment.models import (
    Command,
    OutboxEvent,
    Task,
)
from oms.environment import CHECKOUT
from oms.models import Order
from tests import desk
from tests.crash import desk_worker
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
        self.clock_seconds = 0.0
        self.variables = {
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
                **self.variables,
                "OMS_FAILPOINTS": failpoint,
                "DESK_CLOCK_SECONDS": str(self.clock_seconds),
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
            env={**os.environ, **self.variables, "DESK_CLOCK_SECONDS": str(self.clock_seconds)},
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
        self.clock_seconds += seconds
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
    call_command("calendars", "load", "templates/calendars.yaml", verbosity=0)
    call_command("workflows", "publish", verbosity=0)
    return Desk(committed_db, sandbox)


class Nursery:
    """The desk's processes by the hundred: forks of one that has read all the code."""

    def __init__(self, shop: Desk, log: Path) -> None:
        self._shop = shop
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.desk_worker", "serve"],
            cwd=CHECKOUT,
            env={**os.environ, **shop.variables, "OMS_FAILPOINTS": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )

    @property
    def deaths(self) -> Counter[str]:
        """How many have died, by failpoint."""
        return Counter(re.findall(r"dies at the failpoint (\S+)", self._log.read_text()))

    def child(self, verb: str, *arguments: str, failpoint: str = "") -> bool:
        """Whether it died at the failpoint; an error of its own fails the test."""
        job = {
            "verb": verb,
            "arguments": arguments,
            "failpoint": failpoint,
            "clock_seconds": self._shop.clock_seconds,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL), self._log.read_text()[-4000:]
        return code != 0

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def nursery(shop: Desk, tmp_path: Path) -> Iterator[Nursery]:
    made = Nursery(shop, tmp_path / "nursery.log")
    yield made
    made.close()
