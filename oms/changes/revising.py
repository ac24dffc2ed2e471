"""The rows of an order become those of its revision; what they were is kept (history-kept)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from fulfillment.engine.store.database import allocate
from fulfillment.engine.work.unit import Unit
from oms.changes.differing import Difference
from oms.changes.documents import as_submitted
from oms.intake.requests import ItemRequest, OrderRequest
from oms.models import Order, OrderItem, OrderRevision

_OF_ORDER = (
    "customer_name",
    "customer_tier",
    "customer_email",
    "billing_account",
    "region",
    "channel",
    "requested_at",
    "promised_at",
    "priority",
)
_OF_ITEM = tuple(
    one.name for one in fields(ItemRequest) if one.name not in ("parent_id", "position")
)


def revise(
    unit: Unit, *, order: Order, before: OrderRequest, difference: Difference, version: int
) -> None:
    """Make `order` the revised one, under its fulfillment's lock: a fixed number of statements."""
    OrderRevision.objects.create(
        order=order,
        version=order.version,
        document=as_submitted(before),
        replaced_at=unit.now,
    )
    for name in _OF_ORDER:
        setattr(order, name, getattr(difference.revised, name))
    order.version = version
    order.save(update_fields=[*_OF_ORDER, "version"])
    OrderItem.objects.filter(order=order, position__in=difference.gone).update(
        removed_in_version=version
    )
    rows = {row.position: row for row in OrderItem.objects.filter(order=order)}
    lines = dict(difference.revised.lines())
    for position in difference.rewritten:
        for name, value in _values(lines[position]).items():
            setattr(rows[position], name, value)
    OrderItem.objects.bulk_update([rows[one] for one in difference.rewritten], _OF_ITEM)
    ids = allocate(unit.raw, "oms_orderitem", len(difference.come))
    by_name = {row.item_id: row for row in rows.values()}
    for position in difference.come:  # A line comes after the one around it.
        item = lines[position]
        by_name[item.item_id] = rows[position] = OrderItem(
            id=next(ids),
            order=order,
            position=position,
            parent=by_name[item.parent_id] if item.parent_id else None,
            **_values(item),
        )
    OrderItem.objects.bulk_create([rows[position] for position in difference.come])
    # What was read before is not the order any more.
    getattr(order, "_prefetched_objects_cache", {}).pop("items", None)


def _values(item: ItemRequest) -> dict[str, Any]:
    found = {name: getattr(item, name) for name in _OF_ITEM}
    return {**found, "action": str(item.action), **_listed(item)}


def _listed(item: ItemRequest) -> dict[str, Any]:
    return {"parties": list(item.parties), "relations": list(item.relations)}
