"""What people have to decide: the list by desk, and the page on which it is decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import ReasonForm, actor_of, found_or_404, holds_here
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.figures import DueFilter
from fulfillment.admin.operating import JsonText, Operable, carry_out
from fulfillment.admin.reading import (
    Badge,
    NewestValues,
    ReadOnlyAdmin,
    badge,
    badge_of,
    link,
    order_link,
    pretty,
    register_signs,
    show_badge,
)
from fulfillment.definitions.signs import Sign, in_words
from fulfillment.errors import DecisionMade, DefinitionInvalid, Denied, FulfillmentError
from fulfillment.models import MANUAL_OPEN, MANUAL_TIMED, ManualState, ManualTask

MANUAL_SIGNS: Mapping[str, Sign] = {
    ManualState.OPEN: ("☞", "trouble"),
    ManualState.CLAIMED: ("✋", "moving"),
    ManualState.AWAITING_CUSTOMER: ("◷", "waiting"),
    ManualState.DECIDED: ("✓", "done"),
    ManualState.WITHDRAWN: ("⊘", "waiting"),
}
register_signs(entity="manual", signs=MANUAL_SIGNS)
_YES = (("", "—"), ("true", "yes"), ("false", "no"))
_HARMLESS = frozenset({"proceed", "refuse", "undo", "ask_customer", "requote", "cancel"})
"""Effects that nobody has to bring evidence for."""
_VALUE = "value-"
"""Before the names of the declared fields, which may be called like those of the form."""


class DecisionForm(ReasonForm):
    """What the manual task asks for, typed as declared, and why it is decided so.

    Whether a value may be missing depends on the outcome, so the operation says it.
    """

    question = forms.CharField(
        max_length=1000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="To the customer, word for word as they get it; or what has to be quoted anew.",
    )
    evidence = forms.CharField(
        max_length=4000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="What you have found out, and where it can be seen.",
    )

    def __init__(self, manual: ManualTask, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.values = {f"{_VALUE}{name}": name for name in manual.fields}
        for name, spec in manual.fields.items():
            self.fields[f"{_VALUE}{name}"] = _field(name, spec)
        if not {"ask_customer", "requote"} & set(manual.outcomes.values()):
            del self.fields["question"]
        if _HARMLESS.issuperset(manual.outcomes.values()):
            del self.fields["evidence"]
        self.order_fields([*self.values, "question", "reason", "evidence"])

    def entered(self) -> dict[str, Any]:
        """Values that were given, by their declared names."""
        found = {name: self.cleaned_data.get(field) for field, name in self.values.items()}
        return {name: value for name, value in found.items() if value not in (None, "")}


def _field(name: str, spec: Mapping[str, Any]) -> forms.Field:
    common: dict[str, Any] = {
        "label": in_words(name).capitalize(),
        "required": False,
        "help_text": "May be left empty." if spec["optional"] else "",
    }
    match spec["type"]:
        case "integer":
            return forms.IntegerField(widget=UnfoldAdminIntegerFieldWidget(), **common)
        case "number":
            widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any"})
            return forms.FloatField(widget=widget, **common)
        case "boolean":
            return forms.TypedChoiceField(
                choices=_YES,
                coerce=lambda chosen: chosen == "true",
                empty_value=None,
                widget=UnfoldAdminSelectWidget(),
                **common,
            )
        case "list" | "object":
            written = "a list" if spec["type"] == "list" else "an object"
            common["help_text"] = f"JSON: {written}. {common['help_text']}".strip()
            return JsonText(**common)
    return forms.CharField(max_length=10_000, widget=UnfoldAdminTextInputWidget(), **common)


def due_badge(manual: ManualTask) -> Badge | None:
    """That it should have been decided by now; None while there is time."""
    if manual.state not in MANUAL_TIMED:
        return None
    if manual.due_at is None or manual.due_at < timezone.now():
        return Badge(sign="⚠", tone="failed", words="overdue")
    return None


class StateFilter(admin.ChoicesFieldListFilter):
    """Decided ones stand behind all that are open; by this the index finds where they begin."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if request.GET.get(self.lookup_kwarg) == ManualState.DECIDED:
            queryset = queryset.filter(decided_at__isnull=False)
        return super().queryset(request, queryset)


@admin.register(ManualTask)
class ManualTaskAdmin(Bulkable, Operable, ReadOnlyAdmin):
    bulk_of = "manual"
    subject_kind = "manual"
    list_display = (
        "id",
        "state_badge",
        "due",
        "title",
        "order",
        "queue",
        "role",
        "claimed_by",
        "decision",
        "opened_at",
    )
    list_filter = (
        ("state", StateFilter),
        ("decided_at", admin.EmptyFieldListFilter),
        DueFilter,
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
    fields = (("order", "task_link"), ("opened_at", "otherwise"), "form_text", "context_text")
    readonly_fields = ("order", "task_link", "form_text", "context_text")
    change_form_outer_before_template = "desk/manual.html"
    actions_detail = ("decide",)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        manual: ManualTask = context["original"]
        context["badges"] = _badges(manual)
        context["is_open"] = manual.state in MANUAL_OPEN
        context["may_decide"] = self.has_decide_permission(request)
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    @display(description="state")
    def state_badge(self, manual: ManualTask) -> str:
        return badge(manual.state, MANUAL_SIGNS)

    @display(description="due (UTC)")
    def due(self, manual: ManualTask) -> str:
        at = f"{manual.due_at:%Y-%m-%d %H:%M}" if manual.due_at else ""
        late = due_badge(manual)
        return format_html("{} {}", show_badge(late), at) if late else at or "—"

    @display(description="order")
    def order(self, manual: ManualTask) -> str:
        return order_link(manual.fulfillment.order_reference)

    @display(description="decided")
    def decision(self, manual: ManualTask) -> str:
        return f"{in_words(manual.outcome)} by {manual.decided_by}" if manual.outcome else "—"

    @display(description="task")
    def task_link(self, manual: ManualTask) -> str:
        return link(manual.task)

    @display(description="what its form asks for")
    def form_text(self, manual: ManualTask) -> str:
        return pretty(manual.fields) if manual.fields else "nothing but the outcome"

    @display(description="the order and what was known, when it was opened")
    def context_text(self, manual: ManualTask) -> str:
        return pretty(manual.context)

    # --- deciding --------------------------------------------------------------------------------

    def has_decide_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.MANUAL_DECIDE)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        manual = self.get_object(request, object_id)
        found = super().get_actions_detail(request, object_id)
        return list(found) if manual and manual.state in MANUAL_OPEN else []

    @action(description="Decide", url_path="decide", permissions=["decide"], icon="gavel")
    def decide(self, request: HttpRequest, object_id: str) -> HttpResponse:
        manual: ManualTask = found_or_404(self, request, object_id)
        page = reverse("admin:fulfillment_manualtask_change", args=[manual.pk])
        if manual.state not in MANUAL_OPEN:
            self.message_user(request, _told(manual), messages.WARNING)
            return redirect(page)
        form = DecisionForm(manual, request.POST if request.method == "POST" else None)
        if form.is_valid() and self._decided(request, manual, form):
            return redirect(page)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": manual.title,
            "original": manual,
            "badges": _badges(manual),
            "form": form,
            "outcomes": [(name, in_words(name).capitalize()) for name in manual.outcomes],
            "refusing": ", ".join(
                in_words(name) for name, does in manual.outcomes.items() if does == "refuse"
            ),
            "context_text": pretty(manual.context),
            "back": page,
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "desk/decide.html", context)

    def _decided(self, request: HttpRequest, manual: ManualTask, form: DecisionForm) -> bool:
        """False, with what is wrong beside its field, when it was not decided."""
        try:
            found = operations.prepared(
                actor=actor_of(request),
                request=operations.Request(
                    action=Action.MANUAL_DECIDE,
                    subject=f"manual:{manual.pk}",
                    reason=form.cleaned_data["reason"],
                    evidence=form.cleaned_data.get("evidence", ""),
                    parameters={
                        "outcome": request.POST.get("outcome", "")[:63],
                        "values": form.entered(),
                        "question": form.cleaned_data.get("question", ""),
                    },
                ),
            )
            carry_out(request, found)
        except DefinitionInvalid as error:
            for fault in error.faults:
                field = f"{_VALUE}{fault.path.removeprefix('values.')}"
                form.add_error(field if field in form.fields else None, fault.message)
            return False
        except DecisionMade as error:
            self.message_user(request, str(error), messages.WARNING)
            return True
        except Denied as error:
            raise PermissionDenied(str(error)) from None
        except FulfillmentError as error:
            form.add_error(None, str(error))
            return False
        return True


def _badges(manual: ManualTask) -> list[Badge]:
    return [badge_of(manual.state, MANUAL_SIGNS), *filter(None, [due_badge(manual)])]


def _told(manual: ManualTask) -> str:
    if manual.state == ManualState.WITHDRAWN:
        return "Nothing is to be decided here any more."
    return f"It was decided by {manual.decided_by}: {in_words(manual.outcome)}."
