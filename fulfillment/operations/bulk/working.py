"""The courier's part: going on with every job that has something to do, for a few seconds."""

from __future__ import annotations

import time
from datetime import timedelta

from django.db.models import Q

from fulfillment.engine.work import hints
from fulfillment.models import BULK_RUNNING, BulkJob, BulkState
from fulfillment.operations.bulk import doing, foreseeing, knowing, stages
from fulfillment.operations.bulk.places import Remembering

_PATIENCE = timedelta(seconds=10)
"""Then others have their turn in this process, and authority is asked for anew."""


def work(*, patience: timedelta = _PATIENCE) -> int:
    """A batch of each job in turn until nothing is left for now; how many rows were moved.

    Several may do so at once. Where more is left when the time is up, somebody is told.
    """
    ends = time.monotonic() + patience.total_seconds()
    authorities: dict[int, Remembering] = {}
    moved = 0
    for job_id in knowing.look():
        stages.advance(job_id=job_id)
    while True:
        found = 0
        for job_id, state in _with_work():
            authority = authorities.setdefault(job_id, Remembering(job_id=job_id))
            if state == BulkState.DRAFT:
                some = foreseeing.foresee(job_id=job_id, authority=authority)
            else:
                some = doing.do(job_id=job_id, authority=authority)
            if not some:
                found += stages.advance(job_id=job_id)
            found += some
            moved += some
        if not found:
            return moved
        if time.monotonic() > ends:
            hints.announce_bulk()
            return moved


def _with_work() -> list[tuple[int, str]]:
    wanted = Q(state__in=BULK_RUNNING) | Q(state=BulkState.DRAFT, digest="")
    return list(BulkJob.objects.filter(wanted).order_by("pk").values_list("pk", "state"))
