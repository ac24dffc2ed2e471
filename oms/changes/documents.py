"""An order as plain JSON, in the shape in which orders are submitted, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from oms.intake.requests import ItemRequest, OrderRequest


def as_submitted(order: OrderRequest) -> dict[str, Any]:
    """The inverse of `read_back`, but for the positions of the items, which stand in no order."""
    within: dict[str, list[ItemRequest]] = {}
    for item in order.items:
        within.setdefault(item.parent_id, []).append(item)
    return {
        "external_id": order.external_id,
        "customer": {
            "id": order.customer_id,
            "name": order.customer_name,
            "tier": order.customer_tier,
            "email": order.customer_email,
        },
        "billing_account": order.billing_account,
        "region": order.region,
        "channel": order.channel,
        "requested_at": _instant(order.requested_at),
        "promised_at": _instant(order.promised_at),
        "priority": order.priority,
        "items": [_item(item, within) for item in within.get("", ())],
    }


def read_back(document: Mapping[str, Any]) -> OrderRequest:
    """An order that `as_submitted` has written."""
    customer = document["customer"]
    return OrderRequest(
        external_id=document["external_id"],
        customer_id=customer["id"],
        customer_name=customer["name"],
        customer_tier=customer["tier"],
        customer_email=customer["email"],
        billing_account=document["billing_account"],
        region=document["region"],
        channel=document["channel"],
        requested_at=_moment(document["requested_at"]),
        promised_at=_moment(document["promised_at"]),
        priority=document["priority"],
        items=list(_lines(document["items"], parent="")),
    )


def _item(item: ItemRequest, within: Mapping[str, Sequence[ItemRequest]]) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "action": str(item.action),
        "offering": item.offering,
        "quantity": item.quantity,
        "characteristics": dict(item.characteristics),
        "price": {
            "one_off": None if item.one_off_price is None else str(item.one_off_price),
            "recurring": None if item.recurring_price is None else str(item.recurring_price),
            "currency": item.currency,
        }
        if item.currency
        else None,
        "place": dict(item.place),
        "parties": [dict(party) for party in item.parties],
        "asset": item.asset,
        "relations": [dict(relation) for relation in item.relations],
        "items": [_item(one, within) for one in within.get(item.item_id, ())],
    }


def _lines(items: Sequence[Mapping[str, Any]], *, parent: str) -> Iterator[ItemRequest]:
    for item in items:
        price = item["price"] or {"one_off": None, "recurring": None, "currency": ""}
        yield ItemRequest(
            item_id=item["item_id"],
            parent_id=parent,
            action=item["action"],
            offering=item["offering"],
            quantity=item["quantity"],
            characteristics=item["characteristics"],
            one_off_price=_amount(price["one_off"]),
            recurring_price=_amount(price["recurring"]),
            currency=price["currency"],
            place=item["place"],
            parties=item["parties"],
            asset=item["asset"],
            relations=item["relations"],
        )
        yield from _lines(item["items"], parent=item["item_id"])


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
