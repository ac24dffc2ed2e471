"""The bulkhead, measured: what a hung target system costs those who don't need it.

A whole stack with real workers and HTTP. The same healthy orders are timed alone, beside a
target that hangs on another queue, and beside one that hangs on their own queue, in turns;
what counts is the ratio of the medians. Run by `make bulkhead`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from tests.load.shop import Shop
from tests.load.stacks import whole_stack
from tests.waiting import until

_HUNG = 60
"""Orders that meet the hung target in each turn: more than its sender slots."""
_ALONE, _ELSEWHERE, _SAME_QUEUE = "alone", "hung target elsewhere", "hung target on their queue"
_TARGETS = {_ELSEWHERE: "logistics", _SAME_QUEUE: "blackbox"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with whole_stack("bulkhead") as stack:
        shop = Shop(stack)
        _publish()
        _run(shop, 20)  # connections, caches and prepared statements
        _measure(shop, options)


def _publish() -> None:
    from tests import desk

    desk.workflow(
        {
            "one": desk.task("crm", timeouts=_CALL),
            "two": desk.task("crm", after=["one"]),
            "three": desk.task("crm", after=["two"]),
        },
        offering="healthy",
    )
    for target in _TARGETS.values():
        desk.workflow({"stuck": desk.task(target, timeouts=_CALL)}, offering=f"at-{target}")


_CALL = {"call": "PT30S", "callback": "PT1M"}


def _measure(shop: Shop, options: argparse.Namespace) -> None:
    seconds: dict[str, list[float]] = {_ALONE: [], _ELSEWHERE: [], _SAME_QUEUE: []}
    slowest: dict[str, list[float]] = {_ALONE: [], _ELSEWHERE: [], _SAME_QUEUE: []}
    for number in range(1, options.rounds + 1):
        for name in seconds:
            if name in _TARGETS:
                _hang(shop, _TARGETS[name])
            took, latencies = _run(shop, options.orders)
            seconds[name].append(took)
            slowest[name].append(statistics.quantiles(latencies, n=100)[98])
            print(
                f"round {number}  {name:27} {options.orders / took:6.0f} orders/s  "
                f"p50 {statistics.median(latencies):6.3f} s  p99 {slowest[name][-1]:6.3f} s"
            )
            _let_go(shop)
    print()
    for name, values in seconds.items():
        ratio = statistics.median(values) / statistics.median(seconds[_ALONE])
        print(
            f"median   {name:27} {statistics.median(values):6.2f} s for the batch, "
            f"{ratio:.2f} times that of the orders alone; "
            f"p99 {statistics.median(slowest[name]):.3f} s"
        )


def _under_way() -> Any:
    from fulfillment.models import Attempt

    return Attempt.objects.filter(finished_at=None)


def _hang(shop: Shop, target: str) -> None:
    """Everything sent to `target` hangs; more orders wait for it than it has slots."""
    hang = {"kind": "hang", "latency_ms": 3_600_000}
    shop.script([{"match": {"target": target}, "behaviour": hang}])
    shop.submit(_HUNG, offering=f"at-{target}")
    until(_under_way().filter(target_id=target).exists, seconds=30)


def _let_go(shop: Shop) -> None:
    """The hung calls end at their deadline; what follows them finds the target well."""
    shop.script([])
    until(lambda: not _under_way().exists(), seconds=120)


def _run(shop: Shop, count: int) -> tuple[float, list[float]]:
    """Seconds from the first submission to the last completed order, and each order's own."""
    from oms.models import Order

    began = time.perf_counter()
    mine = Order.objects.filter(reference__in=shop.submit(count, offering="healthy"))
    until(lambda: not mine.filter(finished_at=None).exists(), seconds=120)
    took = time.perf_counter() - began
    return took, [
        (finished - submitted).total_seconds()
        for submitted, finished in mine.values_list("submitted_at", "finished_at")
    ]


if __name__ == "__main__":
    main()
