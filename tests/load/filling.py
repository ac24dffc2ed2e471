"""A full house, measured: what every look and every step costs beside open orders that wait.

In one process, with target systems that answer at once, on a database of its own: first as good
as empty, then with a hundred thousand orders that wait for twelve kinds of reasons. Run by
`make crowd`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.load.stacks import only_servers, tidy_up

_Look = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=15)
    options = parser.parse_args()
    with only_servers("crowd"):
        _measure(options.orders, options.times)


def _measure(orders: int, times: int) -> None:
    from fulfillment.models import Fulfillment
    from tests import crowd, desk

    waiting = crowd.one_of_each()
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])}, offering="quick")
    seeds = list(Fulfillment.objects.values_list("pk", flat=True))
    tidy_up()
    empty = _times(waiting, times)
    began = time.perf_counter()
    crowd.multiply(max(1, orders // len(seeds) - 1), of=seeds)
    tidy_up()
    print(
        f"{Fulfillment.objects.count():,} open orders, made in {time.perf_counter() - began:.0f} s:"
    )
    for cause, count in _census():
        print(f"  {count:8,} tasks wait: {cause}")
    full = _times(waiting, times)
    _a_long_line(orders // 2)
    print(f"\n{'median of ' + str(times):32} {'empty':>10} {'full':>10}")
    for name, before in empty.items():
        after = full[name]
        print(f"{name:32} {before * 1000:7.1f} ms {after * 1000:7.1f} ms")


def _a_long_line(count: int) -> None:
    """One customer's orders have to line up for one lock; another's order stands behind them."""
    from fulfillment.models import Fulfillment, Task
    from tests import crowd, desk

    customer = {"resource": "account", "key": "${order.customer.id}"}
    desk.workflow({"one": desk.task(locks=[customer])}, offering="line")
    desk.order(desk.item("line"), customer_id="LINE")
    (keeps,) = desk.claim()
    second = desk.order(desk.item("line"), customer_id="LINE")
    crowd.multiply(count - 1, of=[second.fulfillment_id])
    tidy_up()
    behind = desk.order(desk.item("quick"), customer_id="BEHIND", priority=-1)
    began = time.perf_counter()
    (claim,) = desk.claim()
    took = time.perf_counter() - began
    assert claim.fulfillment_id == behind.fulfillment_id
    lined_up = Task.objects.filter(waits_for_lock="account:LINE").count()
    print(
        f"\n{lined_up:,} orders of one customer have lined up for one lock in {took:.1f} s, once."
    )
    after = _median(desk.claim, 15)
    began = time.perf_counter()
    desk.settle_call(keeps, desk.succeeded())
    (following,) = desk.claim()
    passed_on = time.perf_counter() - began
    reference = Fulfillment.objects.get(pk=following.fulfillment_id).order_reference
    print(
        f"A claim beside that line takes {after * 1000:.1f} ms; the lock is passed on, to "
        f"{reference}, in {passed_on * 1000:.1f} ms."
    )


def _census() -> list[tuple[str, int]]:
    from django.db.models import Count

    from fulfillment.models import Task

    waits = Task.objects.exclude(waits_for__in=["", "DEPENDENCY"])
    return list(waits.values_list("waits_for").annotate(n=Count("pk")).order_by("-n"))


def _times(waiting: dict[str, Any], times: int) -> dict[str, float]:
    from fulfillment import stuck
    from fulfillment.engine.dispatch import sweeping
    from fulfillment.engine.plans import circles, scanning
    from fulfillment.engine.store.database import pin_plans
    from fulfillment.engine.timing import durations, jeopardy
    from fulfillment.engine.work import locking
    from oms.reasons import reason_of
    from tests import desk

    pin_plans()  # As every worker does.
    looks: dict[str, _Look] = {
        "scanner": scanning.scan,
        "sweeper": sweeping.sweep,
        "stuck detector": stuck.detect_stuck,
        "circle detector, lately": circles.break_circles,
        "circle detector, all waits": lambda: circles.break_circles(lately=None),
        "jeopardy": jeopardy.look,
        "durations": durations.measure,
        "locks that were released": locking.wake,
        "claim that finds nothing": desk.claim,
    }
    found = {name: _median(look, times) for name, look in looks.items()}
    steps: dict[str, list[float]] = {}
    for _ in range(times):
        for name, seconds in _an_order().items():
            steps.setdefault(name, []).append(seconds)
    found |= {name: statistics.median(seconds) for name, seconds in steps.items()}
    whys = {name: _median(partial(reason_of, order), times) for name, order in waiting.items()}
    slowest = max(whys, key=lambda name: whys[name])
    found["why, of all kinds"] = statistics.median(whys.values())
    found["why, the slowest kind"] = whys[slowest]
    return found


def _an_order() -> dict[str, float]:
    """The steps of one order of two tasks."""
    from tests import desk

    took: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = step()
        took[name] = time.perf_counter() - began
        return answer

    timed("submit", lambda: desk.order(desk.item("quick"), customer_id="LOCKED"))
    (claim,) = timed("claim", desk.claim)
    timed("settle", lambda: desk.settle_call(claim, desk.succeeded()))
    timed("claim, send and settle the last", lambda: desk.drain(["alpha"]))
    return took


def _median(look: _Look, times: int) -> float:
    took = []
    look()
    for _ in range(times):
        began = time.perf_counter()
        look()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


if __name__ == "__main__":
    main()
