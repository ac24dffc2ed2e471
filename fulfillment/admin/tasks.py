"""The tasks of plans: found, followed and tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action, display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import (
    found_or_404,
    holds_here,
    reach_here,
)
from fulfillment.admin.audit import trail_link
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.figures import WayFilter
from fulfillment.admin.operating import Operable, operate_address
from fulfillment.admin.plan_view import sides_of
from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    ReadOnlyInline,
    badge,
    link,
    order_link,
    pretty,
)
from fulfillment.definitions.outlines import call
from fulfillment.definitions.signs import TASK_SIGNS
from fulfillment.engine.store import graphs
from fulfillment.models import (
    Command,
    InboundEvent,
    PlanGraph,
    Task,
)
from fulfillment.states import TASK_TERMINAL
from fulfillment.waits import waiting


class CommandInline(ReadOnlyInline):
    model = Command
    fields = ("row", "revision", "idempotency_key", "created_at")
    readonly_fields = fields
    left_out = ("payload",)


class ReportInline(ReadOnlyInline):
    model = InboundEvent
    verbose_name_plural = "reports from outside"
    fields = ("row", "disposition", "received_at")
    readonly_fields = fields
    left_out = ("body",)


@admin.register(Task)
class TaskAdmin(Bulkable, Operable, ReadOnlyAdmin):
    bulk_of = "task"
    subject_kind = "task"
    list_display = (
        "id",
        "key",
        "order",
        "state_badge",
        "what",
        "attempts",
        "not_before",
        "blocked_reason",
    )
    list_filter = ("state", "target", WayFilter, ("held_by", admin.EmptyFieldListFilter))
    also_filtered = ("node", "depth", "waits_for_lock")
    # Not its target: what no target system does has none, and would be left out.
    list_select_related = ("fulfillment", "plan")
    list_left_out = ("outputs", "plan__context")
    search_fields = ("id", "plan__fulfillment__order_reference", "commands__idempotency_key")
    search_help_text = "Task number or key, the order's reference, an idempotency key"
    fields = (
        "key",
        ("order", "plan_link"),
        ("state_badge", "changed_at"),
        "blocked_reason",
        ("not_before", "what"),
        ("attempts", "sends"),
        ("unanswered_queries", "required"),
        ("priority", "depth"),
        ("held_by_link", "lost_leases"),
        ("start_by", "close_by"),
        ("report_by", "heard_at"),
        ("late_since", "stopped_at"),
        "progress_text",
        "reference",
        "outputs_text",
        "transitions",
    )
    readonly_fields = (
        "order",
        "plan_link",
        "state_badge",
        "held_by_link",
        "what",
        "progress_text",
        "outputs_text",
        "transitions",
    )
    inlines = (CommandInline, ReportInline)
    change_form_outer_before_template = "desk/plans/task.html"
    actions_detail = ("retry",)

    def has_retry_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.TASK_RETRY)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        found = super().get_actions_detail(request, object_id)
        reach = reach_here(request)
        again = operations.possible(
            subject=f"task:{object_id}", held=reach.held & {Action.TASK_RETRY}, reach=reach
        )
        return [one for one in found if again or not one.action_name.endswith("_retry")]

    @action(description="Try again", url_path="retry", permissions=["retry"], icon="replay")
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The first thing that one looks for where a task has failed: above all fields."""
        found_or_404(self, request, object_id)
        return redirect(
            operate_address(operations.repair_of(Action.TASK_RETRY), f"task:{object_id}")
        )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        task: Task = context["original"]
        waits = waiting.waiting(fulfillment_ids=[task.fulfillment_id])
        context["wait"] = next(
            (wait for wait in waits.get(task.fulfillment_id, ()) if wait.task_id == task.pk), None
        )
        context["holds"] = (
            waiting.holds_on([task])[task.pk] if task.state not in TASK_TERMINAL else []
        )
        context["sides"] = sides_of(task)
        context["plan_address"] = reverse("admin:fulfillment_plan_change", args=[task.plan_id])
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    def searches(self, term: str) -> Iterable[Callable[[], QuerySet[Task]]]:
        yield from super().searches(term)
        yield lambda: _tasks_with_key(term)

    @display(description="order")
    def order(self, task: Task) -> str:
        return order_link(task.fulfillment.order_reference)

    @display(description="plan")
    def plan_link(self, task: Task) -> str:
        return link(task.plan)

    @display(description="state")
    def state_badge(self, task: Task) -> str:
        return badge(task.state, TASK_SIGNS)

    @display(description="by")
    def what(self, task: Task) -> str:
        return doing(task)

    @display(description="parked by")
    def held_by_link(self, task: Task) -> str:
        return link(task.held_by)

    @display(description="progress")
    def progress_text(self, task: Task) -> str:
        return pretty(task.progress)

    @display(description="outputs")
    def outputs_text(self, task: Task) -> str:
        return pretty(task.outputs)

    @display(description="audit trail")
    def transitions(self, task: Task) -> str:
        return trail_link(
            "what has happened to this task",
            fulfillment_id=task.fulfillment_id,
            entity="task",
            entity_id=task.pk,
        )


def doing(task: Task) -> str:
    """The target system, as a link, or what is done without one."""
    if not task.target_id:
        return call(graphs.by_id(task.plan.graph_id).nodes[task.node])
    address = reverse("admin:fulfillment_targetsystem_change", args=[task.target_id])
    return format_html('<a class="desk-link" href="{}">{}</a>', address, task.target_id)


def _tasks_with_key(key: str) -> QuerySet[Task]:
    """By way of the graphs that have such a node: they are few, and plans are indexed by them."""
    shapes = PlanGraph.objects.filter(document__contains={"nodes": [{"key": key}]})
    return Task.objects.filter(plan__graph__in=list(shapes.values_list("pk", flat=True)), key=key)
