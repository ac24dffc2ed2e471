"""Part `desk`: what every page of the admin costs the server in a full system.

Full: orders that wait for a dozen kinds of reasons, open cases among them, and finished tasks with
all their history. Each page is asked for in this process, as somebody who may do everything, on a
connection like a web process's. A page must need as many queries as in the nearly empty system,
go through no table that grows, and, in a whole run, take no longer than it may.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.load import figures
from tests.load.parts import BenchFailed, Run
from tests.load.stacks import only_servers, tidy_up

if TYPE_CHECKING:
    from django.test import Client

    from tests.load.large import Large
    from tests.load.page_addresses import Asked

TITLE = "server time and queries of every page of the desk in a full system"
_HOST = "localhost"
_COPIED = 50
_TASKS = 16
_COUNTED = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    open: int = 100_000
    """Orders that wait."""
    finished: int = 1_000_000
    """Tasks that are done, with commands, attempts and audit rows."""
    times: int = 5
    """How often each page is asked for."""


QUICK = Sizes(open=5_000, finished=16_000, times=3)
PLANS = "desk-plans.txt"
MOST_MS = 300
"""The median of a page, in the server: what the desk promises."""


def measure(*, sizes: Sizes, run: Run) -> dict[str, Any]:
    """Milliseconds and queries of each page. Raises BenchFailed."""
    with only_servers("desk", shipped=True):
        from fulfillment.models import FalloutCase, Fulfillment
        from oms.figures.keeping import recount
        from tests import crowd, desk
        from tests.load import history, large, reading

        before = desk.now()
        crowd.one_of_each()
        few = large.small_ones()
        alone = few.order.fulfillment_id
        seeds = list(Fulfillment.objects.exclude(pk=alone).values_list("pk", flat=True))
        desk.advance(round((before - desk.now()).total_seconds()))
        done = _carried_out()
        pages = Pages(few)
        rows = reading.sizes()
        needed = {name: count for name, (_, count) in pages.times(1).items()}
        run.say(f"Filling: {sizes.open:,} orders that wait, {sizes.finished:,} tasks …")
        crowd.multiply(max(1, sizes.open // len(seeds) - 1), of=seeds)
        copies = sizes.finished // (len(done) * _TASKS)
        with run.progress("finished orders", total=copies * len(done)) as tell:
            history.copy(of=done, copies=copies, tell=tell)
        large.grow(few)
        today = desk.now().date()
        recount(since=today - _COUNTED, until=today)  # As beat does: reports read what was counted.
        tidy_up()
        pages.turn_over()
        cases = FalloutCase.objects.filter(resolved_at=None).count()
        run.say(f"{Fulfillment.objects.count():,} orders are there, {cases:,} open cases.")
        found = pages.times(sizes.times)
        read = pages.readings()
        growing = reading.growing(rows, reading.sizes())
    shown = {
        name: {"ms": figures.tidy(seconds * 1000), "queries": count}
        for name, (seconds, count) in sorted(found.items(), key=lambda each: -each[1][0])
    }
    run.say(figures.table(shown))
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / PLANS).write_text(read.document())
    faults = read.faults(growing)
    for name, (seconds, count) in found.items():
        if count > needed[pages.like(name)]:
            few_queries = needed[pages.like(name)]
            faults.append(
                f"{name} needs {count} queries, and {few_queries} in the nearly empty system"
            )
        if seconds * 1000 > MOST_MS and not run.quick:
            faults.append(f"{name} takes {seconds * 1000:.0f} ms, and may take {MOST_MS}")
    if faults:
        raise BenchFailed(
            "Pages are slow, or get slower as the system grows; plans are in "
            f"{run.folder / PLANS}:\n  " + "\n  ".join(faults)
        )
    return {"open_cases": cases, "pages": shown}


def _carried_out() -> list[int]:
    """Fulfillments of some finished orders."""
    from oms.models import Order
    from tests import desk

    names = [f"t{number}" for number in range(_TASKS)]
    tasks = {name: desk.task() for name in names[:1]} | {
        name: desk.task(after=[before]) for before, name in pairwise(names)
    }
    desk.workflow(tasks, offering="usual")
    for number in range(_COPIED):
        desk.order(desk.item("usual"), external_id=f"D-{number}")
    desk.finish()
    done = Order.objects.filter(external_id__startswith="D-", state="COMPLETED")
    found = list(done.values_list("fulfillment_id", flat=True))
    assert len(found) == _COPIED
    return found


class Pages:
    """All of them (`page_addresses`), for somebody who may do everything."""

    def __init__(self, few: Large) -> None:
        from django.test import Client

        from tests import people
        from tests.load import page_addresses

        user = people.operator("bench", *people.EVERYTHING)
        user.is_superuser = True
        user.save()
        self._client = Client(SERVER_NAME=_HOST)
        self._client.force_login(user)
        self._asked = page_addresses.pages(self._client, few)

    def turn_over(self) -> None:
        """Now that there is more than one page of them, to the second page of lists."""
        from tests.load import page_addresses

        self._asked |= page_addresses.second_pages(self._client, self._asked)

    def like(self, name: str) -> str:
        """The page of the nearly empty system with which this one is compared."""
        return self._asked[name].like or name

    def times(self, times: int, /) -> dict[str, tuple[float, int]]:
        """By page the median seconds of so many times, and the queries of one."""
        return _as_a_web_process(
            lambda: {name: self._time(page, times) for name, page in self._looks().items()}
        )

    def readings(self) -> Any:
        from tests.load.reading import Readings

        readings = Readings()
        _as_a_web_process(lambda: readings.of(self._looks()))
        return readings

    def _looks(self) -> Mapping[str, Callable[[], Any]]:
        return {name: _open(self._client, asked) for name, asked in self._asked.items()}

    def _time(self, page: Callable[[], Any], times: int) -> tuple[float, int]:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        page()
        took = []
        for _ in range(times):
            began = time.perf_counter()
            page()
            took.append(time.perf_counter() - began)
        with CaptureQueriesContext(connection) as queries:
            page()
        return statistics.median(took), len(queries)


def _open(client: Client, asked: Asked) -> Callable[[], Any]:
    def get() -> None:
        answer = client.get(asked.path, headers=asked.headers)
        assert answer.status_code == 200, (asked, answer)

    return get


def _as_a_web_process(work: Callable[[], Any]) -> Any:
    """On a connection of its own, whose plans nobody has pinned."""
    from tests.together import closing

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(closing(work)).result()
