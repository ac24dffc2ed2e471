"""Servers and processes for measurements: one home, and a database made anew for each part."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from oms.embedded.postgres import prepare_database
from oms.environment import Environment, read_environment
from oms.management.commands.stack import migrate, prepare
from oms.supervisor.stack import Stack, with_free_ports
from tests.load import handlers

_READY_SECONDS = 60.0
_NOT_FOR_COMMANDS = ("web", "flower", "sandbox", "replies")


class BenchStack(Stack):
    """A stack with a database of its own and the benchmark's handlers in its workers."""

    def __init__(self, given: Environment, *, part: str, say: Callable[[str], None]) -> None:
        self.part = part
        super().__init__(with_free_ports(replace(given, home=given.home / "bench")), say=say)
        self.environment = replace(
            self.environment,
            database_url=self.in_database(self.environment.database_url),
            database_owner_url=self.in_database(self.environment.database_owner_url),
        )

    @property
    def database(self) -> str:
        return f"oms_bench_{self.part}"

    @property
    def effects(self) -> Path:
        """Where the handlers write down what they did."""
        return self.layout.run / "effects"

    @property
    def ledger(self) -> Path:
        """Where the sandbox writes down what it did."""
        return self.environment.home / "sandbox.sqlite3"

    def variables(self) -> dict[str, str]:
        given = super().variables()
        addresses = {name: self.in_database(given[name]) for name in _ADDRESSES}
        return {
            **given,
            **addresses,
            "DJANGO_SETTINGS_MODULE": "tests.load.settings",
            handlers.FOLDER: str(self.effects),
        }

    def in_database(self, url: str, name: str = "") -> str:
        """The same server, but this part's database (or another one)."""
        parts = urlsplit(url)
        # Not `geturl`: it drops the empty host of an address that is a socket.
        query = f"?{parts.query}" if parts.query else ""
        return f"{parts.scheme}://{parts.netloc}/{name or self.database}{query}"

    def make_database(self) -> None:
        """An empty one in place of what an earlier run has left, and nobody's effects."""
        url = self.make_another(self.database)
        if self.servers.embeds_database:
            prepare_database(url)
        for file in self.ledger.parent.glob(f"{self.ledger.name}*"):
            file.unlink()
        shutil.rmtree(self.effects, ignore_errors=True)
        self.effects.mkdir(mode=0o700, parents=True)

    def make_another(self, name: str) -> str:
        """The address, for its owner, of an empty database for somebody else."""
        url = self.environment.database_owner_url
        with psycopg.connect(self.in_database(url, "postgres"), autocommit=True) as owner:
            owner.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            owner.execute(f'CREATE DATABASE "{name}"')
        return self.in_database(url, name)


_ADDRESSES = ("DATABASE_URL", "DATABASE_OWNER_URL")


@contextmanager
def only_servers(part: str, *, shipped: bool = False) -> Iterator[BenchStack]:
    """PostgreSQL and Redis alone, with the schema; Django of this process uses them.

    With `shipped` the sandbox's targets and the shipped workflows are there as well.
    """
    stack = BenchStack(read_environment(), part=part, say=print)
    stack.start_servers()
    with stopped_afterwards(stack):
        stack.make_database()
        if shipped:
            prepare(stack, say=print)
        else:
            migrate(stack)
        use(stack)
        yield stack


def use(stack: Stack) -> None:
    """Django of this process uses the servers of this stack from now on."""
    os.environ.update(stack.variables())
    import django

    django.setup()


@contextmanager
def stopped_afterwards(stack: Stack) -> Iterator[None]:
    """Whatever of it this process has started."""
    try:
        yield
    finally:
        stack.stop()
        stack.stop_servers()


@contextmanager
def whole_stack(part: str) -> Iterator[BenchStack]:
    """Every process as in production but Flower; Django of this process uses the servers too."""
    with only_servers(part, shipped=True) as stack:
        stack.start(without=("flower",))
        stack.wait_ready()
        wait_for_workers(stack)
        yield stack


@contextmanager
def workers_of(stack: BenchStack) -> Iterator[None]:
    """Beat, the orchestration worker and one worker per target queue, as in production."""
    stack.start(without=_NOT_FOR_COMMANDS)
    try:
        stack.wait_ready()
        wait_for_workers(stack)
        yield
    finally:
        stack.stop()


def wait_for_workers(stack: BenchStack) -> None:
    """Until every Celery worker answers. Raises TimeoutError."""
    from oms.celery import app

    expected = {"orchestration", *(f"worker-{queue}" for queue in stack.environment.target_queues)}
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        answers = app.control.ping(timeout=0.3) or []
        if expected <= {name.partition("@")[0] for answer in answers for name in answer}:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"The workers do not answer; see {stack.layout.logs}.")


def tidy_up() -> None:
    """As autovacuum does in time."""
    url = os.environ["DATABASE_OWNER_URL"]
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")
