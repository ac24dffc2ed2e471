"""Part `http`: workload W through the HTTP adapter to the sandbox, whose systems take their time.

Concurrency limits bind, not the processors: what is measured is how full the engine keeps the
slots that it may use, and what a task costs beyond its call.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.load import engine_side, figures, processor_time
from tests.load.parts import BenchFailed, Run
from tests.load.shop import Shop
from tests.load.sides import TASKS_PER_ORDER, wait_until_none
from tests.load.stacks import BenchStack, whole_stack

TITLE = "the same over HTTP to systems that take 20 ms: how full the permitted slots are kept"
_INSTEAD = {"provisioning": "identity"}
"""The sandbox's provisioning answers by callbacks; identity, on the same queue, at once."""
_SLOTS = {"identity": 2, "inventory": 1, "billing": 1, "notification": 1}
"""By target, for each unit of `scale`; calls of one order: 4, 2, 1 and 1."""
_CALLS_PER_SLOT = 2
"""Of one order at the narrowest targets: identity and inventory."""
_EFFECTS = """
SELECT idempotency_key, count(*) FROM executions WHERE ? IN ('', target) GROUP BY idempotency_key
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int = 3
    orders: int = 500
    scale: int = 1
    """Slots of the narrowest targets, in units of `_SLOTS`: one allows 200 tasks a second."""
    service_ms: int = 20
    calls: int = 100
    """Bare calls through the adapter, to know what a call itself costs."""


QUICK = Sizes(rounds=1, orders=150)


def measure(*, sizes: Sizes, run: Run) -> dict[str, Any]:
    """Shares of what the limits allow, processor time per task, and of the bare call."""
    shares: list[float] = []
    rates: list[float] = []
    costs: list[dict[str, float]] = []
    with whole_stack("http") as stack:
        shop = Shop(stack)
        _prepare(shop, stack, sizes)
        bare = _bare_calls(stack, sizes)
        # Every slot of the narrowest target, filled by calls that take as long as they say.
        allowed = 1000 / (sizes.service_ms * _CALLS_PER_SLOT) * sizes.scale * TASKS_PER_ORDER
        orders = engine_side.submitted(engine_side.requests_of(20, run="H-0"), batch=20)
        wait_until_none(lambda: engine_side.left(orders), count=20, tell=lambda _: None)
        for number in range(1, sizes.rounds + 1):
            requests = engine_side.requests_of(sizes.orders, run=f"H-{number}")
            before, began = processor_time.used_ms(stack), time.perf_counter()
            ids = engine_side.submitted(requests, batch=250)
            with run.progress(f"round {number}", total=sizes.orders) as tell:
                wait_until_none(
                    lambda ids=ids: engine_side.left(ids), count=sizes.orders, tell=tell
                )
            took = time.perf_counter() - began
            used = processor_time.between(before, processor_time.used_ms(stack))
            orders += ids
            tasks = sizes.orders * TASKS_PER_ORDER
            rates.append(tasks / took)
            shares.append(rates[-1] / allowed)
            costs.append({name: spent / tasks for name, spent in used.items()})
            run.say(
                f"round {number}  {rates[-1]:6.0f} tasks/s, {shares[-1]:.0%} of what is allowed"
            )
        verified = _verify(orders, stack=stack)
    median = {name: figures.spread([c[name] for c in costs])["median"] for name in costs[0]}
    engine = sum(spent for name, spent in median.items() if name != "sandbox")
    run.say(figures.table({"CPU ms per task": dict(median.items())}))
    with_bare_calls = allowed * sizes.service_ms / bare["wall_ms"]
    filled = figures.tidy(figures.spread(rates)["median"] / with_bare_calls)
    run.say(f"A bare call takes {bare['wall_ms']} ms: {filled:.0%} of what it would allow.")
    return {
        "share_of_limits": figures.spread(shares),
        "share_with_bare_calls": filled,
        "tasks_per_second": figures.spread(rates),
        "allowed_tasks_per_second": allowed,
        "cpu_ms_per_task": median,
        "bare_call": bare,
        "engine_cpu_ms_beyond_the_call": figures.tidy(engine - bare["cpu_ms"]),
        "limits": {target: slots * sizes.scale for target, slots in _SLOTS.items()},
        "verified": verified,
    }


def _prepare(shop: Shop, stack: BenchStack, sizes: Sizes) -> None:
    from fulfillment.models import TargetSystem

    engine_side.publish_workload(instead=_INSTEAD)
    for target, slots in _SLOTS.items():
        TargetSystem.objects.filter(pk=target).update(
            adapter="http",
            settings={"base_url": stack.environment.sandbox_url},
            concurrency_limit=slots * sizes.scale,
            sender_slots=slots * sizes.scale,
            ramp=timedelta(0),
        )
    slow = {"kind": "latency", "latency_ms": sizes.service_ms}
    shop.script([{"match": {}, "behaviour": slow}])


def _bare_calls(stack: BenchStack, sizes: Sizes) -> dict[str, float]:
    """One call after the other through the adapter alone: wall and processor time of each."""
    from adapters.contract import Capabilities, Command, OutcomeKind
    from adapters.http import HttpAdapter

    adapter = HttpAdapter(
        target="crm",
        settings={"base_url": stack.environment.sandbox_url},
        capabilities=Capabilities(idempotent=True, status_query=True),
    )
    took: list[float] = []
    spent = time.process_time()
    for number in range(sizes.calls):
        command = Command(
            command_id=number,
            idempotency_key=f"{number:064}",
            target="crm",
            action="update",
            payload={"customer_id": "C-1", "region": "EU"},
            order_reference="O-0",
            correlation_id="bare",
            attempt=1,
            deadline=timedelta(seconds=10),
        )
        began = time.perf_counter()
        outcome = adapter.send(command=command)
        took.append((time.perf_counter() - began) * 1000)
        if outcome.kind is not OutcomeKind.SUCCEEDED:
            raise BenchFailed(f"The sandbox answered a bare call with {outcome}.")
    cpu_ms = (time.process_time() - spent) * 1000 / sizes.calls
    return {"cpu_ms": figures.tidy(cpu_ms), "wall_ms": figures.percentiles(took)["p50"]}


def _verify(orders: Sequence[int], *, stack: BenchStack) -> dict[str, int]:
    """As for the workload, but the effects are those in the sandbox's own ledger."""
    found = engine_side.look_at(orders, effects=ledger(stack))
    engine_side.refuse_faults(found, orders=len(orders))
    return {"orders": len(orders), "effects": sum(found.effects[key] for key in found.keys)}


def ledger(stack: BenchStack, *, target: str = "") -> dict[str, int]:
    """By idempotency key, how often the sandbox's systems, or one, have done something."""
    with closing(sqlite3.connect(f"file:{stack.ledger}?mode=ro", uri=True)) as connection:
        return dict(connection.execute(_EFFECTS, [target]).fetchall())
