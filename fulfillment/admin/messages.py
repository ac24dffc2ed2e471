"""What came in from target systems, and what leaves for subscribers."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timesince
from unfold.decorators import display

from fulfillment.admin.operating import Operable
from fulfillment.admin.reading import (
    NewestValues,
    ReadOnlyAdmin,
    badge,
    link,
    list_link,
    order_link,
    pretty,
)
from fulfillment.definitions.signs import Sign
from fulfillment.models import Delivery, Disposition, InboundEvent, OutboxEvent, Task

DISPOSITION_SIGNS: Mapping[str, Sign] = {
    Disposition.APPLIED: ("✓", "done"),
    Disposition.REDUNDANT: ("=", "waiting"),
    Disposition.CONFLICTING: ("≠", "trouble"),
    Disposition.UNMATCHED: ("?", "trouble"),
}


@admin.register(InboundEvent)
class InboundEventAdmin(Operable, ReadOnlyAdmin):
    subject_kind = "event"
    list_display = ("id", "source", "event_id", "fate", "age", "order", "task_link", "received_at")
    list_filter = ("disposition", ("source", NewestValues))
    list_select_related = ("task__fulfillment",)
    list_left_out = ("body", "task__outputs")
    search_fields = ("event_id", "idempotency_key", "task__plan__fulfillment__order_reference")
    search_help_text = "Event id, idempotency key, or the order's reference"
    fields = (
        ("source", "event_id"),
        ("fate", "received_at"),
        ("order", "task_link"),
        "idempotency_key",
        "may_be_about",
        "body_text",
    )
    readonly_fields = ("fate", "order", "task_link", "may_be_about", "body_text")

    @display(description="disposition")
    def fate(self, event: InboundEvent) -> str:
        return badge(event.disposition, DISPOSITION_SIGNS)

    @display(description="unmatched for")
    def age(self, event: InboundEvent) -> str:
        unmatched = event.disposition == Disposition.UNMATCHED
        return timesince(event.received_at, depth=1) if unmatched else "—"

    @display(description="may be about")
    def may_be_about(self, event: InboundEvent) -> str:
        """Suggestions of the engine, each with its reason; a person decides."""
        found = Task.objects.in_bulk([one["task_id"] for one in event.suggestions])
        rows = format_html_join(
            "",
            '<li class="desk-suggestion">{} · {}: {}</li>',
            (
                (
                    link(found.get(one["task_id"]), one["task"]),
                    order_link(one["order"]),
                    one["why"],
                )
                for one in event.suggestions
            ),
        )
        return format_html("<ul>{}</ul>", rows) if rows else "—"

    @display(description="order")
    def order(self, event: InboundEvent) -> str:
        return order_link(event.task.fulfillment.order_reference) if event.task else "—"

    @display(description="task")
    def task_link(self, event: InboundEvent) -> str:
        return link(event.task, event.task.key if event.task else "")

    @display(description="body")
    def body_text(self, event: InboundEvent) -> str:
        return pretty(event.body)


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    list_display = ("id", "order", "event_type", "occurred_at", "published_at")
    list_filter = (("event_type", NewestValues), ("published_at", admin.EmptyFieldListFilter))
    list_select_related = ("fulfillment",)
    list_left_out = ("payload",)
    search_fields = ("fulfillment__order_reference",)
    search_help_text = "The order's reference"
    fields = (
        ("order", "event_type"),
        ("occurred_at", "published_at"),
        ("plan_id", "task_id"),
        ("causation_id", "deliveries"),
        "payload_text",
    )
    readonly_fields = ("order", "deliveries", "payload_text")

    @display(description="order")
    def order(self, event: OutboxEvent) -> str:
        return order_link(event.fulfillment.order_reference)

    @display(description="deliveries")
    def deliveries(self, event: OutboxEvent) -> str:
        return list_link("what became of it", model=Delivery, event__id__exact=event.pk)

    @display(description="payload")
    def payload_text(self, event: OutboxEvent) -> str:
        return pretty(event.payload)
