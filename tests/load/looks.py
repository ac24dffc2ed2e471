"""What is looked at in an empty and in a full system: detectors, steps of an order, pages.

The engine's looks run on a connection like a worker's, pages on one like a web process's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from fulfillment import stuck
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import circles, scanning
from fulfillment.engine.store.database import pin_plans
from fulfillment.engine.timing import durations, jeopardy
from fulfillment.engine.work import locking
from oms.models import Order
from oms.queries.reasons import reason_of
from tests import desk
from tests.api import Api
from tests.load.reading import Readings
from tests.together import closing

Look = Callable[[], Any]
_HOST = "localhost"


class Looks:
    """All of them, at what waits (one order of each kind) and at what is done."""

    def __init__(self, waiting: Mapping[str, Order]) -> None:
        self._waiting = waiting
        self._shop = Api(name="bench")
        self._crowd = Api(name="a-client")
        self._newcomer = Api(name="a-newcomer")
        admin, _ = get_user_model().objects.get_or_create(
            username="bench", defaults={"is_staff": True, "is_superuser": True}
        )
        self._admin = Client(SERVER_NAME=_HOST)
        self._admin.force_login(admin)

    def times(self, times: int, /) -> dict[str, float]:
        """Seconds of each, the median of so many times."""
        pin_plans()  # As every worker does.
        found = {name: _median(look, times) for name, look in self._of_the_engine().items()}
        steps: dict[str, list[float]] = {}
        for _ in range(times):
            for name, seconds in _an_order().items():
                steps.setdefault(name, []).append(seconds)
        found |= {name: statistics.median(seconds) for name, seconds in steps.items()}
        found |= _of_all_kinds("why", self._whys(), times)

        def of_pages() -> dict[str, float]:
            pages = {name: _median(page, times) for name, page in self._pages().items()}
            return pages | _of_all_kinds("GET why", self._why_pages(), times)

        return found | _as_a_web_process(of_pages)

    def readings(self) -> Readings:
        """What each of them reads, and how the database goes about it."""
        readings = Readings()
        pin_plans()
        order: dict[str, Look] = {"an order, from its submission to its end": _an_order}
        readings.of({**self._of_the_engine(), **order, **self._whys()})
        _as_a_web_process(lambda: readings.of({**self._pages(), **self._why_pages()}))
        return readings

    def _of_the_engine(self) -> dict[str, Look]:
        return {
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

    def _whys(self) -> dict[str, Look]:
        return {f"why, {name}": partial(reason_of, order) for name, order in self._waiting.items()}

    def _why_pages(self) -> dict[str, Look]:
        return {
            f"GET why, {name}": self._get(self._crowd, f"/orders/{order.reference}/why")
            for name, order in self._waiting.items()
        }

    def _pages(self) -> dict[str, Look]:
        """The API's, then the admin's."""
        done = Order.objects.filter(client__name="bench", state="COMPLETED").latest("pk")
        waits = self._waiting["retry"]
        month = timedelta(days=30)
        far = Order.objects.filter(client__name="bench", pk__lte=done.pk // 2).first() or done
        lists: dict[str, tuple[Api, dict[str, Any]]] = {
            "all": (self._shop, {}),
            "of one who has none": (self._newcomer, {}),
            "by state": (self._shop, {"state": "COMPLETED"}),
            "by a state that none has": (self._shop, {"state": "REJECTED"}),
            "by customer": (self._shop, {"customer": done.customer_id}),
            "by external id": (self._shop, {"external_id": done.external_id}),
            "a month ago": (
                self._shop,
                {
                    "submitted_from": (done.submitted_at - month).isoformat(),
                    "submitted_before": (
                        done.submitted_at - month + timedelta(hours=1)
                    ).isoformat(),
                },
            ),
            "before a month ago": (
                self._shop,
                {"submitted_before": (done.submitted_at - month).isoformat()},
            ),
            "far back": (self._shop, {"after": far.reference}),
            "of waiting orders": (self._crowd, {"state": "IN_PROGRESS", "limit": 10}),
            "stuck": (self._crowd, {"stuck": "true", "limit": 3}),
            "not stuck": (self._crowd, {"stuck": "false", "limit": 3}),
        }
        pages = {
            "GET order, done": self._get(self._shop, f"/orders/{done.reference}"),
            "GET order, waiting": self._get(self._crowd, f"/orders/{waits.reference}"),
            "GET timeline": self._get(self._shop, f"/orders/{done.reference}/timeline"),
            "GET graph": self._get(self._shop, f"/orders/{done.reference}/graph"),
            **{
                f"GET orders, {name}": self._get(api, f"/orders?{urlencode(query)}")
                for name, (api, query) in lists.items()
            },
            "GET manual tasks": self._get(self._crowd, "/manual-tasks?limit=10"),
        }
        orders = reverse("admin:oms_order_changelist")
        cases = reverse("admin:fulfillment_falloutcase_changelist")
        addresses = {
            "order page, done": reverse("admin:oms_order_change", args=[done.pk]),
            "order page, waiting": reverse("admin:oms_order_change", args=[waits.pk]),
            "order list": orders,
            "order list, by state": f"{orders}?state__exact=IN_PROGRESS",
            "order list, search": f"{orders}?q={done.reference}",
            "task list": reverse("admin:fulfillment_task_changelist"),
            "case list": cases,
            "case list, closed": f"{cases}?state__exact=RESOLVED",
            "manual list": reverse("admin:fulfillment_manualtask_changelist"),
            "audit trail": reverse("admin:fulfillment_transition_changelist")
            + f"?fulfillment__id__exact={done.fulfillment_id}",
        }
        return pages | {name: self._open(address) for name, address in addresses.items()}

    def _get(self, api: Api, path: str) -> Look:
        def get() -> None:
            answer = api.send("GET", path, host=_HOST)
            assert answer.status_code == 200, (path, answer.content)

        return get

    def _open(self, address: str) -> Look:
        def get() -> None:
            answer = self._admin.get(address)
            assert answer.status_code == 200, (address, answer)

        return get


def _an_order() -> dict[str, float]:
    """Seconds of the steps of one order of two tasks."""
    took: dict[str, float] = {}

    def timed(name: str, step: Look) -> Any:
        began = time.perf_counter()
        answer = step()
        took[name] = time.perf_counter() - began
        return answer

    timed("submit", lambda: desk.order(desk.item("quick"), customer_id="LOCKED"))
    (claim,) = timed("claim", desk.claim)
    timed("settle", lambda: desk.settle_call(claim, desk.succeeded()))
    timed("claim, send and settle the last", lambda: desk.drain(["alpha"]))
    return took


def _of_all_kinds(name: str, looks: Mapping[str, Look], times: int) -> dict[str, float]:
    found = [_median(look, times) for look in looks.values()]
    return {f"{name}, of all kinds": statistics.median(found), f"{name}, the slowest": max(found)}


def _as_a_web_process(work: Callable[[], Any]) -> Any:
    """On a connection of its own, whose plans nobody has pinned."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(closing(work)).result()


def _median(look: Look, times: int) -> float:
    took = []
    look()
    for _ in range(times):
        began = time.perf_counter()
        look()
        took.append(time.perf_counter() - began)
    return statistics.median(took)
