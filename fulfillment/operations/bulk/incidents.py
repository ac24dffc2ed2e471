"""An incident follows the job that releases it: RELEASING while it runs, OPEN when it stops."""

from __future__ import annotations

from collections.abc import Callable

from fulfillment.engine.work.unit import Unit
from fulfillment.errors import BulkNotPossible
from fulfillment.models import (
    BULK_RUNNING,
    IS_UNRESOLVED,
    BulkJob,
    BulkState,
    FalloutCase,
    Incident,
    IncidentState,
)
from fulfillment.operations.records import log

_ENDED = frozenset({BulkState.STOPPED, BulkState.CANCELLED, BulkState.COMPLETED})


def follow(unit: Unit, *, job: BulkJob) -> None:
    """After the job has changed its state. Raises BulkNotPossible when another one releases it.

    What a job that is over has left open keeps the incident open; it resolves with its cases.
    """
    if job.incident_id is None or job.started_at is None:
        return
    incident = Incident.objects.select_for_update().get(pk=job.incident_id)
    if job.state in BULK_RUNNING and incident.state == IncidentState.OPEN:
        incident.releasing_since = unit.now
        incident.fix = incident.fix or job.reason
        _move(unit, incident, Incident.release, cause=f"bulk job {job.pk} begins")
    elif job.state in BULK_RUNNING and _another(incident, job):
        raise BulkNotPossible(f"{incident} is released by another bulk job already.")
    elif job.state in _ENDED and incident.state == IncidentState.RELEASING:
        left = FalloutCase.objects.filter(IS_UNRESOLVED, incident=incident).exists()
        if left and not _another(incident, job):
            cause = f"bulk job {job.pk} is {job.state}: {job.state_reason}"
            _move(unit, incident, Incident.stop_releasing, cause=cause)


def _another(incident: Incident, job: BulkJob) -> bool:
    others = incident.jobs.exclude(pk=job.pk)
    return others.filter(state__in=[*BULK_RUNNING, BulkState.PAUSED]).exists()


def _move(
    unit: Unit, incident: Incident, transition: Callable[[Incident], None], *, cause: str
) -> None:
    before = str(incident.state)
    transition(incident)
    incident.save()
    log(
        kind=f"{transition.__name__}_incident",
        subject=f"incident:{incident.pk}",
        actor=unit.actor,
        reason=cause,
        before={"state": before},
        after={"state": str(incident.state)},
        now=unit.now,
    )
