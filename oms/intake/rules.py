"""The rules that an order must pass, in their order. Pure; every fault is reported.

Each rule sees the whole order and yields all that it finds wrong, so that a customer corrects
an order once rather than fault by fault.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from oms.intake.requests import OrderFault, OrderRequest
from oms.states import ItemAction

Selectors = Collection[tuple[str, str]]
"""The (offering, action) pairs that some published workflow fulfils."""

Rule = Callable[[OrderRequest, Selectors], Iterator[OrderFault]]


def customer(order: OrderRequest, _: Selectors) -> Iterator[OrderFault]:
    if not order.customer_id.strip():
        yield OrderFault(
            code="customer.missing",
            path="customer.id",
            message="Say which customer the order is for.",
        )
    priced = any(item.one_off_price or item.recurring_price for item in order.items)
    if priced and not order.billing_account.strip():
        yield OrderFault(
            code="customer.billing_account_missing",
            path="billing_account",
            message="The order has prices, so name the billing account that pays them.",
        )


def offering(order: OrderRequest, selectors: Selectors) -> Iterator[OrderFault]:
    known = {name for name, _ in selectors}
    acting = 0
    for position, item in enumerate(order.items):
        if item.action == ItemAction.NO_CHANGE:
            continue
        acting += 1
        if (item.offering, item.action) in selectors:
            continue
        if item.parent_id and item.offering not in known:
            continue  # A nested line is fulfilled with its parent unless it has a recipe.
        if item.offering in known:
            yield OrderFault(
                code="offering.action_not_supported",
                path=f"items[{position}].action",
                message=f"{item.offering} can't be ordered with the action {item.action}; "
                "no published workflow fulfils it.",
            )
        else:
            yield OrderFault(
                code="offering.unknown",
                path=f"items[{position}].offering",
                message=f"No published workflow fulfils {item.offering!r}. Check the name, or "
                "publish a workflow for it.",
            )
    if acting == 0:
        yield OrderFault(
            code="offering.nothing_to_do",
            path="items",
            message="Every item says no_change, so there is nothing to fulfil.",
        )


def place(order: OrderRequest, _: Selectors) -> Iterator[OrderFault]:
    for position, item in enumerate(order.items):
        if item.place and not str(item.place.get("id", "")).strip():
            yield OrderFault(
                code="place.id_missing",
                path=f"items[{position}].place.id",
                message="A place needs its id, so that nothing is installed at the wrong site.",
            )


def asset(order: OrderRequest, _: Selectors) -> Iterator[OrderFault]:
    changed: dict[str, int] = {}
    for position, item in enumerate(order.items):
        path = f"items[{position}].asset"
        if item.action in (ItemAction.MODIFY, ItemAction.DISCONNECT):
            if not item.asset:
                yield OrderFault(
                    code="asset.missing",
                    path=path,
                    message=f"Say which installed asset to {item.action}.",
                )
            elif item.asset in changed:
                yield OrderFault(
                    code="asset.changed_twice",
                    path=path,
                    message=f"The asset {item.asset} is changed by items[{changed[item.asset]}] "
                    "already; one order changes an asset once.",
                )
            else:
                changed[item.asset] = position
        elif item.action == ItemAction.ADD and item.asset:
            yield OrderFault(
                code="asset.not_expected",
                path=path,
                message="An added item has no asset yet; leave it out, or use modify.",
            )


def asset_owner(order: OrderRequest, *, owners: Mapping[str, str]) -> Iterator[OrderFault]:
    """`owners` are the customers of the assets that are known, by asset (reference §31.5)."""
    for position, item in enumerate(order.items):
        if owners.get(item.asset, order.customer_id) != order.customer_id:
            yield OrderFault(
                code="asset.of_another_customer",
                path=f"items[{position}].asset",
                message=f"The asset {item.asset} belongs to another customer.",
            )


def party(order: OrderRequest, _: Selectors) -> Iterator[OrderFault]:
    for position, item in enumerate(order.items):
        for number, one in enumerate(item.parties):
            for name in ("id", "role"):
                if not str(one.get(name, "")).strip():
                    yield OrderFault(
                        code=f"party.{name}_missing",
                        path=f"items[{position}].parties[{number}].{name}",
                        message=f"A party needs its {name}.",
                    )


def relations(order: OrderRequest, _: Selectors) -> Iterator[OrderFault]:
    known: set[str] = set()
    for position, item in enumerate(order.items):
        if item.item_id in known:
            yield OrderFault(
                code="item.id_repeated",
                path=f"items[{position}].item_id",
                message=f"The item id {item.item_id!r} is used twice in this order.",
            )
        known.add(item.item_id)
    for position, item in enumerate(order.items):
        for number, relation in enumerate(item.relations):
            if relation.get("item_id") not in known:
                yield OrderFault(
                    code="relation.unknown_item",
                    path=f"items[{position}].relations[{number}].item_id",
                    message="The related item is not part of this order.",
                )


def dates(order: OrderRequest, _: Selectors) -> Iterator[OrderFault]:
    if order.requested_at and order.promised_at and order.promised_at < order.requested_at:
        yield OrderFault(
            code="dates.promised_before_requested",
            path="promised_at",
            message="The promised date lies before the requested one.",
        )


RULES: tuple[Rule, ...] = (customer, offering, place, asset, party, relations, dates)


def faults_of(
    order: OrderRequest, *, selectors: Selectors, owners: Mapping[str, str] | None = None
) -> list[OrderFault]:
    """Every fault of the order, in the order of the rules."""
    found = [fault for rule in RULES for fault in rule(order, selectors)]
    return found + list(asset_owner(order, owners=owners or {}))
