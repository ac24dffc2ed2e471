"""Orders as operations are about them, with what is at stake: money, and what is in use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

from fulfillment.engine.work.unit import Unit
from fulfillment.operations import plans
from fulfillment.operations.looking import found_once
from fulfillment.operations.repair import Found
from fulfillment.operations.subjects import order_found
from oms.models import Asset, AssetState, Order


class Priced(Protocol):
    """A line of an order, stored or asked for."""

    @property
    def offering(self) -> str: ...
    @property
    def quantity(self) -> int: ...
    @property
    def one_off_price(self) -> Decimal | None: ...
    @property
    def recurring_price(self) -> Decimal | None: ...
    @property
    def currency(self) -> str: ...


@found_once
def desk_order_found(*, name: str) -> Found:
    """An order by its reference, in its own state, whether or not it is planned yet.

    Raises SubjectUnknown.
    """
    found = order_found(name=name)
    order = order_of(found)
    items = list(order.items.all())
    return replace(
        found,
        state=order.state,
        context=replace(
            found.context,
            region=order.region,
            products=found.context.products | {item.offering for item in items},
            amounts=most(found.context.amounts, sold_for(items)),
            is_activated=Asset.objects.filter(order=order, state=AssetState.ACTIVE).exists(),
        ),
    )


def order_of(found: Found) -> Order:
    """The order desk's row of what was found."""
    return Order.objects.get(fulfillment=found.fulfillment_ids[0])


def desk_order_version(unit: Unit, found: Found) -> str:
    """Another text whenever the order, or what is done of it, is another. Under its lock."""
    order = order_of(found)
    return f"{order.state} {order.version} {plans.order_version(unit, found)}"


def sold_for(items: Iterable[Priced]) -> dict[str, Decimal]:
    """By currency: once and one period."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for item in items:
        amount = ((item.one_off_price or 0) + (item.recurring_price or 0)) * item.quantity
        if amount:
            sums[item.currency] += Decimal(amount)
    return dict(sums)


def most(*sums: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """The larger of each currency: a grant has to cover what was, and what shall be."""
    currencies = {currency for one in sums for currency in one}
    return {currency: max(one.get(currency, Decimal(0)) for one in sums) for currency in currencies}
