"""What was ordered, item by item: what of it is there, what is missing, and what leaks."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from fulfillment.admin.reading import Badge, badge_of
from fulfillment.definitions.signs import TASK_SIGNS
from fulfillment.models import Plan
from fulfillment.waits.waiting import Wait
from oms import leaks
from oms.admin.order_page.signs import (
    BILLING,
    BILLING_ENDS,
    COMPLETE,
    GAPS,
    PARTIAL,
    SERVICE,
    SERVICE_ENDS,
    UNBILLED,
)
from oms.models import Order, OrderItem
from oms.queries.item_progress import ItemStanding, item_standings
from oms.queries.progress import Part, Structured


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPart:
    """One kind of partial fulfilment (reference §15)."""

    title: str
    badge: Badge
    there: str
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownGap:
    """An item of which only the service or only the billing is there."""

    badge: Badge
    item: str
    since: datetime
    due_at: datetime | None
    worth: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownItem:
    of: ItemStanding
    trouble: Badge | None
    service: Badge | None
    billing: Badge | None
    details: str
    """What was ordered of it, as JSON: characteristics, prices, place …"""


def items(
    order: Order, plan: Plan | None, far: Structured, troubles: Sequence[Wait]
) -> list[ShownItem]:
    """Each with how far it is, its service and its billing."""
    return [
        ShownItem(
            of=one,
            trouble=badge_of(one.waits[0].state, TASK_SIGNS) if one.waits else None,
            service=(SERVICE_ENDS if one.ends else SERVICE)[one.service],
            billing=(BILLING_ENDS if one.ends else BILLING)[one.billing],
            details=_details(one.item),
        )
        for one in item_standings(order=order, plan=plan, far=far, troubles=troubles)
    ]


def _details(item: OrderItem) -> str:
    prices = {
        name: f"{amount} {item.currency}"
        for name, amount in (
            ("price, once", item.one_off_price),
            ("price, recurring", item.recurring_price),
        )
        if amount is not None
    }
    told = {
        "characteristics": item.characteristics,
        **prices,
        "asset": item.asset,
        "place": item.place,
        "parties": item.parties,
        "relations": item.relations,
    }
    known = {name: value for name, value in told.items() if value}
    return json.dumps(known, indent=2, ensure_ascii=False) if known else ""


def parts(far: Structured, *, ending: Collection[str]) -> list[ShownPart]:
    """How much of it the customer has, of each kind that there is something of.

    `ending` are items that are ordered to end: theirs are no active items.
    """

    def staying(part: Part) -> Part:
        return Part(
            there=tuple(item for item in part.there if item not in ending),
            missing=tuple(item for item in part.missing if item not in ending),
        )

    named = (
        ("Items complete", far.commercial, PARTIAL),
        ("Milestones reached", far.customer_visible, PARTIAL),
        ("Items active", staying(far.asset), PARTIAL),
        ("Active items billed", staying(far.billing), UNBILLED),
        ("Items that may be used", staying(far.entitled), PARTIAL),
    )
    return [
        ShownPart(
            title=title,
            badge=COMPLETE if part.there and not part.missing else open_badge,
            there=", ".join(part.there) or "none",
            missing=", ".join(part.missing) or "none",
        )
        for title, part, open_badge in named
        if part.there or part.missing
    ]


def gaps(order: Order) -> list[ShownGap]:
    """Its items of which one side is missing."""
    return [
        ShownGap(
            badge=GAPS[gap.leak],
            item=gap.item.item_id,
            since=gap.since,
            due_at=gap.due_at,
            worth=leaks.in_words(gap.worth) or "no price",
        )
        for gap in leaks.gaps(order=order)
    ]
