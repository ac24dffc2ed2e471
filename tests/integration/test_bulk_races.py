"""Several workers and several people at one job: each row once, one winner each."""

from __future__ import annotations

from collections import Counter

import pytest

from fulfillment.engine.work import audit
from fulfillment.errors import FulfillmentError
from fulfillment.models import BulkJob, BulkRow, Fulfillment, Operation, Task
from fulfillment.operations import bulk
from fulfillment.operations.bulk import leasing
from tests.desk import ScriptedSystems, by
from tests.integration.test_bulk_jobs import drafted, failed_orders
from tests.together import together


@pytest.fixture
def job(committed_db: str, systems: ScriptedSystems) -> BulkJob:
    return drafted(*failed_orders(systems, 40), canary=40)


def test_two_workers_do_each_row_once(job: BulkJob) -> None:
    bulk.start(job_id=job.pk, actor=by("ann"), reason="Go.")
    together(bulk.work, bulk.work, bulk.work)
    bulk.work()
    assert Counter(job.rows.values_list("state", flat=True)) == {"DONE": 40}
    retried = Operation.objects.filter(kind="retry").values_list("subject", flat=True)
    assert len(retried) == len(set(retried)) == 40
    assert set(Task.objects.values_list("state", flat=True)) == {"READY"}
    for pk in Fulfillment.objects.values_list("pk", flat=True):
        assert audit.verify(fulfillment_id=pk) == []


def test_of_many_who_start_pause_and_cancel_one_wins_each(job: BulkJob) -> None:
    def start() -> str:
        try:
            bulk.start(job_id=job.pk, actor=by("ann"), reason="Go.")
        except FulfillmentError as error:
            return error.code
        return "done"

    assert Counter(together(*[start] * 8)) == {"done": 1, "bulk.not_possible": 7}

    def cancel() -> str:
        try:
            bulk.control(job_id=job.pk, what="cancel", actor=by("bob"), reason="Stop.")
        except FulfillmentError as error:
            return error.code
        return "done"

    def work() -> str:
        bulk.work()
        return "worked"

    said = Counter(together(*[cancel] * 6, work, work))
    assert said == {"done": 1, "bulk.not_possible": 5, "worked": 2}
    job.refresh_from_db()
    assert job.state == "CANCELLED"
    states = Counter(job.rows.values_list("state", flat=True))
    assert set(states) <= {"DONE", "LEFT_OUT"}
    assert states["DONE"] == Operation.objects.filter(kind="retry").count()


def test_what_a_dead_worker_had_taken_is_taken_again_when_its_lease_is_over(
    committed_db: str, systems: ScriptedSystems
) -> None:
    job = drafted(*failed_orders(systems, 3), canary=3)
    bulk.start(job_id=job.pk, actor=by("ann"), reason="Go.")
    assert len(leasing.lease_to_do(job_id=job.pk, until=3)) == 3
    bulk.work()
    assert set(job.rows.values_list("state", flat=True)) == {"PENDING"}
    BulkRow.objects.update(leased_until="2000-01-01T00:00Z")
    bulk.work()
    assert set(job.rows.values_list("state", flat=True)) == {"DONE"}


def test_what_takes_workers_down_again_and_again_fails_alone(
    committed_db: str, systems: ScriptedSystems
) -> None:
    job = drafted(*failed_orders(systems, 4), canary=4, most_failures_percent=50)
    bulk.start(job_id=job.pk, actor=by("ann"), reason="Go.")
    BulkRow.objects.filter(position=2).update(tries=leasing.MOST_TRIES)
    bulk.work()
    found = dict(job.rows.values_list("position", "code"))
    assert found == {1: "", 2: "bulk.takes_workers_down", 3: "", 4: ""}
