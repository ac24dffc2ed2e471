"""DBOS Transact: durable workflows on the same PostgreSQL, in a database of its own.

Two processes, as for everybody; its queue polls every few milliseconds, and submissions share
transactions. Of 8 to 64 orders at once and 3 to 30 ms of polling, these settings gave the most
tasks per second, by little; slower polling has answered single orders sooner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.load import competitors
from tests.load.parts import BenchFailed, Run, Tell
from tests.load.sides import TASKS_PER_ORDER, wait_for
from tests.load.stacks import BenchStack
from tests.load.started import started
from tests.load.talking import Talking

_APP = Path(__file__).with_name("foreign") / "dbos_app.py"
_PROCESSES = 2
_READY_SECONDS = 60.0
_QUEUES = "SELECT count(*) FROM dbos.queues"


class Dbos:
    """DBOS's queue, set for throughput."""

    name = "dbos"

    def __init__(
        self,
        stack: BenchStack,
        *,
        run: Run,
        orders_at_once: int = 16,
        polling_seconds: float = 0.01,
        batch: int = 100,
    ) -> None:
        self._python = competitors.python_of("competitors", run=run)
        self._stack = stack
        self._url = stack.make_another("oms_bench_dbos")
        self._runs = 0
        self._driver: Talking | None = None
        self.settings: Mapping[str, Any] = {
            "version": competitors.version_of("dbos", python=self._python),
            "processes": _PROCESSES,
            "orders_at_once_per_process": orders_at_once,
            "queue_polling_seconds": polling_seconds,
            "orders_per_submission": batch,
        }
        self._variables = {
            "BENCH_DBOS_URL": self._url,
            "BENCH_DBOS_ORDERS_AT_ONCE": str(orders_at_once),
            "BENCH_DBOS_POLLING_SECONDS": str(polling_seconds),
            "BENCH_DBOS_BATCH": str(batch),
        }

    @contextmanager
    def workers(self) -> Iterator[None]:
        given: dict[str, Any] = {"stack": self._stack, "variables": self._variables}
        with ExitStack() as running:
            for number in range(_PROCESSES):
                command = [str(self._python), str(_APP), "worker", str(number)]
                running.enter_context(started(command, name="dbos", **given))
                if number == 0:
                    self._wait_for_schema()
            command = [str(self._python), str(_APP), "driver"]
            driver = running.enter_context(
                started(command, name="dbos-driver", talking=True, **given)
            )
            log = self._stack.layout.logs / "bench-dbos-driver.log"
            self._driver = Talking(driver, log=str(log))
            yield

    def run(self, count: int, /, *, tell: Tell) -> float:
        assert self._driver is not None
        seconds: float = self._driver.ask({"run": count})["seconds"]
        self._runs += count
        tell(count)
        return seconds

    def verify(self) -> Mapping[str, int]:
        """Every workflow has succeeded, and each of its steps is recorded once."""
        assert self._driver is not None
        found = self._driver.ask({"count": True})
        steps = self._runs * TASKS_PER_ORDER
        if found != {"orders": self._runs, "steps": steps, "distinct_steps": steps}:
            raise BenchFailed(f"DBOS has recorded {found} after {self._runs} orders.")
        return {"orders": self._runs, "steps": steps}

    def _wait_for_schema(self) -> None:
        """Two processes that migrate at once, or register one queue, get in each other's way."""
        wait_for(
            self._has_schema,
            seconds=_READY_SECONDS,
            pause_seconds=0.1,
            otherwise=lambda: f"DBOS does not start; see {self._stack.layout.logs}.",
        )

    def _has_schema(self) -> bool:
        with psycopg.connect(self._url) as connection:
            try:
                return connection.execute(_QUEUES).fetchone() != (0,)
            except psycopg.errors.UndefinedTable:
                return False
