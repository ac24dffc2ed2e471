"""`bench fill`: a system that has carried out millions of tasks, to look at and to try things on.

Some orders go through a real stack of the benchmark's own home; they are then copied (see
`history`). Not part of a whole run, because nothing is measured but how long it takes. What was
filled stays, and is filled further by the next time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from oms.environment import read_environment
from oms.management.commands.stack import prepare
from oms.supervisor.stack import Stack, with_free_ports
from tests.load import figures
from tests.load.parts import BenchFailed, Run
from tests.load.sides import TASKS_PER_ORDER, wait_until_none
from tests.load.stacks import stopped_afterwards, tidy_up, use

TITLE = "finished tasks with all their history, in the database of the benchmark's own stack"
_OFFERING = "cloud-contact-center-enterprise"
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    tasks: int = _MILLION
    """Finished tasks that come to what is there."""
    seeds: int = 100
    """Orders that are really carried out, and then copied."""


QUICK = Sizes(tasks=16_000)


def measure(*, sizes: Sizes, run: Run) -> dict[str, Any]:
    """Seconds and bytes, and what they are for a million tasks. Raises BenchFailed."""
    with _stack(run) as stack:
        from tests.load import history

        run.say(f"{sizes.seeds} orders go through the stack of {stack.layout.home} …")
        seeds = _carried_out(sizes.seeds, run)
        before, began = _bytes(), time.perf_counter()
        copies = max(1, round(sizes.tasks / (sizes.seeds * TASKS_PER_ORDER)))
        with run.progress("finished orders", total=copies * sizes.seeds) as tell:
            history.copy(of=seeds, copies=copies, tell=tell)
        tidy_up()
        took, grown = time.perf_counter() - began, _bytes() - before
        history.check(of=history.newest(sizes.seeds))
        tasks, there = copies * sizes.seeds * TASKS_PER_ORDER, _tasks()
        home = stack.environment.home
    per_million = _MILLION / tasks
    run.say(
        f"{tasks:,} finished tasks in {took:,.0f} s, {grown / 1e9:.1f} GB; {there:,} tasks are "
        f"there, and the trails that were looked at verify.\nLook at them: OMS_HOME={home} make up"
    )
    return {
        "tasks": tasks,
        "tasks_there": there,
        "seconds": figures.tidy(took),
        "seconds_per_million": figures.tidy(took * per_million),
        "gigabytes_per_million": figures.tidy(grown / 1e9 * per_million),
    }


@contextmanager
def _stack(run: Run) -> Iterator[Stack]:
    """The stack of the benchmark's home: the one that runs, or one for as long as this takes."""
    given = read_environment()
    if not given.embedded_database or not given.embedded_redis:
        raise BenchFailed(
            "What is filled in was never ordered, so it goes into the embedded database of the "
            "benchmark's own home and nowhere else: leave out --database-url and --redis-url, "
            "and unset DATABASE_URL and REDIS_URL."
        )
    stack = Stack(replace(given, home=given.home / "bench"), say=run.say)
    runs = not stack.is_alone
    if not runs:
        stack = Stack(with_free_ports(replace(given, home=given.home / "bench")), say=run.say)
        stack.start_servers()
    with stopped_afterwards(stack):
        if not runs:
            prepare(stack, say=run.say)
            stack.start(without=("flower",))
            stack.wait_ready()
        use(stack)
        yield stack


def _carried_out(count: int, run: Run) -> list[int]:
    """Fulfillments of so many contact centers that the stack's own workers have finished."""
    from oms.intake.submission import submit
    from oms.models import ApiClient, Order
    from tests.load.engine_side import requests_of

    name = f"F-{time.time_ns()}"
    client, _ = ApiClient.objects.get_or_create(name="bench")
    requests = requests_of(count, run=name, offering=_OFFERING)
    submit(client=client, requests=requests, actor="bench")
    mine = Order.objects.filter(external_id__startswith=f"{name}-")
    with run.progress("orders carried out", total=count) as tell:
        wait_until_none(lambda: mine.filter(finished_at=None).count(), count=count, tell=tell)
    done = list(mine.filter(state="COMPLETED").values_list("fulfillment_id", flat=True))
    if len(done) != count:
        raise BenchFailed(f"Only {len(done)} of {count} orders were completed.")
    return done


def _tasks() -> int:
    from fulfillment.models import Task

    return Task.objects.count()


def _bytes() -> int:
    from django.db import connection

    with connection.cursor() as raw:
        raw.execute("SELECT pg_database_size(current_database())")
        return int(raw.fetchone()[0])
