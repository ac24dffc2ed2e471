"""A bulk job: how far it is, what has come of each of its rows, and what may be done to it now."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from unfold.decorators import display

from fulfillment import operations
from fulfillment.admin.asking import (
    ReasonForm,
    actor_of,
    ask,
    attempt,
    found_or_404,
    holds_here,
    reach_here,
)
from fulfillment.admin.bulk_standing import (
    CONTROLS,
    JOB_SIGNS,
    ROW_SIGNS,
    in_words,
    progress_bar,
    standing_of,
    told_of,
)
from fulfillment.admin.operating import check_reach
from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    badge,
    link,
    pretty,
    register_signs,
    subject_link,
)
from fulfillment.errors import ReasonMissing
from fulfillment.models import BulkJob, BulkRow, BulkState
from fulfillment.operations import bulk

_LIST_SECONDS = 5
register_signs(entity="bulk", signs=JOB_SIGNS)


@admin.register(BulkJob)
class BulkJobAdmin(ReadOnlyAdmin):
    change_list_template = "desk/bulk/list.html"
    list_display = (
        *("row", "state_badge", "does", "progress", "actor", "reason"),
        *("drafted_at", "finished_at"),
    )
    list_filter = ("state",)
    search_fields = ("id",)
    search_help_text = "Its number"
    fieldsets = (
        (
            "On record: its terms, its selection and its digest",
            {
                "classes": ("collapse",),
                "fields": (
                    ("action", "actor"),
                    "reason",
                    "evidence",
                    ("canary", "stages"),
                    ("goes_on", "known_within"),
                    ("most_failures", "most_failures_percent"),
                    ("drafted_at", "started_at"),
                    ("changed_at", "finished_at"),
                    "digest",
                    ("parameters_text", "selection_text"),
                ),
            },
        ),
    )
    readonly_fields = ("parameters_text", "selection_text")
    change_form_outer_before_template = "desk/bulk/job.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.select_related("approval", "incident")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """With the progress of all jobs of the page, in one statement."""
        found = super().get_changelist_instance(request)
        counts = bulk.counts(job_ids=[job.pk for job in found.result_list])
        for job in found.result_list:
            job.counted = counts[job.pk]
        return found

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {**(extra_context or {}), "live_every": _LIST_SECONDS}
        return super().changelist_view(request, context)

    @display(description="job")
    def row(self, job: BulkJob) -> str:
        return f"Bulk job {job.pk}"

    @display(description="state")
    def state_badge(self, job: BulkJob) -> str:
        return badge(job.state, JOB_SIGNS)

    @display(description="what")
    def does(self, job: BulkJob) -> str:
        return in_words(job)

    @display(description="how far it is")
    def progress(self, job: Any) -> str:
        return progress_bar(job, job.counted)

    @display(description="parameters")
    def parameters_text(self, job: BulkJob) -> str:
        return pretty(job.parameters)

    @display(description="selection")
    def selection_text(self, job: BulkJob) -> str:
        return pretty(job.selection)

    # --- its page --------------------------------------------------------------------------------

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        job: BulkJob = context["original"]
        which = request.GET.get("rows", "")
        context |= standing_of(job=job, reach=reach_here(request), which=which)
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    # --- what may be done ------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        file = path("<int:job_id>/rows.csv", view(self.export), name="fulfillment_bulkjob_rows")
        controls = [
            path(
                f"<int:job_id>/{name}/",
                view(self.control),
                {"name": name},
                name=f"fulfillment_bulkjob_{name}",
            )
            for name in CONTROLS
        ]
        return [file, *controls, *super().get_urls()]

    def export(self, request: HttpRequest, job_id: int) -> HttpResponse | StreamingHttpResponse:
        job = found_or_404(self, request, str(job_id))
        if not self.has_view_permission(request, job):
            return HttpResponse(status=403)
        response = StreamingHttpResponse(bulk.exported(job=job), content_type="text/csv")
        response["Content-Disposition"] = f'attachment; filename="bulk-job-{job.pk}.csv"'
        return response

    def control(self, request: HttpRequest, job_id: int, name: str) -> HttpResponse:
        """Ask why, and do it."""
        control = CONTROLS[name]
        if not holds_here(request, control.action):
            raise PermissionDenied(f"You may not do this anywhere: {control.action}.")
        job = found_or_404(self, request, str(job_id))
        page = reverse("admin:fulfillment_bulkjob_change", args=[job.pk])
        sent = request.POST if request.method == "POST" else None
        if sent is None:
            check_reach(request, operations.repair_of(control.action), f"bulk:{job.pk}")
        form = ReasonForm(sent, initial={"reason": _usual_reason(job, name)})
        if form.is_valid():
            told = attempt(
                form,
                lambda: _do(request, job, name, form.cleaned_data["reason"]),
                fields={ReasonMissing: "reason"},
            )
            if told is not None:
                self.message_user(request, told)
                return redirect(page)
        counts = bulk.counts(job_ids=[job.pk])[job.pk]
        return ask(
            self,
            request,
            form=form,
            title=f"{control.words}: bulk job {job.pk}",
            told=f"{in_words(job)}: {told_of(counts)}. {control.told}",
            button=control.words,
            back=page,
        )


def _do(request: HttpRequest, job: BulkJob, name: str, reason: str) -> str:
    actor = actor_of(request)
    if name != "start":
        what = name.replace("-", "_")
        return bulk.control(job_id=job.pk, what=what, actor=actor, reason=reason).told
    done, approval = bulk.start(job_id=job.pk, actor=actor, reason=reason)
    if done is not None:
        return done.told
    assert approval is not None
    return (
        f"Approval {approval.pk} is asked for: somebody else with {approval.needs} has to give "
        "it. The job begins when they do."
    )


def _usual_reason(job: BulkJob, name: str) -> str:
    """What is usually said, to be written over."""
    if name == "start":
        return job.reason
    if name == "resume" and job.state == BulkState.PAUSED and job.stage == 0:
        return "The canary went well."
    return ""


@admin.register(BulkRow)
class BulkRowAdmin(ReadOnlyAdmin):
    list_display = (
        *("position", "what", "state_badge", "foreseen", "foretold", "told"),
        *("done_at", "known_at"),
    )
    list_filter = ("state", "foreseen")
    ordering = ("job_id", "position", "id")
    search_fields = ("subject",)
    search_help_text = "What it is about, such as task:12"
    fields = (
        ("job_link", "position"),
        ("what", "state_badge"),
        ("foreseen", "foretold"),
        ("told", "code"),
        ("operation_link", "version"),
        ("done_at", "known_at"),
    )
    readonly_fields = ("job_link", "what", "state_badge", "operation_link")

    @display(description="what")
    def what(self, row: BulkRow) -> str:
        return subject_link(row.subject)

    @display(description="state")
    def state_badge(self, row: BulkRow) -> str:
        return badge(row.state, ROW_SIGNS)

    @display(description="job")
    def job_link(self, row: BulkRow) -> str:
        return link(row.job)

    @display(description="record")
    def operation_link(self, row: BulkRow) -> str:
        return link(row.operation)
