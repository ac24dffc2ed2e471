"""Fallout: what can't go on by itself, with everything that a person needs to decide."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget

from fulfillment import caseload, operations
from fulfillment.actions import Action
from fulfillment.admin.asking import actor_of, ask, attempt, found_or_404, holds_here
from fulfillment.admin.audit import trail_link
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.figures import DueFilter
from fulfillment.admin.operating import Operable
from fulfillment.admin.reading import (
    Badge,
    NewestValues,
    ReadOnlyAdmin,
    badge,
    badge_of,
    link,
    list_link,
    order_link,
    pretty,
    register_signs,
    show_badge,
)
from fulfillment.definitions.signs import Sign, in_words
from fulfillment.errors import ReasonMissing
from fulfillment.models import CaseCategory, CaseState, FalloutCase, Severity

CASE_SIGNS: Mapping[str, Sign] = {
    CaseState.OPEN: ("!", "trouble"),
    CaseState.ASSIGNED: ("●", "moving"),
    CaseState.AWAITING_CUSTOMER: ("…", "waiting"),
    CaseState.RESOLVED: ("✓", "done"),
}
SEVERITY_SIGNS: Mapping[str, Sign] = {
    Severity.LOW: ("▽", "waiting"),
    Severity.MEDIUM: ("◇", "trouble"),
    Severity.HIGH: ("▲", "failed"),
}
register_signs(entity="case", signs=CASE_SIGNS)
_EVIDENCE = ("number", "purpose", "outcome", "code", "message", "started_at", "worker")


def due_badge(case: FalloutCase) -> Badge | None:
    """That somebody should have looked at it by now; None while there is time, or it is closed."""
    if caseload.is_overdue(case):
        return Badge(sign="⚠", tone="failed", words="overdue")
    return None


class ResolutionForm(forms.Form):
    resolution = forms.CharField(
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text="What was found and what was done; it stays with the case and in the audit "
        "trail.",
    )


@admin.register(FalloutCase)
class FalloutCaseAdmin(Bulkable, Operable, ReadOnlyAdmin):
    bulk_of = "case"
    subject_kind = "case"
    list_display = (
        "id",
        "state_badge",
        "severity_badge",
        "due",
        "title",
        "category_words",
        "owner_queue",
        "assigned_to",
        "order",
        "age",
    )
    list_filter = (
        ("resolved_at", admin.EmptyFieldListFilter),
        DueFilter,
        "state",
        "category",
        "severity",
        ("owner_queue", NewestValues),
        ("assigned_to", NewestValues),
    )
    list_select_related = ("fulfillment",)
    list_left_out = ("facts", "repair_options", "revenue")
    # Open ones first, by the time that is left; then the resolved ones, the latest first: as an
    # index has them.
    ordering = (F("resolved_at").desc(nulls_first=True), "sla_due_at", "-id")
    search_fields = ("id", "fulfillment__order_reference")
    search_help_text = "Case number, or the order's reference"
    fields = (
        ("order", "task_link"),
        ("plan_link", "commands"),
        ("opened_at", "opened_by"),
        ("category_words", "reason_code"),
        ("target", "action"),
        "incident_link",
        ("owner_queue", "role"),
        ("assigned_to", "assigned_at"),
        ("sla_within", "sla_calendar"),
        ("escalation_level", "escalated_at"),
        ("customer_awaited_since", "customer_asked"),
        ("resolved_at", "resolved_by"),
        "resolution",
        "transitions",
    )
    readonly_fields = (
        "order",
        "task_link",
        "plan_link",
        "commands",
        "category_words",
        "incident_link",
        "transitions",
    )
    change_form_outer_before_template = "desk/case.html"
    actions_detail = ("close",)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        case: FalloutCase = context["original"]
        facts = dict(case.facts)
        evidence = facts.pop("evidence", None) or []
        context["badges"] = [
            badge_of(case.state, CASE_SIGNS),
            badge_of(case.severity, SEVERITY_SIGNS),
            *filter(None, [due_badge(case)]),
        ]
        context["tasks"] = [
            (link(one.task), one.task.state, one.explanation, one.left_at, one.left_because)
            for one in caseload.tasks_of(case)
        ]
        context["to_find_out"] = caseload.TO_FIND_OUT[CaseCategory(case.category)]
        context["options"] = [
            (action.value, action.words) for action in caseload.options([case]).get(case.pk, ())
        ]
        context["fixed_before"] = caseload.fixed_before(
            fingerprint=case.fingerprint, besides=case.pk
        )
        context["evidence_columns"] = [in_words(name) for name in _EVIDENCE]
        context["evidence"] = [[_told(one.get(name)) for name in _EVIDENCE] for one in evidence]
        context["facts"] = [(in_words(name), _shown(value)) for name, value in facts.items()]
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    @display(description="state")
    def state_badge(self, case: FalloutCase) -> str:
        return badge(case.state, CASE_SIGNS)

    @display(description="severity")
    def severity_badge(self, case: FalloutCase) -> str:
        return badge(case.severity, SEVERITY_SIGNS)

    @display(description="due (UTC)")
    def due(self, case: FalloutCase) -> str:
        at = f"{case.sla_due_at:%Y-%m-%d %H:%M}"
        late = due_badge(case)
        return format_html("{} {}", show_badge(late), at) if late else at

    @display(description="kind")
    def category_words(self, case: FalloutCase) -> str:
        return in_words(case.category)

    @display(description="order")
    def order(self, case: FalloutCase) -> str:
        return order_link(case.fulfillment.order_reference) if case.fulfillment else "—"

    @display(description="age")
    def age(self, case: FalloutCase) -> str:
        return timesince(case.opened_at, case.resolved_at or timezone.now(), depth=1)

    @display(description="task")
    def task_link(self, case: FalloutCase) -> str:
        return link(case.task)

    @display(description="plan")
    def plan_link(self, case: FalloutCase) -> str:
        return link(case.plan)

    @display(description="incident")
    def incident_link(self, case: FalloutCase) -> str:
        return link(case.incident)

    @display(description="commands")
    def commands(self, case: FalloutCase) -> str:
        newest = case.task.commands.order_by("-revision").first() if case.task else None
        return link(newest, "what was sent, and every attempt") if newest else "—"

    @display(description="audit trail")
    def transitions(self, case: FalloutCase) -> str:
        if case.fulfillment_id is None:
            return "—"
        return trail_link(
            "what has happened to this case",
            fulfillment_id=case.fulfillment_id,
            entity="case",
            entity_id=case.pk,
        )

    # --- closing ---------------------------------------------------------------------------------

    def has_close_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.CASE_CLOSE)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        case = self.get_object(request, object_id)
        found = super().get_actions_detail(request, object_id)
        return list(found) if case and case.state != CaseState.RESOLVED else []

    @action(description="Close the case", url_path="close", permissions=["close"], icon="task_alt")
    def close(self, request: HttpRequest, object_id: str) -> HttpResponse:
        case = found_or_404(self, request, object_id)
        page = reverse("admin:fulfillment_falloutcase_change", args=[case.pk])
        form = ResolutionForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            resolution = form.cleaned_data["resolution"]
            done = attempt(
                form,
                lambda: operations.perform(
                    actor=actor_of(request),
                    request=operations.Request(
                        action=Action.CASE_CLOSE, subject=f"case:{case.pk}", reason=resolution
                    ),
                ),
                fields={ReasonMissing: "resolution"},
            )
            if done is not None:
                self.message_user(request, done.told)
                return redirect(page)
        return ask(
            self,
            request,
            form=form,
            title=f"Close case {case.pk}",
            told=f"{case.title}. A case closes by itself as soon as its task gets on. Closing it "
            "by hand changes nothing about the order: when that goes on being stuck, a new case "
            "is opened.",
            button="Close it",
            back=page,
        )


def _told(value: Any) -> str:
    if value is None:
        return ""
    try:
        return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M:%S}"
    except (TypeError, ValueError):
        return str(value)


def _shown(value: Any) -> str:
    return pretty(value) if isinstance(value, dict | list) else str(value)


def order_cases_link(fulfillment_id: int) -> str:
    """Every case of an order, the closed ones too."""
    return list_link("all of its cases", model=FalloutCase, fulfillment__id__exact=fulfillment_id)
