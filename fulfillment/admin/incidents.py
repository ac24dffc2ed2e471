"""Incidents, the causes that many cases have in common: what they keep, and their release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince
from unfold.decorators import display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import actor_of, found_or_404, held_here, holds_here, reach_here
from fulfillment.admin.bulk_standing import JOB_SIGNS, StageShown, stage_shown
from fulfillment.admin.case_signs import INCIDENT_SIGNS, SEVERITY_SIGNS
from fulfillment.admin.figures import Figure, counted
from fulfillment.admin.operating import operate_address
from fulfillment.admin.reading import Badge, ReadOnlyAdmin, badge, badge_of, list_address
from fulfillment.definitions.signs import in_words
from fulfillment.errors import FulfillmentError
from fulfillment.models import (
    BulkJob,
    BulkState,
    CaseCategory,
    FalloutCase,
    Incident,
    IncidentState,
    Operation,
)
from fulfillment.operations import bulk
from fulfillment.operations.offering import help_of
from fulfillment.queries import caseload, impact

_MOST_JOBS = 5
_MOST_DONE = 20
_OPEN = {"resolved_at__isempty": "1"}
_WORDS: Mapping[Action, str] = {
    Action.INCIDENT_RELEASE: "Release it in stages",
    Action.INCIDENT_ASSIGN: "Give it to somebody",
    Action.INCIDENT_CLOSE: "Close it by hand",
}
"""As buttons, what comes first first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A bulk job that releases it."""

    job: BulkJob
    badge: Badge
    stages: Sequence[StageShown]
    is_draft: bool


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    change_list_template = "desk/frame/live_list.html"
    list_display = ("row", "state_badge", "severity_badge", "keeps", "since", "whose")
    list_filter = (("resolved_at", admin.EmptyFieldListFilter), "state", "severity", "target")
    # As an index has them.
    ordering = (F("resolved_at").desc(nulls_first=True), "-id")
    search_fields = ("id",)
    search_help_text = "Incident number"
    fieldsets = (
        (
            "On record",
            {
                "classes": ("collapse",),
                "fields": (
                    ("target", "action"),
                    ("reason_code", "fingerprint"),
                    ("owner_queue", "assigned_to"),
                    ("opened_at", "releasing_since"),
                    ("resolved_at", "resolved_by"),
                ),
            },
        ),
    )
    change_form_outer_before_template = "desk/fallout/incident.html"

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """With what those of the page keep that are not over, in one statement."""
        found = super().get_changelist_instance(request)
        still = [one for one in found.result_list if one.state != IncidentState.RESOLVED]
        extents = caseload.extents(still)
        for one in found.result_list:
            one.extent = extents.get(one.pk)
        return found

    # --- the list --------------------------------------------------------------------------------

    @display(description="one cause of many cases")
    def row(self, incident: Incident) -> str:
        return format_html(
            '<span class="work-title">{}</span><span class="work-more">incident {}</span>',
            incident.title,
            incident.pk,
        )

    @display(description="state")
    def state_badge(self, incident: Incident) -> str:
        return badge(incident.state, INCIDENT_SIGNS)

    @display(description="severity")
    def severity_badge(self, incident: Incident) -> str:
        return badge(incident.severity, SEVERITY_SIGNS)

    @display(description="open cases, orders")
    def keeps(self, incident: Any) -> str:
        if incident.extent is None:
            return "none: it is over"
        cases, orders = incident.extent.open_cases, incident.extent.open_orders
        words = "case" if cases == 1 else "cases", "order" if orders == 1 else "orders"
        return f"{cases:,} {words[0]}, {orders:,} {words[1]}"

    @display(description="since (UTC)")
    def since(self, incident: Incident) -> str:
        until = incident.resolved_at or timezone.now()
        word = "took" if incident.resolved_at else "for"
        return format_html(
            '{}<span class="work-more">{} {}</span>',
            f"{incident.opened_at:%Y-%m-%d %H:%M}",
            word,
            timesince(incident.opened_at, until, depth=1),
        )

    @display(description="who has it")
    def whose(self, incident: Incident) -> str:
        has = incident.resolved_by or incident.assigned_to or "nobody"
        return format_html('{}<span class="work-more">{}</span>', has, incident.owner_queue)

    # --- its page --------------------------------------------------------------------------------

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        context |= _page_of(request, context["original"])
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    def get_urls(self) -> list[Any]:
        take = self.admin_site.admin_view(self.take)
        own = path("<int:incident_id>/take/", take, name="fulfillment_incident_take")
        return [own, *super().get_urls()]

    def take(self, request: HttpRequest, incident_id: int) -> HttpResponse:
        """At once, as a case is taken."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not holds_here(request, Action.INCIDENT_ASSIGN):
            raise PermissionDenied(f"You may not do this anywhere: {Action.INCIDENT_ASSIGN}.")
        incident = found_or_404(self, request, str(incident_id))
        wanted = operations.Request(
            action=Action.INCIDENT_ASSIGN,
            subject=f"incident:{incident.pk}",
            reason="I see to it.",
        )
        try:
            done = operations.perform(actor=actor_of(request), request=wanted)
            messages.success(request, done.told)
        except FulfillmentError as error:
            messages.error(request, str(error))
        return redirect("admin:fulfillment_incident_change", incident.pk)


def _page_of(request: HttpRequest, incident: Incident) -> Mapping[str, Any]:
    """All that the template shows. A fixed number of queries."""
    held = held_here(request)
    found = impact.impact_of(incident=incident)
    is_open = incident.state != IncidentState.RESOLVED
    subject = f"incident:{incident.pk}"
    found_possible = operations.possible(subject=subject, held=held, reach=reach_here(request))
    possible = {one.action: one for one in found_possible}
    example = impact.example_of(incident=incident)
    jobs = list(incident.jobs.order_by("-pk")[:_MOST_JOBS])
    done = Operation.objects.filter(subject=subject).order_by("-pk")[:_MOST_DONE]
    return {
        "badges": [
            badge_of(incident.state, INCIDENT_SIGNS),
            badge_of(incident.severity, SEVERITY_SIGNS),
        ],
        "is_open": is_open,
        "lasts": timesince(incident.opened_at, incident.resolved_at or timezone.now(), depth=2),
        "may_take": is_open and not incident.assigned_to and Action.INCIDENT_ASSIGN in possible,
        "buttons": [
            (words, help_of(possible[action]), operate_address(possible[action], subject))
            for action, words in _WORDS.items()
            if action in possible
        ],
        "figures": list(_figures(incident, found)),
        "queues": [
            (queue, number, _cases(incident, owner_queue=queue)) for queue, number in found.queues
        ],
        "example": example,
        "to_find_out": caseload.TO_FIND_OUT[CaseCategory(example.category)] if example else (),
        "jobs": _jobs(jobs),
        "same_before": impact.same_before(incident=incident),
        "fixed_before": caseload.fixed_before(
            fingerprint=incident.fingerprint, before=incident.opened_at
        ),
        "done": [(one, in_words(one.kind)) for one in done],
        "all_cases": list_address(FalloutCase, incident__id__exact=incident.pk),
    }


def _jobs(jobs: Sequence[BulkJob]) -> list[_Job]:
    """The newest first, with its stages; of the others how they ended is enough."""
    return [
        _Job(
            job=job,
            badge=badge_of(job.state, JOB_SIGNS),
            stages=[stage_shown(stage) for stage in bulk.progress_of(job=job).stages]
            if number == 0
            else (),
            is_draft=job.state == BulkState.DRAFT,
        )
        for number, job in enumerate(jobs)
    ]


def _cases(incident: Incident, **more: str) -> str:
    return list_address(FalloutCase, incident__id__exact=incident.pk, **_OPEN, **more)


def _figures(incident: Incident, found: impact.Impact) -> Sequence[Figure]:
    cases = _cases(incident)
    return [
        Figure(
            number=counted(found.cases),
            words="open cases",
            more=f"{found.taken:,} of them taken" if found.taken else "not taken yet",
            address=cases,
            sign="!" if found.cases else "✓",
            tone="trouble" if found.cases else "done",
        ),
        Figure(number=counted(found.orders), words="orders wait", address=cases),
        *(
            Figure(number=f"{amount:,.2f} {currency}", words="revenue waits", address=cases)
            for currency, amount in list(found.revenue.items())[:3]
        ),
        Figure(
            number=counted(found.overdue),
            words="cases overdue",
            more=f"the first is due {found.due_at:%Y-%m-%d %H:%M} UTC" if found.due_at else "",
            address=_cases(incident, due="overdue"),
            sign="⚠" if found.overdue else "",
            tone="failed" if found.overdue else "waiting",
        ),
    ]
