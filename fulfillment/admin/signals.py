"""Milestones and signals from outside, and whom they have let go on."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from unfold.decorators import display

from fulfillment.admin.reading import (
    NewestValues,
    ReadOnlyAdmin,
    badge,
    link,
    newest,
    order_link,
    pretty,
)
from fulfillment.definitions.signs import TASK_SIGNS
from fulfillment.engine.tasks.waits import awaits
from fulfillment.models import Signal, Task
from fulfillment.states import TaskState

_SHOWN = 100


@admin.register(Signal)
class SignalAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", "subject", "source", "told", "occurred_at", "received_at")
    list_filter = ("applied", ("name", NewestValues), ("source", NewestValues))
    list_left_out = ("payload",)
    search_fields = ("id", "subject", "event_id")
    search_help_text = "Its number, the whole subject (order:7/WEB-1, key:7/INV-3), the event's id"
    fields = (
        ("name", "subject"),
        ("source", "event_id"),
        ("occurred_at", "received_at"),
        "told",
        "tasks",
        "payload_text",
    )
    readonly_fields = ("told", "tasks", "payload_text")

    def searches(self, term: str) -> Any:
        yield lambda: Signal.objects.filter(pk=term)
        yield lambda: Signal.objects.filter(subject=term)
        yield lambda: newest(Signal).filter(event_id=term)

    @display(description="told to whoever waited", boolean=True)
    def told(self, signal: Signal) -> bool:
        return signal.applied

    @display(description="payload")
    def payload_text(self, signal: Signal) -> str:
        return pretty(signal.payload)

    @display(description="tasks that wait for it, or did")
    def tasks(self, signal: Signal) -> str:
        """Those that wait have an index; of those that have ended, the newest are looked at."""
        awaited = Task.objects.filter(awaits=awaits(name=signal.name, subject=signal.subject))
        waiting = awaited.filter(state__in=[TaskState.ACCEPTED, TaskState.AWAITING_MANUAL])
        found: set[int] = set()
        for tasks in (waiting, newest(Task) & awaited):
            found.update(tasks.order_by("-pk").values_list("pk", flat=True)[:_SHOWN])
        rows = (
            Task.objects.filter(pk__in=found)
            .select_related("fulfillment")
            .defer("outputs")
            .order_by("-pk")[:_SHOWN]
        )
        lines = (
            (
                link(task),
                order_link(task.fulfillment.order_reference),
                badge(task.state, TASK_SIGNS),
            )
            for task in rows
        )
        return format_html_join(mark_safe("<br>"), "{} of {} {}", lines) or "none"
