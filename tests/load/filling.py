"""Part `filling`: what looks, steps and the workload cost in an empty and in a full system.

Full: open orders that wait for twelve kinds of reasons, and finished tasks with all their history.
Looks and steps are timed in this process, with target systems that answer at once; workload W
then runs on real workers as in part `w`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.load import figures
from tests.load.engine_side import Engine
from tests.load.parts import Run
from tests.load.sides import TASKS_PER_ORDER
from tests.load.stacks import only_servers, tidy_up

TITLE = "cost of looks, steps and the workload in an empty and in a full system"
_Look = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    open: int = 100_000
    """Orders that wait."""
    finished: int = 1_000_000
    """Tasks that are done, with commands, attempts and audit rows."""
    rounds: int = 3
    orders: int = 3000
    """Of workload W, per round."""
    times: int = 15
    """How often each look is taken."""


QUICK = Sizes(open=5_000, finished=16_000, rounds=1, orders=500, times=5)


def measure(*, sizes: Sizes, run: Run) -> dict[str, Any]:
    """Throughput and looks, empty and full, and the ratio between them."""
    with only_servers("filling", shipped=True) as stack:
        from fulfillment.models import Fulfillment
        from tests import crowd, desk

        before = desk.now()
        waiting = crowd.one_of_each()
        # It has put this connection's clock forward; the workers have their own.
        desk.advance(round((before - desk.now()).total_seconds()))
        seeds = list(Fulfillment.objects.values_list("pk", flat=True))
        desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])}, offering="quick")
        engine = Engine(stack, batch=250, holds=0)
        tidy_up()
        _times(waiting, 3)  # caches and prepared statements
        looks = {"empty": _times(waiting, sizes.times)}
        rates = {"empty": _rates(engine, sizes, run, "empty")}
        _fill(sizes, seeds=seeds, run=run)
        looks["full"] = _times(waiting, sizes.times)
        rates["full"] = _rates(engine, sizes, run, "full")
        line = _a_long_line(sizes.open // 2)
    milliseconds = {
        name: {state: figures.tidy(looks[state][name] * 1000) for state in looks}
        for name in looks["empty"]
    }
    throughput = {state: figures.spread(found) for state, found in rates.items()}
    ratio = figures.ratio(throughput["full"]["median"], throughput["empty"]["median"])
    run.say(figures.table(milliseconds))
    run.say(f"Full, the workload runs {ratio} times as fast as in the empty system.")
    return {
        "throughput_full_vs_empty": ratio,
        "tasks_per_second": throughput,
        "looks_ms": milliseconds,
        "a_long_line": line,
    }


def _rates(engine: Engine, sizes: Sizes, run: Run, state: str) -> list[float]:
    """Tasks per second of each round; every order is counted."""
    rates = []
    with engine.workers():
        engine.run(20, tell=lambda _: None)
        for number in range(1, sizes.rounds + 1):
            with run.progress(f"{state}, round {number}", total=sizes.orders) as tell:
                took = engine.run(sizes.orders, tell=tell)
            rates.append(sizes.orders * TASKS_PER_ORDER / took)
            run.say(f"{state:6} round {number}  {rates[-1]:8,.0f} tasks/s")
        engine.verify()
    return rates


def _fill(sizes: Sizes, *, seeds: list[int], run: Run) -> None:
    """Copies in the database of what has come to wait, and of what was done."""
    from fulfillment.models import Fulfillment
    from oms.models import Order
    from tests import crowd

    run.say(f"Filling: {sizes.open:,} orders that wait, {sizes.finished:,} tasks that are done …")
    began = time.perf_counter()
    crowd.multiply(max(1, sizes.open // len(seeds) - 1), of=seeds)
    done = Order.objects.filter(state="COMPLETED", external_id__startswith="W-").order_by("-pk")
    copied = list(done.values_list("fulfillment_id", flat=True)[:_COPIED])
    copies = sizes.finished // (len(copied) * TASKS_PER_ORDER)
    if copies:
        crowd.multiply(copies, of=copied, history=True)
    tidy_up()
    run.say(
        f"{Fulfillment.objects.count():,} orders there, after {time.perf_counter() - began:.0f} s:"
    )
    for cause, count in _census():
        run.say(f"  {count:8,} tasks wait: {cause}")


_COPIED = 100


def _a_long_line(count: int) -> dict[str, float]:
    """One customer's orders have to line up for one lock; another's order stands behind them."""
    from fulfillment.models import Task
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
    after = _median(desk.claim, 15)
    began = time.perf_counter()
    desk.settle_call(keeps, desk.succeeded())
    (following,) = desk.claim()
    passed_on = time.perf_counter() - began
    assert following.fulfillment_id == second.fulfillment_id
    return {
        "lined_up": lined_up,
        "lining_up_once_s": figures.tidy(took),
        "claim_beside_it_ms": figures.tidy(after * 1000),
        "passing_the_lock_on_ms": figures.tidy(passed_on * 1000),
    }


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
