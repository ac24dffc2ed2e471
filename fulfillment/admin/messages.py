"""What came in from target systems, and what leaves for subscribers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.timesince import timesince
from unfold.decorators import display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import held_here, holds_here, reach_here
from fulfillment.admin.operating import Operable, operate_address
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
    signs_of,
)
from fulfillment.definitions.signs import Sign
from fulfillment.models import Delivery, Disposition, InboundEvent, Operation, OutboxEvent
from fulfillment.operations.setting_aside import DismissEvent
from fulfillment.operations.showing import changes
from fulfillment.queries.matches import Match, Sureness, matches

DISPOSITION_SIGNS: Mapping[str, Sign] = {
    Disposition.APPLIED: ("✓", "done"),
    Disposition.REDUNDANT: ("=", "waiting"),
    Disposition.CONFLICTING: ("≠", "trouble"),
    Disposition.UNMATCHED: ("?", "trouble"),
    Disposition.DISMISSED: ("⊘", "waiting"),
}
register_signs(entity="event", signs=DISPOSITION_SIGNS)
_SURE: Mapping[Sureness, Badge] = {
    sureness: Badge(sign=sign, tone=tone, words=sureness.words)
    for sureness, sign, tone in (
        (Sureness.ALMOST_CERTAIN, "●", "done"),
        (Sureness.LIKELY, "◕", "moving"),
        (Sureness.POSSIBLE, "○", "waiting"),
    )
}


@admin.register(InboundEvent)
class InboundEventAdmin(Operable, ReadOnlyAdmin):
    subject_kind = "event"
    change_list_template = "desk/work/event_list.html"
    list_display = ("what", "fate", "age", "may_be_about", "order", "task_link", "received_at")
    list_filter = ("disposition", ("source", NewestValues))
    list_select_related = ("task__fulfillment",)
    list_left_out = ("body", "task__outputs")
    search_fields = ("event_id", "idempotency_key", "task__plan__fulfillment__order_reference")
    search_help_text = "Event id, idempotency key, or the order's reference"
    fieldsets = (
        (
            "On record",
            {
                "classes": ("collapse",),
                "fields": (
                    ("source", "event_id"),
                    ("order", "task_link"),
                    "idempotency_key",
                    "body_text",
                ),
            },
        ),
    )
    readonly_fields = ("order", "task_link", "body_text")
    change_form_outer_before_template = "desk/work/event.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"live_every": 15, **(extra_context or {})})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        event: InboundEvent = context["original"]
        context |= _standing(event, request)
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    @display(description="event")
    def what(self, event: InboundEvent) -> str:
        return f"{event.source}: {event.event_id}"

    @display(description="disposition")
    def fate(self, event: InboundEvent) -> str:
        return badge(event.disposition, DISPOSITION_SIGNS)

    @display(description="unmatched for")
    def age(self, event: InboundEvent) -> str:
        unmatched = event.disposition == Disposition.UNMATCHED
        return timesince(event.received_at, depth=1) if unmatched else "—"

    @display(description="may be about")
    def may_be_about(self, event: InboundEvent) -> str:
        """What was the likeliest when it came in; its page looks anew."""
        if event.disposition != Disposition.UNMATCHED or not event.suggestions:
            return "—"
        first, more = event.suggestions[0], len(event.suggestions) - 1
        also = f" and {more} more" if more else ""
        return f"{first['task']} of {first['order']}{also}"

    @display(description="order")
    def order(self, event: InboundEvent) -> str:
        return order_link(event.task.fulfillment.order_reference) if event.task else "—"

    @display(description="task")
    def task_link(self, event: InboundEvent) -> str:
        return link(event.task, event.task.key if event.task else "")

    @display(description="body, word for word")
    def body_text(self, event: InboundEvent) -> str:
        return pretty(event.body)


def _standing(event: InboundEvent, request: HttpRequest) -> dict[str, Any]:
    """What came in, and what it may be about, each with the way to say so."""
    subject = f"event:{event.pk}"
    may_match = holds_here(request, Action.EVENT_MATCH)
    repair = operations.repair_of(Action.EVENT_MATCH)
    aside = Action.EVENT_DISMISS, Action.EVENT_RESTORE
    possible = operations.possible(
        subject=subject, held=held_here(request) & set(aside), reach=reach_here(request)
    )
    body = event.body if isinstance(event.body, dict) else {"body": event.body}
    return {
        "badge": badge_of(event.disposition, DISPOSITION_SIGNS),
        "is_unmatched": event.disposition == Disposition.UNMATCHED,
        "since": timesince(event.received_at, depth=1),
        "said": changes(before={}, after=body),
        "may_match": may_match,
        "by_hand": operate_address(repair, subject),
        "aside": next((operate_address(one, subject) for one in possible), ""),
        "set_aside": _set_aside(subject) if event.disposition == Disposition.DISMISSED else None,
        "suggestions": [
            _Suggestion(
                match=one,
                badge=_SURE[one.sureness],
                state=badge_of(one.state, signs_of("task")) if one.state else None,
                # Whoever takes it over has found out that it is so; where from, is said already.
                address=operate_address(
                    repair, subject, evidence=" ".join(one.why), task=str(one.task_id)
                )
                if may_match and one.key
                else "",
            )
            for one in matches(event=event)
        ],
    }


def _set_aside(subject: str) -> Operation | None:
    """By whom, when and why."""
    done = Operation.objects.filter(subject=subject, kind=DismissEvent.kind)
    return done.order_by("-pk").first()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Suggestion:
    match: Match
    badge: Badge
    state: Badge | None
    address: str
    """Of the form, filled in with it; empty: it can't be matched with it."""


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
