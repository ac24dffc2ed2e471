"""Workload W: orders of eight no-op tasks (T1…T8 of the contact center), all submitted at once.

This engine and bare Celery canvas on Redis take turns in one run, on the same servers, with two
worker processes each; what counts is the ratio of the medians. Run by `make bench`.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from oms.embedded.layout import layout_of
from oms.environment import CHECKOUT, read_environment
from oms.supervisor.stack import Stack
from tests.waiting import until

TASKS_PER_ORDER = 8
SUBMIT_BATCH = 100
_OFFERING = "cloud-contact-center-enterprise"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--canvas-orders", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-orders", type=int, default=20)
    options = parser.parse_args()

    given = read_environment()
    stack = Stack(replace(given, home=given.home / "bench"), say=print)
    stack.start_servers()
    try:
        _prepare(stack)
        _measure(stack, options)
    finally:
        stack.stop_servers()


def _prepare(stack: Stack) -> None:
    os.environ.update(stack.variables())
    owner = {**os.environ, "DATABASE_URL": stack.environment.database_owner_url}
    subprocess.run([sys.executable, "manage.py", "prepare"], cwd=CHECKOUT, env=owner, check=True)
    import django

    django.setup()
    from fulfillment.definitions.loading import load_workflow
    from fulfillment.models import TargetSystem
    from fulfillment.publishing import publish

    # What is under way is counted and breakers watch, as in earnest; but what the sandbox's
    # systems may be sent would be the only thing that is measured.
    TargetSystem.objects.update(
        adapter="python", settings={}, sender_slots=128, concurrency_limit=256, rate_per_second=None
    )
    shipped = load_workflow(path=CHECKOUT / "templates/workflows/cloud-contact-center/v1.yaml")
    # Workload W has no feasibility check: what is measured starts with the submission.
    publish(
        definition=shipped.model_copy(update={"version": 1_000_000, "feasibility": ()}),
        published_by="bench",
    )


def _measure(stack: Stack, options: argparse.Namespace) -> None:
    engine, canvas = _Engine(stack), _Canvas(stack)
    figures: dict[str, list[float]] = {"engine": [], "canvas": []}
    latencies: dict[str, list[float]] = {"engine": [], "canvas": []}
    sizes = {"engine": options.orders, "canvas": options.canvas_orders}
    for number in range(1, options.rounds + 1):
        for name, side in (("engine", engine), ("canvas", canvas)):
            with side.workers():
                side.run(20)  # connections, caches and prepared statements
                rate = sizes[name] * TASKS_PER_ORDER / side.run(sizes[name])
                single = statistics.median(side.run(1) for _ in range(options.latency_orders))
            figures[name].append(rate)
            latencies[name].append(single * 1000)
            print(
                f"round {number}  {name:7} {rate:8.0f} tasks/s   one order {single * 1000:6.1f} ms"
            )
    print()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    singles = {name: statistics.median(values) for name, values in latencies.items()}
    for name in figures:
        print(f"median   {name:7} {medians[name]:8.0f} tasks/s   one order {singles[name]:6.1f} ms")
    print(f"ratio    {medians['engine'] / medians['canvas']:.2f} times bare Celery's tasks/s")


class _Engine:
    """This engine: durable, audited, idempotent."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._batch = 0

    @contextmanager
    def workers(self) -> Iterator[None]:
        queues = self._stack.environment.target_queues
        shares = ("provisioning", ",".join(q for q in queues if q != "provisioning"))
        with _processes(
            [
                _worker(
                    "tests.load.engine_worker",
                    f"engine{i}",
                    "-Q",
                    share,
                    "-P",
                    "threads",
                    "-c",
                    "8",
                )
                for i, share in enumerate(shares)
            ],
            {**os.environ, "PYTHONPATH": str(CHECKOUT)},
            ready="tests.load.engine_worker",
        ):
            yield

    def run(self, count: int) -> float:
        """Seconds from the first submission to the last completed order."""
        from oms.intake.requests import ItemRequest, OrderRequest
        from oms.intake.submission import submit
        from oms.models import ApiClient, Order

        client, _ = ApiClient.objects.get_or_create(name="bench")
        self._batch += 1
        requests = [
            OrderRequest(
                external_id=f"{os.getpid()}-{self._batch}-{number}",
                customer_id="C-1",
                billing_account="BA-1",
                region="EU",
                items=[
                    ItemRequest(
                        item_id="1",
                        action="add",
                        offering=_OFFERING,
                        characteristics={
                            "agents": 200,
                            "phone_numbers": 50,
                            "recording_retention_years": 7,
                        },
                        place={"id": "SITE-1"},
                    )
                ],
            )
            for number in range(count)
        ]
        began = time.perf_counter()
        last = ""
        for first in range(0, count, SUBMIT_BATCH):
            answers = submit(
                client=client, requests=requests[first : first + SUBMIT_BATCH], actor="bench"
            )
            assert all(answer.state == "IN_PROGRESS" for answer in answers), answers[0]
            last = answers[-1].reference
        newest = int(last.removeprefix("O-"))
        unfinished = Order.objects.filter(id__gt=newest - count, id__lte=newest, finished_at=None)
        _until_done(lambda: not unfinished.exists(), count)
        return time.perf_counter() - began


class _Canvas:
    """Bare Celery at its best here: a broker, a result backend, two processes without a pool."""

    def __init__(self, stack: Stack) -> None:
        socket = layout_of(stack.environment.home).redis_socket
        os.environ["CANVAS_BROKER"] = f"redis+socket://{socket}?virtual_host=1"
        os.environ["CANVAS_BACKEND"] = f"redis+socket://{socket}?virtual_host=2"

    @contextmanager
    def workers(self) -> Iterator[None]:
        with _processes(
            [_worker("tests.load.canvas", f"canvas{i}", "-P", "solo") for i in (1, 2)],
            {**os.environ, "PYTHONPATH": str(CHECKOUT)},
            ready="tests.load.canvas",
        ):
            yield

    def run(self, count: int) -> float:
        from tests.load import canvas

        client = canvas.app.backend.client
        client.delete(canvas.FINISHED)
        orders = [canvas.order() for _ in range(count)]
        began = time.perf_counter()
        for order in orders:
            order.apply_async()
        _until_done(lambda: int(client.get(canvas.FINISHED) or 0) >= count, count)
        return time.perf_counter() - began


def _until_done(condition: Callable[[], bool], count: int) -> None:
    """Both sides are looked at from outside, equally often; a single order more closely."""
    until(condition, seconds=600, pause_seconds=0.001 if count == 1 else 0.01)


def _worker(application: str, name: str, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "celery", "-A", application, "worker"),
        *("--hostname", f"{name}@%h", "--loglevel", "WARNING"),
        *("--without-gossip", "--without-mingle", *options),
    ]


@contextmanager
def _processes(
    commands: list[list[str]], environment: dict[str, str], *, ready: str
) -> Iterator[None]:
    """Worker processes that answer before the clock starts and are gone after it."""
    import importlib

    log = layout_of(Path(environment["OMS_HOME"])).logs / "bench-workers.log"
    with log.open("ab") as output:
        running = [
            subprocess.Popen(
                command,
                env=environment,
                cwd=CHECKOUT,
                start_new_session=True,
                stdout=output,
                stderr=output,
            )
            for command in commands
        ]
    try:
        application = importlib.import_module(ready).app
        deadline = time.monotonic() + 60
        while len(application.control.ping(timeout=0.5) or ()) < len(running):
            if time.monotonic() > deadline:
                raise SystemExit(f"The workers do not answer; see {log}.")
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
