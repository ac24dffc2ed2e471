"""Incidents, the causes that many cases have in common; and the rules about who gets which."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib import admin
from django.db.models import F
from unfold.decorators import display

from fulfillment import caseload
from fulfillment.admin.cases import SEVERITY_SIGNS
from fulfillment.admin.operating import Operable
from fulfillment.admin.reading import ReadOnlyAdmin, badge, list_link, register_signs
from fulfillment.definitions.signs import Sign
from fulfillment.models import BulkJob, FalloutCase, Incident, IncidentState, Operation, RoutingRule

INCIDENT_SIGNS: Mapping[str, Sign] = {
    IncidentState.OPEN: ("!", "trouble"),
    IncidentState.RELEASING: ("●", "moving"),
    IncidentState.RESOLVED: ("✓", "done"),
}
register_signs(entity="incident", signs=INCIDENT_SIGNS)


@admin.register(Incident)
class IncidentAdmin(Operable, ReadOnlyAdmin):
    subject_kind = "incident"
    list_display = (
        "id",
        "state_badge",
        "severity_badge",
        "title",
        "target",
        "owner_queue",
        "assigned_to",
        "opened_at",
        "resolved_at",
    )
    list_filter = (("resolved_at", admin.EmptyFieldListFilter), "state", "severity", "target")
    # As an index has them.
    ordering = (F("resolved_at").desc(nulls_first=True), "-id")
    search_fields = ("id",)
    search_help_text = "Incident number"
    fields = (
        "title",
        ("state_badge", "severity_badge"),
        ("target", "action"),
        "reason_code",
        ("owner_queue", "assigned_to"),
        ("open_cases", "all_cases"),
        "orders",
        ("opened_at", "releasing_since"),
        ("resolved_at", "resolved_by"),
        "cause",
        "fix",
        "jobs",
        "fixed_before",
        "done",
    )
    readonly_fields = (
        "jobs",
        "state_badge",
        "severity_badge",
        "open_cases",
        "all_cases",
        "orders",
        "fixed_before",
        "done",
    )

    @display(description="state")
    def state_badge(self, incident: Incident) -> str:
        return badge(incident.state, INCIDENT_SIGNS)

    @display(description="severity")
    def severity_badge(self, incident: Incident) -> str:
        return badge(incident.severity, SEVERITY_SIGNS)

    @display(description="open cases")
    def open_cases(self, incident: Incident) -> str:
        return str(caseload.extents([incident])[incident.pk].open_cases)

    @display(description="released by")
    def jobs(self, incident: Incident) -> str:
        return list_link(
            "bulk jobs that release it", model=BulkJob, incident__id__exact=incident.pk
        )

    @display(description="its cases")
    def all_cases(self, incident: Incident) -> str:
        return list_link("all of its cases", model=FalloutCase, incident__id__exact=incident.pk)

    @display(description="orders")
    def orders(self, incident: Incident) -> str:
        return str(caseload.extents([incident])[incident.pk].orders)

    @display(description="the same before")
    def fixed_before(self, incident: Incident) -> str:
        found = caseload.fixed_before(fingerprint=incident.fingerprint)
        told = [
            f"case {one.case_id}, after {one.took}, by {one.resolved_by}: {one.resolution}"
            for one in found
        ]
        return "; ".join(told) or "—"

    @display(description="log")
    def done(self, incident: Incident) -> str:
        return list_link(
            "what was done about it", model=Operation, subject__exact=f"incident:{incident.pk}"
        )


@admin.register(RoutingRule)
class RoutingRuleAdmin(Operable, ReadOnlyAdmin):
    """Read here; written by the operation `routing.edit`, which keeps a record."""

    subject_kind = "routing"

    list_display = (
        "name",
        "position",
        "category",
        "target",
        "action",
        "reason_code",
        "owner_queue",
        "severity",
        "sla",
        "calendar",
        "escalation_queue",
    )
    ordering = ("position", "name")
    search_fields = ("name",)
    search_help_text = "Name of a rule"
    fields = (
        ("name", "position"),
        ("category", "reason_code"),
        ("target", "action"),
        ("owner_queue", "role"),
        ("severity", "escalation_queue"),
        ("sla", "calendar"),
        "updated_at",
    )
