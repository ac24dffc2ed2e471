"""Prefect 3: its server on the same PostgreSQL, in a database of its own, and two processes.

Flows run inside these processes, all of a batch at once; logs are not sent to the server.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.load import competitors
from tests.load.parts import BenchFailed, Run, Tell
from tests.load.sides import TASKS_PER_ORDER, wait_for
from tests.load.stacks import BenchStack
from tests.load.started import started
from tests.load.talking import Talking

_APP = Path(__file__).with_name("foreign") / "prefect_app.py"
_SERVER = Path(__file__).with_name("foreign") / "prefect_server.py"
_PROCESSES = 2
_READY_SECONDS = 120.0
_COUNTED_SECONDS = 30.0


class Prefect:
    """Prefect at its best here."""

    name = "prefect"

    def __init__(self, stack: BenchStack, *, run: Run) -> None:
        self._python = competitors.python_of("prefect", run=run)
        self._stack = stack
        self._runs = 0
        self._runners: list[Talking] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        url = stack.make_another("oms_bench_prefect")
        self.settings: Mapping[str, Any] = {
            "version": competitors.version_of("prefect", python=self._python),
            "processes": _PROCESSES,
            "flows": "in process, a whole batch at once",
            "graph": "simpler: T3 and T4 wait for T2 as well",
        }
        self._variables = {
            "PREFECT_API_URL": f"http://127.0.0.1:{self._port}/api",
            "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg{url[url.index(':') :]}",
            "PREFECT_HOME": str(stack.layout.run / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "DO_NOT_TRACK": "1",
        }

    @contextmanager
    def workers(self) -> Iterator[None]:
        given: dict[str, Any] = {"stack": self._stack, "variables": self._variables}
        serve = [str(self._python), str(_SERVER), str(self._port)]
        with ExitStack() as running:
            running.enter_context(started(serve, name="prefect-server", **given))
            wait_for(
                self._answers,
                seconds=_READY_SECONDS,
                pause_seconds=0.2,
                otherwise=lambda: (
                    f"Prefect's server does not start; see {self._stack.layout.logs}."
                ),
            )
            self._runners = [
                Talking(
                    running.enter_context(
                        started(
                            [str(self._python), str(_APP)], name="prefect", talking=True, **given
                        )
                    ),
                    log=str(self._stack.layout.logs / "bench-prefect.log"),
                )
                for _ in range(_PROCESSES)
            ]
            yield

    def run(self, count: int, /, *, tell: Tell) -> float:
        shares = [count // _PROCESSES + (n < count % _PROCESSES) for n in range(_PROCESSES)]
        asked = [(runner, share) for runner, share in zip(self._runners, shares, strict=True)]
        began = time.perf_counter()
        for runner, share in asked:
            if share:
                runner.tell({"run": share})
        steps = sum(runner.listen()["steps"] for runner, share in asked if share)
        took = time.perf_counter() - began
        if steps != count * TASKS_PER_ORDER:
            raise BenchFailed(f"Prefect has run {steps} tasks of {count} orders.")
        self._runs += count
        tell(count)
        return took

    def verify(self) -> Mapping[str, int]:
        """What its server has recorded; it hears of tasks a little later than they end."""
        expected = {"flow_runs": self._runs, "task_runs": self._runs * TASKS_PER_ORDER}
        found: dict[str, Any] = {}

        def counted() -> bool:
            found.update(self._runners[0].ask({"count": True}))
            return found == expected

        wait_for(
            counted,
            seconds=_COUNTED_SECONDS,
            pause_seconds=0.5,
            otherwise=lambda: f"Prefect has recorded {found} instead of {expected}.",
        )
        return expected

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
