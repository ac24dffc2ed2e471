"""Rows are done, each in a unit of its own that writes what was done and that it was done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from fulfillment.actions import Action
from fulfillment.authority.controls import suffices
from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import DATABASE_TROUBLE, clean
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ConcurrentChange, Denied, FulfillmentError
from fulfillment.models import BULK_RUNNING, BulkJob, BulkRow, RowState
from fulfillment.operations.bulk import leasing, places, stages
from fulfillment.operations.bulk.foreseeing import request_of
from fulfillment.operations.bulk.leasing import Leased
from fulfillment.operations.bulk.places import Remembering
from fulfillment.operations.catalog import repair_of
from fulfillment.operations.preparing import Prepared, prepare
from fulfillment.operations.repair import Repair

logger = logging.getLogger(__name__)
_FIRST_LOOK = timedelta(seconds=1)


def do(*, job_id: int, authority: Remembering) -> int:
    """Do some rows whose turn it is; how many. 0: none is left for now, or the job stands."""
    job = BulkJob.objects.select_related("approval").get(pk=job_id)
    if job.state not in BULK_RUNNING:
        return 0
    rows = leasing.lease_to_do(job_id=job.pk, until=job.ends[job.stage])
    if rows:
        failpoints.reach("bulk.leased")
    repair = repair_of(job.action)
    for number, row in enumerate(rows):
        try:
            goes_on = _one(job, repair, row, authority)
        except BaseException:
            leasing.give_back(rows[number:])
            raise
        if not goes_on:
            leasing.give_back(rows[number:])
            return number
    return len(rows)


def _one(job: BulkJob, repair: Repair, row: Leased, authority: Remembering) -> bool:
    """Whether the job runs on."""
    if row.tries > leasing.MOST_TRIES:
        return _not_done(
            job, row, BulkRow.fail, "bulk.takes_workers_down", "It has taken workers down."
        )
    try:
        prepared = prepare(
            repair=repair,
            actor=places.actor_of(job),
            request=request_of(job, row),
            authority=authority,
        )
        given = Action(job.approval.needs) if job.approval is not None else None
        if not suffices(given=given, needed=prepared.needs):
            raise Denied(f"By now it needs {prepared.needs}, which nobody has given for it.")
        repair.beforehand(prepared.found)
        return run_unit(
            lambda unit: _do(unit, job, prepared, row),
            fulfillment_ids=prepared.found.fulfillment_ids,
            actor=prepared.why.actor.name,
        )
    except (*DATABASE_TROUBLE, ConcurrentChange):
        raise
    except FulfillmentError as error:
        return _not_done(job, row, BulkRow.refuse, error.code, str(error))
    except Exception as error:
        logger.exception("a row of a bulk job fails", extra={"subject": row.subject})
        why = f"{type(error).__name__}: {error}"
        return _not_done(job, row, BulkRow.fail, "bulk.failed", why)


def _do(unit: Unit, job: BulkJob, prepared: Prepared, leased: Leased) -> bool:
    row = _turn_of(job, leased)
    if row is None:
        return False
    done = prepared.carry_out(unit, approval=job.approval)
    row.carry_out()
    row.told = done.told
    row.subject_pk = prepared.found.pk
    row.operation_id = done.record
    row.done_at = unit.now
    row.look_at = unit.now + _FIRST_LOOK
    row.leased_until = None
    row.save()
    failpoints.reach("bulk.done_not_committed")
    return True


def _turn_of(job: BulkJob, leased: Leased) -> BulkRow | None:
    """The row, locked, while its job runs: whoever pauses it waits until this is committed.

    None when the job stands, or somebody else has done the row.
    """
    # The job first, as whoever controls it does. FOR SHARE: many rows at once, and no control.
    running = BulkJob.objects.raw(
        "SELECT id, state FROM fulfillment_bulkjob WHERE id = %s FOR SHARE", [job.pk]
    )[0]
    if running.state not in BULK_RUNNING:
        return None
    row = BulkRow.objects.select_for_update(of=("self",)).get(pk=leased.id)
    return row if row.state == RowState.PENDING else None


def _not_done(
    job: BulkJob, leased: Leased, transition: Callable[[BulkRow], None], code: str, told: str
) -> bool:
    def work(unit: Unit) -> bool:
        row = _turn_of(job, leased)
        if row is None:
            return False
        transition(row)
        row.code, row.told = code, clean(told, 2000)
        row.known_at = unit.now
        row.leased_until = None
        row.save()
        return True

    if not run_unit(work, fulfillment_ids=(), actor=job.actor):
        return False
    return stages.stop_if_too_many(job_id=job.pk)
