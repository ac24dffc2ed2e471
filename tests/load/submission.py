"""Part `submission`: orders over the API, one by one and in bulk, and while the engine is busy.

Real HTTP to gunicorn as in production. First the target systems are paused, so that taking orders
in is all that happens; then orders come at an even pace beside a backlog that is worked off.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import urllib3

from tests.desk import by
from tests.load import engine_side, figures, handlers
from tests.load.parts import BenchFailed, Run
from tests.load.sides import wait_until_none
from tests.load.stacks import BenchStack, whole_stack

TITLE = "orders per second over the API, one by one and in bulk, and how long one takes when busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int = 3
    singles: int = 400
    """Orders of one request each, per round."""
    bulk: int = 2000
    """Orders of `bulk_size` per request, per round."""
    bulk_size: int = 100
    clients: int = 8
    """Requests at once."""
    backlog: int = 8000
    """Orders that keep the engine busy."""
    paced: int = 100
    per_second: float = 10.0


QUICK = Sizes(rounds=1, singles=100, bulk=500, backlog=500, paced=30)


def measure(*, sizes: Sizes, run: Run) -> dict[str, Any]:
    """Rates and response times, quiet and busy."""
    with whole_stack("submission") as stack:
        engine_side.publish_workload()
        desk = _Desk(stack, sizes)
        desk.post(1)  # The web processes' own caches and connections.
        rates: dict[str, list[float]] = {"single": [], "bulk": []}
        took: dict[str, list[float]] = {"single": [], "bulk": []}
        for number in range(1, sizes.rounds + 1):
            for name, orders, size in (
                ("single", sizes.singles, 1),
                ("bulk", sizes.bulk, sizes.bulk_size),
            ):
                with _paused():
                    rate, times = desk.at_once(orders, size=size)
                rates[name].append(rate)
                took[name] += times
                run.say(f"round {number}  {name:7} {rate:7.0f} orders/s")
            desk.wait_until_done(run)
        busy, lasted = desk.beside_a_backlog(sizes)
        if not lasted:
            run.say("The backlog was done before the last order came: take a larger one.")
        verified = desk.verify(stack, run)
    document = {
        name: {
            "orders_per_second": figures.spread(rates[name]),
            "response_ms": figures.percentiles(took[name]),
        }
        for name in rates
    }
    document["busy"] = {"response_ms": figures.percentiles(busy), "backlog_lasted": lasted}
    run.say(figures.table({name: found["response_ms"] for name, found in document.items()}))
    return {**document, "clients": sizes.clients, "verified": verified}


class _Desk:
    """Clients of the API, and the orders that they have placed."""

    def __init__(self, stack: BenchStack, sizes: Sizes) -> None:
        from oms.keys import create_key
        from oms.models import ApiClient, Scope

        client, _ = ApiClient.objects.get_or_create(name="bench")
        self._key = create_key(client=client, scopes=[Scope.ORDERS_WRITE])
        self._url = f"http://127.0.0.1:{stack.environment.web_port}/api/v1/orders"
        self._http = urllib3.PoolManager(maxsize=sizes.clients, retries=False)
        self._clients = sizes.clients
        self._numbers = count(1)
        self._placed: list[int] = []

    def post(self, size: int) -> float:
        """Place so many orders by one request; milliseconds until its answer."""
        orders = [_body(next(self._numbers)) for _ in range(size)]
        body = json.dumps(orders[0] if size == 1 else {"orders": orders})
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "Idempotency-Key": f"bench-{orders[0]['external_id']}",
        }
        began = time.perf_counter()
        answer = self._http.request("POST", self._url, body=body, headers=headers, timeout=60)
        took = (time.perf_counter() - began) * 1000
        if answer.status != 201:
            raise BenchFailed(f"An order was answered {answer.status}: {answer.data.decode()}")
        found = json.loads(answer.data)
        created = [found] if size == 1 else [each["order"] for each in found["results"]]
        self._placed += [int(order["id"].removeprefix("O-")) for order in created]
        return took

    def at_once(self, orders: int, *, size: int) -> tuple[float, list[float]]:
        """Orders per second and milliseconds of each request, from several clients at once."""
        with ThreadPoolExecutor(self._clients) as clients:
            began = time.perf_counter()
            times = list(clients.map(self.post, [size] * (orders // size)))
            took = time.perf_counter() - began
        return len(times) * size / took, times

    def beside_a_backlog(self, sizes: Sizes) -> tuple[list[float], bool]:
        """Milliseconds of single orders at an even pace, and whether the backlog outlasted them."""
        with _paused():
            self.at_once(sizes.backlog, size=sizes.bulk_size)
        behind = sorted(self._placed)
        pace, began, times = threading.Event(), time.perf_counter(), []
        for number in range(sizes.paced):
            # They come by the clock, however long those before them take.
            pace.wait(max(0.0, began + number / sizes.per_second - time.perf_counter()))
            times.append(self.post(1))
        return times, engine_side.left(behind) > 0

    def wait_until_done(self, run: Run) -> None:
        ids = sorted(self._placed)
        with run.progress("until all are done", total=len(ids)) as tell:
            wait_until_none(lambda: engine_side.left(ids), count=len(ids), tell=tell)

    def verify(self, stack: BenchStack, run: Run) -> dict[str, int]:
        self.wait_until_done(run)
        found = engine_side.look_at(self._placed, effects=handlers.effects(stack.effects))
        engine_side.refuse_faults(found, orders=len(self._placed))
        return {"orders": len(self._placed), "effects": sum(found.effects.values())}


@contextmanager
def _paused() -> Iterator[None]:
    """Nothing is sent meanwhile."""
    from fulfillment import operations
    from fulfillment.models import TargetSystem

    names = list(TargetSystem.objects.values_list("pk", flat=True))
    for name in names:
        operations.pause_target(target=name, reason="Orders are taken in.", actor=by("bench"))
    yield
    for name in names:
        operations.resume_target(target=name, reason="They are there.", actor=by("bench"))


def _body(number: int) -> dict[str, Any]:
    return {
        "external_id": f"S-{number}",
        "customer": {"id": f"C-{number}"},
        "billing_account": "BA-1",
        "region": "EU",
        "items": [
            {
                "item_id": "1",
                "action": "add",
                "offering": engine_side.OFFERING,
                "characteristics": {
                    "agents": 200,
                    "phone_numbers": 50,
                    "recording_retention_years": 7,
                },
                "place": {"id": "SITE-1"},
            }
        ],
    }
