"""Bare Celery canvas: a broker, a result backend, and nothing that survives them.

`2 × solo`, two processes without a pool, is the baseline of every ratio. The other pools are
measured beside it, so that the results show whether one of them was quicker.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from tests.load.parts import BenchFailed, Tell
from tests.load.sides import wait_until_none
from tests.load.stacks import BenchStack
from tests.load.started import started

BASELINE = "celery"
_SETTINGS: dict[str, tuple[int, Sequence[str]]] = {
    BASELINE: (2, ("--pool", "solo")),
    "celery_prefork": (1, ("--pool", "prefork", "--concurrency", "2")),
    "celery_threads": (2, ("--pool", "threads", "--concurrency", "8")),
}
OTHERS = tuple(name for name in _SETTINGS if name != BASELINE)
_READY_SECONDS = 60.0


class Canvas:
    """One setting of bare Celery."""

    def __init__(self, stack: BenchStack, *, name: str = BASELINE) -> None:
        self.name = name
        self._processes, self._options = _SETTINGS[name]
        self.settings = {
            "processes": self._processes,
            "options": " ".join(self._options),
            "task_events": "off",
            "graph": "simpler: T3 and T4 wait for T2 as well",
        }
        self._stack = stack
        self._runs = 0
        os.environ["CANVAS_BROKER"] = _database(stack.environment.redis_url, 1)
        os.environ["CANVAS_BACKEND"] = _database(stack.environment.redis_url, 2)

    @contextmanager
    def workers(self) -> Iterator[None]:
        from tests.load import canvas

        with ExitStack() as running:
            for number in range(self._processes):
                command = [
                    *(sys.executable, "-m", "celery", "-A", "tests.load.canvas", "worker"),
                    *("--hostname", f"canvas{number}@%h", "--loglevel", "WARNING"),
                    *("--without-gossip", "--without-mingle", *self._options),
                ]
                running.enter_context(started(command, stack=self._stack, name=self.name))
            deadline = time.monotonic() + _READY_SECONDS
            while len(canvas.app.control.ping(timeout=0.3) or ()) < self._processes:
                if time.monotonic() > deadline:
                    raise BenchFailed(
                        f"Celery's workers do not answer; see {self._stack.layout.logs}."
                    )
            yield

    def run(self, count: int, /, *, tell: Tell) -> float:
        from tests.load import canvas

        client = canvas.app.backend.client
        client.delete(canvas.FINISHED)
        orders = [canvas.order() for _ in range(count)]
        began = time.perf_counter()
        for order in orders:
            order.apply_async()
        wait_until_none(
            lambda: count - int(client.get(canvas.FINISHED) or 0), count=count, tell=tell
        )
        self._runs += count
        return time.perf_counter() - began

    def verify(self) -> Mapping[str, int]:
        """There is nothing more to count: what a canvas did, it does not keep."""
        return {"orders": self._runs}


def _database(url: str, number: int) -> str:
    """The same Redis, another of its databases."""
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        return f"{parts.scheme}://{parts.path}?virtual_host={number}"
    return parts._replace(path=f"/{number}").geturl()
