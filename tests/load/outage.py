"""An outage, measured: thousands of orders wait for a paused target, which is then resumed.

A whole stack with real workers and HTTP. Shown second by second: calls begun, calls under way,
and messages in the target's queue, against its limits and its ramp. Run by `make outage`.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from datetime import timedelta

import celery

from tests.load.shop import Shop
from tests.load.stacks import whole_stack
from tests.waiting import until

_TARGET = "logistics"
_CONCURRENCY = 40
_RATE = 400.0
_RAMP = timedelta(seconds=20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=10_000)
    options = parser.parse_args()
    with whole_stack("outage") as stack:
        _measure(Shop(stack), options.orders)


def _measure(shop: Shop, count: int) -> None:
    from fulfillment import operations
    from fulfillment.models import Attempt, TargetSystem
    from oms.models import Order
    from tests import desk

    TargetSystem.objects.filter(pk=_TARGET).update(
        concurrency_limit=_CONCURRENCY,
        sender_slots=_CONCURRENCY,
        rate_per_second=_RATE,
        rate_burst=20,
        ramp=_RAMP,
    )
    desk.workflow({"one": desk.task(_TARGET)}, offering="parcel")
    shop.script([{"match": {}, "behaviour": {"kind": "latency", "latency_ms": 20}}])
    operations.pause_target(target=_TARGET, reason="The outage", actor="load")
    references = shop.submit(count, offering="parcel")
    waiting = Order.objects.filter(reference__in=references, finished_at=None)
    print(f"{count} orders wait; {_queued()} messages are in the queue.")

    operations.resume_target(target=_TARGET, reason="It is well again", actor="load")
    resumed = desk.now()
    deepest, busiest = [0], [0]

    def drained() -> bool:
        deepest.append(_queued())
        busiest.append(Attempt.objects.filter(target_id=_TARGET, finished_at=None).count())
        return not waiting.exists()

    began = time.perf_counter()
    until(drained, seconds=600, pause_seconds=0.1)
    took = time.perf_counter() - began

    begun = Counter(
        int((at - resumed).total_seconds())
        for at in Attempt.objects.filter(
            target_id=_TARGET, started_at__gte=resumed, purpose="SEND"
        ).values_list("started_at", flat=True)
    )
    ramp = int(_RAMP.total_seconds())
    print(f"\n{'second':>8} {'calls begun':>12}")
    for second in range(max(begun) + 1):
        if second < ramp or second % 5 == 0:
            print(f"{second:8} {begun[second]:12} {'▇' * (begun[second] // 8)}")
    print(
        f"\n{count} orders drained in {took:.0f} s: at most {max(begun.values())} calls a second "
        f"(limit {_RATE:.0f}), {max(busiest)} under way (limit {_CONCURRENCY}), "
        f"{max(deepest)} messages in the queue; {begun[0]} calls in the first second."
    )


def _queued() -> int:
    with celery.current_app.connection_for_read() as connection:
        return int(connection.default_channel.client.llen(_TARGET))


if __name__ == "__main__":
    main()
