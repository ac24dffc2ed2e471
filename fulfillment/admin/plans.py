"""Plans, their tasks, and the graphs that plans of one shape share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin
from django.db.models import F, Func, IntegerField, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.decorators import action, display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import (
    ReasonForm,
    actor_of,
    ask,
    attempt,
    found_or_404,
    holds_here,
)
from fulfillment.admin.audit import trail_link
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.figures import WayFilter
from fulfillment.admin.holds import Holdable
from fulfillment.admin.operating import Operable
from fulfillment.admin.pages import looks_at
from fulfillment.admin.picture import graph_picture
from fulfillment.admin.plan_view import plan_view, sides_of
from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    ReadOnlyInline,
    badge,
    link,
    list_link,
    order_link,
    preformatted,
    pretty,
)
from fulfillment.admin.workflows import RunsOn
from fulfillment.definitions.mermaid import mermaid
from fulfillment.definitions.outlines import call
from fulfillment.definitions.signs import PLAN_SIGNS, TASK_SIGNS
from fulfillment.engine.store import graphs
from fulfillment.models import (
    Command,
    HoldScope,
    InboundEvent,
    Plan,
    PlanGraph,
    Task,
    WorkflowVersion,
)
from fulfillment.queries.fulfillments import how_it_stood, progress_of
from fulfillment.states import TASK_TERMINAL, PlanState, TaskState
from fulfillment.waits import waiting


@admin.register(Plan)
class PlanAdmin(Operable, Holdable, ReadOnlyAdmin):
    subject_kind = "plan"
    hold_scope = HoldScope.PLAN
    list_display = ("id", "order", "state_badge", "stuck", "progress", "stuck_at", "created_at")
    list_filter = ("state", ("stuck_at", admin.EmptyFieldListFilter), RunsOn)
    list_select_related = ("fulfillment",)
    list_left_out = ("context",)
    search_fields = ("id", "fulfillment__order_reference")
    search_help_text = "Plan number, or the order's reference"
    fields = (
        ("order", "state_badge"),
        "blocked_reason",
        ("stuck_at", "stuck_reason"),
        ("progress", "tasks_open"),
        ("created_at", "last_progress_at"),
        ("finished_at", "stalls_after"),
        ("order_version", "version"),
        ("graph_link", "selection_due_at"),
        "transitions",
        "before_it_was_replaced",
        "order_snapshot",
    )
    readonly_fields = (
        "order",
        "state_badge",
        "progress",
        "graph_link",
        "transitions",
        "before_it_was_replaced",
        "order_snapshot",
    )
    change_form_outer_before_template = "desk/plans/plan.html"

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        plan = context["original"]
        context["plan_view"] = plan_view(plan=plan, graph=graphs.by_id(plan.graph_id))
        if looks_at(request, "desk-plan"):
            return TemplateResponse(request, "desk/plans/plan.html", context)
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    @display(description="order")
    def order(self, plan: Plan) -> str:
        return order_link(plan.fulfillment.order_reference)

    @display(description="state")
    def state_badge(self, plan: Plan) -> str:
        return badge(plan.state, PLAN_SIGNS)

    @display(description="stuck?")
    def stuck(self, plan: Plan) -> str:
        return badge("STUCK", {"STUCK": ("⚠", "trouble")}) if plan.stuck_at else ""

    @display(description="tasks done")
    def progress(self, plan: Plan) -> str:
        progress = progress_of(plan)
        return f"{progress.done} of {progress.total}"

    @display(description="graph")
    def graph_link(self, plan: Plan) -> str:
        return link(plan.graph)

    @display(description="audit trail")
    def transitions(self, plan: Plan) -> str:
        return trail_link(
            "what has happened to this plan",
            fulfillment_id=plan.fulfillment_id,
            entity="plan",
            entity_id=plan.pk,
        )

    @display(description="how it stood when another plan took its place")
    def before_it_was_replaced(self, plan: Plan) -> str:
        return pretty(how_it_stood(plan=plan)) if plan.state == PlanState.SUPERSEDED else "–"

    @display(description="the order when the plan was made")
    def order_snapshot(self, plan: Plan) -> str:
        return pretty(plan.context)


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
class TaskAdmin(Bulkable, Operable, Holdable, ReadOnlyAdmin):
    bulk_of = "task"
    subject_kind = "task"
    hold_scope = HoldScope.TASK
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
    actions_detail = ("hold", "retry")

    def has_retry_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.TASK_RETRY)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        task = self.get_object(request, object_id)
        found = super().get_actions_detail(request, object_id)
        failed = task and task.state == TaskState.FAILED_FINAL
        return [one for one in found if failed or not one.action_name.endswith("_retry")]

    @action(description="Try again", url_path="retry", permissions=["retry"], icon="replay")
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        task = found_or_404(self, request, object_id)
        page = reverse("admin:fulfillment_task_change", args=[task.pk])
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            reason = form.cleaned_data["reason"]
            again = attempt(
                form,
                lambda: operations.retry(task_id=task.pk, actor=actor_of(request), reason=reason),
            )
            if again is not None:
                self.message_user(request, f"Runs again: {', '.join(again[:20])}.")
                return redirect(page)
        return ask(
            self,
            request,
            form=form,
            title=f"Try {task.key} again",
            told="It had failed without effect. It is sent anew, with today's data and a key of "
            "its own; of a fan-out only the elements that failed.",
            button="Try it again",
            back=page,
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


@admin.register(PlanGraph)
class PlanGraphAdmin(ReadOnlyAdmin):
    list_display = ("shape", "workflows", "size", "created_at")
    list_left_out = ("document",)
    search_fields = ("sha256",)
    search_help_text = "The whole content hash"
    fields = ("sha256", "created_at", "workflow_links", "plans", "flowchart", "document_text")
    readonly_fields = ("workflow_links", "plans", "flowchart", "document_text")
    change_form_outer_before_template = "desk/plans/plan.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanGraph]:
        rows: QuerySet[PlanGraph] = super().get_queryset(request)
        size = Func(
            F("document__nodes"), function="jsonb_array_length", output_field=IntegerField()
        )
        return rows.annotate(planned=F("document__workflows"), size_of_plan=size)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        context["picture"] = graph_picture(graph=graphs.by_id(context["original"].pk))
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    @display(description="shape")
    def shape(self, graph: PlanGraph) -> str:
        return str(graph)

    @display(description="workflows")
    def workflows(self, graph: Any) -> str:
        return ", ".join(f"{one['name']} v{one['version']}" for one in graph.planned)

    @display(description="tasks")
    def size(self, graph: Any) -> int:
        return int(graph.size_of_plan)

    @display(description="made from")
    def workflow_links(self, graph: Any) -> str:
        named = {(one["name"], one["version"]) for one in graph.planned}
        rows = WorkflowVersion.objects.filter(name__in={name for name, _ in named})
        found = [row for row in rows.defer("document") if (row.name, row.version) in named]
        return format_html_join(", ", "{}", ((link(row),) for row in found)) or "—"

    @display(description="plans")
    def plans(self, graph: PlanGraph) -> str:
        return list_link("plans of this shape", model=Plan, graph__id__exact=graph.pk)

    @display(description="flowchart (Mermaid)")
    def flowchart(self, graph: PlanGraph) -> str:
        return preformatted(mermaid(graphs.by_id(graph.pk)))

    @display(description="as stored")
    def document_text(self, graph: PlanGraph) -> str:
        return pretty(graph.as_written)
