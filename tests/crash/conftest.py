"""A desk whose work is done by processes that may be told to die."""

from __future__ import annotations

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
from pytest_django import DjangoDbBlocker

from adapters.sandbox.systems import SYSTEMS
from fulfillment.engine.outbound import outbox
from fulfillment.engine.work import audit
from fulfillment.models import (
    Command,
    OutboxEvent,
    Task,
)
from oms.environment import CHECKOUT
from oms.models import Order
from tests import desk
from tests.conftest import own_database, template
from tests.crash import desk_worker
from tests.crash.nursery import Ended, Nursery
from tests.sandbox import Sandbox, free_port
from tests.waiting import until


@pytest.fixture(scope="session")
def sandbox_port() -> int:
    """Where each test's sandbox listens: what is started once knows it by its address."""
    return free_port()


@pytest.fixture
def sandbox(tmp_path: Path, sandbox_port: int) -> Iterator[Sandbox]:
    process = Sandbox(tmp_path / "ledger.sqlite3", port=sandbox_port)
    yield process
    process.kill()


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


class Desk:
    """The desk's database and target systems, shared with child processes."""

    def __init__(self, url: str, sandbox: Sandbox, nursery: Nursery) -> None:
        self.url = url
        self.sandbox = sandbox
        self._nursery = nursery
        self.deaths: Counter[str] = Counter()
        """How many children have died, by failpoint."""
        self.clock_seconds = 0.0
        self.variables = {
            "DATABASE_URL": url,
            "OMS_SANDBOX_URL": sandbox.url,
            "OMS_SECRET_KEY": "of the tests alone",
        }

    def child(self, *arguments: str, failpoint: str = "", **variables: str) -> Ended:
        """A part of the work in a process of its own, which dies at `failpoint`."""
        ended = self._nursery.perform(
            arguments,
            environment={
                **os.environ,
                **self.variables,
                "OMS_FAILPOINTS": failpoint,
                "DESK_CLOCK_SECONDS": str(self.clock_seconds),
                **variables,
            },
        )
        self.deaths.update(re.findall(r"dies at the failpoint (\S+)", ended.stderr))
        return ended

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


@pytest.fixture(scope="session")
def furnished(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A template that knows the sandbox's systems and the shipped workflows."""

    def furnish() -> None:
        call_command("targets", "load", "examples/targets/sandbox.yaml", verbosity=0)
        call_command("calendars", "load", "templates/calendars.yaml", verbosity=0)
        call_command("workflows", "publish", verbosity=0)

    with django_db_blocker.unblock(), template("shop", furnish) as (name, _):
        yield name


@pytest.fixture
def shop(
    furnished: str,
    django_db_blocker: DjangoDbBlocker,
    redis_url: str,
    sandbox: Sandbox,
    nursery: Nursery,
    settings: Any,
) -> Iterator[Desk]:
    settings.OMS_SANDBOX_URL = sandbox.url
    with django_db_blocker.unblock(), own_database(like=furnished) as url:
        yield Desk(url, sandbox, nursery)
