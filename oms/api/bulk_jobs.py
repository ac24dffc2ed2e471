"""Bulk jobs for people: drafted, read, started, stopped, and taken away as a file."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from pydantic import Field, JsonValue, StrictInt, StringConstraints, model_validator
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.authorizing import holds
from fulfillment.models import BulkJob, BulkState, RowState
from fulfillment.operations import bulk
from oms.api import bulk_documents as documents
from oms.api import schema
from oms.api.authentication import IsPerson
from oms.api.operating import Reason, actor_of, answered_once, operate, replied
from oms.api.orders import next_page, query_of
from oms.api.parsing import json_body, validated
from oms.api.problems import Problem
from oms.api.requests import Closed

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Kind = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z_]+$")]
_READERS = (Action.BULK_START, Action.BULK_CONTROL, Action.ORDER_EVIDENCE)


class SelectionIn(Closed):
    """What it is to be done to: what is named, or what a filter finds now."""

    of: Kind = Field(description="The list: order, task, case, manual, target or hold.")
    names: Annotated[list[Name], Field(min_length=1, max_length=bulk.MOST)] | None = Field(
        None, description="As operations name them: `12`, or `O-17`."
    )
    filter: dict[str, JsonValue] | None = Field(
        None, description='Such as {"state": "FAILED_FINAL", "target": "billing"}.'
    )

    @model_validator(mode="after")
    def _says_which(self) -> SelectionIn:
        if (self.names is None) == (self.filter is None):
            raise ValueError("say names or a filter, and not both")
        return self

    def selection(self) -> bulk.Selection:
        return bulk.Selection(of=self.of, names=self.names or (), filter=self.filter or {})


class BulkIn(Closed):
    """One operation over many subjects."""

    action: Annotated[str, StringConstraints(max_length=60)] = Field(
        description="As `GET /v1/operations` names it: `task.retry`."
    )
    selection: SelectionIn
    parameters: dict[str, JsonValue] = Field({}, description="By the operation's schema.")
    reason: Reason
    evidence: Annotated[str, StringConstraints(max_length=4000)] = ""
    canary: StrictInt = Field(5, description="So many are done first.")
    stages: Annotated[list[StrictInt], Field(max_length=20)] = Field(
        [10, 50], description="Then up to so many percent, one after the other, then all."
    )
    goes_on: bool = Field(False, description="After a stage that went well, without being asked.")
    most_failures: StrictInt = Field(10, description="With more it stops.")
    most_failures_percent: StrictInt = Field(20, description="Of those tried; with more it stops.")
    known_within_seconds: Annotated[StrictInt, Field(ge=0, le=2_592_000)] = Field(
        3600, description="What has not come about by then has not."
    )

    def terms(self) -> bulk.Terms:
        return bulk.Terms(
            canary=self.canary,
            stages=tuple(self.stages),
            goes_on=self.goes_on,
            most_failures=self.most_failures,
            most_failures_percent=self.most_failures_percent,
            known_within=timedelta(seconds=self.known_within_seconds),
        )


class BulkFilter(Closed):
    state: BulkState | None = None
    incident: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class RowFilter(Closed):
    state: RowState | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200
    after: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class ReasonIn(Closed):
    reason: Reason


class LeaveOutIn(Closed):
    reason: Reason
    subjects: Annotated[list[Name], Field(max_length=10_000)] = Field(
        [], description="Without any: all that can't be done."
    )


def _document(job: BulkJob) -> documents.BulkOut:
    job.refresh_from_db()
    counts = bulk.counts(job_ids=[job.pk])[job.pk]
    return documents.job_document(job, counts, bulk.open_approval(job))


class SeesBulkJobs(BasePermission):
    """Whoever starts or controls jobs anywhere, or takes evidence, reads them all. What they may
    do is for `authorize` to say."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        actor = actor_of(request)
        if request.method in SAFE_METHODS and not any(
            holds(actor=actor, action=action) for action in _READERS
        ):
            raise Problem(
                status=403,
                code="authority.denied",
                title="You may not see bulk jobs",
                detail="None of your roles has to do with them. Whoever looks after roles can "
                "give you one.",
            )
        return True


class BulkJobs(APIView):
    permission_classes = (IsPerson, SeesBulkJobs)

    @extend_schema(
        operation_id="draft_bulk_job",
        tags=["Bulk jobs"],
        summary="Freeze a selection for one operation, and look at each of it",
        parameters=[schema.IDEMPOTENCY_KEY],
        request=BulkIn,
        responses={
            201: documents.BulkOut,
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request) -> Response:
        """Nothing is done to any of them yet: each row is previewed first, which takes a while.
        `digest` is there when all are; then it can be started.
        """
        data = json_body(request)
        wanted = validated(BulkIn, data)
        job = bulk.wanted(
            actor=actor_of(request),
            action=wanted.action,
            selection=wanted.selection.selection(),
            reason=wanted.reason,
            evidence=wanted.evidence,
            parameters=wanted.parameters,
            terms=wanted.terms(),
        )
        done = answered_once(
            request,
            data=data,
            fulfillment_ids=(),
            answer=lambda unit: (201, _document(job.write(unit)).model_dump(mode="json")),
        )
        return replied(request, done)

    @extend_schema(
        operation_id="list_bulk_jobs",
        tags=["Bulk jobs"],
        summary="Bulk jobs, the newest first",
        parameters=schema.BULK_FILTERS,
        responses={200: documents.BulkList, **schema.problems(400, 401, 403, 503)},
    )
    def get(self, request: Request) -> Response:
        """`next` is the address of the page that follows; null on the last one."""
        wanted = query_of(BulkFilter, request)
        rows = BulkJob.objects.order_by("-pk")
        if wanted.state is not None:
            rows = rows.filter(state=wanted.state)
        if wanted.incident is not None:
            rows = rows.filter(incident=wanted.incident)
        if wanted.after is not None:
            rows = rows.filter(pk__lt=wanted.after)
        found = list(rows[: wanted.limit + 1])
        page = found[: wanted.limit]
        counts = bulk.counts(job_ids=[job.pk for job in page])
        answer = documents.BulkList(
            bulk_jobs=[documents.job_document(job, counts[job.pk]) for job in page],
            next=next_page(request, after=page[-1].pk) if len(found) > wanted.limit else None,
        )
        return Response(answer.model_dump(mode="json"))


class BulkDetail(APIView):
    permission_classes = (IsPerson, SeesBulkJobs)

    @extend_schema(
        operation_id="read_bulk_job",
        tags=["Bulk jobs"],
        summary="One bulk job, and how far it is",
        responses={200: documents.BulkOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, job_id: str) -> Response:
        return Response(_document(bulk.job_of(job_id)).model_dump(mode="json"))


class BulkRowList(APIView):
    permission_classes = (IsPerson, SeesBulkJobs)

    @extend_schema(
        operation_id="list_bulk_rows",
        tags=["Bulk jobs"],
        summary="Its rows: what was foreseen, what was done, what came of it",
        parameters=schema.BULK_ROW_FILTERS,
        responses={200: documents.BulkRows, **schema.problems(400, 401, 403, 404, 503)},
    )
    def get(self, request: Request, job_id: str) -> Response:
        wanted = query_of(RowFilter, request)
        found = bulk.rows_of(
            job=bulk.job_of(job_id),
            state=str(wanted.state or ""),
            after=wanted.after,
            limit=wanted.limit + 1,
        )
        page = found[: wanted.limit]
        answer = documents.BulkRows(
            rows=[documents.row_document(row) for row in page],
            next=next_page(request, after=page[-1].position) if len(found) > wanted.limit else None,
        )
        return Response(answer.model_dump(mode="json"))


class BulkRowFile(APIView):
    permission_classes = (IsPerson, SeesBulkJobs)

    @extend_schema(
        operation_id="export_bulk_rows",
        tags=["Bulk jobs"],
        summary="All of its rows as a CSV file",
        responses={
            (200, "text/csv"): OpenApiTypes.STR,
            **schema.problems(401, 403, 404, 503),
        },
    )
    def get(self, request: Request, job_id: str) -> StreamingHttpResponse:
        job = bulk.job_of(job_id)
        response = StreamingHttpResponse(bulk.exported(job=job), content_type="text/csv")
        response["Content-Disposition"] = f'attachment; filename="bulk-job-{job.pk}.csv"'
        return response


class BulkStart(APIView):
    permission_classes = (IsPerson, SeesBulkJobs)

    @extend_schema(
        operation_id="start_bulk_job",
        tags=["Bulk jobs"],
        summary="Begin with its first rows, or ask for the approval that it needs",
        parameters=[schema.IDEMPOTENCY_KEY],
        request=ReasonIn,
        responses={
            200: documents.BulkDone,
            202: documents.BulkAsked,
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request, job_id: str) -> Response:
        """It is done in your name, with your authority, which is asked for at every row. 202:
        another person has to approve all of it, and it begins when they do.
        """
        data = json_body(request)
        wanted = validated(ReasonIn, data)
        job = bulk.job_of(job_id)
        asked = bulk.start_request(job=job, reason=wanted.reason)
        found = operations.prepared(actor=actor_of(request), request=asked)
        if found.needs is None:
            return _operate(request, job, data, asked)
        approval = operations.ask_for_approval(prepared=found)
        answer = documents.BulkAsked(
            approval=approval.pk, approved_by=approval.needs, bulk_job=_document(job)
        )
        return Response(answer.model_dump(mode="json"), status=202)


class BulkControl(APIView):
    """Pause, resume, cancel, look again: each with a reason."""

    permission_classes = (IsPerson, SeesBulkJobs)
    what = ""

    @extend_schema(
        tags=["Bulk jobs"],
        parameters=[schema.IDEMPOTENCY_KEY],
        request=ReasonIn,
        responses={
            200: documents.BulkDone,
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request, job_id: str) -> Response:
        data = json_body(request)
        return _control(request, job_id, data, self.what, validated(ReasonIn, data).reason)


@extend_schema_view(
    post=extend_schema(
        operation_id="pause_bulk_job", summary="Let it stand until somebody resumes it"
    )
)
class BulkPause(BulkControl):
    what = "pause"


@extend_schema_view(
    post=extend_schema(operation_id="resume_bulk_job", summary="Let it go on, up to its next stage")
)
class BulkResume(BulkControl):
    what = "resume"


@extend_schema_view(
    post=extend_schema(operation_id="cancel_bulk_job", summary="Leave the rest as it is, for good")
)
class BulkCancel(BulkControl):
    what = "cancel"


@extend_schema_view(
    post=extend_schema(
        operation_id="look_at_bulk_job_again", summary="Look at all rows of a draft anew"
    )
)
class BulkLookAgain(BulkControl):
    what = "look_again"


class BulkLeaveOut(APIView):
    permission_classes = (IsPerson, SeesBulkJobs)

    @extend_schema(
        operation_id="leave_out_bulk_rows",
        tags=["Bulk jobs"],
        summary="Leave rows of a draft out: all that can't be done, or those named",
        parameters=[schema.IDEMPOTENCY_KEY],
        request=LeaveOutIn,
        responses={
            200: documents.BulkDone,
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request, job_id: str) -> Response:
        data = json_body(request)
        wanted = validated(LeaveOutIn, data)
        subjects = tuple(wanted.subjects)
        return _control(request, job_id, data, "leave_out", wanted.reason, subjects)


def _control(
    request: Request,
    job_id: str,
    data: Any,
    what: str,
    reason: str,
    subjects: tuple[str, ...] = (),
) -> Response:
    job = bulk.job_of(job_id)
    asked = bulk.control_request(job_id=job.pk, what=what, reason=reason, subjects=subjects)
    return _operate(request, job, data, asked)


def _operate(request: Request, job: BulkJob, data: Any, asked: operations.Request) -> Response:
    def document(done: operations.Done) -> dict[str, Any]:
        answer = documents.BulkDone(told=done.told, bulk_job=_document(job))
        return answer.model_dump(mode="json")

    return operate(request, data=data, wanted=asked, document=document)
