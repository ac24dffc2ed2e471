"""Target systems: how each is doing, its settings, which operators edit live, pause and resume."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import (
    Guarded,
    actor_of,
)
from fulfillment.admin.operating import Operable
from fulfillment.admin.reading import DeskAdmin, list_address, list_link, show_badge
from fulfillment.admin.target_cards import badges_of, cards
from fulfillment.admin.target_form import FIELDSETS, TargetSystemForm
from fulfillment.authority.context import Context
from fulfillment.definitions.durations import brief_duration
from fulfillment.models import Operation, TargetSystem, Task
from fulfillment.operations.subjects import target_context
from fulfillment.queries.on_the_way import Way
from fulfillment.queries.systems import health
from fulfillment.waits.conditions import statuses

_LATEST = 8
_LOOKED_BACK = 2000


@admin.register(TargetSystem)
class TargetSystemAdmin(Operable, Guarded, DeskAdmin):
    subject_kind = "target"
    guarded_by = Action.TARGET_EDIT
    form = TargetSystemForm
    list_display = (
        "name",
        "how_it_is",
        "why",
        "under_way",
        "waiting",
        "in_doubt",
        "accepted",
        "held",
        "queue",
    )
    list_filter = ("queue", "adapter")
    search_fields = ("name", "title")
    list_fullwidth = True
    sortable_by = ("name", "queue")
    fieldsets = FIELDSETS
    change_form_outer_before_template = "desk/boards/target.html"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Plans name their targets; a target by another name is another target.
        return ("name",) if obj is not None else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def context_of(self, obj: Any) -> Context:
        if obj is None:
            return Context(subject="target:new")
        return target_context(subject=f"target:{obj.pk}", target=obj.pk)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        operations.edit_target(
            row=obj, actor=actor_of(request), reason=form.cleaned_data.get("why", "")
        )

    # --- how they are doing ----------------------------------------------------------------------

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        listed = super().get_changelist_instance(request)
        rows = listed.result_list = list(listed.result_list)
        found = statuses(names=[row.pk for row in rows])
        for row in rows:
            row.status = found[row.pk]
        return listed

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        row = context.get("original")
        if row is not None:
            (found,) = health(names=[row.pk])
            (context["card"],) = cards(request, [found])
            context["spans"] = [
                ("the last five minutes", found.lately),
                ("the last hour", found.hour),
            ]
            context["slow"] = brief_duration(found.slow) if found.slow is not None else ""
            # What its breaker does would soon be all that is shown.
            done = _log_of(row)
            context["operations"] = done.exclude(kind="breaker")[:_LATEST]
            context["breaker_events"] = done.filter(kind="breaker")[:_LATEST]
            context["all_operations"] = list_address(Operation, subject=f"target:{row.pk}")
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    @display(description="condition")
    def how_it_is(self, row: Any) -> str:
        shown = ((show_badge(badge),) for badge in badges_of(row.status))
        return format_html_join(" ", "{}", shown)

    @display(description="why")
    def why(self, row: Any) -> str:
        return format_html('<span class="desk-why">{}</span>', row.status.why)

    @display(description="under way")
    def under_way(self, row: Any) -> str:
        return str(row.status.figures()["under way"])

    @display(description="waiting")
    def waiting(self, row: Any) -> str:
        return _tasks(row, "waiting", way=Way.TO_BE_SENT.value)

    @display(description="in doubt")
    def in_doubt(self, row: Any) -> str:
        return _tasks(row, "in doubt", state__exact="OUTCOME_UNKNOWN")

    @display(description="accepted")
    def accepted(self, row: Any) -> str:
        return _tasks(row, "accepted", way=Way.ACCEPTED.value)

    @display(description="held")
    def held(self, row: Any) -> str:
        return _tasks(row, "held", held_by__isempty="0")


def _log_of(row: TargetSystem) -> QuerySet[Operation]:
    """What was done to it, by people and its breaker, the newest first; as far back as it looks."""
    rows = Operation.objects.filter(subject=f"target:{row.pk}").order_by("-pk")
    return rows.filter(pk__in=rows.values("pk")[:_LOOKED_BACK])


def _tasks(row: Any, figure: str, **lookups: str) -> str:
    """A figure of the target, with a link to the tasks that it counts."""
    text: str = row.status.figures()[figure]
    if text == "0":
        return text
    return list_link(text, model=Task, target__name__exact=row.pk, **lookups)
