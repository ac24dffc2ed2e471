"""Fairness, measured: what one customer's flood, a huge order or a hung target costs another.

A whole stack with real workers and HTTP. Orders of other customers come one by one at an even
pace, and their latency is compared: alone, beside a target that hangs on their own queue, beside
one order of thousands of tasks, and beside thousands of orders of one customer that want the same
target, first with the engine's fair shares and then without. Run by `make fairness`.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from datetime import timedelta
from typing import Any

from tests.load.shop import Shop
from tests.load.stacks import tidy_up, whole_stack
from tests.waiting import until

_TARGET, _HUNG = "crm", "blackbox"
_FLOOD = f"FLOOD-{time.time_ns()}"
_CALL = {"call": "PT30S", "callback": "PT1M"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=50_000, help="of the one customer")
    parser.add_argument("--elements", type=int, default=5_000, help="tasks of the huge order")
    parser.add_argument("--singles", type=int, default=100, help="orders of the other customer")
    parser.add_argument("--per-second", type=float, default=4.0)
    options = parser.parse_args()
    with whole_stack("fairness") as stack:
        _publish(options.elements)
        _measure(Shop(stack), options)


def _publish(elements: int) -> None:
    from tests import desk

    desk.workflow({"one": desk.task(_TARGET, timeouts=_CALL)}, offering="single")
    desk.workflow({"stuck": desk.task(_HUNG, timeouts=_CALL)}, offering="hung")
    at_once = min(1000, elements)  # as many as the language allows
    each = {"over": "${item.characteristics.list}", "at_once": at_once}
    desk.workflow(
        {"each": desk.task(_TARGET, timeouts=_CALL, for_each=each)},
        offering="huge",
        version=at_once,
    )


def _measure(shop: Shop, options: argparse.Namespace) -> None:
    from fulfillment.models import Attempt, TargetSystem, Task
    from oms.models import Order

    # A pause below begins no slow start: what is measured is the engine.
    TargetSystem.objects.update(ramp=timedelta(0))
    _singles(shop, options)  # connections, caches and prepared statements
    print(f"\n{'beside':52} {'p50':>8} {'p99':>8} {'worst':>8}")
    _told("nothing else", _singles(shop, options))

    hang = {"kind": "hang", "latency_ms": 3_600_000}
    shop.script([{"match": {"target": _HUNG}, "behaviour": hang}])
    shop.submit(60, offering="hung", customer="HUNG")
    calls = Attempt.objects.filter(target_id=_HUNG, finished_at=None)
    until(calls.exists, seconds=60)
    _told("a hung target on their queue", _singles(shop, options))
    shop.script([])
    until(lambda: not calls.exists(), seconds=180)

    (huge,) = shop.submit(
        1,
        offering="huge",
        customer="HUGE",
        characteristics={"list": [str(number) for number in range(options.elements)]},
    )
    mine = Task.objects.filter(fulfillment__order_reference=huge, state="READY")
    until(mine.exists, seconds=60)
    took = _singles(shop, options)
    left = mine.count()
    _told(f"an order of {options.elements:,} tasks ({left:,} left after)", took)
    until(lambda: Order.objects.get(reference=huge).finished_at is not None, seconds=600)

    flood = _flood(shop, options.orders)
    for name in ("with fair shares", "without"):
        count = _waiting().count()
        took = _singles(shop, options)
        _told(f"{count:,} orders of one customer, {name}", took)
        # Now as if all of them stood where the first did: in the order in which they came.
        _waiting().update(rank=flood)


def _flood(shop: Shop, count: int) -> int:
    """One customer's orders, as if all had come at this moment: made in the database.

    Returns the rank of the first of them.
    """
    from fulfillment import operations
    from fulfillment.engine.protection.fairness import STEP_MS
    from fulfillment.models import Fulfillment
    from tests import crowd

    operations.pause_target(target=_TARGET, reason="until all are there", actor="load")
    (first,) = shop.submit(1, offering="single", customer=_FLOOD)
    row = Fulfillment.objects.get(order_reference=first)
    crowd.multiply(count - 1, of=[row.pk], pace_ms=STEP_MS)
    tidy_up()
    operations.resume_target(target=_TARGET, reason="All are there.", actor="load")
    until(lambda: _waiting().count() < count - 100, seconds=120)
    return row.rank


def _waiting() -> Any:
    from fulfillment.models import Fulfillment, Task

    flood = Fulfillment.objects.filter(customer=_FLOOD)
    return Task.objects.filter(target_id=_TARGET, state="READY", fulfillment__in=flood)


def _singles(shop: Shop, options: argparse.Namespace) -> list[float]:
    """Seconds from submission to the end, of orders that come one by one at an even pace.

    Each is the only one of its customer.
    """
    from oms.models import Order

    references, began = [], time.perf_counter()
    pace = threading.Event()
    for number in range(options.singles):
        # They come by the clock, however long those before them take.
        pace.wait(max(0.0, began + number / options.per_second - time.perf_counter()))
        references += shop.submit(1, offering="single", customer=f"C-{time.time_ns()}")
    mine = Order.objects.filter(reference__in=references)
    until(lambda: not mine.filter(finished_at=None).exists(), seconds=1200, pause_seconds=0.1)
    return [
        (finished - submitted).total_seconds()
        for submitted, finished in mine.values_list("submitted_at", "finished_at")
    ]


def _told(beside: str, took: list[float]) -> None:
    p99 = statistics.quantiles(took, n=100)[98]
    print(f"{beside:52} {statistics.median(took):6.3f} s {p99:6.3f} s {max(took):6.3f} s")


if __name__ == "__main__":
    main()
