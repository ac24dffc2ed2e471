"""Bulk jobs in the admin: drafted from any list, started, followed and stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.html import format_html
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from fulfillment.actions import Action
from fulfillment.admin.asking import (
    ReasonForm,
    actor_of,
    ask,
    attempt,
    found_or_404,
    holds_here,
)
from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    badge,
    link,
    list_link,
    pretty,
    register_signs,
    subject_link,
)
from fulfillment.definitions.signs import Sign
from fulfillment.errors import EvidenceMissing, ParametersInvalid, ReasonMissing
from fulfillment.models import (
    BULK_RUNNING,
    BULK_TERMINAL,
    BulkJob,
    BulkRow,
    BulkState,
    RowState,
)
from fulfillment.operations import bulk

JOB_SIGNS: Mapping[str, Sign] = {
    BulkState.DRAFT: ("✎", "waiting"),
    BulkState.RUNNING_CANARY: ("▶", "running"),
    BulkState.RUNNING: ("▶", "running"),
    BulkState.PAUSED: ("⊖", "waiting"),
    BulkState.STOPPED: ("!", "failed"),
    BulkState.COMPLETED: ("✓", "done"),
    BulkState.CANCELLED: ("○", "waiting"),
}
ROW_SIGNS: Mapping[str, Sign] = {
    RowState.PENDING: ("•", "waiting"),
    RowState.LEFT_OUT: ("○", "waiting"),
    RowState.DONE: ("▶", "running"),
    RowState.REFUSED: ("⊘", "trouble"),
    RowState.FAILED: ("✗", "failed"),
    RowState.VERIFIED: ("✓", "done"),
    RowState.NOT_VERIFIED: ("!", "failed"),
}
register_signs(entity="bulk", signs=JOB_SIGNS)
_USUAL = bulk.Terms()
_CONTROLS: Mapping[str, tuple[str, frozenset[str]]] = {
    "pause": ("Pause it", frozenset(BULK_RUNNING)),
    "resume": ("Let it go on", frozenset({BulkState.PAUSED, BulkState.STOPPED})),
    "leave_out": ("Leave out what can't be done", frozenset({BulkState.DRAFT})),
    "look_again": ("Look at all rows again", frozenset({BulkState.DRAFT})),
    "cancel": ("Cancel it", frozenset(BulkState) - BULK_TERMINAL),
}
"""What may be done to a job, in words, and in which states."""


class DraftForm(ReasonForm):
    """What is to be done to all of them; behind it what was chosen, as the list has sent it."""

    operation = forms.ChoiceField(widget=UnfoldAdminSelectWidget())
    parameters = forms.CharField(
        required=False,
        max_length=20_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="A JSON object, where the operation has to be told more.",
    )
    evidence = forms.CharField(
        required=False, max_length=4000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2})
    )
    canary = forms.IntegerField(
        initial=_USUAL.canary,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="First so many.",
    )
    stages = forms.RegexField(
        r"^\s*(\d{1,2}(\s*,\s*\d{1,2})*)?\s*$",
        initial=", ".join(map(str, _USUAL.stages)),
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Then up to so many percent, one after the other, then all.",
    )
    goes_on = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="After a stage that went well it goes on without being asked.",
    )
    most_failures = forms.IntegerField(
        initial=_USUAL.most_failures, widget=UnfoldAdminIntegerFieldWidget()
    )
    most_failures_percent = forms.IntegerField(
        initial=_USUAL.most_failures_percent, widget=UnfoldAdminIntegerFieldWidget()
    )
    minutes = forms.IntegerField(
        initial=60,
        min_value=0,
        max_value=43_200,
        label="Known within (minutes)",
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="What has not come about by then has not.",
    )

    def __init__(
        self, operations: Sequence[tuple[str, str]], request: HttpRequest, *args: Any
    ) -> None:
        super().__init__(*args)
        self.fields["operation"].choices = operations  # type: ignore[attr-defined]
        for name in ("action", "select_across", "index"):
            self.fields[name] = forms.CharField(
                required=False, initial=request.POST.get(name, ""), widget=forms.HiddenInput()
            )
        self.fields["_selected_action"] = forms.MultipleChoiceField(
            choices=[(one, one) for one in request.POST.getlist("_selected_action")],
            initial=request.POST.getlist("_selected_action"),
            widget=forms.MultipleHiddenInput(),
        )
        self.fields["drafted"] = forms.CharField(initial="yes", widget=forms.HiddenInput())
        self.order_fields(["operation", "reason", "evidence", "parameters"])

    def clean_parameters(self) -> dict[str, Any]:
        text = self.cleaned_data["parameters"].strip()
        if not text:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise forms.ValidationError("Write a JSON object, such as {}.")
        return found

    def terms(self) -> bulk.Terms:
        data = self.cleaned_data
        return bulk.Terms(
            canary=data["canary"],
            stages=tuple(int(one) for one in data["stages"].split(",") if one.strip()),
            goes_on=data["goes_on"],
            most_failures=data["most_failures"],
            most_failures_percent=data["most_failures_percent"],
            known_within=timedelta(minutes=data["minutes"]),
        )


class Bulkable:
    """A list whose rows, as they are filtered, may become the rows of a bulk job."""

    bulk_of: str
    bulk_name: str = "pk"
    """The column by which operations name one."""
    actions: Any = ("do_to_all",)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)  # type: ignore[misc]
        if not holds_here(request, Action.BULK_START):
            found.pop("do_to_all", None)
        return found

    @admin.action(description="Do something to all of these …")
    def do_to_all(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Freeze what is selected, or all that the filter finds, into a draft."""
        actor = actor_of(request)
        rows = queryset.order_by("pk").values_list(self.bulk_name, flat=True)
        names = [str(name) for name in rows[: bulk.MOST + 1]]
        offers = bulk.offers(actor=actor, about=self.bulk_of, names=names)
        if not offers:
            messages.error(request, "There is nothing that you may do to these.")
            return None
        choices = [(offer.action.value, _words(offer)) for offer in offers]
        sent = request.POST if "drafted" in request.POST else None
        form = DraftForm(choices, request, sent)
        if form.is_valid():
            data = form.cleaned_data
            job = attempt(
                form,
                lambda: bulk.draft(
                    actor=actor,
                    action=data["operation"],
                    selection=bulk.Selection(
                        of=self.bulk_of, names=names, note=request.get_full_path()[:500]
                    ),
                    reason=data["reason"],
                    evidence=data["evidence"],
                    parameters=data["parameters"],
                    terms=form.terms(),
                ),
                fields={
                    ReasonMissing: "reason",
                    EvidenceMissing: "evidence",
                    ParametersInvalid: "parameters",
                },
            )
            if job is not None:
                messages.success(request, f"Bulk job {job.pk} is drafted; its rows are looked at.")
                return redirect("admin:fulfillment_bulkjob_change", job.pk)
        return ask(
            self,  # type: ignore[arg-type]
            request,
            form=form,
            title=f"Do something to these {len(names)}",
            told=f"A draft with these {len(names)} is made: what matches the list later does not "
            "join. Each of them is looked at, and nothing is done before you start it.",
            button="Make the draft",
            back=request.get_full_path(),
        )


def _words(offer: bulk.ForMany) -> str:
    few = "" if offer.for_all else f" (possible for {offer.possible} of {offer.of})"
    return f"{offer.words}{few}"


@admin.register(BulkJob)
class BulkJobAdmin(ReadOnlyAdmin):
    list_display = (
        *("id", "state_badge", "action", "progress", "actor", "reason"),
        *("drafted_at", "finished_at"),
    )
    list_filter = ("state",)
    search_fields = ("id",)
    search_help_text = "Its number"
    fields = (
        ("state_badge", "state_reason"),
        ("action", "progress"),
        ("actor", "reason"),
        "evidence",
        ("rows_link", "file"),
        ("dry_run", "approved"),
        ("canary", "goes_on"),
        ("stages", "stage"),
        ("most_failures", "most_failures_percent"),
        ("known_within", "drafted_at"),
        ("started_at", "finished_at"),
        "incident_link",
        "digest",
        ("parameters_text", "selection_text"),
    )
    readonly_fields = (
        *("state_badge", "progress", "rows_link", "file", "dry_run", "approved"),
        *("incident_link", "parameters_text", "selection_text"),
    )
    actions_detail = ("start", "pause", "resume", "leave_out", "look_again", "cancel")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("approval", "incident")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """With the progress of all jobs of the page, in one statement."""
        found = super().get_changelist_instance(request)
        counts = bulk.counts(job_ids=[job.pk for job in found.result_list])
        for job in found.result_list:
            job.counted = counts[job.pk]
        return found

    @display(description="state")
    def state_badge(self, job: BulkJob) -> str:
        return badge(job.state, JOB_SIGNS)

    @display(description="rows")
    def progress(self, job: Any) -> str:
        counted = getattr(job, "counted", None) or _counts(job)
        states = ", ".join(
            f"{number} {state.lower().replace('_', ' ')}"
            for state, number in sorted(counted.by_state.items())
        )
        return f"{counted.total}: {states}"

    @display(description="rows")
    def rows_link(self, job: BulkJob) -> str:
        return list_link("its rows, one by one", model=BulkRow, job__id__exact=job.pk)

    @display(description="file")
    def file(self, job: BulkJob) -> str:
        address = reverse("admin:fulfillment_bulkjob_rows", args=[job.pk])
        return format_html('<a class="desk-link" href="{}">all rows as CSV</a>', address)

    @display(description="dry run")
    def dry_run(self, job: BulkJob) -> str:
        counted = _counts(job)
        if counted.unseen:
            return f"{counted.unseen} are not looked at yet."
        return f"{counted.impossible} can't be done; the rows say why."

    @display(description="approval")
    def approved(self, job: BulkJob) -> str:
        if job.approval is not None:
            return f"{job.approval.pk}, by {job.approval.decided_by}"
        asked = bulk.open_approval(job)
        return f"{asked.pk} waits for {asked.needs}" if asked else "—"

    @display(description="incident")
    def incident_link(self, job: BulkJob) -> str:
        return link(job.incident)

    @display(description="parameters")
    def parameters_text(self, job: BulkJob) -> str:
        return pretty(job.parameters)

    @display(description="selection")
    def selection_text(self, job: BulkJob) -> str:
        return pretty(job.selection)

    # --- what may be done ------------------------------------------------------------------------

    def has_start_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.BULK_START)

    def has_control_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.BULK_CONTROL)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        job = self.get_object(request, object_id)
        found = super().get_actions_detail(request, object_id)
        return [one for one in found if job and _is_offered(job, one.action_name)]

    def get_urls(self) -> list[Any]:
        file = path(
            "<int:job_id>/rows.csv",
            self.admin_site.admin_view(self.export),
            name="fulfillment_bulkjob_rows",
        )
        return [file, *super().get_urls()]

    def export(self, request: HttpRequest, job_id: int) -> HttpResponse | StreamingHttpResponse:
        job = found_or_404(self, request, str(job_id))
        if not self.has_view_permission(request, job):
            return HttpResponse(status=403)
        response = StreamingHttpResponse(bulk.exported(job=job), content_type="text/csv")
        response["Content-Disposition"] = f'attachment; filename="bulk-job-{job.pk}.csv"'
        return response

    @action(description="Start it", url_path="start", permissions=["start"], icon="play_arrow")
    def start(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def do(job: BulkJob, reason: str) -> str:
            done, approval = bulk.start(job_id=job.pk, actor=actor_of(request), reason=reason)
            if done is not None:
                return done.told
            assert approval is not None
            return f"Approval {approval.pk} is asked for: somebody with {approval.needs} gives it."

        return self._ask(request, object_id, "Start it", do)

    @action(description="Pause", url_path="pause", permissions=["control"], icon="pause")
    def pause(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._control(request, object_id, "pause")

    @action(description="Let it go on", url_path="resume", permissions=["control"], icon="resume")
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._control(request, object_id, "resume")

    @action(
        description="Leave out what can't be done",
        url_path="leave-out",
        permissions=["control"],
        icon="remove",
    )
    def leave_out(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._control(request, object_id, "leave_out")

    @action(
        description="Look again", url_path="look-again", permissions=["control"], icon="refresh"
    )
    def look_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._control(request, object_id, "look_again")

    @action(description="Cancel", url_path="cancel", permissions=["control"], icon="cancel")
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._control(request, object_id, "cancel")

    def _control(self, request: HttpRequest, object_id: str, what: str) -> HttpResponse:
        def do(job: BulkJob, reason: str) -> str:
            done = bulk.control(job_id=job.pk, what=what, actor=actor_of(request), reason=reason)
            return done.told

        return self._ask(request, object_id, _CONTROLS[what][0], do)

    def _ask(
        self,
        request: HttpRequest,
        object_id: str,
        title: str,
        do: Callable[[BulkJob, str], str],
    ) -> HttpResponse:
        job = found_or_404(self, request, object_id)
        page = reverse("admin:fulfillment_bulkjob_change", args=[job.pk])
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            told = attempt(
                form,
                lambda: do(job, form.cleaned_data["reason"]),
                fields={ReasonMissing: "reason"},
            )
            if told is not None:
                self.message_user(request, told)
                return redirect(page)
        return ask(
            self,
            request,
            form=form,
            title=f"{title}: bulk job {job.pk}",
            told=f"{job.action} on {self.progress(job)}. {job.state_reason}".strip(),
            button=title,
            back=page,
        )


def _counts(job: BulkJob) -> bulk.Counts:
    return bulk.counts(job_ids=[job.pk])[job.pk]


def _is_offered(job: BulkJob, name: str) -> bool:
    for what, (_, states) in _CONTROLS.items():
        if name.endswith(what):
            return str(job.state) in states
    return bool(job.state == BulkState.DRAFT)


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
