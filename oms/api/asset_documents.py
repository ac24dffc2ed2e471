"""Assets as the API tells them: what is, and what orders will make of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from oms import assets
from oms.models import AssetState
from oms.states import ItemAction


class PendingOut(BaseModel):
    """What an order under way will make of an asset; it is not so yet."""

    order: str
    item: str
    change: ItemAction
    expected_state: AssetState
    offering: str
    quantity: int
    characteristics: dict[str, Any]
    place: dict[str, Any]
    since: datetime


class AssetOut(BaseModel):
    """A product instance as it really is. While it is only expected, `state` is null."""

    id: str
    customer: str
    state: AssetState | None
    since: datetime | None
    offering: str | None
    quantity: int | None
    characteristics: dict[str, Any] | None
    place: dict[str, Any] | None
    order: str | None = Field(description="The order that changed it last.")
    pending: list[PendingOut]


class AssetPage(BaseModel):
    assets: list[AssetOut]
    next: str | None = Field(description="The next page, or null.")


def asset_document(known: assets.Known) -> AssetOut:
    real = known.real
    return AssetOut(
        id=known.asset_id,
        customer=known.customer_id,
        state=AssetState(real.state) if real else None,
        since=real.since if real else None,
        offering=real.offering if real else None,
        quantity=real.quantity if real else None,
        characteristics=real.characteristics if real else None,
        place=real.place if real else None,
        order=real.order.reference if real else None,
        pending=[
            PendingOut(
                order=one.order.reference,
                item=one.item.item_id,
                change=ItemAction(one.change),
                expected_state=AssetState(one.expected_state),
                offering=one.offering,
                quantity=one.quantity,
                characteristics=one.characteristics,
                place=one.place,
                since=one.since,
            )
            for one in known.pending
        ],
    )
