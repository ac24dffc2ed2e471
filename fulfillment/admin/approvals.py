"""Approvals: the inbox of what waits for a second person, and the page on which they decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display

from fulfillment import operations
from fulfillment.actions import APPROVALS, Action
from fulfillment.admin.asking import (
    ReasonForm,
    actor_of,
    ask,
    attempt,
    focus_none,
    found_or_404,
    held_here,
    reach_here,
)
from fulfillment.admin.figures import OfferedFilter, counted
from fulfillment.admin.pages import is_live_look
from fulfillment.admin.previewing import about, shown
from fulfillment.admin.reading import (
    NewestValues,
    ReadOnlyAdmin,
    badge,
    badge_of,
    link,
    order_link,
    pretty,
    register_signs,
    subject_link,
)
from fulfillment.admin.tabs import by_whom
from fulfillment.authority.context import Context
from fulfillment.definitions.signs import Sign
from fulfillment.errors import NotPossible, SubjectUnknown
from fulfillment.models import Approval, ApprovalState
from fulfillment.operations.approving import may_decide
from fulfillment.operations.offering import help_of
from fulfillment.queries.approval_queue import MOST, approval_queue, asked_of
from fulfillment.queries.manual_queue import in_time

APPROVAL_SIGNS: Mapping[str, Sign] = {
    ApprovalState.REQUESTED: ("?", "trouble"),
    ApprovalState.EXECUTED: ("✓", "done"),
    ApprovalState.REFUSED: ("✗", "failed"),
    ApprovalState.WITHDRAWN: ("⊘", "waiting"),
    ApprovalState.EXPIRED: ("⊘", "waiting"),
    ApprovalState.STALE: ("⊘", "waiting"),
}
register_signs(entity="approval", signs=APPROVAL_SIGNS)
_BECAME: Mapping[str, str] = {
    ApprovalState.EXECUTED: "It was approved, and done in the same moment.",
    ApprovalState.REFUSED: "Another person has said no. Nothing was done.",
    ApprovalState.WITHDRAWN: "Whoever asked for it has taken it back. Nothing was done.",
    ApprovalState.EXPIRED: "Nobody has decided it in time. Nothing was done; it may be asked for "
    "anew.",
    ApprovalState.STALE: "What it is about has changed since it was asked for, so it can't be "
    "approved any more. Nothing was done; it may be asked for anew, as things stand now.",
}
_WAITING = {"state__exact": str(ApprovalState.REQUESTED)}


class WhoseFilter(OfferedFilter):
    """Those that wait, by whom they wait for."""

    title = "whom it waits for"
    parameter_name = "whose"
    offered = (("decide", "I may decide it"), ("mine", "I have asked for it"))

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        if value == "mine":
            return Q(requested_by=_person(request))
        return asked_of(user_id=_person(request), held=held_here(request))


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    change_list_template = "desk/work/approval_list.html"
    list_display = (
        "what",
        "about",
        "told_short",
        "requested_by",
        "until",
        "state_badge",
        "who_decides",
    )
    list_filter = (WhoseFilter, "state", "needs", ("action", NewestValues))
    list_select_related = ("requested_by",)
    list_left_out = ("payload",)
    search_fields = ("id", "subject")
    search_help_text = "Its number, or what it is about, such as task:12"
    fieldsets = (
        (
            "On record",
            {
                "classes": ("collapse",),
                "fields": (
                    ("order", "record"),
                    ("requested_at", "expires_at"),
                    ("decided_by", "decided_at"),
                    "parameters_text",
                ),
            },
        ),
    )
    readonly_fields = ("order", "record", "parameters_text")
    change_form_outer_before_template = "desk/work/approval.html"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if super().has_view_permission(request, obj):
            return True
        return not APPROVALS.isdisjoint(held_here(request)) or (
            obj is not None and obj.requested_by_id == request.user.pk
        )

    # --- the inbox -------------------------------------------------------------------------------

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        given = {"inbox": _inbox(request), "live_every": 15, **(extra_context or {})}
        return super().changelist_view(request, given)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        listed = super().get_changelist_instance(request)
        rows = listed.result_list = list(listed.result_list)
        actor, held = actor_of(request), held_here(request)
        for row in rows:
            row.is_own = row.requested_by_id == request.user.pk
            row.may_be_decided = may_decide(approval=row, actor=actor, held=held)
        return listed

    @display(description="what is to be done")
    def what(self, approval: Approval) -> str:
        return Action(approval.action).words

    @display(description="to what")
    def about(self, approval: Approval) -> str:
        return subject_link(approval.subject)

    @display(description="what it will do")
    def told_short(self, approval: Approval) -> str:
        return approval.told if len(approval.told) <= _SHORT else f"{approval.told[:_SHORT]}…"

    @display(description="decide by")
    def until(self, approval: Approval) -> str:
        if approval.state != ApprovalState.REQUESTED:
            return "—"
        return in_time(approval.expires_at, now=timezone.now())

    @display(description="state")
    def state_badge(self, approval: Approval) -> str:
        return badge(approval.state, APPROVAL_SIGNS)

    @display(description="who decides")
    def who_decides(self, approval: Any) -> str:
        if approval.state != ApprovalState.REQUESTED:
            return "—"
        if approval.may_be_decided:
            return "you may"
        if approval.is_own:
            return "another person: you have asked for it"
        return f"whoever has {approval.needs}"

    # --- its page --------------------------------------------------------------------------------

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        context |= self._standing(request, context["original"])
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    def _standing(self, request: HttpRequest, approval: Approval) -> dict[str, Any]:
        """Who asks for what and why; and while it may be decided, what it would do now."""
        repair = operations.repair_of(approval.action)
        is_open = approval.state == ApprovalState.REQUESTED
        is_over = is_open and approval.expires_at <= timezone.now()
        found: dict[str, Any] = {
            "badge": badge_of(approval.state, APPROVAL_SIGNS),
            "words": Action(approval.action).words,
            "help": help_of(repair),
            "about": about(approval.subject),
            "needs": Action(approval.needs),
            "became": _BECAME.get(approval.state, ""),
            "is_waiting": is_open and not is_over,
            "is_over": is_over,
            "left": in_time(approval.expires_at, now=timezone.now()),
            "may_decide": (
                not is_over and self._may_decide(request, approval) and _reaches(request, approval)
            ),
            "is_own": approval.requested_by_id == request.user.pk,
            "form": ReasonForm(),
        }
        focus_none(found["form"])
        # It takes the order's lock for a moment: whoever leaves the page open takes it only once.
        if is_open and not is_over and not is_live_look(request):
            looked = operations.looked_at_again(approval=approval)
            found["changed"] = looked.changed
            if looked.preview is not None:
                found["preview"] = shown(looked.preview, repair=repair, is_asked=True)
        return found

    @display(description="order")
    def order(self, approval: Approval) -> str:
        return order_link(approval.fulfillment.order_reference) if approval.fulfillment else "—"

    @display(description="with")
    def parameters_text(self, approval: Approval) -> str:
        return pretty(approval.payload["parameters"] or None)

    @display(description="what was done")
    def record(self, approval: Approval) -> str:
        return link(approval.operations.first())

    # --- deciding --------------------------------------------------------------------------------

    actions_detail = ("approve", "refuse", "withdraw")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Their addresses are there; their buttons stand on the page itself, with the reason."""
        return []

    def has_decide_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        approval = self._asked(request, object_id)
        return approval is not None and self._may_decide(request, approval)

    def has_withdraw_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        approval = self._asked(request, object_id)
        return (
            approval is not None
            and approval.state == ApprovalState.REQUESTED
            and approval.requested_by_id == request.user.pk
        )

    def _may_decide(self, request: HttpRequest, approval: Approval) -> bool:
        return may_decide(approval=approval, actor=actor_of(request), held=held_here(request))

    def _asked(self, request: HttpRequest, object_id: Any) -> Approval | None:
        return None if object_id is None else self.get_object(request, str(object_id))

    @action(description="Approve", url_path="approve", permissions=["decide"], icon="check")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(
            request,
            object_id,
            lambda pk, reason: (
                operations.approve(approval_id=pk, actor=actor_of(request), reason=reason)[1].told
            ),
            verb="Approve",
            told="It is done in the same moment, as it was asked for; or not at all, when what it "
            "is about has changed since.",
        )

    @action(description="Refuse", url_path="refuse", permissions=["decide"], icon="close")
    def refuse(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def refuse(pk: int, reason: str) -> str:
            operations.refuse(approval_id=pk, actor=actor_of(request), reason=reason)
            return "Refused. Nothing was done."

        told = "Nothing is done; whoever has asked for it reads why."
        return self._decide(request, object_id, refuse, verb="Refuse", told=told)

    @action(description="Take back", url_path="withdraw", permissions=["withdraw"], icon="undo")
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def withdraw(pk: int, reason: str) -> str:
            operations.withdraw(approval_id=pk, actor=actor_of(request), reason=reason)
            return "Taken back. Nothing was done."

        told = "Nothing is done, and nobody has to decide it any more."
        return self._decide(request, object_id, withdraw, verb="Take back", told=told)

    def _decide(
        self,
        request: HttpRequest,
        object_id: str,
        decide: Callable[[int, str], str],
        *,
        verb: str,
        told: str,
    ) -> HttpResponse:
        approval: Approval = found_or_404(self, request, object_id)
        page = reverse("admin:fulfillment_approval_change", args=[approval.pk])
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            done = attempt(form, lambda: decide(approval.pk, form.cleaned_data["reason"]))
            if done is not None:
                self.message_user(request, done)
                return redirect(page)
        return ask(
            self,
            request,
            form=form,
            title=f"{verb} approval {approval.pk}",
            told=f"{approval.requested_by.get_username()} wants: {approval.told} Why: "
            f"{approval.payload['reason']} {told}",
            button=verb,
            back=page,
        )


_SHORT = 160


def _reaches(request: HttpRequest, approval: Approval) -> bool:
    """Whether their authority to decide covers where it would be done."""
    try:
        contexts = operations.repair_of(approval.action).found(subject=approval.subject).contexts
    except (SubjectUnknown, NotPossible):
        contexts = (Context(subject=approval.subject),)
    reach, needs = reach_here(request), Action(approval.needs)
    return all(reach.answer(action=needs, context=context)[0] for context in contexts)


def _person(request: HttpRequest) -> int:
    return request.user.pk or 0


def _inbox(request: HttpRequest) -> dict[str, Any]:
    """The head of the list: what waits, and for whom."""
    found = approval_queue(user_id=_person(request), held=held_here(request))
    views = (
        ("I may decide", found.for_me, "decide"),
        ("I have asked for", found.mine, "mine"),
        ("All that wait", found.waiting, ""),
    )
    return {
        "told": _told(found.waiting, found.for_me),
        "tabs": by_whom(request, within=_WAITING, views=views, at_most=MOST),
    }


def _told(waiting: int, for_me: int) -> str:
    if not waiting:
        return "Nothing waits to be approved."
    if not for_me:
        return "Nothing waits for you: what waits is for others to decide."
    return (
        f"{counted(for_me, at_most=MOST)} wait for your decision."
        if for_me > 1
        else "One waits for you."
    )
