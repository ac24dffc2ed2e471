"""What was asked of target systems: commands, and every attempt at them."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib import admin
from unfold.decorators import display

from adapters.contract import OutcomeKind
from fulfillment.admin.audit import trail_link
from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    ReadOnlyInline,
    badge,
    link,
    order_link,
    pretty,
)
from fulfillment.definitions.signs import Sign
from fulfillment.models import Attempt, Command

_UNDER_WAY = "UNDER_WAY"
OUTCOME_SIGNS: Mapping[str, Sign] = {
    _UNDER_WAY: ("◑", "moving"),
    OutcomeKind.SUCCEEDED: ("✓", "done"),
    OutcomeKind.ACCEPTED: ("◕", "moving"),
    OutcomeKind.REJECTED: ("✗", "failed"),
    OutcomeKind.FAILED: ("↻", "trouble"),
    OutcomeKind.UNKNOWN: ("?", "trouble"),
    OutcomeKind.NOT_FOUND: ("∅", "waiting"),
}


class AttemptInline(ReadOnlyInline):
    model = Attempt
    fields = ("row", "purpose", "outcome_badge", "code", "message", "started_at", "finished_at")
    readonly_fields = fields
    ordering = ("number",)

    @display(description="outcome")
    def outcome_badge(self, attempt: Attempt) -> str:
        return badge(attempt.outcome or _UNDER_WAY, OUTCOME_SIGNS)


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin):
    list_display = ("id", "order", "task_link", "target", "action", "revision", "created_at")
    list_filter = ("target",)
    list_select_related = ("fulfillment", "task", "target")
    list_left_out = ("payload", "task__outputs")
    search_fields = ("idempotency_key", "task__plan__fulfillment__order_reference", "id")
    search_help_text = "Command number, idempotency key, or the order's reference"
    fields = (
        ("order", "task_link"),
        ("target", "action"),
        ("revision", "created_at"),
        "idempotency_key",
        "payload_text",
    )
    readonly_fields = ("order", "task_link", "payload_text")
    inlines = (AttemptInline,)

    @display(description="order")
    def order(self, command: Command) -> str:
        return order_link(command.fulfillment.order_reference)

    @display(description="task")
    def task_link(self, command: Command) -> str:
        return link(command.task, command.task.key)

    @display(description="payload")
    def payload_text(self, command: Command) -> str:
        return pretty(command.payload)


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "order",
        "task_link",
        "number",
        "purpose",
        "outcome_badge",
        "code",
        "started_at",
        "finished_at",
        "worker",
    )
    list_filter = (
        "purpose",
        "outcome",
        "command__target",
        ("finished_at", admin.EmptyFieldListFilter),
    )
    list_select_related = ("fulfillment", "task", "command")
    list_left_out = ("task__outputs", "command__payload")
    search_fields = (
        "command__idempotency_key",
        "command__task__plan__fulfillment__order_reference",
    )
    search_help_text = "Idempotency key, or the order's reference"
    fields = (
        ("order", "task_link"),
        ("command_link", "number"),
        ("purpose", "worker"),
        ("started_at", "lease_expires_at"),
        ("finished_at", "outcome_badge"),
        "code",
        "message",
        "transitions",
    )
    readonly_fields = ("order", "task_link", "command_link", "outcome_badge", "transitions")

    @display(description="order")
    def order(self, attempt: Attempt) -> str:
        return order_link(attempt.fulfillment.order_reference)

    @display(description="task")
    def task_link(self, attempt: Attempt) -> str:
        return link(attempt.task, attempt.task.key)

    @display(description="command")
    def command_link(self, attempt: Attempt) -> str:
        return link(attempt.command)

    @display(description="outcome")
    def outcome_badge(self, attempt: Attempt) -> str:
        return badge(attempt.outcome or _UNDER_WAY, OUTCOME_SIGNS)

    @display(description="audit trail")
    def transitions(self, attempt: Attempt) -> str:
        return trail_link(
            "what has happened to its task",
            fulfillment_id=attempt.fulfillment_id,
            entity="task",
            entity_id=attempt.task_id,
        )
