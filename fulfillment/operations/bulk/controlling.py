"""Starting a job, and what may be done to one: each an operation like any other."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from django.db import transaction
from pydantic import Field

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.context import Context
from fulfillment.engine.work import hints
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import BulkJobUnknown, BulkNotPossible, SubjectChanged
from fulfillment.models import (
    BULK_RUNNING,
    BULK_TERMINAL,
    Approval,
    BulkJob,
    BulkState,
    Foreseen,
    RowState,
)
from fulfillment.operations.approving import ask_for_approval
from fulfillment.operations.bulk import foreseeing, incidents, places, stages
from fulfillment.operations.bulk.places import subject_of
from fulfillment.operations.catalog import perform, prepared, repair_of
from fulfillment.operations.repair import (
    Done,
    Found,
    Parameters,
    Repair,
    Request,
    Why,
    values_of,
)
from fulfillment.operations.subjects import number_of

# The canary is spread over all of them; behind it they stay in their order.
_IN_ORDER = """
UPDATE fulfillment_bulkrow r SET position = o.position, tries = 0, leased_until = NULL
FROM (
    SELECT id, row_number() OVER (ORDER BY first DESC, number) AS position FROM (
        SELECT id, number, (number - 1) %% %s = 0 AND (number - 1) / %s < %s AS first FROM (
            SELECT id, row_number() OVER (ORDER BY position) AS number
            FROM fulfillment_bulkrow WHERE job_id = %s AND state = 'PENDING'
        ) numbered
    ) spread
) o
WHERE r.id = o.id
"""
_LEAVE_OUT = """
UPDATE fulfillment_bulkrow SET state = 'LEFT_OUT', leased_until = NULL,
    told = %s, known_at = %s
WHERE job_id = %s AND state = 'PENDING' AND {which}
"""
_ANEW = """
UPDATE fulfillment_bulkrow
SET foreseen = '', foretold = '', version = '', place_id = NULL, tries = 0, leased_until = NULL
WHERE job_id = %s AND state = 'PENDING'
"""


class Chosen(Parameters):
    """What is to be started."""

    selection: str = Field(
        description="The digest of what was looked at: another selection is not started."
    )


class Control(Parameters):
    """What is to become of a job."""

    what: Literal["pause", "resume", "cancel", "leave_out", "look_again"] = Field(
        description="leave_out takes what can't be done out of a draft; look_again looks at all "
        "of its rows anew."
    )
    subjects: tuple[str, ...] = Field(
        default=(), description="Of a draft: these are left out; empty: all that can't be done."
    )


class StartBulkJob(Repair):
    """Begin with its first rows. Whoever starts it does all of it, with the authority they have."""

    action = Action.BULK_START
    kind = "start_bulk_job"
    about = "bulk"
    parameters = Chosen

    def find(self, *, name: str) -> Found:
        job = job_of(name)
        repair = repair_of(job.action)
        values = values_of(repair=repair, parameters=job.parameters)
        return Found(
            subject=subject_of(job.pk),
            pk=job.pk,
            context=Context(subject=subject_of(job.pk)),
            parts=places.of_job(job),
            implies=(repair.action, *repair.implies(values)),
        )

    def version(self, unit: Unit, found: Found) -> str:
        job = BulkJob.objects.get(pk=found.pk)
        return _hash(job.state, job.digest)

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        job = stages.locked(found.pk)
        if job.state != BulkState.DRAFT:
            raise BulkNotPossible(f"It is {job.state} already. {job.state_reason}".strip())
        now = stages.counts(job_ids=[job.pk])[job.pk]
        if not job.digest:
            raise BulkNotPossible(
                f"Each row is looked at first: {now.unseen} of {now.total} are left."
            )
        if parameters.selection != job.digest:
            raise SubjectChanged(
                "What is selected is not what you have looked at. Look again; nothing was done."
            )
        if now.impossible:
            raise BulkNotPossible(
                f"For {now.impossible} of {now.total} it can't be done; the rows say why. Leave "
                "them out, or look at all of them again."
            )
        if not now.total:
            raise BulkNotPossible("Nothing is left in it.")
        job.ends = stages.ends_of(total=now.total, canary=job.canary, stages=job.stages)
        every = now.total // job.ends[0]
        unit.raw.execute(_IN_ORDER, [every, every, job.ends[0], job.pk])
        job.start()
        job.actor, job.actor_kind = why.actor.name, why.actor.kind
        job.requested_by_id = why.actor.user_id
        job.approval = why.approval
        job.state_reason = why.reason
        job.started_at = job.changed_at = unit.now
        job.save()
        incidents.follow(unit, job=job)
        transaction.on_commit(hints.announce_bulk, robust=True)
        return Done(
            told=f"{job.action} begins with {job.ends[0]} of {now.total}.",
            before={"state": "DRAFT"},
            after={
                "state": str(job.state),
                "action": job.action,
                "parameters": job.parameters,
                "rows": now.total,
                "ends": job.ends,
                "selection": job.digest,
            },
            customer_impact=f"Up to {now.total} orders; each row says what it means to its own.",
            financial_impact="As each row says.",
        )


class ControlBulkJob(Repair):
    """Pause a job, let it go on, cancel it; leave rows of a draft out, or look at them again."""

    action = Action.BULK_CONTROL
    kind = "control_bulk_job"
    about = "bulk"
    parameters = Control

    def find(self, *, name: str) -> Found:
        job = job_of(name)
        return Found(
            subject=subject_of(job.pk),
            pk=job.pk,
            context=Context(subject=subject_of(job.pk)),
            parts=places.of_job(job, but_denied=True),
        )

    def version(self, unit: Unit, found: Found) -> str:
        job = BulkJob.objects.get(pk=found.pk)
        return _hash(job.state, job.digest, job.stage, job.changed_at.isoformat())

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        job = stages.locked(found.pk)
        before = {"state": str(job.state), "stage": job.stage}
        match parameters.what:
            case "pause":
                told = _pause(job)
            case "resume":
                told = _resume(unit, job)
            case "cancel":
                told = _cancel(unit, job, why)
            case "leave_out":
                told = _leave_out(unit, job, parameters.subjects, why)
            case _:
                told = _look_again(unit, job)
        job.state_reason = f"{why.actor.name}: {why.reason}"
        job.changed_at = unit.now
        job.save()
        incidents.follow(unit, job=job)
        transaction.on_commit(hints.announce_bulk, robust=True)
        return Done(told=told, before=before, after={"state": str(job.state), "stage": job.stage})


def job_of(name: str) -> BulkJob:
    """A job by its number. Raises BulkJobUnknown."""
    job = BulkJob.objects.filter(pk=number_of(name, about="bulk")).first()
    if job is None:
        raise BulkJobUnknown(f"There is no bulk job {name}; `manage.py bulk list` names them.")
    return job


def start_request(*, job: BulkJob, reason: str) -> Request:
    """What starts a job as it is looked at now."""
    return Request(
        action=Action.BULK_START,
        subject=subject_of(job.pk),
        reason=reason,
        evidence=job.evidence,
        parameters={"selection": job.digest},
    )


def start(*, job_id: int, actor: Actor, reason: str) -> tuple[Done | None, Approval | None]:
    """Start it as it was looked at; or, where another person has to approve, ask for that.

    Raises as `catalog.perform` does.
    """
    request = start_request(job=job_of(str(job_id)), reason=reason)
    found = prepared(actor=actor, request=request)
    if found.needs is None:
        return found.perform(), None
    return None, ask_for_approval(prepared=found)


def control_request(
    *, job_id: int, what: str, reason: str, subjects: tuple[str, ...] = ()
) -> Request:
    """What pauses a job, resumes or cancels it, leaves rows out or looks again."""
    return Request(
        action=Action.BULK_CONTROL,
        subject=subject_of(job_id),
        reason=reason,
        parameters={"what": what, **({"subjects": list(subjects)} if subjects else {})},
    )


def control(
    *, job_id: int, what: str, actor: Actor, reason: str, subjects: tuple[str, ...] = ()
) -> Done:
    """Pause, resume, cancel, leave_out or look_again. Raises as `catalog.perform` does."""
    request = control_request(job_id=job_id, what=what, reason=reason, subjects=subjects)
    return perform(actor=actor, request=request)


def _pause(job: BulkJob) -> str:
    if job.state not in BULK_RUNNING:
        raise BulkNotPossible(f"It does not run: it is {job.state}. {job.state_reason}".strip())
    job.pause()
    return "It stands: nothing more of it is done until somebody lets it go on."


def _resume(unit: Unit, job: BulkJob) -> str:
    if job.state not in (BulkState.PAUSED, BulkState.STOPPED):
        raise BulkNotPossible(f"It does not stand: it is {job.state}. {job.state_reason}".strip())
    now = stages.counts(job_ids=[job.pk])[job.pk]
    job.forgiven, job.forgiven_of = now.failures, now.tried
    still = job.rows.filter(
        position__lte=job.ends[job.stage], state__in=[RowState.PENDING, RowState.DONE]
    ).exists()
    if not still and job.stage + 1 < len(job.ends):
        job.stage += 1
    if job.stage:
        job.go_on()
    else:
        job.resume_canary()
    return f"It goes on up to row {job.ends[job.stage]} of {job.ends[-1]}."


def _cancel(unit: Unit, job: BulkJob, why: Why) -> str:
    if job.state in BULK_TERMINAL:
        raise BulkNotPossible(f"It is {job.state} already. {job.state_reason}".strip())
    job.cancel()
    job.finished_at = unit.now
    told = f"The job was cancelled by {why.actor.name}: {why.reason}"
    unit.raw.execute(_LEAVE_OUT.format(which="true"), [told, unit.now, job.pk])
    return f"{unit.raw.rowcount} were not done and stay as they are; what was done stays done."


def _leave_out(unit: Unit, job: BulkJob, subjects: tuple[str, ...], why: Why) -> str:
    _check_draft(job)
    told = f"Left out by {why.actor.name}: {why.reason}"
    if subjects:
        statement = _LEAVE_OUT.format(which="subject = ANY(%s::text[])")
        unit.raw.execute(statement, [told, unit.now, job.pk, list(subjects)])
    else:
        statement = _LEAVE_OUT.format(which="foreseen = ANY(%s::text[])")
        given = [str(Foreseen.IMPOSSIBLE), str(Foreseen.DENIED)]
        unit.raw.execute(statement, [told, unit.now, job.pk, given])
    left = unit.raw.rowcount
    if not left:
        raise BulkNotPossible("There is nothing of that kind in it that could be left out.")
    if job.digest:
        foreseeing.seal(unit, job=job)
    return f"{left} are left out."


def _look_again(unit: Unit, job: BulkJob) -> str:
    _check_draft(job)
    unit.raw.execute(_ANEW, [job.pk])
    job.digest = ""
    return f"{unit.raw.rowcount} are looked at again."


def _check_draft(job: BulkJob) -> None:
    if job.state != BulkState.DRAFT:
        raise BulkNotPossible(
            f"It is {job.state}: its rows are fixed. Pause or cancel it, and make another one."
        )


def _hash(*parts: object) -> str:
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]
