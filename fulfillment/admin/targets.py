"""Target systems: how each is doing, its settings, which operators edit live, pause and resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.decorators import action, display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import (
    Guarded,
    ReasonForm,
    actor_of,
    ask,
    attempt,
    found_or_404,
    holds_here,
)
from fulfillment.admin.holds import Holdable
from fulfillment.admin.operating import Operable
from fulfillment.admin.reading import Badge, DeskAdmin, list_link, show_badge
from fulfillment.admin.target_form import FIELDSETS, TargetSystemForm
from fulfillment.authority.context import Context
from fulfillment.conditions import TargetState, TargetStatus, quoted, statuses
from fulfillment.definitions.signs import Sign
from fulfillment.models import HoldScope, Operation, TargetSystem, Task
from fulfillment.operations.subjects import target_context

CONDITION_SIGNS: Mapping[TargetState, Sign] = {
    TargetState.WELL: ("✓", "done"),
    TargetState.PAUSED: ("‖", "trouble"),
    TargetState.HELD: ("⊖", "trouble"),
    TargetState.BREAKER_OPEN: ("✗", "failed"),
    TargetState.PROBING: ("◐", "trouble"),
    TargetState.AT_ITS_LIMIT: ("≡", "moving"),
    TargetState.RAMPING_UP: ("↗", "moving"),
}
_LATEST = 5


def badges_of(status: TargetStatus) -> list[Badge]:
    """Everything that is to be said of a target's condition; never nothing."""
    shown = []
    for state in status.states:
        sign, tone = CONDITION_SIGNS[state]
        shown.append(Badge(sign=sign, tone=tone, words=status.in_words(state)))
    return shown


@admin.register(TargetSystem)
class TargetSystemAdmin(Operable, Guarded, Holdable, DeskAdmin):
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
    change_form_outer_before_template = "desk/target.html"
    hold_scope = HoldScope.TARGET
    actions_detail = ("pause", "resume", "hold")
    actions_row = ("pause", "resume", "hold")

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
            status = statuses(names=[row.pk])[row.pk]
            context["status"] = status
            context["badges"] = badges_of(status)
            context["figures"] = status.figures()
            subject = f"target:{row.pk}"
            # What its breaker does is said above, and would soon be all that is shown.
            by_people = Operation.objects.filter(subject=subject).exclude(kind="breaker")
            context["operations"] = by_people.order_by("-pk")[:_LATEST]
            context["all_operations"] = list_link(
                "all, with what its breaker did", model=Operation, subject=subject
            )
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
        return _tasks(row, "waiting", state__in="READY,FAILED_RETRYABLE")

    @display(description="in doubt")
    def in_doubt(self, row: Any) -> str:
        return _tasks(row, "in doubt", state__exact="OUTCOME_UNKNOWN")

    @display(description="accepted")
    def accepted(self, row: Any) -> str:
        return _tasks(row, "accepted", state__exact="ACCEPTED")

    @display(description="held")
    def held(self, row: Any) -> str:
        return _tasks(row, "held", held_by__isempty="0")

    # --- what may be done to them ----------------------------------------------------------------

    def has_pause_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.TARGET_PAUSE)

    def has_resume_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.TARGET_RESUME)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        row = self.get_object(request, object_id)
        paused = bool(row and row.condition.paused_at)
        hidden = f"_{'pause' if paused else 'resume'}"
        return [
            one
            for one in super().get_actions_detail(request, object_id)
            if not one.action_name.endswith(hidden)
        ]

    @action(description="Pause", url_path="pause", permissions=["pause"], icon="pause")
    def pause(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row, page = self._row_and_page(request, object_id)
        if row.condition.paused_at:
            self.message_user(
                request,
                f"{row} is paused already: {row.condition.paused_by} has said "
                f"{quoted(row.condition.pause_reason)}",
                messages.WARNING,
            )
            return redirect(page)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            placed = attempt(
                form,
                lambda: operations.pause_target(
                    target=row.pk,
                    reason=form.cleaned_data["reason"],
                    actor=actor_of(request),
                    patience=operations.BRIEFLY,
                ),
            )
            if placed is not None:
                self.message_user(request, f"Paused. {operations.on_the_wire(placed.in_flight)}")
                return redirect(page)
        return ask(
            self,
            request,
            form=form,
            title=f"Pause {row}",
            told="Nothing is sent to it and nothing is asked of it until it is resumed. Orders go "
            "on where they need it not; the others wait, and say that it is paused and why. What "
            "it reports by itself is taken in.",
            button="Pause it",
            back=page,
        )

    @action(description="Resume", url_path="resume", permissions=["resume"], icon="play_arrow")
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row, page = self._row_and_page(request, object_id)
        if not row.condition.paused_at:
            self.message_user(request, f"{row} is not paused.", messages.WARNING)
            return redirect(page)
        ramp = (
            f"its limits grow to their full size over {row.ramp.total_seconds():g} seconds"
            if row.ramp
            else "it has no ramp, so everything goes on at once"
        )
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            resumed = attempt(
                form,
                lambda: operations.resume_target(
                    target=row.pk, reason=form.cleaned_data["reason"], actor=actor_of(request)
                ),
            )
            if resumed is not None:
                self.message_user(request, f"Resumed; {ramp}.")
                return redirect(page)
        return ask(
            self,
            request,
            form=form,
            title=f"Resume {row}",
            told=f"{row.condition.paused_by} has paused it: {quoted(row.condition.pause_reason)} "
            f"What waits for it goes on; {ramp}.",
            button="Resume it",
            back=page,
        )

    def _row_and_page(self, request: HttpRequest, object_id: str) -> tuple[TargetSystem, str]:
        row = found_or_404(self, request, object_id)
        return row, reverse("admin:fulfillment_targetsystem_change", args=[row.pk])


def _tasks(row: Any, figure: str, **lookups: str) -> str:
    """A figure of the target, with a link to the tasks that it counts."""
    text: str = row.status.figures()[figure]
    if text == "0":
        return text
    return list_link(text, model=Task, target__name__exact=row.pk, **lookups)
