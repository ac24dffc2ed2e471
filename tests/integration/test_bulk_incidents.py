"""An incident is released by a job: a few first, and not at all when they fail again."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.errors import BulkNotPossible
from fulfillment.models import BulkJob, FalloutCase, Incident, Task
from fulfillment.operations import bulk
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.integration.test_bulk_jobs import failed_orders, known, started, states

pytestmark = pytest.mark.django_db
ANN = by("ann")


def an_incident(systems: ScriptedSystems, number: int) -> Incident:
    """So many orders that have failed for one cause, in one incident."""
    failed_orders(systems, number)
    case = FalloutCase.objects.order_by("pk").first()
    assert case is not None
    incident = Incident.objects.create(
        fingerprint=case.fingerprint,
        target="alpha",
        action="one",
        reason_code=case.reason_code,
        title="alpha refuses one",
        severity="HIGH",
        owner_queue="operations",
        opened_at=desk.now(),
    )
    FalloutCase.objects.update(incident=incident)
    return incident


def released(incident: Incident, **steps: Any) -> BulkJob:
    pk = bulk.release(
        incident_id=incident.pk, actor=ANN, reason="They mended it.", parameters=steps
    )
    bulk.work()
    return BulkJob.objects.get(pk=pk)


def test_an_incident_is_released_in_stages_with_a_canary(systems: ScriptedSystems) -> None:
    incident = an_incident(systems, 20)
    job = released(incident, canary=2, stages=[50], goes_on=True)
    assert job.rows.count() == 20
    incident.refresh_from_db()
    assert incident.state == "OPEN"
    job = started(job)
    incident.refresh_from_db()
    assert (incident.state, incident.fix) == ("RELEASING", "They mended it.")
    for _ in range(3):
        job = known(job)
    assert (job.state, states(job)) == ("COMPLETED", {"VERIFIED": 20})
    assert not FalloutCase.objects.exclude(state="RESOLVED").exists()


def test_a_release_that_fails_stops_and_its_incident_is_open_again(
    systems: ScriptedSystems,
) -> None:
    incident = an_incident(systems, 20)
    job = started(released(incident, canary=2))
    systems.sends["one"] = [desk.rejected(), desk.rejected()]
    job = known(job)
    assert (job.state, states(job)) == ("STOPPED", {"NOT_VERIFIED": 2, "PENDING": 18})
    incident.refresh_from_db()
    assert incident.state == "OPEN"
    assert Task.objects.filter(state="FAILED_FINAL").count() == 20
    bulk.control(job_id=job.pk, what="resume", actor=ANN, reason="Now they have mended it.")
    incident.refresh_from_db()
    assert incident.state == "RELEASING"


def test_one_job_releases_an_incident(systems: ScriptedSystems) -> None:
    incident = an_incident(systems, 4)
    first, second = released(incident), released(incident)
    started(first)
    with pytest.raises(BulkNotPossible, match="another bulk job"):
        bulk.start(job_id=second.pk, actor=ANN, reason="Me too.")
    second.refresh_from_db()
    assert second.state == "DRAFT"
    with pytest.raises(BulkNotPossible, match="It is RELEASING"):
        released(incident)


def test_the_preview_of_a_release_says_what_keeps_it_back_and_drafts_nothing(
    systems: ScriptedSystems,
) -> None:
    incident = an_incident(systems, 3)
    operations.pause_target(target="alpha", actor=by("bob"), reason="It is broken.")
    request = operations.Request(
        action="incident.release",  # type: ignore[arg-type]
        subject=f"incident:{incident.pk}",
        reason="They mended it.",
    )
    preview = operations.prepared(actor=ANN, request=request).preview()
    assert preview.done.told.startswith("A bulk job is drafted: 3 failed tasks")
    assert "job" not in preview.done.after  # Its number would not be the later one.
    assert "alpha is paused by bob: resume it first." in preview.done.told
    assert not BulkJob.objects.exists()
