"""Fallout: what can't go on by itself, the first due first, and a page for each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.html import format_html
from unfold.decorators import display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import actor_of, came_from, found_or_404, holds_here, reach_here
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.case_page import page_of
from fulfillment.admin.case_signs import CASE_SIGNS, SEVERITY_SIGNS, due_badge, time_left
from fulfillment.admin.fallout import JoinedFilter, WhoseFilter, queue_of
from fulfillment.admin.figures import CaseDueFilter
from fulfillment.admin.reading import (
    NewestValues,
    ReadOnlyAdmin,
    badge,
    link,
    list_link,
    pretty,
    show_badge,
)
from fulfillment.authority.context import Context
from fulfillment.errors import FulfillmentError
from fulfillment.models import CaseState, FalloutCase

__all__ = ["SEVERITY_SIGNS", "FalloutCaseAdmin", "due_badge", "order_cases_link"]
_TAKEN = "I see to it."
_GIVEN_BACK = "I don't get to it."


@admin.register(FalloutCase)
class FalloutCaseAdmin(Bulkable, ReadOnlyAdmin):
    bulk_of = "case"
    change_list_template = "desk/fallout/queue.html"
    list_display = ("row", "due", "severity_badge", "costs", "joined", "whose")
    list_filter = (
        WhoseFilter,
        CaseDueFilter,
        JoinedFilter,
        ("resolved_at", admin.EmptyFieldListFilter),
        "state",
        "category",
        "severity",
        ("owner_queue", NewestValues),
        ("assigned_to", NewestValues),
    )
    also_filtered = ("target", "action", "reason_code", "revenue_currency", "opened_at")
    list_select_related = ("fulfillment", "incident")
    list_left_out = ("facts", "repair_options", "revenue", "explanation")
    # Open ones first, by the time that is left; then the resolved ones, the latest first: as an
    # index has them.
    ordering = (F("resolved_at").desc(nulls_first=True), "sla_due_at", "-id")
    search_fields = ("id", "fulfillment__order_reference")
    search_help_text = "Case number, or the order's reference"
    fieldsets = (
        (
            "On record: its routing and its times",
            {
                "classes": ("collapse",),
                "fields": (
                    ("opened_at", "opened_by"),
                    ("category", "reason_code"),
                    ("target", "action"),
                    ("plan_link", "incident_link"),
                    ("owner_queue", "role"),
                    ("assigned_to", "assigned_at"),
                    ("sla_within", "sla_calendar"),
                    ("escalation_level", "escalated_at"),
                    ("customer_awaited_since", "customer_asked"),
                    ("resolved_at", "resolved_by"),
                    "revenue_text",
                ),
            },
        ),
    )
    readonly_fields = ("plan_link", "incident_link", "revenue_text")
    change_form_outer_before_template = "desk/fallout/case.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        shown = {"queue": queue_of(request), "live_every": 15}
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """With what whoever looks may do to each."""
        found = super().get_changelist_instance(request)
        rows = found.result_list = list(found.result_list)
        nobodys = [one.pk for one in rows if one.state == CaseState.OPEN and not one.assigned_to]
        may_take = _may_take(request, nobodys)
        for case in rows:
            is_open = case.state != CaseState.RESOLVED
            case.may_take = case.pk in may_take
            case.is_mine = is_open and case.assigned_to == request.user.get_username()
        return found

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        case: FalloutCase = context["original"]
        context |= page_of(case=case, actor=actor_of(request), reach=reach_here(request))
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    # --- the list --------------------------------------------------------------------------------

    @display(description="what happened")
    def row(self, case: FalloutCase) -> str:
        return format_html(
            '<span class="work-title">{}</span><span class="work-more">case {} · {}</span>',
            case.title,
            case.pk,
            case.reason_code,
        )

    @display(description="time left")
    def due(self, case: FalloutCase) -> str:
        late, told = due_badge(case), time_left(case)
        return format_html("{} {}", show_badge(late), told) if late else told

    @display(description="severity")
    def severity_badge(self, case: FalloutCase) -> str:
        return badge(case.severity, SEVERITY_SIGNS)

    @display(description="revenue that waits")
    def costs(self, case: FalloutCase) -> str:
        if case.revenue_amount is None:
            return case.revenue_impact or "—"
        return f"{case.revenue_amount:,.2f} {case.revenue_currency}"

    @display(description="incident")
    def joined(self, case: FalloutCase) -> str:
        return link(case.incident, f"no. {case.incident_id}")

    @display(description="who has it")
    def whose(self, case: Any) -> str:
        state = badge(case.state, CASE_SIGNS)
        if case.may_take:
            return format_html(
                '{} <button type="submit" class="desk-button work-small work-quiet" '
                'formaction="{}" aria-label="Take case {}">Take it</button>'
                '<span class="work-more">{}</span>',
                state,
                reverse("admin:fulfillment_falloutcase_take", args=[case.pk]),
                case.pk,
                case.owner_queue,
            )
        who = "you" if case.is_mine else case.resolved_by or case.assigned_to or "nobody"
        return format_html('{}<span class="work-more">{} · {}</span>', state, who, case.owner_queue)

    # --- the page --------------------------------------------------------------------------------

    @display(description="plan")
    def plan_link(self, case: FalloutCase) -> str:
        return link(case.plan)

    @display(description="incident")
    def incident_link(self, case: FalloutCase) -> str:
        return link(case.incident)

    @display(description="revenue by item")
    def revenue_text(self, case: FalloutCase) -> str:
        return pretty(case.revenue)

    # --- taking it -------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        name = "fulfillment_falloutcase"
        return [
            path("<int:case_id>/take/", view(self.take), name=f"{name}_take"),
            path("<int:case_id>/give-back/", view(self.give_back), name=f"{name}_give_back"),
            *super().get_urls(),
        ]

    def take(self, request: HttpRequest, case_id: int) -> HttpResponse:
        """At once: it harms nobody, and is given back as fast."""
        return self._assign(request, case_id, reason=_TAKEN)

    def give_back(self, request: HttpRequest, case_id: int) -> HttpResponse:
        return self._assign(request, case_id, reason=_GIVEN_BACK, release=True)

    def _assign(
        self, request: HttpRequest, case_id: int, *, reason: str, **parameters: bool
    ) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not holds_here(request, Action.CASE_ASSIGN):
            raise PermissionDenied(f"You may not do this anywhere: {Action.CASE_ASSIGN}.")
        case = found_or_404(self, request, str(case_id))
        wanted = operations.Request(
            action=Action.CASE_ASSIGN,
            subject=f"case:{case.pk}",
            reason=reason,
            parameters=parameters,
        )
        try:
            done = operations.perform(actor=actor_of(request), request=wanted)
            messages.success(request, done.told)
        except FulfillmentError as error:
            messages.error(request, str(error))
        page = reverse("admin:fulfillment_falloutcase_change", args=[case.pk])
        return redirect(came_from(request) or page)


def _may_take(request: HttpRequest, pks: Sequence[int]) -> Collection[int]:
    """Those of these that whoever looks may take. Where each is, is read only for those whose
    authority ends somewhere."""
    if not holds_here(request, Action.CASE_ASSIGN):
        return ()
    reach, anywhere = reach_here(request), Context(subject="")
    if reach.answer(action=Action.CASE_ASSIGN, context=anywhere)[0]:
        return pks
    found = operations.possible_among(about="case", pks=pks, held={Action.CASE_ASSIGN}, reach=reach)
    return {pk for pk, repairs in found.items() if repairs}


def order_cases_link(fulfillment_id: int) -> str:
    """Every case of an order, the closed ones too."""
    return list_link("all of its cases", model=FalloutCase, fulfillment__id__exact=fulfillment_id)
