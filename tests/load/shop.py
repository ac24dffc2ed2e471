"""What the measurements on a whole stack share: the stack itself, and a client that orders."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import psycopg

from oms.embedded.postgres import prepare_database
from oms.environment import CHECKOUT, read_environment
from oms.management.commands.stack import prepare
from oms.supervisor.stack import Stack, with_free_ports

_BATCH = 250


@contextmanager
def only_servers(name: str) -> Iterator[Stack]:
    """PostgreSQL and Redis alone, with an empty database that is made anew each time."""
    given = read_environment()
    stack = Stack(replace(given, home=given.home / name), say=print)
    stack.start_servers()
    try:
        url = _made_anew(stack.environment.database_owner_url, name)
        os.environ.update(stack.variables())
        os.environ["DATABASE_URL"] = _in_database(os.environ["DATABASE_URL"], name)
        print("Bringing the database up to date …")
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
            cwd=CHECKOUT,
            env={**os.environ, "DATABASE_URL": url},
            check=True,
        )
        import django

        django.setup()
        yield stack
    finally:
        stack.stop_servers()


def _made_anew(url: str, name: str) -> str:
    """The address of an empty database for its owner."""
    with psycopg.connect(_in_database(url, "postgres"), autocommit=True) as owner:
        owner.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        owner.execute(f'CREATE DATABASE "{name}"')
    made = _in_database(url, name)
    prepare_database(made)
    return made


def _in_database(url: str, name: str) -> str:
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{name}{query}"


def tidy_up() -> None:
    """As autovacuum does in time."""
    from django.db import connection

    environment = read_environment()
    name = str(connection.settings_dict["NAME"])
    with psycopg.connect(_in_database(environment.database_owner_url, name), autocommit=True) as it:
        it.execute("VACUUM ANALYZE")


@contextmanager
def whole_stack(name: str) -> Iterator[Stack]:
    """Real processes under an OMS_HOME of their own; Django of this process uses them too."""
    given = read_environment()
    stack = Stack(with_free_ports(replace(given, home=given.home / name)), say=print)
    stack.start_servers()
    try:
        prepare(stack, say=print)
        stack.start(without=("flower",))
        stack.wait_ready()
        os.environ.update(stack.variables())
        import django

        django.setup()
        yield stack
    finally:
        stack.stop()
        stack.stop_servers()


class Shop:
    """Orders over the API; what the target systems do is scripted in the sandbox."""

    def __init__(self, stack: Stack) -> None:
        from oms.demo.client import Client

        self._number = 0
        key = subprocess.run(
            [sys.executable, "manage.py", "api_key", "create", "--client", "load", "--quiet"],
            cwd=CHECKOUT,
            env=stack.variables(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        self._client = Client(
            api_url=f"http://127.0.0.1:{stack.environment.web_port}",
            sandbox_url=stack.environment.sandbox_url,
            key=key,
        )

    def script(self, behaviours: list[dict[str, Any]]) -> None:
        self._client.script(behaviours)

    def submit(
        self,
        count: int,
        *,
        offering: str,
        customer: str = "C-1",
        characteristics: dict[str, Any] | None = None,
    ) -> list[str]:
        """References of so many orders of one item."""
        references: list[str] = []
        for first in range(0, count, _BATCH):
            self._number += 1
            run = f"{os.getpid()}-{self._number}"
            orders = [
                {
                    "external_id": f"L-{run}-{position}",
                    "customer": {"id": customer},
                    "items": [
                        {
                            "item_id": "1",
                            "action": "add",
                            "offering": offering,
                            "characteristics": characteristics or {},
                        }
                    ],
                }
                for position in range(min(_BATCH, count - first))
            ]
            results = self._client.submit(orders=orders, idempotency_key=f"load-{run}")
            references += [result["order"]["id"] for result in results]
        return references
