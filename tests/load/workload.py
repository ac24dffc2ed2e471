"""Part `w`: orders of eight no-op tasks, all submitted at once, and one order on an idle system.

This engine with everything on, bare Celery canvas, DBOS and Prefect take turns in one run on the
same servers; what counts is the ratio of the medians.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.load import celery_side, figures, subscribed
from tests.load.celery_side import Canvas
from tests.load.dbos_side import Dbos
from tests.load.engine_side import Engine
from tests.load.parts import Run
from tests.load.prefect_side import Prefect
from tests.load.sides import TASKS_PER_ORDER, Side
from tests.load.stacks import BenchStack, only_servers
from tests.load.subscribed import Subscribed

TITLE = "orders of eight tasks under backlog, and one order alone, beside Celery, DBOS, Prefect"
_WARM_UP = 20
_IDLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Orders per round of each side: enough for some seconds each."""

    rounds: int = 5
    orders: int = 3000
    celery_orders: int = 1000
    dbos_orders: int = 600
    prefect_orders: int = 20
    singles: int = 40
    """Orders that are alone, per round."""
    batch: int = 250
    """Orders per submission."""
    holds: int = 1000
    others: int = 1
    """Whether Celery's other pools are measured as well, in one round."""
    dbos: int = 1
    prefect: int = 1
    subscriber: int = 0
    """Whether the engine is measured once more, with a subscriber to every event."""


QUICK = Sizes(
    rounds=3, orders=1500, celery_orders=600, dbos_orders=300, singles=20, others=0, prefect=0
)


@dataclass(slots=True)
class Measured:
    """One side: orders per round, and what came out."""

    side: Side
    orders: int
    rounds: int
    rates: list[float] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    """Milliseconds of every order that was alone."""
    medians: list[float] = field(default_factory=list)
    """The median of these of each round."""
    verified: Mapping[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "settings": dict(self.side.settings),
            "orders_per_round": self.orders,
            "tasks_per_second": figures.spread(self.rates),
            "latency_ms": {**figures.spread(self.medians), **figures.percentiles(self.singles)},
            "verified": dict(self.verified),
        }


def measure(*, sizes: Sizes, run: Run) -> dict[str, Any]:
    """Figures of every side, and the ratios between them."""
    port = subscribed.a_place() if sizes.subscriber else 0
    with only_servers("w", shipped=True) as stack:
        run.say("Publishing the workload and placing the holds …")
        with _sides(stack, sizes, run, port=port) as sides:
            for number in range(1, sizes.rounds + 1):
                # Whatever warms or wears the machine does not always favour the same one.
                for one in sides if number % 2 else reversed(sides):
                    if number <= one.rounds:
                        _round(one, number, sizes, run)
    return _document(sides, sizes, run)


@contextmanager
def _sides(stack: BenchStack, sizes: Sizes, run: Run, *, port: int) -> Iterator[list[Measured]]:
    engine = Engine(stack, batch=sizes.batch, holds=sizes.holds)
    sides = [
        Measured(engine, sizes.orders, sizes.rounds),
        Measured(Canvas(stack), sizes.celery_orders, sizes.rounds),
    ]
    if sizes.subscriber:
        side = Subscribed(engine, stack, port=port)
        sides.append(Measured(side, sizes.orders, sizes.rounds))
    if sizes.others:
        sides += [
            Measured(Canvas(stack, name=name), sizes.celery_orders, 1)
            for name in celery_side.OTHERS
        ]
    if sizes.dbos:
        sides.append(Measured(Dbos(stack, run=run), sizes.dbos_orders, sizes.rounds))
    if sizes.prefect:
        sides.append(Measured(Prefect(stack, run=run), sizes.prefect_orders, 1))
    yield sides


def _round(one: Measured, number: int, sizes: Sizes, run: Run) -> None:
    name = one.side.name
    with one.side.workers():
        # Connections, caches and prepared statements are there before the clock starts.
        one.side.run(min(_WARM_UP, one.orders), tell=_nobody)
        with run.progress(f"round {number}, {name}", total=one.orders) as tell:
            took = one.side.run(one.orders, tell=tell)
        alone = [_alone(one.side) for _ in range(sizes.singles)]
        one.verified = one.side.verify()
    one.rates.append(one.orders * TASKS_PER_ORDER / took)
    one.singles += alone
    one.medians.append(figures.percentiles(alone)["p50"])
    run.say(
        f"round {number}  {name:15} {one.rates[-1]:8,.0f} tasks/s   "
        f"one order {one.medians[-1]:7.1f} ms"
    )


def _alone(side: Side) -> float:
    """Milliseconds that one order takes when nothing else is there."""
    threading.Event().wait(_IDLE_SECONDS)
    return side.run(1, tell=_nobody) * 1000


def _nobody(_: int, /) -> None:
    """Nobody is told."""


def _document(sides: list[Measured], sizes: Sizes, run: Run) -> dict[str, Any]:
    documents = {one.side.name: one.document() for one in sides}
    run.say(figures.table({name: _line(found) for name, found in documents.items()}))
    ours = documents["engine"]
    found: dict[str, Any] = {"baseline": celery_side.BASELINE, "tasks_per_order": TASKS_PER_ORDER}
    for name in (celery_side.BASELINE, "dbos", "prefect", Subscribed.name):
        if name in documents:
            theirs = documents[name]
            found |= {
                f"{key}_vs_{name}": figures.ratio(ours[what]["median"], theirs[what]["median"])
                for key, what in (("ratio", "tasks_per_second"), ("latency_ratio", "latency_ms"))
            }
    for name, value in found.items():
        if "ratio" in name:
            run.say(f"{name} {value}")
    for one in sides:
        if isinstance(one.side, Subscribed):
            documents[one.side.name]["events_per_second"] = figures.spread(one.side.delivered)
            run.say(f"events per second {figures.spread(one.side.delivered)['median']}")
    return {**found, "sides": documents}


def _line(found: Mapping[str, Any]) -> dict[str, object]:
    rate, latency = found["tasks_per_second"], found["latency_ms"]
    return {
        "tasks/s": rate["median"],
        "min": rate["min"],
        "max ": rate["max"],
        "one order ms": latency["median"],
        "p99": latency["p99"],
    }
