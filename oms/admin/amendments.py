"""Requests to amend orders, and what orders were before."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib import admin
from unfold.decorators import display

from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    badge,
    link,
    pretty,
    register_signs,
)
from fulfillment.definitions.signs import Sign
from oms.models import AmendmentRequest, AmendmentState, OrderRevision

AMENDMENT_SIGNS: Mapping[AmendmentState, Sign] = {
    AmendmentState.ASSESSING: ("◔", "moving"),
    AmendmentState.APPLIED: ("✓", "done"),
    AmendmentState.DENIED: ("✗", "failed"),
    AmendmentState.SUPERSEDED: ("⊘", "waiting"),
    AmendmentState.WAITING_FOR_COMPLETION: ("◔", "waiting"),
    AmendmentState.CHANGE_ORDERED: ("✓", "done"),
}
register_signs(entity="amendment", signs=AMENDMENT_SIGNS)


@admin.register(AmendmentRequest)
class AmendmentAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "order_link",
        "number",
        "version",
        "state_badge",
        "mode",
        "requested_by",
        "requested_at",
        "decided_at",
    )
    list_filter = ("state", "mode")
    list_select_related = ("order",)
    list_left_out = ("document", "assessment", "refusals")
    search_fields = ("order__reference", "order__external_id")
    search_help_text = "The order's reference or external id"
    fields = (
        ("order_link", "number"),
        ("state_badge", "version"),
        ("mode", "chosen"),
        ("requested_by", "requested_at"),
        ("decided_at", "finished_at"),
        "reason",
        "change_link",
        "refusals_text",
        "difference_text",
        "assessment_text",
        "document_text",
    )
    readonly_fields = (
        *("order_link", "state_badge", "change_link", "refusals_text"),
        *("difference_text", "assessment_text", "document_text"),
    )

    @display(description="state")
    def state_badge(self, row: AmendmentRequest) -> str:
        return badge(row.state, AMENDMENT_SIGNS)

    @display(description="order")
    def order_link(self, row: AmendmentRequest) -> str:
        return link(row.order)

    @display(description="change order")
    def change_link(self, row: AmendmentRequest) -> str:
        return link(row.change_order) if row.change_order is not None else "—"

    @display(description="why it was denied")
    def refusals_text(self, row: AmendmentRequest) -> str:
        return pretty(row.refusals or None)

    @display(description="what is new")
    def difference_text(self, row: AmendmentRequest) -> str:
        return pretty(row.difference or None)

    @display(description="what becomes of each task, and what it costs")
    def assessment_text(self, row: AmendmentRequest) -> str:
        return pretty(row.assessment or None)

    @display(description="the revised order")
    def document_text(self, row: AmendmentRequest) -> str:
        return pretty(row.document)


@admin.register(OrderRevision)
class RevisionAdmin(ReadOnlyAdmin):
    """Whole orders as they were; pages of orders say what each has changed."""

    list_display = ("id", "order_link", "version", "replaced_at")
    list_select_related = ("order",)
    list_left_out = ("document",)
    search_fields = ("order__reference", "order__external_id")
    search_help_text = "The order's reference or external id"
    fields = (("order_link", "version"), "replaced_at", "document_text")
    readonly_fields = ("order_link", "document_text")

    @display(description="order")
    def order_link(self, row: OrderRevision) -> str:
        return link(row.order)

    @display(description="the order as it was")
    def document_text(self, row: OrderRevision) -> str:
        return pretty(row.document)
