"""Part `filling`: what looks, steps and the workload cost in an empty and in a full system.

Full: open orders that wait for twelve kinds of reasons, and finished tasks with all their history.
Looks and steps are timed in this process, with target systems that answer at once; workload W
then runs on real workers as in part `w`. In the full system each look says what it reads, and no
look may go through a table that grows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.load import figures
from tests.load.engine_side import Engine
from tests.load.parts import BenchFailed, Run
from tests.load.sides import TASKS_PER_ORDER
from tests.load.stacks import only_servers, tidy_up

if TYPE_CHECKING:
    from tests.load.reading import Readings

TITLE = "cost of looks, steps and the workload in an empty and in a full system"


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
    holds: int = 1000
    """On other orders and customers, as in part `w`."""


QUICK = Sizes(open=5_000, finished=16_000, rounds=1, orders=500, times=5, holds=100)
PLANS = "filling-plans.txt"
_COPIED = 100


def measure(*, sizes: Sizes, run: Run) -> dict[str, Any]:
    """Throughput and looks, empty and full, and the ratio between them. Raises BenchFailed."""
    with only_servers("filling", shipped=True) as stack:
        from fulfillment.models import Fulfillment
        from tests import crowd, desk
        from tests.load import reading
        from tests.load.looks import Looks

        before = desk.now()
        waiting = crowd.one_of_each()
        # It has put this connection's clock forward; the workers have their own.
        desk.advance(round((before - desk.now()).total_seconds()))
        seeds = list(Fulfillment.objects.values_list("pk", flat=True))
        desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])}, offering="quick")
        engine = Engine(stack, batch=250, holds=sizes.holds)
        looks = Looks(waiting)
        with engine.workers():
            engine.run(_COPIED, tell=lambda _: None)  # So that lists have a page.
        tidy_up()
        looks.times(3)  # Caches and prepared statements.
        rows, times = {"empty": reading.sizes()}, {}
        with _later():
            times["empty"] = looks.times(sizes.times)
        rates = {"empty": _rates(engine, sizes, run, "empty")}
        _fill(sizes, seeds=seeds, run=run)
        rows["full"] = reading.sizes()
        with _later():
            times["full"] = looks.times(sizes.times)
            readings = looks.readings()
        rates["full"] = _rates(engine, sizes, run, "full")
        line = _a_long_line(sizes.open // 2)
    found = {
        name: {state: figures.tidy(measured[name] * 1000) for state, measured in times.items()}
        for name in times["empty"]
    }
    run.say(figures.table(found))
    read = _read(readings, growing=reading.growing(rows["empty"], rows["full"]), run=run)
    throughput = {state: figures.spread(measured) for state, measured in rates.items()}
    ratio = figures.ratio(throughput["full"]["median"], throughput["empty"]["median"])
    run.say(f"Full, the workload runs {ratio} times as fast as in the empty system.")
    return {
        "throughput_full_vs_empty": ratio,
        "tasks_per_second": throughput,
        "looks_ms": found,
        "read": read,
        "a_long_line": line,
    }


@contextmanager
def _later() -> Iterator[None]:
    """By this connection's clock nothing has begun lately: a crowd has waited for some time."""
    from fulfillment.engine.plans.circles import LATELY
    from tests import desk

    desk.advance(LATELY.total_seconds())
    try:
        yield
    finally:
        desk.advance(-LATELY.total_seconds())


def _read(readings: Readings, *, growing: Collection[str], run: Run) -> dict[str, Any]:
    """What the looks have read in the full system; the plans go beside the results.

    Raises BenchFailed when one has gone through a table that grows.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / PLANS
    path.write_text(readings.document())
    most = {name: {"rows": rows, "of": of} for name, (of, rows) in readings.most.items()}
    run.say(figures.table(dict(sorted(most.items(), key=lambda each: -each[1]["rows"])[:10])))
    if faults := readings.faults(growing):
        raise BenchFailed(
            f"Tables that grow are gone through; the plans are in {path}:\n  " + "\n  ".join(faults)
        )
    run.say(
        f"None of {len(most)} looks goes through one of the {len(growing)} tables that grow; "
        f"the plans of {len(readings.statements)} statements are in {path}."
    )
    return {"growing": sorted(growing), "gone_through": [], "most_rows": most}


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
    from tests.load import history

    run.say(f"Filling: {sizes.open:,} orders that wait, {sizes.finished:,} tasks that are done …")
    began = time.perf_counter()
    crowd.multiply(max(1, sizes.open // len(seeds) - 1), of=seeds)
    done = Order.objects.filter(state="COMPLETED", external_id__startswith="W-").order_by("-pk")
    copied = list(done.values_list("fulfillment_id", flat=True)[:_COPIED])
    copies = sizes.finished // (len(copied) * TASKS_PER_ORDER)
    with run.progress("finished orders", total=copies * len(copied)) as tell:
        history.copy(of=copied, copies=copies, tell=tell)
    history.check(of=history.newest(_COPIED))
    tidy_up()
    run.say(
        f"{Fulfillment.objects.count():,} orders there, after {time.perf_counter() - began:.0f} s:"
    )
    for cause, count in _census():
        run.say(f"  {count:8,} tasks wait: {cause}")


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


def _median(look: Callable[[], Any], times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        look()
        took.append(time.perf_counter() - began)
    return statistics.median(took)
