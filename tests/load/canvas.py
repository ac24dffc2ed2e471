"""The same eight steps as bare Celery canvas: nothing durable, no database, a simpler graph.

A chord can't say "T3 and T4 after T1, T5 after T2, T3 and T4", so T3 and T4 wait for T2 as well.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain, group

app = Celery(
    "canvas",
    broker=os.environ["CANVAS_BROKER"],
    backend=os.environ["CANVAS_BACKEND"],
    set_as_current=False,
)
app.conf.update(
    task_ignore_result=False,
    result_expires=600,
    worker_prefetch_multiplier=16,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
FINISHED = "canvas:finished"


@app.task
def step(*_: Any) -> int:
    return 1


@app.task(ignore_result=True)
def last(*_: Any) -> None:
    app.backend.client.incr(FINISHED)


def order() -> Any:
    """T1 ∥ T2, then T3 ∥ T4, then T5 → T6 → T7 → T8."""
    return chain(
        group(step.si(), step.si()),
        group(step.si(), step.si()),
        step.si(),
        step.si(),
        step.si(),
        last.si(),
    )
