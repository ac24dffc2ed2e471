"""From stage to stage: the canary, then more and more, as long as little enough fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import ceil

from fulfillment.engine.store.database import Row, array, cursor
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import BULK_RUNNING, BulkJob, BulkState, RowState
from fulfillment.operations.bulk import foreseeing, incidents
from fulfillment.operations.bulk.places import subject_of
from fulfillment.operations.records import log

ACTOR = "bulk jobs"
"""Nobody: the engine itself has found that a stage is over."""
_COUNTS = """
SELECT job_id, state, foreseen, code = 'authority.denied', count(*)
FROM fulfillment_bulkrow WHERE job_id = ANY(%s::bigint[]) GROUP BY 1, 2, 3, 4
"""
_LEFT = """
SELECT count(*) FILTER (WHERE state = 'PENDING'), count(*) FILTER (WHERE state = 'DONE')
FROM fulfillment_bulkrow
WHERE job_id = %s AND position <= %s AND state IN ('PENDING', 'DONE')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How far a job is: rows by their state, and those that can't be done."""

    by_state: Mapping[str, int]
    unseen: int
    impossible: int
    """Of those that are still in it."""
    denied: int
    """Refused because it is not allowed any more."""

    @property
    def total(self) -> int:
        """All that are not left out."""
        return sum(self.by_state.values()) - self.by_state.get(RowState.LEFT_OUT, 0)

    @property
    def failures(self) -> int:
        """What counts against the job."""
        failed = self.by_state.get(RowState.FAILED, 0) + self.by_state.get(RowState.NOT_VERIFIED, 0)
        return failed + self.denied

    @property
    def tried(self) -> int:
        return self.total - self.by_state.get(RowState.PENDING, 0)


def counts(*, job_ids: Collection[int]) -> dict[int, Counts]:
    """Of all these jobs, in one statement."""
    with cursor() as raw:
        raw.execute(_COUNTS, [array(list(job_ids))])
        rows = raw.fetchall()
    return {job_id: counted([row for row in rows if row[0] == job_id]) for job_id in job_ids}


def ends_of(*, total: int, canary: int, stages: Collection[int]) -> list[int]:
    """The last positions of the stages: rising, the last of them all rows."""
    found: list[int] = []
    for end in (min(canary, total), *(ceil(total * percent / 100) for percent in stages), total):
        if not found or end > found[-1]:
            found.append(end)
    return found


def advance(*, job_id: int) -> bool:
    """Go on where a dry run or a stage is over. Whether something has changed."""

    def work(unit: Unit) -> bool:
        job = locked(job_id)
        if job.state == BulkState.DRAFT:
            return foreseeing.close(unit, job=job)
        if job.state not in BULK_RUNNING or _stop(unit, job):
            return False
        end = job.ends[job.stage]
        unit.raw.execute(_LEFT, [job.pk, end])
        ((pending, done),) = unit.raw.fetchall()
        if pending or done:
            return False
        if job.stage + 1 == len(job.ends):
            job.finished_at = unit.now
            move(unit, job, BulkJob.complete, reason="Of every row it is known what came of it.")
        elif job.goes_on:
            job.stage += 1
            move(unit, job, BulkJob.go_on, reason=f"Stage {job.stage} is over, and went well.")
        else:
            reason = f"{end} are done, and it is known what came of them. Look, and let it go on."
            move(unit, job, BulkJob.pause, reason=reason)
        return True

    return run_unit(work, fulfillment_ids=(), actor=ACTOR)


def stop_if_too_many(*, job_id: int) -> bool:
    """After a failure: stop the job where there are too many. Whether it runs on."""

    def work(unit: Unit) -> bool:
        job = locked(job_id)
        return job.state in BULK_RUNNING and not _stop(unit, job)

    return run_unit(work, fulfillment_ids=(), actor=ACTOR)


def locked(job_id: int) -> BulkJob:
    """The job's row: what was begun with it is committed, and nothing more begins."""
    return BulkJob.objects.select_for_update(of=("self",)).get(pk=job_id)


def move(unit: Unit, job: BulkJob, transition: Callable[[BulkJob], None], *, reason: str) -> None:
    """Apply a transition by the engine itself, write it, and note it in the log of operations."""
    before = str(job.state)
    transition(job)
    job.state_reason = reason
    job.changed_at = unit.now
    job.save()
    log(
        kind=f"{transition.__name__}_bulk_job",
        subject=subject_of(job.pk),
        actor=unit.actor,
        reason=reason,
        before={"state": before},
        after={"state": str(job.state), "stage": job.stage},
        now=unit.now,
    )
    incidents.follow(unit, job=job)


def _stop(unit: Unit, job: BulkJob) -> bool:
    """Whether so much has failed that it stops, beyond what somebody knew of."""
    now = counts(job_ids=[job.pk])[job.pk]
    failures, tried = now.failures - job.forgiven, now.tried - job.forgiven_of
    too_many = failures > job.most_failures
    share = failures * 100 > job.most_failures_percent * tried and tried >= min(
        job.canary, job.ends[0]
    )
    if not failures or not (too_many or share):
        return False
    reason = (
        f"{failures} of {tried} have failed: at most {job.most_failures}, or "
        f"{job.most_failures_percent} %, may. Find out why before it goes on."
    )
    move(unit, job, BulkJob.stop, reason=reason)
    return True


def counted(rows: Collection[Row]) -> Counts:
    """Of rows of anything, state, foreseen, whether it was denied, and how many."""
    by_state: dict[str, int] = {}
    unseen = impossible = denied = 0
    for _, state, foreseen, is_denied, number in rows:
        by_state[state] = by_state.get(state, 0) + number
        if state == RowState.PENDING:
            unseen += number if foreseen == "" else 0
            impossible += number if foreseen in ("IMPOSSIBLE", "DENIED") else 0
        if state == RowState.REFUSED and is_denied:
            denied += number
    return Counts(by_state=by_state, unseen=unseen, impossible=impossible, denied=denied)
