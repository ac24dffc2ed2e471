"""The published workflows: which versions there are, what runs on them, and what each changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import display

from fulfillment.admin.pages import Page
from fulfillment.admin.picture import graph_picture
from fulfillment.admin.reading import Badge, ReadOnlyAdmin, pretty
from fulfillment.definitions.decomposition import sketch
from fulfillment.definitions.mermaid import mermaid
from fulfillment.definitions.migration import Fate
from fulfillment.definitions.version_changes import TaskChange, VersionChanges, version_changes
from fulfillment.models import Plan, WorkflowVersion
from fulfillment.published import definition_of, definitions_in, library_of
from fulfillment.queries.versions_in_use import VersionInUse, graphs_under_way, versions_in_use
from fulfillment.states import PLAN_TERMINAL

_CHOSEN = Badge(sign="✓", tone="done", words="for new orders")
_PART = Badge(sign="✓", tone="done", words="for new parts")
_OLDER = Badge(sign="○", tone="waiting", words="replaced")
_FATES: Mapping[Fate, Badge] = {
    Fate.ADDED: Badge(sign="+", tone="done", words="added"),
    Fate.CHANGED: Badge(sign="✎", tone="moving", words="changed"),
    Fate.REMOVED: Badge(sign="−", tone="failed", words="removed"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownVersion:
    use: VersionInUse
    badge: Badge
    address: str
    plans_address: str
    """What runs on it."""
    fulfils: str
    is_first: bool = False
    """Of the versions of its workflow."""
    changes_address: str = ""
    """What the version whose page this stands on has changed since; empty: it is that itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownChange:
    badge: Badge
    change: TaskChange


class Workflows(Page):
    name = "workflows"
    title = "Workflows"
    told = (
        "What fulfils which offering, in which version. New orders get the newest version; an "
        "order under way stays with the one that it began with, unless somebody moves it."
    )
    permissions: ClassVar[tuple[str, ...]] = ("fulfillment.view_workflowversion",)
    template_name = "desk/workflows/workflows.html"

    def content(self) -> Mapping[str, Any]:
        return {"versions": _shown(versions_in_use())}


def _shown(found: list[VersionInUse], *, of: WorkflowVersion | None = None) -> list[ShownVersion]:
    shown = []
    before = ""
    for use in found:
        row = use.workflow
        address = reverse("admin:fulfillment_workflowversion_change", args=[row.pk])
        own = (
            None
            if of is None
            else reverse("admin:fulfillment_workflowversion_change", args=[of.pk])
        )
        chosen = _CHOSEN if use.fulfils else _PART
        shown.append(
            ShownVersion(
                use=use,
                badge=chosen if use.is_chosen else _OLDER,
                address=address,
                plans_address=plans_address(name=row.name, version=row.version),
                fulfils="; ".join(
                    f"{offering} ({', '.join(actions)})"
                    for offering, actions in use.fulfils.items()
                ),
                is_first=row.name != before,
                changes_address=""
                if own is None or of is None or row.pk == of.pk
                else f"{own}?{urlencode({'since': row.version})}",
            )
        )
        before = row.name
    return shown


def plans_address(*, name: str, version: int) -> str:
    """The plans under way that this version is a part of."""
    asked = urlencode({RunsOn.parameter_name: f"{name}@{version}"})
    return f"{reverse('admin:fulfillment_plan_changelist')}?{asked}"


class RunsOn(admin.SimpleListFilter):
    """Plans that are not over, by the workflow version that they are made of."""

    title = "under way on"
    parameter_name = "runs_on"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = WorkflowVersion.objects.values_list("name", "version")
        return [(f"{name}@{version}", f"{name} v{version}") for name, version in rows]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Plan]) -> QuerySet[Plan]:
        value = self.value()
        if value is None:
            return queryset
        name, _, version = str(value).rpartition("@")
        if not version.isdecimal() or len(version) > 9:
            return queryset.none()
        running = queryset.exclude(state__in=sorted(PLAN_TERMINAL))
        return running.filter(graph__in=graphs_under_way(name=name, version=int(version)))


@admin.register(WorkflowVersion)
class WorkflowVersionAdmin(ReadOnlyAdmin):
    list_display = ("name", "version", "title", "offerings", "published_at", "published_by")
    list_left_out = ("document", "written")
    search_fields = ("name", "selectors__offering")
    search_help_text = "Name of the workflow, or an offering"
    fields = (("name", "version"), "title", ("published_at", "published_by"), "content_hash")
    change_form_outer_before_template = "desk/workflows/workflow.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowVersion]:
        rows: QuerySet[WorkflowVersion] = super().get_queryset(request)
        return rows.annotate(offering_count=Count("selectors"))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        row: WorkflowVersion = context["original"]
        definition = definition_of(row.pk)
        graph = sketch(definition, library=definitions_in(library_of([definition])))
        versions = versions_in_use(name=row.name)
        context["workflow"] = next(one for one in _shown(versions) if one.use.workflow == row)
        context["versions"] = _shown(versions, of=row)
        context["picture"] = graph_picture(graph=graph)
        context["mermaid"] = mermaid(graph)
        context["document"] = pretty(row.as_written)
        context.update(_changes(row, versions, request.GET.get("since", "")))
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    @display(description="fulfils")
    def offerings(self, workflow: Any) -> str:
        return f"{workflow.offering_count} offerings and actions"


def _changes(row: WorkflowVersion, versions: list[VersionInUse], since: str) -> dict[str, Any]:
    """What it has changed since the version before it, or since the one that is asked for."""
    others = {use.workflow.version: use.workflow for use in versions}
    older = max((version for version in others if version < row.version), default=0)
    asked = int(since) if since.isdecimal() and len(since) < 10 else older
    if asked not in others or asked == row.version:
        asked = older
    if not asked:
        return {}
    before, after = definition_of(others[asked].pk), definition_of(row.pk)
    found: VersionChanges = version_changes(
        before=before, after=after, library=definitions_in(library_of([before, after]))
    )
    return {
        "since": asked,
        "changes": found,
        "task_changes": [
            ShownChange(badge=_FATES[change.fate], change=change) for change in found.tasks
        ],
    }
