"""An order as it comes in, already well-formed; whether it makes sense is for the rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRequest:
    """One order line; nested lines come right after their parent and name it by `parent_id`."""

    item_id: str
    action: str
    offering: str
    quantity: int = 1
    parent_id: str = ""
    characteristics: Mapping[str, Any] = field(default_factory=dict)
    one_off_price: Decimal | None = None
    recurring_price: Decimal | None = None
    currency: str = ""
    place: Mapping[str, Any] = field(default_factory=dict)
    parties: Sequence[Mapping[str, Any]] = ()
    asset: str = ""
    relations: Sequence[Mapping[str, Any]] = ()
    position: int = 0
    """0: as it stands among the items. A line of a revised order keeps the one that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """One order. `priority`: the higher, the sooner; times are aware UTC."""

    external_id: str
    customer_id: str
    items: Sequence[ItemRequest]
    customer_name: str = ""
    customer_tier: str = ""
    customer_email: str = ""
    billing_account: str = ""
    region: str = ""
    channel: str = ""
    requested_at: datetime | None = None
    promised_at: datetime | None = None
    priority: int = 0

    def lines(self) -> Iterator[tuple[int, ItemRequest]]:
        """Every item with its position in the order, from 1."""
        for place, item in enumerate(self.items, 1):
            yield item.position or place, item


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFault:
    """One reason why an order is rejected: a stable code, where, and what to do about it."""

    code: str
    path: str
    message: str

    def document(self) -> dict[str, str]:
        return {"code": self.code, "path": self.path, "message": self.message}
