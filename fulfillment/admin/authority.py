"""Who may do what: grants, and every decision about what somebody wanted to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.operating import operate_address
from fulfillment.admin.reading import (
    NewestValues,
    ReadOnlyAdmin,
    badge,
    list_link,
    order_link,
    subject_link,
)
from fulfillment.definitions.amounts import money
from fulfillment.definitions.signs import Sign
from fulfillment.models import AuthorityDecision, Grant
from fulfillment.operations.showing import readable

_ANSWERS: Mapping[str, Sign] = {"ALLOWED": ("✓", "done"), "DENIED": ("✗", "failed")}
_WHERE: Mapping[str, str] = {
    "order": "order",
    "owner": "client, by number",
    "region": "region",
    "targets": "target systems",
    "domains": "their domains",
    "products": "products",
    "amounts": "worth",
    "role": "only for the role",
    "is_activated": "in use by its customer",
}
"""What a decision keeps of where it was asked, in the order in which it is shown."""


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
        "where",
    )
    readonly_fields = ("answer", "what", "where")

    def searches(self, term: str) -> Iterable[Callable[[], QuerySet[AuthorityDecision]]]:
        yield from super().searches(term)
        kinds = ("order", "task", "plan", "target", "case", "manual")
        yield lambda: AuthorityDecision.objects.filter(
            subject__in=[f"{kind}:{term}" for kind in kinds]
        )

    @display(description="answer")
    def answer(self, decision: AuthorityDecision) -> str:
        return badge("ALLOWED" if decision.is_allowed else "DENIED", _ANSWERS)

    @display(description="about")
    def what(self, decision: AuthorityDecision) -> str:
        return subject_link(decision.subject)

    @display(description="where it was asked")
    def where(self, decision: AuthorityDecision) -> str:
        rows = list(_where(decision.context or {}))
        if not rows:
            return "nothing is known of it"
        return format_html(
            '<dl class="desk-facts">{}</dl>',
            format_html_join("", "<dt>{}</dt><dd>{}</dd>", rows),
        )


def _where(context: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was known of the place (`Context.document`), name by name; what was not is left out."""
    for key, name in _WHERE.items():
        value = context.get(key)
        if not value:
            continue
        if key == "order":
            yield name, order_link(str(value))
        elif key == "amounts":
            worth = (money(amount=Decimal(of), currency=one) for one, of in value.items())
            yield name, ", ".join(worth)
        else:
            yield name, readable(value)


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
