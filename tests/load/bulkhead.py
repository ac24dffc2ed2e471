"""The bulkhead, measured: what a hung target system costs those who don't need it.

A whole stack with real workers and HTTP. The same healthy orders are timed alone, beside a
target that hangs on another queue, and beside one that hangs on their own queue, in turns;
what counts is the ratio of the medians. Run by `make bulkhead`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace

from oms.environment import CHECKOUT, read_environment
from oms.management.commands.stack import prepare
from oms.supervisor.stack import Stack, with_free_ports
from tests.waiting import until

_HUNG = 60
"""Orders that meet the hung target in each turn: more than its sender slots."""
_QUIET, _BESIDE, _SAME_QUEUE = "alone", "hung target elsewhere", "hung target on their queue"
_TARGETS = {_BESIDE: "logistics", _SAME_QUEUE: "blackbox"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    given = read_environment()
    stack = Stack(with_free_ports(replace(given, home=given.home / "bulkhead")), say=print)
    stack.start_servers()
    try:
        prepare(stack, say=print)
        stack.start(without=("flower",))
        stack.wait_ready()
        _measure(stack, options)
    finally:
        stack.stop()
        stack.stop_servers()


def _measure(stack: Stack, options: argparse.Namespace) -> None:
    os.environ.update(stack.variables())
    import django

    django.setup()
    side = _Side(stack)
    seconds: dict[str, list[float]] = {_QUIET: [], _BESIDE: [], _SAME_QUEUE: []}
    slowest: dict[str, list[float]] = {_QUIET: [], _BESIDE: [], _SAME_QUEUE: []}
    side.run(20)  # connections, caches and prepared statements
    for number in range(1, options.rounds + 1):
        for name in seconds:
            if name in _TARGETS:
                side.hang(_TARGETS[name], _HUNG)
            took, latencies = side.run(options.orders)
            seconds[name].append(took)
            slowest[name].append(statistics.quantiles(latencies, n=100)[98])
            print(
                f"round {number}  {name:27} {options.orders / took:6.0f} orders/s  "
                f"p50 {statistics.median(latencies):6.3f} s  p99 {slowest[name][-1]:6.3f} s"
            )
            side.let_go()
    print()
    for name, values in seconds.items():
        ratio = statistics.median(values) / statistics.median(seconds[_QUIET])
        print(
            f"median   {name:27} {statistics.median(values):6.2f} s for the batch, "
            f"{ratio:.2f} times that of the orders alone; "
            f"p99 {statistics.median(slowest[name]):.3f} s"
        )


class _Side:
    """Orders of three tasks at `crm`, and orders of one task at a target that hangs."""

    def __init__(self, stack: Stack) -> None:
        from oms.demo.client import Client

        self._stack = stack
        self._number = 0
        key = subprocess.run(
            [sys.executable, "manage.py", "api_key", "create", "--client", "load", "--quiet"],
            cwd=CHECKOUT,
            env=stack.variables(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        port = stack.environment.web_port
        self._client = Client(
            api_url=f"http://127.0.0.1:{port}",
            sandbox_url=stack.environment.sandbox_url,
            key=key,
        )
        self._publish()

    def _publish(self) -> None:
        from tests import desk

        desk.workflow(
            {
                "one": desk.task("crm", timeouts={"call": "PT30S", "callback": "PT1M"}),
                "two": desk.task("crm", after=["one"]),
                "three": desk.task("crm", after=["two"]),
            },
            offering="healthy",
        )
        for target in _TARGETS.values():
            desk.workflow(
                {"stuck": desk.task(target, timeouts={"call": "PT30S", "callback": "PT1M"})},
                offering=f"at-{target}",
            )

    def hang(self, target: str, count: int) -> None:
        """Everything sent to `target` hangs; so many orders wait for it, its slots are full."""
        from fulfillment.models import Attempt

        self._client.script(
            [{"match": {"target": target}, "behaviour": {"kind": "hang", "latency_ms": 3_600_000}}]
        )
        self._submit(count, f"at-{target}")
        under_way = Attempt.objects.filter(target_id=target, finished_at=None)
        until(under_way.exists, seconds=30)

    def let_go(self) -> None:
        """The hung calls end at their deadline; what follows them finds the target well."""
        from fulfillment.models import Attempt

        self._client.script([])
        until(lambda: not Attempt.objects.filter(finished_at=None).exists(), seconds=120)

    def run(self, count: int) -> tuple[float, list[float]]:
        """Seconds from the first submission to the last completed order, and each order's own."""
        from oms.models import Order

        began = time.perf_counter()
        references = self._submit(count, "healthy")
        mine = Order.objects.filter(reference__in=references)
        until(lambda: not mine.filter(finished_at=None).exists(), seconds=120)
        took = time.perf_counter() - began
        return took, [
            (finished - submitted).total_seconds()
            for submitted, finished in mine.values_list("submitted_at", "finished_at")
        ]

    def _submit(self, count: int, offering: str) -> list[str]:
        references: list[str] = []
        for first in range(0, count, 50):
            self._number += 1
            orders = [
                {
                    "external_id": f"B-{os.getpid()}-{self._number}-{position}",
                    "customer": {"id": "C-1"},
                    "items": [{"item_id": "1", "action": "add", "offering": offering}],
                }
                for position in range(min(50, count - first))
            ]
            key = f"bulkhead-{os.getpid()}-{self._number}"
            results = self._client.submit(orders=orders, idempotency_key=key)
            references += [result["order"]["id"] for result in results]
        return references


if __name__ == "__main__":
    main()
