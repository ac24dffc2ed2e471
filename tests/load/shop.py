"""What the measurements on a whole stack share: the stack itself, and a client that orders."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from oms.environment import CHECKOUT, read_environment
from oms.management.commands.stack import prepare
from oms.supervisor.stack import Stack, with_free_ports

_BATCH = 250


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

    def submit(self, count: int, *, offering: str) -> list[str]:
        """References of so many orders of one item."""
        references: list[str] = []
        for first in range(0, count, _BATCH):
            self._number += 1
            run = f"{os.getpid()}-{self._number}"
            orders = [
                {
                    "external_id": f"L-{run}-{position}",
                    "customer": {"id": "C-1"},
                    "items": [{"item_id": "1", "action": "add", "offering": offering}],
                }
                for position in range(min(_BATCH, count - first))
            ]
            results = self._client.submit(orders=orders, idempotency_key=f"load-{run}")
            references += [result["order"]["id"] for result in results]
        return references
