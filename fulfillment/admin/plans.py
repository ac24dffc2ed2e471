"""Plans, and the graphs that plans of one shape share."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.contrib import admin
from django.db.models import F, Func, IntegerField, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html_join
from unfold.decorators import display

from fulfillment.admin.audit import trail_link
from fulfillment.admin.operating import Operable
from fulfillment.admin.pages import looks_at
from fulfillment.admin.picture import graph_picture
from fulfillment.admin.plan_view import plan_view
from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    badge,
    link,
    list_link,
    order_link,
    preformatted,
    pretty,
)
from fulfillment.admin.workflows import RunsOn
from fulfillment.definitions.mermaid import mermaid
from fulfillment.definitions.signs import PLAN_SIGNS
from fulfillment.engine.store import graphs
from fulfillment.models import (
    Plan,
    PlanGraph,
    WorkflowVersion,
)
from fulfillment.queries.fulfillments import how_it_stood, progress_of
from fulfillment.states import PlanState


@admin.register(Plan)
class PlanAdmin(Operable, ReadOnlyAdmin):
    subject_kind = "plan"
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

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        plan = super().get_object(request, object_id, from_field)
        if plan is not None:
            # Its name alone is shown; its document may be a million characters.
            plan.graph = PlanGraph.objects.only("sha256").get(pk=plan.graph_id)
        return plan

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
        return _document(graph.sha256)


@lru_cache(maxsize=16)
def _document(sha256: str) -> str:
    """By its content: it may be a million characters, and a form asks several times for what it
    shows."""
    return pretty(PlanGraph.objects.get(sha256=sha256).as_written)
