"""Who may do what: grants, and every decision about what somebody wanted to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.utils.html import format_html
from unfold.decorators import display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.operating import operate_address
from fulfillment.admin.reading import (
    NewestValues,
    ReadOnlyAdmin,
    list_link,
    pretty,
    subject_link,
)
from fulfillment.models import AuthorityDecision, Grant


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
