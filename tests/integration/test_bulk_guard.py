"""The database refuses what would let a bulk job do a row twice."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from fulfillment.models import BulkJob, BulkRow
from fulfillment.operations import bulk
from tests.desk import ScriptedSystems, by
from tests.integration.test_bulk_jobs import drafted, failed_orders

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fulfillment_bulkrow SET state = 'PENDING' WHERE state = 'DONE'",
        "UPDATE fulfillment_bulkrow SET state = 'REFUSED' WHERE state = 'DONE'",
        "UPDATE fulfillment_bulkjob SET state = 'DRAFT'",
        "UPDATE fulfillment_bulkjob SET state = 'COMPLETED', started_at = NULL",
    ],
)
def test_a_state_that_no_transition_leads_to_is_refused(
    systems: ScriptedSystems, statement: str
) -> None:
    job = drafted(*failed_orders(systems, 3), canary=1)
    bulk.start(job_id=job.pk, actor=by("ann"), reason="Go.")
    bulk.work()
    before = (BulkJob.objects.get().state, sorted(BulkRow.objects.values_list("state", flat=True)))
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as raw:
        raw.execute(statement)
    after = (BulkJob.objects.get().state, sorted(BulkRow.objects.values_list("state", flat=True)))
    assert after == before == ("RUNNING_CANARY", ["DONE", "PENDING", "PENDING"])
