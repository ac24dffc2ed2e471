"""The audit trail: every state change, who made it and why."""

from __future__ import annotations

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display

from fulfillment.admin.reading import (
    NewestValues,
    ReadOnlyAdmin,
    badge,
    list_link,
    order_link,
    pretty,
    signs_of,
)
from fulfillment.models import Transition

_PAGES = {
    "task": "admin:fulfillment_task_change",
    "plan": "admin:fulfillment_plan_change",
    "hold": "admin:fulfillment_hold_change",
    "case": "admin:fulfillment_falloutcase_change",
}


def trail_link(text: str, *, fulfillment_id: int, entity: str, entity_id: int) -> str:
    """A link to what has happened to one plan, task, hold or case."""
    return list_link(
        text,
        model=Transition,
        fulfillment__id__exact=fulfillment_id,
        entity=entity,
        entity_id=entity_id,
    )


@admin.register(Transition)
class TransitionAdmin(ReadOnlyAdmin):
    list_display = (
        "occurred_at",
        "order",
        "sequence",
        "subject",
        "before",
        "after",
        "cause",
        "actor",
    )
    list_filter = (("entity", NewestValues), ("name", NewestValues))
    also_filtered = ("entity_id",)
    list_select_related = ("fulfillment",)
    list_left_out = ("details",)
    search_fields = ("fulfillment__order_reference",)
    search_help_text = "The order's reference"
    fields = (
        ("order", "sequence"),
        ("subject", "occurred_at"),
        ("before", "after"),
        ("name", "actor"),
        "cause",
        "details_text",
        "hash",
    )
    readonly_fields = ("order", "subject", "before", "after", "details_text")

    @display(description="order")
    def order(self, transition: Transition) -> str:
        return order_link(transition.fulfillment.order_reference)

    @display(description="what")
    def subject(self, transition: Transition) -> str:
        name = f"{transition.entity} {transition.entity_id}"
        page = _PAGES.get(transition.entity)
        if page is None:
            return name
        address = reverse(page, args=[transition.entity_id])
        return format_html('<a class="desk-link" href="{}">{}</a>', address, name)

    @display(description="from")
    def before(self, transition: Transition) -> str:
        if not transition.from_state:
            return "—"
        return badge(transition.from_state, signs_of(transition.entity))

    @display(description="to")
    def after(self, transition: Transition) -> str:
        return badge(transition.to_state, signs_of(transition.entity))

    @display(description="details")
    def details_text(self, transition: Transition) -> str:
        return pretty(transition.details)
