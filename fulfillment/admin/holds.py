"""Holds: the list, a form to place one from anywhere, and their release."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import (
    INPUT_CLASSES,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

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
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.operating import Operable
from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    badge,
    list_link,
    register_signs,
    subject_link,
)
from fulfillment.authority.actors import Actor
from fulfillment.definitions.signs import Sign
from fulfillment.errors import HoldWouldBeOver, NothingToHold, ReasonMissing
from fulfillment.models import ClockPolicy, Hold, HoldScope, Task
from fulfillment.waits.conditions import quoted

HOLD_SIGNS: Mapping[str, Sign] = {
    "PLACED": ("⊖", "trouble"),
    "OVER": ("○", "waiting"),
    "RELEASED": ("✓", "done"),
}
register_signs(entity="hold", signs=HOLD_SIGNS)

_SCOPES = (
    (HoldScope.ORDER, "an order: its reference, such as O-17"),
    (HoldScope.ITEM, "an item of an order: O-17/2 is the second"),
    (HoldScope.PLAN, "a plan: its number"),
    (HoldScope.TASK, "a task: its number"),
    (HoldScope.TARGET, "a target system: its name"),
    (HoldScope.ACTION, "one action of a target system: billing/create_invoice"),
    (HoldScope.CUSTOMER, "everything of a customer: the customer's id"),
)
_CLOCKS = (
    (ClockPolicy.RUN, "run on"),
    (ClockPolicy.STOP, "stand still"),
)


def place_address(*, scope: HoldScope, name: str) -> str:
    """The form to place a hold, filled in with what it is about."""
    filled = urlencode({"scope": scope, "name": name})
    return f"{reverse('admin:fulfillment_hold_place')}?{filled}"


class Holdable:
    """Pages of what may be held: a button that leads to the filled-in form.

    A number names plans and tasks, a name target systems; others say how by `hold_name`.
    """

    hold_scope: HoldScope
    actions_detail: tuple[str, ...] = ("hold",)

    def hold_name(self, row: Any) -> str:
        return str(row.pk)

    def has_place_hold_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.HOLD_PLACE)

    @action(
        description="Place a hold",
        url_path="hold",
        permissions=["place_hold"],
        icon="front_hand",
    )
    def hold(self: Any, request: HttpRequest, object_id: str) -> HttpResponse:
        row = found_or_404(self, request, object_id)
        return redirect(place_address(scope=self.hold_scope, name=self.hold_name(row)))


class PlaceHoldForm(ReasonForm):
    scope = forms.ChoiceField(choices=_SCOPES, widget=UnfoldAdminSelectWidget())
    name = forms.CharField(max_length=250, widget=UnfoldAdminTextInputWidget())
    until = forms.DateTimeField(
        label="Until (UTC)",
        required=False,
        widget=forms.DateTimeInput(
            format="%Y-%m-%dT%H:%M",
            attrs={"type": "datetime-local", "class": " ".join(INPUT_CLASSES)},
        ),
        help_text="It ends by itself then. Empty: when somebody releases it.",
    )
    clock_policy = forms.ChoiceField(
        label="Clocks",
        choices=_CLOCKS,
        widget=UnfoldAdminSelectWidget(),
        help_text="What the clocks that customers were promised do meanwhile.",
    )
    field_order = ("scope", "name", "reason", "until", "clock_policy")


@admin.register(Hold)
class HoldAdmin(Bulkable, Operable, ReadOnlyAdmin):
    bulk_of = "hold"
    subject_kind = "hold"
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
        ("until", "clock_policy"),
        ("released_by", "released_at"),
        "release_reason",
        "tasks",
    )
    readonly_fields = ("what", "state", "tasks")
    actions_list = ("place",)
    actions_detail = ("release",)

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

    @display(description="what has met it")
    def tasks(self, hold: Hold) -> str:
        return list_link("tasks that wait for its release", model=Task, held_by__id__exact=hold.pk)

    def has_place_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.HOLD_PLACE)

    def has_release_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.HOLD_RELEASE)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        hold = self.get_object(request, object_id)
        found = super().get_actions_detail(request, object_id)
        return list(found) if hold and not hold.released_at else []

    @action(description="Place a hold", url_path="place", permissions=["place"], icon="front_hand")
    def place(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST":
            form = PlaceHoldForm(request.POST)
            if form.is_valid():
                placed = _placed(form, actor=actor_of(request))
                if placed is not None:
                    told = operations.on_the_wire(placed.in_flight)
                    self.message_user(request, f"Placed: nothing more of it is sent. {told}")
                    return redirect("admin:fulfillment_hold_change", placed.hold_id)
        else:
            given = {name: request.GET.get(name, "") for name in ("scope", "name")}
            form = PlaceHoldForm(initial=given)
        return ask(
            self,
            request,
            form=form,
            title="Place a hold",
            told="Nothing in its scope is sent until it is released. Target systems are still "
            "asked what became of what was sent before; only a pause of the target system stops "
            "that.",
            button="Place it",
            back=reverse("admin:fulfillment_hold_changelist"),
        )

    @action(description="Release", url_path="release", permissions=["release"], icon="play_arrow")
    def release(self, request: HttpRequest, object_id: str) -> HttpResponse:
        hold = found_or_404(self, request, object_id)
        page = reverse("admin:fulfillment_hold_change", args=[hold.pk])
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            reason = form.cleaned_data["reason"]
            released = attempt(
                form,
                lambda: operations.release_hold(
                    hold_id=hold.pk, reason=reason, actor=actor_of(request)
                ),
            )
            if released:
                self.message_user(request, "Released: what it kept back goes on.")
            elif released is not None:
                self.message_user(request, "It was released before.", messages.WARNING)
            if released is not None:
                return redirect(page)
        return ask(
            self,
            request,
            form=form,
            title=f"Release the hold on {hold.subject}",
            told=f"{hold.placed_by} has placed it: {quoted(hold.reason)} What it keeps back goes "
            "on, unless another hold keeps it too.",
            button="Release it",
            back=page,
        )


def _placed(form: PlaceHoldForm, *, actor: Actor) -> operations.Placed | None:
    """The hold; None, and the error beside its field, when it can't be placed."""
    asked = form.cleaned_data
    return attempt(
        form,
        lambda: operations.place_hold(
            scope=HoldScope(asked["scope"]),
            name=asked["name"],
            reason=asked["reason"],
            actor=actor,
            until=asked["until"],
            clock_policy=ClockPolicy(asked["clock_policy"]),
            patience=operations.BRIEFLY,
        ),
        fields={NothingToHold: "name", ReasonMissing: "reason", HoldWouldBeOver: "until"},
    )
