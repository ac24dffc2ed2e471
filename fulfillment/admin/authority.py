"""Who may do what: approvals, which people give here, grants, and every decision about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action, display

from fulfillment import operations
from fulfillment.actions import APPROVALS, Action
from fulfillment.admin.asking import (
    ReasonForm,
    actor_of,
    ask,
    attempt,
    found_or_404,
    held_here,
)
from fulfillment.admin.operating import operate_address
from fulfillment.admin.reading import (
    NewestValues,
    ReadOnlyAdmin,
    badge,
    link,
    list_link,
    order_link,
    pretty,
    register_signs,
    subject_link,
)
from fulfillment.definitions.signs import Sign
from fulfillment.models import Approval, ApprovalState, AuthorityDecision, Grant
from fulfillment.operations.approving import may_decide

APPROVAL_SIGNS: Mapping[str, Sign] = {
    ApprovalState.REQUESTED: ("?", "trouble"),
    ApprovalState.EXECUTED: ("✓", "done"),
    ApprovalState.REFUSED: ("✗", "failed"),
    ApprovalState.WITHDRAWN: ("⊘", "waiting"),
    ApprovalState.EXPIRED: ("⊘", "waiting"),
    ApprovalState.STALE: ("⊘", "waiting"),
}
register_signs(entity="approval", signs=APPROVAL_SIGNS)


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    list_display = ("id", "state_badge", "what", "about", "needs", "requested_by", "expires_at")
    list_filter = ("state", "needs", ("action", NewestValues))
    list_select_related = ("requested_by",)
    list_left_out = ("payload",)
    search_fields = ("id", "subject")
    search_help_text = "Its number, or what it is about, such as task:12"
    fields = (
        ("state_badge", "what"),
        ("about", "order"),
        "told",
        ("reason", "evidence"),
        "parameters_text",
        ("requested_by", "requested_at"),
        ("needs", "expires_at"),
        ("decided_by", "decided_at"),
        "decision_reason",
        "record",
    )
    readonly_fields = (
        "state_badge",
        "what",
        "about",
        "order",
        "reason",
        "evidence",
        "parameters_text",
        "record",
    )
    actions_detail = ("approve", "refuse", "withdraw")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if super().has_view_permission(request, obj):
            return True
        return not APPROVALS.isdisjoint(held_here(request)) or (
            obj is not None and obj.requested_by_id == request.user.pk
        )

    @display(description="state")
    def state_badge(self, approval: Approval) -> str:
        return badge(approval.state, APPROVAL_SIGNS)

    @display(description="what is to be done")
    def what(self, approval: Approval) -> str:
        return Action(approval.action).words

    @display(description="to what")
    def about(self, approval: Approval) -> str:
        return subject_link(approval.subject)

    @display(description="order")
    def order(self, approval: Approval) -> str:
        return order_link(approval.fulfillment.order_reference) if approval.fulfillment else "—"

    @display(description="why")
    def reason(self, approval: Approval) -> str:
        return str(approval.payload["reason"])

    @display(description="evidence")
    def evidence(self, approval: Approval) -> str:
        return str(approval.payload["evidence"]) or "—"

    @display(description="with")
    def parameters_text(self, approval: Approval) -> str:
        return pretty(approval.payload["parameters"] or None)

    @display(description="what was done")
    def record(self, approval: Approval) -> str:
        return link(approval.operations.first())

    # --- deciding --------------------------------------------------------------------------------

    def has_decide_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        approval = self._asked(request, object_id)
        return approval is not None and may_decide(
            approval=approval, actor=actor_of(request), held=held_here(request)
        )

    def has_withdraw_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        approval = self._asked(request, object_id)
        return (
            approval is not None
            and approval.state == ApprovalState.REQUESTED
            and approval.requested_by_id == request.user.pk
        )

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


@admin.register(AuthorityDecision)
class AuthorityDecisionAdmin(ReadOnlyAdmin):
    list_display = ("decided_at", "answer", "actor", "action", "what", "why")
    list_filter = ("is_allowed", ("action", NewestValues), ("actor", NewestValues))
    list_left_out = ("context",)
    search_fields = ("subject",)
    search_help_text = "A subject, such as task:12 or order:O-17"
    fields = (
        ("decided_at", "answer"),
        ("actor", "actor_kind"),
        ("action", "what"),
        "why",
        "context_text",
    )
    readonly_fields = ("answer", "what", "context_text")

    def searches(self, term: str) -> Iterable[Callable[[], QuerySet[AuthorityDecision]]]:
        yield from super().searches(term)
        kinds = ("order", "task", "plan", "target", "case", "manual")
        yield lambda: AuthorityDecision.objects.filter(
            subject__in=[f"{kind}:{term}" for kind in kinds]
        )

    @display(description="answer")
    def answer(self, decision: AuthorityDecision) -> str:
        return "allowed" if decision.is_allowed else "denied"

    @display(description="about")
    def what(self, decision: AuthorityDecision) -> str:
        return subject_link(decision.subject)

    @display(description="where")
    def context_text(self, decision: AuthorityDecision) -> str:
        return pretty(decision.context)


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = ("id", "whose", "what", "granted_by", "granted_at", "valid_until", "reason")
    list_filter = ("group", ("granted_by", NewestValues))
    list_select_related = ("user", "group")
    search_fields = ("user__username", "group__name")
    search_help_text = "A user, or a role"
    fields = (
        "whose",
        "what",
        ("granted_by", "granted_at"),
        ("valid_from", "valid_until"),
        "reason",
        "change",
    )
    readonly_fields = ("whose", "what", "change")

    @display(description="whose")
    def whose(self, grant: Grant) -> str:
        return f"role {grant.group}" if grant.group else f"user {grant.user}"

    @display(description="may be done where")
    def what(self, grant: Grant) -> str:
        return grant.in_words

    @display(description="to change it")
    def change(self, grant: Grant) -> str:
        subject = f"group:{grant.group}" if grant.group else f"user:{grant.user}"
        return access_link(subject)


def access_link(subject: str) -> str:
    """A link to the form by which access is given and taken: `user:anna` or `group:Auditor`."""
    address = operate_address(operations.repair_of(Action.GRANT_EDIT), subject)
    return format_html(
        '<a class="desk-link" href="{}">{}</a>', address, "give, or take away, what they may do"
    )


def grants_link(**lookups: Any) -> str:
    """A link to the grants of a user, or of a role."""
    return list_link("grants", model=Grant, **lookups)
