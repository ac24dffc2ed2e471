"""Requests to cancel orders: what was asked for, and what became of it."""

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
from oms.models import CancellationRequest, CancellationState

CANCELLATION_SIGNS: Mapping[CancellationState, Sign] = {
    CancellationState.ASSESSING: ("◔", "moving"),
    CancellationState.DENIED: ("✗", "failed"),
    CancellationState.UNDOING: ("↶", "moving"),
    CancellationState.DONE: ("⊘", "done"),
}
register_signs(entity="cancellation", signs=CANCELLATION_SIGNS)


@admin.register(CancellationRequest)
class CancellationAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "order_link",
        "number",
        "state_badge",
        "requested_by",
        "requested_at",
        "decided_at",
        "finished_at",
    )
    list_filter = ("state",)
    also_filtered = ("finished_at",)
    list_select_related = ("order",)
    list_left_out = ("quote", "refusals")
    search_fields = ("order__reference", "order__external_id")
    search_help_text = "The order's reference or external id"
    fields = (
        ("order_link", "number"),
        ("state_badge", "order_state_before"),
        ("requested_by", "requested_at"),
        ("decided_at", "finished_at"),
        "reason",
        "plan_link",
        "refusals_text",
        "quote_text",
    )
    readonly_fields = ("order_link", "state_badge", "plan_link", "refusals_text", "quote_text")

    @display(description="state")
    def state_badge(self, row: CancellationRequest) -> str:
        return badge(row.state, CANCELLATION_SIGNS)

    @display(description="order")
    def order_link(self, row: CancellationRequest) -> str:
        return link(row.order)

    @display(description="undone by")
    def plan_link(self, row: CancellationRequest) -> str:
        return link(row.plan) if row.plan is not None else "—"

    @display(description="why it was denied")
    def refusals_text(self, row: CancellationRequest) -> str:
        return pretty(row.refusals or None)

    @display(description="what it undoes, and at what cost")
    def quote_text(self, row: CancellationRequest) -> str:
        return pretty(row.quote or None)
