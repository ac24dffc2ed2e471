"""The published workflows."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    ReadOnlyInline,
    preformatted,
    pretty,
)
from fulfillment.definitions.mermaid import mermaid
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.models import WorkflowSelector, WorkflowVersion


class SelectorInline(ReadOnlyInline):
    model = WorkflowSelector
    fields = ("offering", "action")
    readonly_fields = fields


@admin.register(WorkflowVersion)
class WorkflowVersionAdmin(ReadOnlyAdmin):
    list_display = ("name", "version", "title", "offerings", "published_at", "published_by")
    list_left_out = ("document",)
    search_fields = ("name", "selectors__offering")
    search_help_text = "Name of the workflow, or an offering"
    fields = (
        ("name", "version"),
        "title",
        ("published_at", "published_by"),
        "content_hash",
        "document_text",
        "flowchart",
    )
    readonly_fields = ("document_text", "flowchart")
    inlines = (SelectorInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowVersion]:
        rows: QuerySet[WorkflowVersion] = super().get_queryset(request)
        return rows.annotate(offering_count=Count("selectors"))

    @display(description="fulfils")
    def offerings(self, workflow: Any) -> str:
        return f"{workflow.offering_count} offerings and actions"

    @display(description="as published")
    def document_text(self, workflow: WorkflowVersion) -> str:
        return pretty(workflow.as_written)

    @display(description="flowchart (Mermaid)")
    def flowchart(self, workflow: WorkflowVersion) -> str:
        return preformatted(mermaid(WorkflowDefinition.from_document(workflow.as_written)))
