"""A compensating change order (reference §20.3): what changes an order's results afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from oms.changes.differing import Difference
from oms.changes.errors import AmendmentError, invalid
from oms.intake import workflows
from oms.intake.requests import ItemRequest, OrderFault, OrderRequest
from oms.intake.rules import faults_of
from oms.models import Order
from oms.states import ItemAction

_LONGEST_NAME = 100


def change_order(
    *, order: Order, before: OrderRequest, difference: Difference, version: int
) -> OrderRequest:
    """The order that makes of `order`, once it is complete, what the revised one asks for.

    What is new about an asset is a `modify`, what has come is as it was sent, and what has gone
    is a `disconnect`. One-off prices are left out of a `modify`: what was paid once is not paid
    again. Raises AmendmentError when such an order is not possible.
    """
    was, now = dict(before.lines()), dict(difference.revised.lines())
    faults = list(_irreversible(was, difference))
    if faults:
        raise invalid(faults)
    made: dict[int, ItemRequest] = {}
    for position in difference.changed:
        item = now.get(position)
        if item is not None and item.action in (ItemAction.ADD, ItemAction.MODIFY):
            made[position] = _modified(order, position, item)
    for position in difference.come:
        made[position] = now[position]
    for position in difference.gone:
        if was[position].action == ItemAction.ADD:
            made[position] = _ended(order, position, was[position])
    if not made:
        raise AmendmentError(
            "amendment.changes_nothing",
            "What is new about the order is not about anything that it makes, so there is nothing "
            "for another order to change.",
        )
    request = replace(
        difference.revised,
        external_id=_name(order, version),
        items=_related(list(_with_lines_around(order, made, now, was))),
    )
    selectors = workflows.newest_versions(offerings={item.offering for item in request.items})
    found = faults_of(request, selectors=selectors)
    if found:
        raise invalid(found)
    return request


def by_another_name(*, order: Order, request: OrderRequest, version: int) -> OrderRequest:
    """The same, where the client has used its external id for something else."""
    return replace(request, external_id=f"{order.reference}/v{version}")


def _name(order: Order, version: int) -> str:
    name = f"{order.external_id}/v{version}"
    return name if len(name) <= _LONGEST_NAME else f"{order.reference}/v{version}"


def _irreversible(was: Mapping[int, ItemRequest], difference: Difference) -> Iterator[OrderFault]:
    for position in difference.gone:
        item = was[position]
        if item.action in (ItemAction.MODIFY, ItemAction.DISCONNECT):
            yield OrderFault(
                code="amendment.not_by_change_order",
                path="items",
                message=f"Item {item.item_id} will have done its {item.action} of {item.asset} by "
                "then; what the asset was before, only you can say. Order that apart.",
            )


def _asset(order: Order, position: int, item: ItemRequest) -> str:
    return f"{order.reference}-{position}" if item.action == ItemAction.ADD else item.asset


def _modified(order: Order, position: int, item: ItemRequest) -> ItemRequest:
    return replace(
        item,
        action=ItemAction.MODIFY,
        asset=_asset(order, position, item),
        one_off_price=None,
    )


def _ended(order: Order, position: int, item: ItemRequest) -> ItemRequest:
    return replace(
        item,
        # Another item may have come under its name.
        item_id=_gone(item.item_id),
        parent_id=_gone(item.parent_id) if item.parent_id else "",
        action=ItemAction.DISCONNECT,
        asset=_asset(order, position, item),
        one_off_price=None,
        recurring_price=None,
        currency="",
    )


def _gone(item_id: str) -> str:
    return f"{item_id[:94]}/gone"


def _with_lines_around(
    order: Order,
    made: Mapping[int, ItemRequest],
    now: Mapping[int, ItemRequest],
    was: Mapping[int, ItemRequest],
) -> Iterator[ItemRequest]:
    """Every line after the one around it; where that is not changed itself, it says so."""
    by_name = {item.item_id: (position, item) for position, item in now.items()}
    gone = {item.item_id: position for position, item in was.items() if position in made}
    told: set[str] = set()

    def told_with_its_own(position: int, item: ItemRequest) -> Iterator[ItemRequest]:
        if item.item_id in told:
            return
        told.add(item.item_id)
        around = item.parent_id
        if around in by_name:
            outer, line = by_name[around]
            if outer not in made:
                line = replace(
                    line,
                    action=ItemAction.NO_CHANGE,
                    asset=_asset(order, outer, line),
                    one_off_price=None,
                    recurring_price=None,
                    currency="",
                )
            yield from told_with_its_own(outer, made.get(outer, line))
        elif around and around.removesuffix("/gone") not in gone:
            item = replace(item, parent_id="")
        yield item

    for position in sorted(made):
        yield from told_with_its_own(position, made[position])


def _related(items: Sequence[ItemRequest]) -> list[ItemRequest]:
    """Where they stand, and without relations to lines that are not among them."""
    names = {item.item_id for item in items}
    return [
        replace(
            item,
            position=0,
            relations=[one for one in item.relations if one["item_id"] in names],
        )
        for item in items
    ]
