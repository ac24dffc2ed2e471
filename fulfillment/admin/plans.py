"""Plans, tasks, commands, attempts and the audit trail."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    ReadOnlyInline,
    badge,
    link,
    order_link,
    pretty,
)
from fulfillment.definitions.signs import PLAN_SIGNS, TASK_SIGNS
from fulfillment.models import Attempt, Command, Plan, Task, Transition


class TaskInline(ReadOnlyInline):
    model = Task
    fields = ("key", "state_badge", "target", "attempts", "not_before", "blocked_reason")
    readonly_fields = fields
    ordering = ("node",)

    @display(description="state")
    def state_badge(self, task: Task) -> str:
        return badge(task.state, TASK_SIGNS)


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    list_display = ("id", "order", "state_badge", "progress", "stuck_at", "created_at")
    list_filter = ("state", ("stuck_at", admin.EmptyFieldListFilter))
    list_select_related = ("fulfillment",)
    search_fields = ("id", "fulfillment__order_reference")
    search_help_text = "Plan number, or the order's reference"
    fields = (
        ("order", "order_version", "version"),
        ("state_badge", "progress"),
        ("tasks_open", "tasks_total"),
        "blocked_reason",
        ("stuck_at", "stuck_reason"),
        ("created_at", "last_progress_at", "finished_at"),
        ("stalls_after", "selection_due_at"),
        "graph",
        "order_snapshot",
    )
    readonly_fields = ("order", "state_badge", "progress", "order_snapshot")
    inlines = (TaskInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        rows: QuerySet[Plan] = super().get_queryset(request)
        return rows.defer("context")

    @display(description="order", ordering="fulfillment__order_reference")
    def order(self, plan: Plan) -> str:
        return order_link(plan.fulfillment.order_reference)

    @display(description="state", ordering="state")
    def state_badge(self, plan: Plan) -> str:
        return badge(plan.state, PLAN_SIGNS)

    @display(description="tasks done")
    def progress(self, plan: Plan) -> str:
        return f"{plan.mandatory_total - plan.mandatory_open} of {plan.mandatory_total}"

    @display(description="the order when the plan was made")
    def order_snapshot(self, plan: Plan) -> str:
        return pretty(plan.context)


class CommandInline(ReadOnlyInline):
    model = Command
    fields = ("revision", "target", "action", "idempotency_key", "created_at")
    readonly_fields = fields


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "key",
        "order",
        "state_badge",
        "target",
        "attempts",
        "not_before",
        "blocked_reason",
    )
    list_filter = ("state", "target")
    list_select_related = ("plan__fulfillment", "target")
    search_fields = ("id", "plan__fulfillment__order_reference", "commands__idempotency_key")
    search_help_text = "Task number, the order's reference, or an idempotency key"
    fields = (
        ("key", "order", "plan_link"),
        ("state_badge", "changed_at"),
        "blocked_reason",
        ("target", "priority", "depth", "required"),
        ("not_before", "attempts", "sends", "unanswered_queries"),
        ("reference", "outputs_text"),
    )
    readonly_fields = ("order", "plan_link", "state_badge", "outputs_text")
    inlines = (CommandInline,)

    @display(description="order")
    def order(self, task: Task) -> str:
        return order_link(task.plan.fulfillment.order_reference)

    @display(description="plan")
    def plan_link(self, task: Task) -> str:
        return link(task.plan)

    @display(description="state", ordering="state")
    def state_badge(self, task: Task) -> str:
        return badge(task.state, TASK_SIGNS)

    @display(description="outputs")
    def outputs_text(self, task: Task) -> str:
        return pretty(task.outputs)


class AttemptInline(ReadOnlyInline):
    model = Attempt
    fields = ("number", "purpose", "outcome", "code", "message", "started_at", "finished_at")
    readonly_fields = fields
    ordering = ("number",)


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin):
    list_display = ("id", "order", "task_link", "target", "action", "revision", "created_at")
    list_filter = ("target",)
    list_select_related = ("task__plan__fulfillment", "target")
    search_fields = ("idempotency_key", "task__plan__fulfillment__order_reference", "id")
    search_help_text = "Idempotency key, or the order's reference"
    fields = (
        ("order", "task_link", "revision"),
        ("target", "action", "created_at"),
        "idempotency_key",
        "payload_text",
    )
    readonly_fields = ("order", "task_link", "payload_text")
    inlines = (AttemptInline,)

    @display(description="order")
    def order(self, command: Command) -> str:
        return order_link(command.task.plan.fulfillment.order_reference)

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
        "outcome",
        "code",
        "started_at",
        "finished_at",
        "worker",
    )
    list_filter = ("purpose", "outcome", ("finished_at", admin.EmptyFieldListFilter))
    list_select_related = ("command__task__plan__fulfillment",)
    search_fields = (
        "command__idempotency_key",
        "command__task__plan__fulfillment__order_reference",
    )
    search_help_text = "Idempotency key, or the order's reference"
    fields = (
        ("order", "task_link", "command_link"),
        ("number", "purpose", "worker"),
        ("started_at", "lease_expires_at", "finished_at"),
        ("outcome", "code"),
        "message",
    )
    readonly_fields = ("order", "task_link", "command_link")

    @display(description="order")
    def order(self, attempt: Attempt) -> str:
        return order_link(attempt.command.task.plan.fulfillment.order_reference)

    @display(description="task")
    def task_link(self, attempt: Attempt) -> str:
        return link(attempt.command.task, attempt.command.task.key)

    @display(description="command")
    def command_link(self, attempt: Attempt) -> str:
        return link(attempt.command)


@admin.register(Transition)
class TransitionAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "order",
        "sequence",
        "entity",
        "entity_id",
        "from_state",
        "to_state",
        "cause",
        "actor",
        "occurred_at",
    )
    list_filter = ("entity", "name")
    list_select_related = ("fulfillment",)
    search_fields = ("fulfillment__order_reference",)
    search_help_text = "The order's reference"
    fields = (
        ("order", "sequence", "occurred_at"),
        ("entity", "entity_id", "name"),
        ("from_state", "to_state"),
        ("actor", "cause"),
        "details_text",
        "hash",
    )
    readonly_fields = ("order", "details_text")

    @display(description="order", ordering="fulfillment__order_reference")
    def order(self, transition: Transition) -> str:
        return order_link(transition.fulfillment.order_reference)

    @display(description="details")
    def details_text(self, transition: Transition) -> str:
        return pretty(transition.details)
