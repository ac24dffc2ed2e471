"""What items are sold for: their own price and that of the lines that come with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from decimal import Decimal

from oms.models import OrderItem

Sums = Mapping[tuple[str, str], Decimal]
"""By currency and by "recurring" or "once"; zero is left out."""


def of_item(item: OrderItem, *, planned: Collection[int]) -> Sums:
    """`planned` are the positions that have tasks of their own, and so a price of their own."""
    around: dict[int | None, list[OrderItem]] = defaultdict(list)
    for one in OrderItem.objects.filter(order_id=item.order_id).order_by("position"):
        around[one.parent_id].append(one)
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    ahead = [item]
    while ahead:
        one = ahead.pop()
        for kind, price in (("recurring", one.recurring_price), ("once", one.one_off_price)):
            if price:
                sums[one.currency, kind] += price * one.quantity
        ahead += [inner for inner in around[one.pk] if inner.position not in planned]
    return dict(sums)


def in_words(sums: Sums) -> str:
    """`49.00 EUR recurring, 10.00 EUR once`; empty without a price."""
    return ", ".join(f"{amount:.2f} {currency} {kind}" for (currency, kind), amount in sums.items())
