"""A preview as people read it: what changes, what is sent, who approves, what the customer gets.

The form of an operation shows it before it is done, and an approval before it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Permission

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.reading import Badge, address_of, badge_of, pretty, signs_of
from fulfillment.errors import FulfillmentError
from fulfillment.operations.offering import approvals_of, title_of
from fulfillment.operations.repair import Agreement
from fulfillment.operations.showing import Change, Table, changes
from fulfillment.queries.standing import Fact, standing

_MOST = 100
_ROLES_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an operation is about, and how that stands now."""

    subject: str
    title: str
    badge: Badge | None
    facts: Sequence[Fact]
    address: str
    order_reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownMove:
    """Something that changes its state by it; `before` is None where it did not exist."""

    what: str
    before: Badge | None
    after: Badge


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCommand:
    """What a target system is sent; `payload` is folded."""

    target: str
    action: str
    task: str
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownApproval:
    """That another person has to approve it: what they have to be allowed, who that is, and why."""

    needs: str
    words: str
    roles: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPreview:
    told: str
    version: str
    approval: ShownApproval | None
    tables: Sequence[Table]
    changes: Sequence[Change]
    customer_impact: str
    financial_impact: str
    moves: Sequence[ShownMove]
    more_moves: int
    commands: Sequence[ShownCommand]
    more_commands: int
    agreement: Agreement | None


def about(subject: str) -> About:
    """Of any subject; what is not known is called by its name."""
    found = standing(subject=subject)
    if found is None:
        kind, _, name = subject.partition(":")
        return About(
            subject=subject,
            title=f"{kind.capitalize()} {name}",
            badge=None,
            facts=(),
            address=address_of(subject),
            order_reference="",
        )
    return About(
        subject=subject,
        title=found.title,
        badge=badge_of(found.state, signs_of(found.entity)) if found.state else None,
        facts=found.facts,
        address=address_of(subject),
        order_reference="" if subject.startswith("order:") else found.order_reference,
    )


def shown(
    preview: operations.Preview, *, repair: operations.Repair, is_asked: bool = False
) -> ShownPreview:
    """At most one query, whatever it would do. `is_asked`: for the approval that it needs."""
    done, moved = preview.done, _from_end_to_end(preview.transitions)
    return ShownPreview(
        told=done.told,
        version=preview.version,
        approval=None if is_asked else approval_of(preview.needs, repair=repair),
        tables=done.tables,
        changes=changes(before=done.before, after=done.after, told_by=done.tables),
        customer_impact=done.customer_impact,
        financial_impact=done.financial_impact,
        moves=[_move(one) for one in moved[:_MOST]],
        more_moves=max(0, len(moved) - _MOST),
        commands=[_command(one) for one in preview.commands[:_MOST]],
        more_commands=max(0, len(preview.commands) - _MOST),
        agreement=repair.agreement(done),
    )


def shown_or_none(
    found: operations.Prepared, *, repair: operations.Repair
) -> tuple[ShownPreview | None, str]:
    """The preview, or why it is not possible now."""
    try:
        return shown(found.preview(), repair=repair), ""
    except FulfillmentError as error:
        return None, str(error)


def approval_of(needs: Action | None, *, repair: operations.Repair) -> ShownApproval | None:
    """Who else has to approve it, and why; one query where somebody has to."""
    if needs is None:
        return None
    return ShownApproval(
        needs=needs.value,
        words=needs.words,
        roles=_roles(needs),
        why=_why(needs, repair=repair),
    )


def _why(needs: Action, *, repair: operations.Repair) -> str:
    whens = [when for when, action in approvals_of(repair) if action is needs]
    if "always" in whens:
        return f"{title_of(repair)}: nobody does that alone."
    if whens:
        return f"{title_of(repair)}: nobody does that alone {', or '.join(whens)}."
    return "What it comes down to here is done by nobody alone."


def _roles(needs: Action) -> str:
    """Roles whose members may, as far as their permissions tell."""
    names = list(
        Permission.objects.filter(
            content_type__app_label="fulfillment", codename=needs.codename, group__isnull=False
        )
        .order_by("group__name")
        .values_list("group__name", flat=True)[: _ROLES_NAMED + 1]
    )
    more = " and others" if len(names) > _ROLES_NAMED else ""
    return ", ".join(names[:_ROLES_NAMED]) + more


def _from_end_to_end(transitions: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Each once, from where it is now to where it ends; what it passes on the way is left out."""
    ends: dict[tuple[str, str], dict[str, str]] = {}
    for one in transitions:
        known = ends.setdefault((one["entity"], one["id"]), dict(one))
        known["to"] = one["to"]
    return [one for one in ends.values() if one["from"] != one["to"]]


def _move(one: Mapping[str, str]) -> ShownMove:
    signs = signs_of(one["entity"])
    return ShownMove(
        what=f"{one['entity']} {one['name'] or one['id']}",
        before=badge_of(one["from"], signs) if one["from"] else None,
        after=badge_of(one["to"], signs),
    )


def _command(one: Mapping[str, Any]) -> ShownCommand:
    return ShownCommand(
        target=one["target"],
        action=one["action"],
        task=one["task"],
        payload=pretty(one["payload"]),
    )
