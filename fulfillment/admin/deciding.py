"""A manual task is taken, given back and decided: what both of its pages say, and its form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import actor_of, came_from, found_or_404, holds_here
from fulfillment.admin.decision_form import DecisionForm
from fulfillment.admin.manual_inbox import may_do
from fulfillment.admin.manual_signs import badges, due_words
from fulfillment.admin.operating import carry_out
from fulfillment.admin.previewing import ShownPreview, shown
from fulfillment.admin.reading import ReadOnlyAdmin, badge_of, signs_of
from fulfillment.definitions.signs import in_words
from fulfillment.errors import (
    DecisionMade,
    DefinitionInvalid,
    Denied,
    FulfillmentError,
    ManualTaskTaken,
)
from fulfillment.models import MANUAL_OPEN, ManualState, ManualTask
from fulfillment.operations.showing import changes
from fulfillment.queries.manual_queue import past, ways

_SHOWN_FIRST = frozenset({"undo", "waive", "requote", "cancel"})
"""Effects that reach further than the task itself: what they would do is shown before."""
_AT_ONCE: Mapping[Action, str] = {
    Action.MANUAL_CLAIM: "Taken, to decide it.",
    Action.MANUAL_RELEASE: "Given back: somebody else may decide it.",
}
"""What harms nobody and is undone as fast, with the reason that the log gives for it."""


def standing(request: HttpRequest, manual: ManualTask) -> dict[str, Any]:
    """What both pages say of it."""
    person, may = request.user.get_username(), may_do(request, [manual.pk])[manual.pk]
    return {
        "badges": badges(manual),
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


def asked(manual: ManualTask, form: DecisionForm) -> dict[str, Any]:
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


class Decidable(ReadOnlyAdmin):
    """The pages behind its buttons; the admin of manual tasks is one."""

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
            **standing(request, manual),
            **asked(manual, form),
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


def _told(manual: ManualTask) -> str:
    if manual.state == ManualState.WITHDRAWN:
        return "Nothing is to be decided here any more."
    return f"It was decided by {manual.decided_by}: {in_words(manual.outcome)}."
