"""What the API answers about bulk jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from fulfillment.models import Approval, BulkJob, BulkRow
from fulfillment.operations.bulk import Counts


class BulkProgress(BaseModel):
    total: int = Field(description="Rows that are not left out.")
    by_state: dict[str, int]
    not_looked_at: int = Field(description="Rows of a draft that nobody has looked at yet.")
    impossible: int = Field(description="Rows that keep a draft from being started.")
    failures: int = Field(description="What counts against the job.")


class BulkOut(BaseModel):
    """One operation over many subjects."""

    id: int
    state: str
    state_reason: str
    action: str
    parameters: dict[str, Any]
    reason: str
    evidence: str
    selection: dict[str, Any] = Field(description="How its rows were chosen.")
    digest: str = Field(description="Of what was looked at; empty while rows are looked at.")
    progress: BulkProgress
    canary: int
    stages: list[int]
    stage: int = Field(description="0 is the canary.")
    up_to: int | None = Field(description="The last row of this stage.")
    goes_on: bool
    most_failures: int
    most_failures_percent: int
    known_within_seconds: int
    incident: int | None
    approval: int | None = Field(description="By which it was approved, or which is asked for.")
    asked_for_by: str
    drafted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class BulkList(BaseModel):
    bulk_jobs: list[BulkOut]
    next: str | None


class BulkRowOut(BaseModel):
    position: int
    subject: str
    state: str
    foreseen: str = Field(description="POSSIBLE, IMPOSSIBLE, DENIED, or empty: not looked at.")
    foretold: str = Field(description="What it would do, or why it can't be done.")
    told: str = Field(description="What was done and what came of it, or why not.")
    code: str
    record: int | None = Field(description="Its number in the record of operations.")
    done_at: datetime | None
    known_at: datetime | None


class BulkRows(BaseModel):
    rows: list[BulkRowOut]
    next: str | None


class BulkDone(BaseModel):
    told: str
    bulk_job: BulkOut


class BulkAsked(BaseModel):
    """Another person has to approve it; it begins when they do."""

    approval: int
    approved_by: str
    bulk_job: BulkOut


def job_document(job: BulkJob, counts: Counts, asked: Approval | None = None) -> BulkOut:
    return BulkOut(
        id=job.pk,
        state=str(job.state),
        state_reason=job.state_reason,
        action=job.action,
        parameters=job.parameters,
        reason=job.reason,
        evidence=job.evidence,
        selection=job.selection,
        digest=job.digest,
        progress=BulkProgress(
            total=counts.total,
            by_state=dict(counts.by_state),
            not_looked_at=counts.unseen,
            impossible=counts.impossible,
            failures=counts.failures,
        ),
        canary=job.canary,
        stages=job.stages,
        stage=job.stage,
        up_to=job.ends[job.stage] if job.ends else None,
        goes_on=job.goes_on,
        most_failures=job.most_failures,
        most_failures_percent=job.most_failures_percent,
        known_within_seconds=int(job.known_within.total_seconds()),
        incident=job.incident_id,
        approval=job.approval_id or (asked.pk if asked else None),
        asked_for_by=job.actor,
        drafted_at=job.drafted_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def row_document(row: BulkRow) -> BulkRowOut:
    return BulkRowOut(
        position=row.position,
        subject=row.subject,
        state=str(row.state),
        foreseen=row.foreseen,
        foretold=row.foretold,
        told=row.told,
        code=row.code,
        record=row.operation_id,
        done_at=row.done_at,
        known_at=row.known_at,
    )
