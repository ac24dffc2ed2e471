"""What cancelling an order means, in the words of its client (reference §19).

One document for the preview and for what is carried out: the request keeps it as it was decided.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fulfillment.definitions.assessment import Assessment, Becomes, Charge, Direction, Fate
from fulfillment.definitions.customer import Channel, TellSpec
from oms.changes.assessed import named, refusals_document
from oms.models import Milestone, Order, OrderItem
from oms.telling import Saying, composed

OCCASION = "cancelled"
_IN_THE_WAY = frozenset({"point_of_no_return", "irreversible"})


class Verdict(enum.StrEnum):
    """Of one item, and of the order as a whole."""

    FREE = "free"
    COST = "cost"
    PAST_POINT_OF_NO_RETURN = "past_point_of_no_return"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What would be undone, and what that costs."""

    order: Order
    items: Sequence[OrderItem]
    names: Mapping[int, str]
    """Of all items by position, those that an amendment has removed among them."""
    milestones: Sequence[Milestone]
    """Those that are reached: what the customer knows stays known."""
    assessment: Assessment
    tell: TellSpec | None
    """What the customer is told in the end, if anything."""

    @property
    def is_possible(self) -> bool:
        return not self.assessment.refusals

    def document(self) -> dict[str, Any]:
        """Plain JSON, the same at any time as long as nothing has moved."""
        found, names = self.assessment, self.names
        return {
            "possible": self.is_possible,
            "verdict": self._verdict(None).value,
            "items": [
                {
                    "item_id": item.item_id,
                    "offering": item.offering,
                    "verdict": self._verdict(item.position).value,
                    "undone": self._keys(item, Becomes.UNDONE),
                    "stays": self._keys(item, Becomes.STAYS, Becomes.KEPT),
                    "withdrawn": self._keys(item, Becomes.WITHDRAWN),
                }
                for item in self.items
            ],
            "tasks": [_task(fate, names) for fate in found.fates],
            "charges": [_charge(charge, names) for charge in found.charges],
            "sums": _sums(found.charges),
            "impacts": [*_impacts(found.fates)],
            "refusals": refusals_document(found.refusals, names=names),
            "waits_for": list(found.in_flight),
            "milestones": [
                {
                    "name": milestone.name,
                    "title": milestone.title,
                    "reached_at": milestone.reached_at.isoformat(),
                }
                for milestone in self.milestones
            ],
            "message": self._message(),
        }

    def _verdict(self, position: int | None) -> Verdict:
        """Of the item at `position`, or of the whole order."""

        def about(items: Collection[int]) -> bool:
            return position is None or position in items or not items

        refused = [one for one in self.assessment.refusals if about(one.items)]
        if any(one.code in _IN_THE_WAY for one in refused):
            return Verdict.PAST_POINT_OF_NO_RETURN
        charges = [one for one in self.assessment.charges if about(one.items)]
        if any(one.direction is Direction.COST for one in charges):
            return Verdict.COST
        return Verdict.FREE

    def _keys(self, item: OrderItem, *becomes: Becomes) -> list[str]:
        return [
            fate.key
            for fate in self.assessment.fates
            if fate.becomes in becomes and item.position in fate.items
        ]

    def _message(self) -> dict[str, Any] | None:
        if self.tell is None:
            return None
        channels = [
            channel
            for channel in self.tell.channels
            if channel is not Channel.EMAIL or self.order.customer_email
        ]
        if not channels:
            return None
        saying = Saying(order=self.order, occasion=OCCASION, tell=self.tell)
        subject, text = composed(saying)
        return {
            "subject": subject,
            "text": text,
            "channels": [channel.value for channel in channels],
        }


def _task(fate: Fate, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "task": fate.key,
        "title": fate.title,
        "items": named(fate.items, names),
        "becomes": fate.becomes.value,
        "done": fate.is_done,
        "undo": fate.undo or None,
        "why": fate.why,
    }


def _charge(charge: Charge, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "task": charge.task,
        "items": named(charge.items, names),
        "direction": charge.direction.value,
        "amount": f"{charge.amount:f}",
        "currency": charge.currency,
        "reason": charge.reason,
    }


def _sums(charges: Iterable[Charge]) -> list[dict[str, str]]:
    """Per currency what the customer pays, and what comes back: never one minus the other."""
    sums: dict[tuple[str, str], Decimal] = {}
    for charge in charges:
        of = charge.direction.value, charge.currency
        sums[of] = sums.get(of, Decimal(0)) + charge.amount
    return [
        {"direction": direction, "currency": currency, "amount": f"{amount:f}"}
        for (direction, currency), amount in sorted(sums.items())
    ]


def _impacts(fates: Iterable[Fate]) -> Iterable[dict[str, str]]:
    for fate in fates:
        kinds = {
            "customer": fate.customer_impact,
            "financial": fate.financial_impact,
            "legal": fate.legal_impact,
        }
        for kind, text in kinds.items():
            if text:
                yield {"task": fate.key, "kind": kind, "text": text}
