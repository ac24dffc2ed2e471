"""What people have to decide: the inbox, and the page on which it is taken and decided."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import (
    actor_of,
    came_from,
    focus_none,
    found_or_404,
    held_here,
    holds_here,
    reach_here,
)
from fulfillment.admin.audit import trail_link
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.decision_form import DecisionForm
from fulfillment.admin.figures import DueFilter
from fulfillment.admin.operating import Operable, carry_out
from fulfillment.admin.previewing import ShownPreview, shown
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
    signs_of,
)
from fulfillment.definitions.signs import Sign, in_words
from fulfillment.errors import (
    DecisionMade,
    DefinitionInvalid,
    Denied,
    FulfillmentError,
    ManualTaskTaken,
)
from fulfillment.models import MANUAL_OPEN, MANUAL_TIMED, ManualState, ManualTask
from fulfillment.operations.looking import one_look
from fulfillment.operations.showing import changes
from fulfillment.queries.manual_queue import counted, in_time, manual_queue, past, waits_for, ways

MANUAL_SIGNS: Mapping[str, Sign] = {
    ManualState.OPEN: ("☞", "trouble"),
    ManualState.CLAIMED: ("✋", "moving"),
    ManualState.AWAITING_CUSTOMER: ("◷", "waiting"),
    ManualState.DECIDED: ("✓", "done"),
    ManualState.WITHDRAWN: ("⊘", "waiting"),
}
register_signs(entity="manual", signs=MANUAL_SIGNS)
_SHOWN_FIRST = frozenset({"undo", "waive", "requote", "cancel"})
"""Effects that reach further than the task itself: what they would do is shown before."""
_AT_ONCE: Mapping[Action, str] = {
    Action.MANUAL_CLAIM: "Taken, to decide it.",
    Action.MANUAL_RELEASE: "Given back: somebody else may decide it.",
}
"""What harms nobody and is undone as fast, with the reason that the log gives for it."""
_OPEN = {"decided_at__isempty": "1"}


def due_badge(manual: ManualTask) -> Badge | None:
    """That it should have been decided by now; None while there is time."""
    if manual.state not in MANUAL_TIMED:
        return None
    if manual.due_at is None or manual.due_at < timezone.now():
        return Badge(sign="⚠", tone="failed", words="overdue")
    return None


def due_words(manual: ManualTask) -> str:
    """How much time there is, or how long it has been over."""
    if manual.state not in MANUAL_OPEN:
        return ""
    if manual.state == ManualState.AWAITING_CUSTOMER:
        return f"time stands still: the {manual.awaits} is awaited"
    if manual.due_at is None:
        return "somebody has been told"
    return in_time(manual.due_at, now=timezone.now())


class StateFilter(admin.ChoicesFieldListFilter):
    """Decided ones stand behind all that are open; by this the index finds where they begin."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if request.GET.get(self.lookup_kwarg) == ManualState.DECIDED:
            queryset = queryset.filter(decided_at__isnull=False)
        return super().queryset(request, queryset)


class WhoseFilter(admin.SimpleListFilter):
    """Open ones by who has them, or may."""

    title = "who has it"
    parameter_name = "whose"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return [("mine", "I have it"), ("nobody", "nobody has it"), ("roles", "for my roles")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in ("mine", "nobody", "roles"):
            return queryset
        wanted = waits_for(
            whose=str(self.value()), person=request.user.get_username(), roles=_roles(request)
        )
        return queryset.filter(wanted)


@admin.register(ManualTask)
class ManualTaskAdmin(Bulkable, Operable, ReadOnlyAdmin):
    bulk_of = "manual"
    subject_kind = "manual"
    change_list_template = "desk/work/manual_list.html"
    list_display = ("what", "due", "state_badge", "whose", "for_whom", "order", "decision")
    list_display_links = ("what",)
    list_filter = (
        WhoseFilter,
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
        given = {"inbox": _inbox(request), "live_every": 15, **(extra_context or {})}
        return super().changelist_view(request, given)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        listed = super().get_changelist_instance(request)
        rows = listed.result_list = list(listed.result_list)
        person = request.user.get_username()
        # The only button of a row; each more would be asked about for all of them.
        waiting = [row.pk for row in rows if row.state == ManualState.OPEN]
        may = _may(request, waiting, among={Action.MANUAL_CLAIM})
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
            context |= self._standing(request, manual)
            if context["is_open"] and context["may_decide"]:
                form = DecisionForm(manual)
                focus_none(form)
                context |= _asked(manual, form)
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

    def _standing(self, request: HttpRequest, manual: ManualTask) -> dict[str, Any]:
        """What both pages say of it."""
        person, may = request.user.get_username(), _may(request, [manual.pk])[manual.pk]
        return {
            "badges": _badges(manual),
            "due_words": due_words(manual),
            "is_open": manual.state in MANUAL_OPEN,
            "may_decide": Action.MANUAL_DECIDE in may,
            "is_mine": manual.claimed_by == person,
            "others": manual.claimed_by if manual.claimed_by != person else "",
            "may_claim": Action.MANUAL_CLAIM in may,
            "may_release": Action.MANUAL_RELEASE in may and manual.claimed_by == person,
            "known": changes(before={}, after=manual.context),
            "past": [_step(one) for one in past(manual=manual)],
        }

    # --- taking it, and giving it back -----------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view, "fulfillment_manualtask"
        return [
            path("<path:object_id>/claim/", view(self.claim), name=f"{name}_claim"),
            path("<path:object_id>/release/", view(self.release), name=f"{name}_release"),
            path("<path:object_id>/decide/", view(self.decide), name=f"{name}_decide"),
            *super().get_urls(),
        ]

    def claim(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._at_once(request, object_id, Action.MANUAL_CLAIM)

    def release(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._at_once(request, object_id, Action.MANUAL_RELEASE)

    def _at_once(self, request: HttpRequest, object_id: str, action: Action) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not holds_here(request, action):
            raise PermissionDenied(f"You may not do this anywhere: {action}.")
        manual: ManualTask = found_or_404(self, request, object_id)
        wanted = operations.Request(
            action=action, subject=f"manual:{manual.pk}", reason=_AT_ONCE[action]
        )
        try:
            messages.success(
                request, operations.perform(actor=actor_of(request), request=wanted).told
            )
        except FulfillmentError as error:
            messages.error(request, str(error))
        page = reverse("admin:fulfillment_manualtask_change", args=[manual.pk])
        return redirect(came_from(request) or page)

    # --- deciding --------------------------------------------------------------------------------

    def has_decide_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return holds_here(request, Action.MANUAL_DECIDE)

    def decide(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Its form; what reaches further than the task itself is shown before it is done."""
        if not self.has_decide_permission(request):
            raise PermissionDenied(f"You may not do this anywhere: {Action.MANUAL_DECIDE}.")
        manual: ManualTask = found_or_404(self, request, object_id)
        page = reverse("admin:fulfillment_manualtask_change", args=[manual.pk])
        if manual.state not in MANUAL_OPEN:
            self.message_user(request, _told(manual), messages.WARNING)
            return redirect(page)
        form = DecisionForm(manual, request.POST if request.method == "POST" else None)
        outcome = request.POST.get("outcome", "")[:63]
        refused: dict[str, Any] = {}
        if form.is_valid():
            try:
                preview = self._decided(request, manual, form, outcome)
                if preview is None:
                    return redirect(page)
                refused = {"preview": preview, "seen": form.digest(outcome), "chosen": outcome}
            except DefinitionInvalid as error:
                form.refuse(error)
            except DecisionMade as error:
                self.message_user(request, str(error), messages.WARNING)
                return redirect(page)
            except Denied as error:
                raise PermissionDenied(str(error)) from None
            except FulfillmentError as error:
                taken = isinstance(error, ManualTaskTaken)
                heading = "Somebody was there before you" if taken else "Nothing was decided"
                refused = {"heading": heading, "refusal": str(error)}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": manual.title,
            "original": manual,
            **self._standing(request, manual),
            **_asked(manual, form),
            **refused,
            "back": page,
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "desk/work/decide.html", context)

    def _decided(
        self, request: HttpRequest, manual: ManualTask, form: DecisionForm, outcome: str
    ) -> ShownPreview | None:
        """None once it is decided, or asked for; what it would do where that has to be seen."""
        is_seen = request.POST.get("seen") == form.digest(outcome)
        found = operations.prepared(
            actor=actor_of(request),
            request=operations.Request(
                action=Action.MANUAL_DECIDE,
                subject=f"manual:{manual.pk}",
                reason=form.text("reason"),
                evidence=form.text("evidence"),
                parameters={
                    "outcome": outcome,
                    "values": form.entered(),
                    "question": form.text("question"),
                },
                expected_version=request.POST.get("version", "") if is_seen else "",
            ),
        )
        if manual.outcomes.get(outcome) in _SHOWN_FIRST and not is_seen:
            return shown(found.preview(), repair=found.repair)
        carry_out(request, found)
        return None


def _asked(manual: ManualTask, form: DecisionForm) -> dict[str, Any]:
    """The form and its outcomes, each with what it does."""
    return {
        "form": form,
        "ways": ways(manual=manual),
        "decide": reverse("admin:fulfillment_manualtask_decide", args=[manual.pk]),
    }


def _step(one: Any) -> dict[str, Any]:
    """One thing that has happened, newest first."""
    signs = signs_of(one.entity)
    return {
        "at": one.occurred_at,
        "what": "the question" if one.entity == "manual" else "the task",
        "badge": badge_of(one.to_state, signs),
        "actor": one.actor,
        "cause": one.cause,
    }


def _may(
    request: HttpRequest, pks: Sequence[int], *, among: Collection[Action] = frozenset(Action)
) -> dict[int, frozenset[Action]]:
    """What of this whoever looks may do to each of these now; a fixed number of queries."""
    held = [action for action in held_here(request) if action in among]
    found = operations.possible_among(about="manual", pks=pks, held=held, reach=reach_here(request))
    return {pk: frozenset(repair.action for repair in repairs) for pk, repairs in found.items()}


def _roles(request: HttpRequest) -> frozenset[str]:
    """The groups of whoever looks; read once for each page."""
    found: frozenset[str] | None = getattr(request, "roles", None)
    if found is None:
        user = cast(User, request.user)
        found = frozenset(user.groups.values_list("name", flat=True))
        request.roles = found  # type: ignore[attr-defined]
    return found


def _inbox(request: HttpRequest) -> dict[str, Any]:
    """The head of the list: how many there are, and one click for each view of them."""
    found = manual_queue(person=request.user.get_username(), roles=_roles(request))
    here = request.GET.get("whose", "") if request.GET.get("decided_at__isempty") == "1" else None
    tabs = [
        ("All that is open", found.to_decide, ""),
        ("I have it", found.mine, "mine"),
        ("Nobody has it", found.nobodys, "nobody"),
        ("For my roles", found.of_roles, "roles"),
    ]
    return {
        "told": _waiting(found.to_decide, found.overdue),
        "tabs": [
            {
                "words": words,
                "number": counted(number),
                "address": f"?{urlencode(_OPEN | ({'whose': whose} if whose else {}))}",
                "is_here": here == whose,
            }
            for words, number, whose in tabs
        ],
    }


def _waiting(to_decide: int, overdue: int) -> str:
    if not to_decide:
        return "Nothing waits for a decision."
    late = f"; {counted(overdue)} overdue, which stand first" if overdue else "; none is overdue"
    verb = "waits" if to_decide == 1 else "wait"
    return f"{counted(to_decide)} {verb} for a decision{late}."


def _badges(manual: ManualTask) -> list[Badge]:
    return [badge_of(manual.state, MANUAL_SIGNS), *filter(None, [due_badge(manual)])]


def _told(manual: ManualTask) -> str:
    if manual.state == ManualState.WITHDRAWN:
        return "Nothing is to be decided here any more."
    return f"It was decided by {manual.decided_by}: {in_words(manual.outcome)}."
