"""Part `isolation`: what somebody else's trouble costs an order that has nothing to do with it.

A whole stack with real workers and HTTP. Orders of one task come one by one at an even pace, each
of a customer of its own, and their latency is compared: quiet, and beside each kind of trouble.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.desk import by
from tests.load import figures
from tests.load.parts import Run
from tests.load.shop import Shop
from tests.load.stacks import whole_stack
from tests.waiting import until

TITLE = "latency of orders beside a hung, a limited, a flapping target, a huge order, a flood"
_TARGET, _ELSEWHERE, _BESIDE = "crm", "logistics", "profiles"
"""Where the orders go; a target on another queue; another target on their own queue."""
_CALL = {"call": "PT30S", "callback": "PT1M"}
_PATIENT = {"initial_interval": "PT0.5S", "maximum_interval": "PT1S", "maximum_attempts": 1000}
_WITHOUT_SHARES = "the flood, without fair shares"
_STUCK = 60
"""Orders that meet a target in trouble: more than it has sender slots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    singles: int = 200
    """Orders that are timed, in each situation."""
    per_second: float = 4.0
    elements: int = 5_000
    """Tasks of the huge order."""
    flood: int = 50_000
    """Orders of the one customer."""
    without_shares: int = 0
    """Whether that is measured again with fair shares off: it takes as long as the flood."""


QUICK = Sizes(singles=40, elements=500, flood=2_000)


def measure(*, sizes: Sizes, run: Run) -> dict[str, Any]:
    """Latencies quiet and beside each trouble, and how many times the quiet p99 that is."""
    found: dict[str, Any] = {}
    with whole_stack("isolation") as stack:
        from fulfillment.models import TargetSystem

        # A pause below begins no slow start: what is measured is the engine.
        TargetSystem.objects.update(ramp=timedelta(0))
        _publish(sizes)
        shop = Shop(stack)
        _singles(shop, sizes)  # connections, caches and prepared statements
        for name, trouble in _TROUBLES.items():
            if name == _WITHOUT_SHARES and not sizes.without_shares:
                continue
            with trouble(shop, sizes):
                took = [seconds * 1000 for seconds in _singles(shop, sizes)]
            found[name] = figures.percentiles(took)
            quiet = found["quiet"]["p99"]
            found[name]["p99_vs_quiet"] = figures.ratio(found[name]["p99"], quiet)
            run.say(f"{name:24} p50 {found[name]['p50']:7.0f} ms  p99 {found[name]['p99']:7.0f} ms")
    troubles = found.keys() - {"quiet", "quiet again", _WITHOUT_SHARES}
    worst = max(found[name]["p99_vs_quiet"] for name in troubles)
    run.say(f"The worst p99 is {worst} times the quiet one.")
    return {"worst_p99_vs_quiet": worst, "latency_ms": found}


def _publish(sizes: Sizes) -> None:
    from tests import desk

    desk.workflow({"one": desk.task(_TARGET, timeouts=_CALL)}, offering="single")
    for target in (_ELSEWHERE, _BESIDE):
        there = desk.task(target, timeouts=_CALL, retry=_PATIENT)
        desk.workflow({"there": there}, offering=f"at-{target}")
    at_once = min(1000, sizes.elements)  # as many as the language allows
    each = {"over": "${item.characteristics.list}", "at_once": at_once}
    desk.workflow(
        {"each": desk.task(_TARGET, timeouts=_CALL, for_each=each)},
        offering="huge",
        version=at_once,
    )


# --- troubles ---------------------------------------------------------------------------------


@contextmanager
def _nothing(shop: Shop, sizes: Sizes) -> Iterator[None]:
    yield


def _hung(target: str) -> Callable[[Shop, Sizes], AbstractContextManager[None]]:
    """Everything that is sent to the target hangs until its deadline."""

    @contextmanager
    def trouble(shop: Shop, sizes: Sizes) -> Iterator[None]:
        hang = {"kind": "hang", "latency_ms": 3_600_000}
        with _misbehaving(shop, target, {"behaviour": hang}):
            yield

    return trouble


@contextmanager
def _flapping(shop: Shop, sizes: Sizes) -> Iterator[None]:
    """Half of the calls fail: its breaker opens and closes, and all is tried again and again."""
    busy = {"kind": "status", "status": 503}
    with _misbehaving(shop, _BESIDE, {"probability": 0.5, "behaviour": busy}):
        yield


@contextmanager
def _limited(shop: Shop, sizes: Sizes) -> Iterator[None]:
    """Far more waits for it than it may be sent."""
    from fulfillment.models import TargetSystem

    TargetSystem.objects.filter(pk=_BESIDE).update(rate_per_second=2.0, rate_burst=1)
    waiting = 2 * sizes.singles
    shop.submit(waiting, offering=f"at-{_BESIDE}")
    yield
    TargetSystem.objects.filter(pk=_BESIDE).update(rate_per_second=None, rate_burst=1)
    _until_idle(_BESIDE)


@contextmanager
def _huge(shop: Shop, sizes: Sizes) -> Iterator[None]:
    """One order of thousands of tasks, all for the same target."""
    elements = [str(number) for number in range(sizes.elements)]
    shop.submit(1, offering="huge", customer="HUGE", characteristics={"list": elements})
    until(_open(_TARGET, customer="HUGE").exists, seconds=60)
    yield
    _until_idle(_TARGET)


@contextmanager
def _flood(shop: Shop, sizes: Sizes) -> Iterator[None]:
    """One customer's orders, as if all had come at this moment, for the same target."""
    from fulfillment import operations

    operations.pause_target(target=_TARGET, reason="until all are there", actor=by("bench"))
    shop.multiplied(sizes.flood, offering="single", customer="FLOOD")
    operations.resume_target(target=_TARGET, reason="All are there.", actor=by("bench"))
    until(lambda: _open(_TARGET, customer="FLOOD").count() < sizes.flood - 100, seconds=120)
    yield


@contextmanager
def _unfair(shop: Shop, sizes: Sizes) -> Iterator[None]:
    """What is left of the flood, in the order in which all of it came."""
    from fulfillment.models import Fulfillment

    flood = Fulfillment.objects.filter(customer="FLOOD")
    flood.update(rank=flood.order_by("rank").values_list("rank", flat=True)[0])
    yield


_TROUBLES: dict[str, Callable[[Shop, Sizes], AbstractContextManager[None]]] = {
    "quiet": _nothing,
    "hung elsewhere": _hung(_ELSEWHERE),
    "hung on their queue": _hung(_BESIDE),
    "rate-limited": _limited,
    "flapping": _flapping,
    "one huge order": _huge,
    "quiet again": _nothing,
    # The last ones: what they leave is thrown away with the database.
    "one customer's flood": _flood,
    _WITHOUT_SHARES: _unfair,
}


@contextmanager
def _misbehaving(shop: Shop, target: str, rule: dict[str, Any]) -> Iterator[None]:
    from fulfillment.models import Attempt

    shop.script([{"match": {"target": target}, **rule}])
    shop.submit(_STUCK, offering=f"at-{target}")
    until(Attempt.objects.filter(target_id=target).exists, seconds=30)
    yield
    shop.script([])
    _until_idle(target)


def _until_idle(target: str) -> None:
    """What is left of the trouble is done before the next one begins."""
    until(lambda: not _open(target).exists(), seconds=600, pause_seconds=0.1)


def _open(target: str, **of: str) -> Any:
    from fulfillment.models import Task
    from fulfillment.states import TASK_TERMINAL

    customers = {f"fulfillment__{name}": value for name, value in of.items()}
    return Task.objects.filter(target_id=target, **customers).exclude(state__in=TASK_TERMINAL)


def _singles(shop: Shop, sizes: Sizes) -> list[float]:
    """Seconds from submission to the end, of orders that come one by one at an even pace."""
    from oms.models import Order

    references, began = [], time.perf_counter()
    pace = threading.Event()
    for number in range(sizes.singles):
        # They come by the clock, however long those before them take.
        pace.wait(max(0.0, began + number / sizes.per_second - time.perf_counter()))
        references += shop.submit(1, offering="single", customer=f"C-{time.time_ns()}")
    mine = Order.objects.filter(reference__in=references)
    until(lambda: not mine.filter(finished_at=None).exists(), seconds=1200, pause_seconds=0.1)
    return [
        (finished - submitted).total_seconds()
        for submitted, finished in mine.values_list("submitted_at", "finished_at")
    ]
