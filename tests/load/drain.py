"""Part `drain`: thousands of tasks wait for a paused target, which is then resumed.

A whole stack with real workers and HTTP. Looked at second by second: calls begun, calls under
way, messages in the target's queue; no limit may be exceeded, and the rate has to be used.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import celery

from tests.desk import by
from tests.load import figures
from tests.load.parts import BenchFailed, Run
from tests.load.real_http import ledger
from tests.load.shop import Shop
from tests.load.sides import PATIENCE_SECONDS, wait_for
from tests.load.stacks import whole_stack

TITLE = "an outage of one target with tasks waiting, and what happens when it is resumed"
_TARGET = "logistics"
_LOOKS_PER_SECOND = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    waiting: int = 50_000
    rate: float = 400.0
    """Calls a second that are allowed."""
    burst: int = 20
    concurrency: int = 40
    service_ms: int = 20
    ramp_seconds: int = 20


QUICK = Sizes(waiting=2_000, rate=100.0, ramp_seconds=5)


def measure(*, sizes: Sizes, run: Run) -> dict[str, Any]:
    """How much of the allowed rate is used once the ramp is over. Raises BenchFailed."""
    with whole_stack("drain") as stack:
        from fulfillment import operations
        from tests import desk

        _prepare(sizes)
        shop = Shop(stack)
        slow = {"kind": "latency", "latency_ms": sizes.service_ms}
        shop.script([{"match": {}, "behaviour": slow}])
        operations.pause_target(target=_TARGET, reason="The outage", actor=by("bench"))
        shop.multiplied(sizes.waiting, offering="parcel", customer="C-1")
        operations.resume_target(target=_TARGET, reason="It is well again", actor=by("bench"))
        resumed = desk.now()
        seen = _watched(sizes, run)
        begun = _begun(since=resumed)
        # Jobs that are due in these minutes have effects elsewhere.
        effects = ledger(stack, target=_TARGET)
    if len(effects) != sizes.waiting or any(count != 1 for count in effects.values()):
        raise BenchFailed(f"{sum(effects.values())} effects of {len(effects)} keys in the ledger.")
    return _document(sizes, begun, seen, run)


def _prepare(sizes: Sizes) -> None:
    from fulfillment.models import TargetSystem
    from tests import desk

    TargetSystem.objects.filter(pk=_TARGET).update(
        concurrency_limit=sizes.concurrency,
        sender_slots=sizes.concurrency,
        rate_per_second=sizes.rate,
        rate_burst=sizes.burst,
        ramp=timedelta(seconds=sizes.ramp_seconds),
    )
    desk.workflow({"one": desk.task(_TARGET)}, offering="parcel")


def _watched(sizes: Sizes, run: Run) -> dict[str, float]:
    """Until nothing waits: the most that was under way, and the most messages in the queue."""
    from fulfillment.models import Attempt
    from oms.models import Order

    waiting = Order.objects.filter(finished_at=None)
    under_way = Attempt.objects.filter(target_id=_TARGET, finished_at=None)
    seen = {"under_way": 0, "messages": 0}

    began = time.perf_counter()
    with run.progress("drained", total=sizes.waiting) as tell:

        def all_done() -> bool:
            seen["under_way"] = max(seen["under_way"], under_way.count())
            seen["messages"] = max(seen["messages"], _queued())
            left = waiting.count()
            tell(sizes.waiting - left)
            return not left

        wait_for(
            all_done,
            seconds=PATIENCE_SECONDS,
            pause_seconds=1 / _LOOKS_PER_SECOND,
            otherwise=lambda: f"{waiting.count():,} tasks are not drained after ten minutes.",
        )
    return {**seen, "seconds": time.perf_counter() - began}


def _begun(*, since: datetime) -> Counter[int]:
    """Calls begun, by whole seconds since the target was resumed."""
    from fulfillment.models import Attempt

    starts = Attempt.objects.filter(target_id=_TARGET, started_at__gte=since, purpose="SEND")
    return Counter(
        int((at - since).total_seconds()) for at in starts.values_list("started_at", flat=True)
    )


def _document(
    sizes: Sizes, begun: Mapping[int, int], seen: Mapping[str, float], run: Run
) -> dict[str, Any]:
    most = max(begun.values())
    if most > sizes.rate + sizes.burst or seen["under_way"] > sizes.concurrency:
        raise BenchFailed(
            f"{most} calls in a second and {seen['under_way']:.0f} under way; allowed are "
            f"{sizes.rate:.0f} and a burst of {sizes.burst}, and {sizes.concurrency}."
        )
    share = share_of_rate(begun, rate=sizes.rate, after=sizes.ramp_seconds)
    run.say(
        f"{sizes.waiting:,} tasks drained in {seen['seconds']:.0f} s: {share:.0%} of the allowed "
        f"rate behind the ramp, at most {most} calls in a second, {seen['under_way']:.0f} under "
        f"way, {seen['messages']:.0f} messages in the queue."
    )
    return {
        "share_of_rate": figures.tidy(share),
        "seconds": figures.tidy(seen["seconds"]),
        "most_calls_in_a_second": most,
        "most_under_way": seen["under_way"],
        "most_messages": seen["messages"],
        "calls_by_second": [begun[second] for second in range(max(begun) + 1)],
    }


def share_of_rate(begun: Mapping[int, int], *, rate: float, after: int) -> float:
    """Of the allowed calls, those begun in the whole seconds between the ramp and the end. Pure.

    Raises BenchFailed when there is no such second.
    """
    seconds = range(after, max(begun))
    if not seconds:
        raise BenchFailed("Everything was done before the ramp was over; let more tasks wait.")
    return sum(begun.get(second, 0) for second in seconds) / (rate * len(seconds))


def _queued() -> int:
    with celery.current_app.connection_for_read() as connection:
        return int(connection.default_channel.client.llen(_TARGET))
