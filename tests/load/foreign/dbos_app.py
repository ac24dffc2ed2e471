"""The same eight steps as a DBOS workflow on its queue. Run by the competitors' interpreter.

    python dbos_app.py worker NUMBER    one of the processes that carry workflows out
    python dbos_app.py driver           submits, as told by lines of JSON, and answers by lines

The steps of one workflow follow each other: many workflows run at once, so nothing is gained by
running two steps of one at once, and each would cost a thread.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient

QUEUE, NAME = "w", "bench"
_URL = os.environ["BENCH_DBOS_URL"]
_ORDERS_AT_ONCE = int(os.environ["BENCH_DBOS_ORDERS_AT_ONCE"])
_POLLING_SECONDS = float(os.environ["BENCH_DBOS_POLLING_SECONDS"])
_BATCH = int(os.environ["BENCH_DBOS_BATCH"])
_SUBMITTED = "SELECT count(*) FROM dbos.workflow_status WHERE queue_name = 'w' AND status = :state"
_STEPS = "SELECT count(*), count(DISTINCT (workflow_uuid, function_id)) FROM dbos.operation_outputs"


@DBOS.step()
def step(number: int) -> int:
    return number


@DBOS.workflow(name="order")
def order() -> int:
    return sum(step(number) for number in range(8))


def worker(number: str) -> None:
    DBOS(
        config={
            "name": NAME,
            "system_database_url": _URL,
            "application_version": "1",
            "executor_id": f"worker-{number}",
            "sys_db_pool_size": _ORDERS_AT_ONCE,
            "max_executor_threads": _ORDERS_AT_ONCE,
            "log_level": "WARNING",
        }
    )
    DBOS.listen_queues([QUEUE])
    DBOS.launch()
    DBOS.register_queue(
        QUEUE,
        worker_concurrency=_ORDERS_AT_ONCE,
        polling_interval_sec=_POLLING_SECONDS,
        on_conflict="always_update",
    )
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    os._exit(0)


def driver() -> None:
    client = DBOSClient(system_database_url=_URL, application_name=NAME)
    engine = sqlalchemy.create_engine(_URL.replace("postgresql://", "postgresql+psycopg://"))
    _answer({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        if "run" in asked:
            _answer({"seconds": _run(client, engine, asked["run"])})
        else:
            _answer(_counted(engine))


def _run(client: DBOSClient, engine: sqlalchemy.Engine, count: int) -> float:
    """Seconds from the first submission to the last completed order."""
    options: Any = {"workflow_name": "order", "queue_name": QUEUE, "app_version": "1"}
    waiting = sqlalchemy.text(
        "SELECT count(*) FROM dbos.workflow_status "
        "WHERE queue_name = 'w' AND status IN ('ENQUEUED', 'PENDING')"
    )
    began = time.perf_counter()
    for first in range(0, count, _BATCH):
        # Many submissions in one transaction, as ours are.
        with engine.begin() as connection:
            for _ in range(min(_BATCH, count - first)):
                client.enqueue_in_transaction(connection, options)
    pause, moment = threading.Event(), 0.001 if count == 1 else 0.02
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(waiting).scalar_one():
            pause.wait(moment)
    return time.perf_counter() - began


def _counted(engine: sqlalchemy.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        done = connection.execute(sqlalchemy.text(_SUBMITTED), {"state": "SUCCESS"}).scalar_one()
        steps, distinct = connection.execute(sqlalchemy.text(_STEPS)).one()
    return {"orders": done, "steps": steps, "distinct_steps": distinct}


def _answer(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    if sys.argv[1] == "worker":
        worker(sys.argv[2])
    else:
        driver()
