"""The dry run: what a job would do to each of its rows, by the very function that does it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from fulfillment.authority.context import Context
from fulfillment.authority.controls import approval_for, strictest, suffices
from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import DATABASE_TROUBLE, Update
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ConcurrentChange, Denied, FulfillmentError
from fulfillment.models import BulkJob, BulkRow, BulkState, Foreseen, RowState
from fulfillment.operations.bulk import leasing, places
from fulfillment.operations.bulk.leasing import Leased
from fulfillment.operations.bulk.places import Remembering
from fulfillment.operations.catalog import repair_of
from fulfillment.operations.preparing import prepare
from fulfillment.operations.repair import Repair, Request

logger = logging.getLogger(__name__)
_FORESEEN = Update(
    "fulfillment_bulkrow",
    guard="foreseen",
    subject_pk="bigint",
    place_id="bigint",
    foreseen="text",
    foretold="text",
    version="text",
    tries="smallint",
    leased_until="timestamptz",
)
_LONGEST = 2000
_DIGEST = """
SELECT string_agg(subject || ' ' || version, E'\\n' ORDER BY position)
FROM fulfillment_bulkrow WHERE job_id = %s AND state = 'PENDING'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    foreseen: Foreseen
    told: str
    context: Context | None = None
    pk: int = 0
    version: str = ""


def foresee(*, job_id: int, authority: Remembering) -> int:
    """Look at some rows that nobody has looked at; how many. 0: all are looked at, or taken."""
    rows = leasing.lease_to_foresee(job_id=job_id)
    if not rows:
        return 0
    job = BulkJob.objects.get(pk=job_id)
    repair = repair_of(job.action)
    seen = [_look(job, repair, row, authority) for row in rows]
    failpoints.reach("bulk.foreseen_not_written")

    def work(unit: Unit) -> None:
        _write(unit, job_id, rows, seen)

    run_unit(work, fulfillment_ids=(), actor=job.actor)
    return len(rows)


def close(unit: Unit, *, job: BulkJob) -> bool:
    """Once every row is looked at, say of what the job is made. The job is locked."""
    if job.state != BulkState.DRAFT or job.digest or _unseen(job).exists():
        return False
    seal(unit, job=job)
    return True


def seal(unit: Unit, *, job: BulkJob) -> None:
    """What is started and approved is this, and nothing that it becomes afterwards."""
    unit.raw.execute(_DIGEST, [job.pk])
    ((rows,),) = unit.raw.fetchall()
    told = "\n".join(
        [str(job.pk), job.action, repr(sorted(job.parameters.items())), job.reason, job.evidence]
    )
    job.digest = hashlib.sha256(f"{told}\n{rows or ''}".encode()).hexdigest()
    job.changed_at = unit.now
    job.save(update_fields=["digest", "changed_at"])


def _unseen(job: BulkJob) -> QuerySet[BulkRow]:
    return job.rows.filter(state=RowState.PENDING, foreseen=Foreseen.UNSEEN)


def _look(job: BulkJob, repair: Repair, row: Leased, authority: Remembering) -> _Seen:
    if row.tries > leasing.MOST_TRIES:
        return _Seen(foreseen=Foreseen.IMPOSSIBLE, told="Looking at it takes workers down.")
    context, pk = None, 0
    try:
        found = repair.found(subject=row.subject)
        context, pk = found.context, found.pk
        if found.subject != row.subject:
            told = f"It is called {found.subject}; name it so, and once."
            return _Seen(foreseen=Foreseen.IMPOSSIBLE, told=told, context=context, pk=pk)
        prepared = prepare(
            repair=repair,
            actor=places.actor_of(job),
            request=request_of(job, row),
            authority=authority,
        )
        context = places.merged(prepared.found.contexts)
        of_all = strictest(
            approval_for(action=action, context=one)
            for action in (repair.action, *repair.implies(prepared.values))
            for one in prepared.found.contexts
        )
        if not suffices(given=of_all, needed=prepared.needs):
            told = f"It needs {prepared.needs} by itself, which no job asks for: do it alone."
            return _Seen(foreseen=Foreseen.IMPOSSIBLE, told=told, context=context, pk=pk)
        preview = prepared.preview()
        repair.confirm(preview.done, prepared.values)
        if not repair.is_offered(found):
            told = "This can't be done to it as it is."
            return _Seen(foreseen=Foreseen.IMPOSSIBLE, told=told, context=context, pk=pk)
    except Denied as error:
        return _Seen(foreseen=Foreseen.DENIED, told=str(error), context=context, pk=pk)
    except (*DATABASE_TROUBLE, ConcurrentChange):
        raise
    except FulfillmentError as error:
        return _Seen(foreseen=Foreseen.IMPOSSIBLE, told=str(error), context=context, pk=pk)
    except Exception as error:
        logger.exception("a dry run fails", extra={"subject": row.subject})
        told = f"The engine fails with it: {type(error).__name__}: {error}"
        return _Seen(foreseen=Foreseen.IMPOSSIBLE, told=told, context=context, pk=pk)
    return _Seen(
        foreseen=Foreseen.POSSIBLE,
        told=preview.done.told,
        context=context,
        pk=pk,
        version=preview.version,
    )


def request_of(job: BulkJob, row: Leased) -> Request:
    """The one operation that a row is; of a dry run it has no version yet."""
    return Request(
        action=repair_of(job.action).action,
        subject=row.subject,
        reason=job.reason,
        evidence=job.evidence,
        parameters=job.parameters,
        expected_version=row.version,
    )


def _write(unit: Unit, job_id: int, rows: Sequence[Leased], seen: Sequence[_Seen]) -> None:
    contexts = [one.context for one in seen if one.context is not None]
    known = places.store(unit, job_id=job_id, contexts=contexts)
    _FORESEEN.run(
        unit.raw,
        [
            (
                row.id,
                one.pk,
                known.get(places.key_of(one.context)) if one.context is not None else None,
                str(one.foreseen),
                one.told[:_LONGEST],
                one.version,
                0,
                None,
                "",
            )
            for row, one in zip(rows, seen, strict=True)
        ],
    )
