"""What people have to decide: the inbox, and the page of each."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display

from fulfillment.actions import Action
from fulfillment.admin.asking import focus_none
from fulfillment.admin.audit import trail_link
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.deciding import Decidable, asked, standing
from fulfillment.admin.decision_form import DecisionForm
from fulfillment.admin.figures import ManualDueFilter
from fulfillment.admin.manual_inbox import StateFilter, WhoseFilter, inbox, may_do
from fulfillment.admin.manual_signs import MANUAL_SIGNS, due_badge, due_words
from fulfillment.admin.operating import Operable
from fulfillment.admin.reading import NewestValues, badge, link, order_link, pretty, show_badge
from fulfillment.definitions.signs import in_words
from fulfillment.models import MANUAL_OPEN, ManualState, ManualTask
from fulfillment.operations.looking import one_look


@admin.register(ManualTask)
class ManualTaskAdmin(Bulkable, Operable, Decidable):
    bulk_of = "manual"
    subject_kind = "manual"
    change_list_template = "desk/work/manual_list.html"
    list_display = ("what", "due", "state_badge", "whose", "for_whom", "order", "decision")
    list_display_links = ("what",)
    list_filter = (
        WhoseFilter,
        ("state", StateFilter),
        ("decided_at", admin.EmptyFieldListFilter),
        ManualDueFilter,
        "origin",
        ("queue", NewestValues),
        ("role", NewestValues),
    )
    list_select_related = ("fulfillment",)
    list_left_out = ("context", "instructions")
    # Open ones first, by the time that is left; then decided ones, the latest first.
    ordering = (
        F("decided_at").desc(nulls_first=True),
        F("due_at").asc(nulls_first=True),
        "id",
    )
    search_fields = ("id", "fulfillment__order_reference")
    search_help_text = "Its number, or the order's reference"
    fieldsets = (
        (
            "On record",
            {
                "classes": ("collapse",),
                "fields": (
                    ("order", "task_link"),
                    ("origin", "opened_at"),
                    ("otherwise", "trail"),
                    "form_text",
                    "context_text",
                ),
            },
        ),
    )
    readonly_fields = ("order", "task_link", "trail", "form_text", "context_text")
    change_form_outer_before_template = "desk/work/manual.html"

    # --- the inbox -------------------------------------------------------------------------------

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        given = {"inbox": inbox(request), "live_every": 15, **(extra_context or {})}
        return super().changelist_view(request, given)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        listed = super().get_changelist_instance(request)
        rows = listed.result_list = list(listed.result_list)
        person = request.user.get_username()
        # The only button of a row; each more would be asked about for all of them.
        waiting = [row.pk for row in rows if row.state == ManualState.OPEN]
        may = may_do(request, waiting, among={Action.MANUAL_CLAIM})
        for row in rows:
            row.is_mine = row.claimed_by == person
            row.may_be_claimed = Action.MANUAL_CLAIM in may.get(row.pk, ())
        return listed

    @display(description="what is to be decided")
    def what(self, manual: ManualTask) -> str:
        return manual.title

    @display(description="state")
    def state_badge(self, manual: ManualTask) -> str:
        return badge(manual.state, MANUAL_SIGNS)

    @display(description="decide by")
    def due(self, manual: ManualTask) -> str:
        late, words = due_badge(manual), due_words(manual)
        return format_html("{} {}", show_badge(late), words) if late else words or "—"

    @display(description="who has it")
    def whose(self, manual: Any) -> str:
        if manual.state not in MANUAL_OPEN:
            return "—"
        if manual.claimed_by:
            return "you" if manual.is_mine else str(manual.claimed_by)
        if not manual.may_be_claimed:
            return "nobody"
        return format_html(
            '<button type="submit" class="desk-button desk-small" formaction="{}" '
            'aria-label="Take “{}”">Take it</button>',
            reverse("admin:fulfillment_manualtask_claim", args=[manual.pk]),
            manual.title,
        )

    @display(description="for")
    def for_whom(self, manual: ManualTask) -> str:
        return f"{manual.role or 'whoever may'} (queue {manual.queue})"

    @display(description="order")
    def order(self, manual: ManualTask) -> str:
        return order_link(manual.fulfillment.order_reference)

    @display(description="decided")
    def decision(self, manual: ManualTask) -> str:
        return f"{in_words(manual.outcome)} by {manual.decided_by}" if manual.outcome else "—"

    # --- its page --------------------------------------------------------------------------------

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        manual: ManualTask = context["original"]
        with one_look():
            context |= standing(request, manual)
            if context["is_open"] and context["may_decide"]:
                form = DecisionForm(manual)
                focus_none(form)
                context |= asked(manual, form)
            answer: HttpResponse = super().render_change_form(request, context, **options)
            return answer

    @display(description="task")
    def task_link(self, manual: ManualTask) -> str:
        return link(manual.task)

    @display(description="audit trail")
    def trail(self, manual: ManualTask) -> str:
        return trail_link(
            "all that has happened to it",
            fulfillment_id=manual.fulfillment_id,
            entity="manual",
            entity_id=manual.pk,
        )

    @display(description="what its form asks for")
    def form_text(self, manual: ManualTask) -> str:
        return pretty(manual.fields) if manual.fields else "nothing but the outcome"

    @display(description="the order and what was known, word for word")
    def context_text(self, manual: ManualTask) -> str:
        return pretty(manual.context)
