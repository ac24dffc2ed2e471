"""Holds: the list, and what a new one is to be placed on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import ask, attempt, holds_here
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.operating import Operable, operate_address
from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    badge,
    list_link,
    register_signs,
    subject_link,
)
from fulfillment.definitions.signs import Sign
from fulfillment.errors import NothingToHold, SubjectUnknown
from fulfillment.models import Hold, HoldScope, Task

HOLD_SIGNS: Mapping[str, Sign] = {
    "PLACED": ("⊖", "trouble"),
    "OVER": ("○", "waiting"),
    "RELEASED": ("✓", "done"),
}
register_signs(entity="hold", signs=HOLD_SIGNS)

_PLACING = operations.repair_of(Action.HOLD_PLACE)
_SCOPES = (
    (HoldScope.ORDER, "an order: its reference, such as O-17"),
    (HoldScope.ITEM, "an item of an order: O-17/2 is the second"),
    (HoldScope.PLAN, "a plan: its number"),
    (HoldScope.TASK, "a task: its number"),
    (HoldScope.TARGET, "a target system: its name"),
    (HoldScope.ACTION, "one action of a target system: billing/create_invoice"),
    (HoldScope.CUSTOMER, "everything of a customer: the customer's id"),
)


class HeldForm(forms.Form):
    """What a hold is to be placed on."""

    scope = forms.ChoiceField(
        label="Hold", choices=_SCOPES, widget=UnfoldAdminSelectWidget(attrs={"autofocus": True})
    )
    name = forms.CharField(max_length=250, widget=UnfoldAdminTextInputWidget())


@admin.register(Hold)
class HoldAdmin(Bulkable, Operable, ReadOnlyAdmin):
    bulk_of = "hold"
    subject_kind = "hold"
    when_empty = "Nothing is held: whatever is ready is sent."
    list_display = (
        "id",
        "what",
        "state",
        "reason",
        "placed_by",
        "placed_at",
        "until",
        "released_by",
        "released_at",
    )
    list_filter = ("scope", ("released_at", admin.EmptyFieldListFilter))
    ordering = (F("released_at").desc(nulls_first=True), "-id")
    search_fields = ("subject",)
    search_help_text = "What is held: an order's reference, a task's number, a target's name …"
    fields = (
        ("what", "state"),
        "reason",
        ("placed_by", "placed_at"),
        ("until", "clocks"),
        ("released_by", "released_at"),
        "release_reason",
        "tasks",
    )
    readonly_fields = ("what", "state", "clocks", "tasks")
    actions_list = ("place",)

    def searches(self, term: str) -> Iterable[Callable[[], QuerySet[Hold]]]:
        yield from super().searches(term)
        subjects = [f"{scope.lower()}:{term}" for scope in HoldScope]
        yield lambda: Hold.objects.filter(subject__in=subjects)

    @display(description="what it holds")
    def what(self, hold: Hold) -> str:
        return subject_link(hold.subject)

    @display(description="state")
    def state(self, hold: Hold) -> str:
        if hold.released_at:
            return badge("RELEASED", HOLD_SIGNS)
        over = hold.until is not None and hold.until <= timezone.now()
        return badge("OVER" if over else "PLACED", HOLD_SIGNS)

    @display(description="clocks meanwhile")
    def clocks(self, hold: Hold) -> str:
        if hold.clock_policy == "STOP":
            return "stand still: what was promised is due later by as long"
        return "run on: what was promised stays due"

    @display(description="what has met it")
    def tasks(self, hold: Hold) -> str:
        return list_link("tasks that wait for its release", model=Task, held_by__id__exact=hold.pk)

    def has_place_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.HOLD_PLACE)

    @action(description="Place a hold", url_path="place", permissions=["place"], icon="front_hand")
    def place(self, request: HttpRequest) -> HttpResponse:
        """What is to be held; the form of the operation asks for the rest."""
        form = HeldForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            found = attempt(
                form,
                lambda: _PLACING.found(
                    subject=f"{form.cleaned_data['scope'].lower()}:{form.cleaned_data['name']}"
                ),
                fields={NothingToHold: "name", SubjectUnknown: "name"},
            )
            if found is not None:
                return redirect(operate_address(_PLACING, found.subject))
        return ask(
            self,
            request,
            form=form,
            title="Place a hold",
            told="Nothing in its scope is sent until it is released. Say what it is about; what "
            "it would keep back is shown before anything is done.",
            button="Go on",
            back=reverse("admin:fulfillment_hold_changelist"),
        )
