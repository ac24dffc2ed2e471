"""Workers of a bulk job die in the middle of it: every row is done, and once."""

from __future__ import annotations

from collections import Counter

from fulfillment.engine.work import audit
from fulfillment.models import BulkJob, Command, Fulfillment, Operation, Task
from fulfillment.operations import bulk
from tests import desk
from tests.crash.conftest import Desk
from tests.desk import ScriptedSystems, by
from tests.integration.test_bulk_jobs import failed_orders

ROWS = 30
DEATHS = (
    "bulk.leased",
    "bulk.done_not_committed@3",
    "unit.before_flush@2",
    "unit.before_commit",
    "unit.after_commit@3",
    "bulk.done_not_committed@7",
)
_LEASE_SECONDS = 61


def test_a_job_survives_the_death_of_its_workers(shop: Desk, systems: ScriptedSystems) -> None:
    job = _looked_at(shop, failed_orders(systems, ROWS))
    bulk.start(job_id=job.pk, actor=by("ann"), reason="Go.")
    for point in DEATHS:
        shop.dies("bulk", at=point)
        shop.later(_LEASE_SECONDS)
    for _ in range(ROWS):
        shop.child("bulk")
        desk.finish()
        shop.later(_LEASE_SECONDS)
        job.refresh_from_db()
        if job.state == "COMPLETED":
            break
    assert Counter(job.rows.values_list("state", flat=True)) == {"VERIFIED": ROWS}
    assert job.state == "COMPLETED"
    done = Operation.objects.filter(kind="retry")
    assert Counter(done.values_list("subject", flat=True)) == Counter(
        job.rows.values_list("subject", flat=True)
    )
    assert set(job.rows.values_list("operation", flat=True)) == set(
        done.values_list("pk", flat=True)
    )
    # Of each task the command that had failed, and one more.
    assert Command.objects.count() == 2 * ROWS
    assert set(Task.objects.values_list("state", flat=True)) == {"SUCCEEDED"}
    for pk in Fulfillment.objects.values_list("pk", flat=True):
        assert audit.verify(fulfillment_id=pk) == []


def _looked_at(shop: Desk, tasks: list[Task]) -> BulkJob:
    """A draft whose dry run has died as well."""
    job = bulk.draft(
        actor=by("ann"),
        action="task.retry",
        selection=bulk.Selection(of="task", names=[str(task.pk) for task in tasks]),
        reason="They have mended it.",
        terms=bulk.Terms(canary=ROWS),
    )
    shop.dies("bulk", at="bulk.foreseen_not_written")
    shop.later(_LEASE_SECONDS)
    for _ in range(ROWS):
        shop.child("bulk")
        shop.later(_LEASE_SECONDS)
        job.refresh_from_db()
        if job.digest:
            return job
    raise AssertionError("It is never looked at.")
