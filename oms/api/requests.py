"""What the API takes in: shapes only. Whether an order makes sense is for `oms.intake.rules`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.validators import validate_email
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictInt,
    StringConstraints,
    model_validator,
)

from oms.intake.requests import ItemRequest, OrderRequest
from oms.intake.submission import MAXIMUM_BATCH
from oms.states import ItemAction

MAXIMUM_ITEMS = 200
"""Items of one order, nested ones included."""
MAXIMUM_ITEMS_TOGETHER = 2000
"""Items of all orders of one request: what one short transaction can carry."""
_DEEPEST = 5


def _written_out(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write it as text, such as 2026-09-01T08:00:00Z")
    return value


def _in_this_age(value: datetime) -> datetime:
    # Beyond it the conversion may leave the calendar.
    if not 1970 <= value.year <= 2200:
        raise ValueError("the year must be between 1970 and 2200")
    return value.astimezone(UTC)


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_this_age)]
Amount = Annotated[Decimal, Field(max_digits=16, decimal_places=4)]
Word = Annotated[str, StringConstraints(max_length=40)]
Label = Annotated[str, StringConstraints(max_length=100)]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Text = Annotated[str, StringConstraints(max_length=200)]


class Closed(BaseModel):
    """A misspelt name is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")


def _reachable(value: str) -> str:
    if value:
        try:
            validate_email(value)
        except DjangoValidationError:
            raise ValueError("this is no e-mail address") from None
    return value


class CustomerIn(Closed):
    id: Label
    name: Text = ""
    tier: Word = ""
    email: Annotated[str, StringConstraints(max_length=254), AfterValidator(_reachable)] = Field(
        "", description="Where the customer is told how the order goes; default: nowhere."
    )


class PriceIn(Closed):
    one_off: Amount | None = None
    recurring: Amount | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class PartyIn(Closed):
    id: Label
    role: Label
    name: Text = ""


class RelationIn(Closed):
    type: Identifier
    item_id: Identifier


class ItemIn(Closed):
    item_id: Label = Field("", description="Your own name for the line; default: its position.")
    action: ItemAction
    offering: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    quantity: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1
    characteristics: dict[str, JsonValue] = {}
    price: PriceIn | None = None
    place: dict[str, JsonValue] = Field({}, description="At least its `id`.")
    parties: Annotated[list[PartyIn], Field(max_length=50)] = []
    asset: Label = Field("", description="What is modified or disconnected.")
    relations: Annotated[list[RelationIn], Field(max_length=200)] = []
    items: list[ItemIn] = Field([], description="Nested lines, fulfilled after this one.")


class OrderIn(Closed):
    """One order. `priority`: the higher, the sooner."""

    external_id: Identifier = Field(description="Your own name for it; unique among your orders.")
    customer: CustomerIn
    billing_account: Label = ""
    region: Word = ""
    channel: Word = ""
    requested_at: Instant | None = None
    promised_at: Instant | None = None
    priority: Annotated[StrictInt, Field(ge=-100, le=100)] = 0
    items: Annotated[list[ItemIn], Field(min_length=1)]

    @model_validator(mode="after")
    def _bounded(self) -> OrderIn:
        lines = list(self.lines())
        if len(lines) > MAXIMUM_ITEMS:
            raise ValueError(f"an order has at most {MAXIMUM_ITEMS} items, nested ones included")
        if any(depth > _DEEPEST for _, _, depth in lines):
            raise ValueError(f"items are nested {_DEEPEST} deep at most")
        return self

    def lines(self) -> Iterator[tuple[ItemIn, ItemIn | None, int]]:
        """(item, its parent, depth from 1), every parent right before its children."""

        def below(
            items: list[ItemIn], parent: ItemIn | None, depth: int
        ) -> Iterator[tuple[ItemIn, ItemIn | None, int]]:
            for item in items:
                yield item, parent, depth
                yield from below(item.items, item, depth + 1)

        return below(self.items, None, 1)

    def request(self) -> OrderRequest:
        """The order as the desk takes it in."""
        items: list[ItemRequest] = []
        names: dict[int, str] = {}
        for position, (item, parent, _) in enumerate(self.lines(), 1):
            names[id(item)] = item.item_id or str(position)
            items.append(_item(item, names[id(item)], names[id(parent)] if parent else ""))
        return OrderRequest(
            external_id=self.external_id,
            customer_id=self.customer.id,
            customer_name=self.customer.name,
            customer_tier=self.customer.tier,
            customer_email=self.customer.email,
            billing_account=self.billing_account,
            region=self.region,
            channel=self.channel,
            requested_at=self.requested_at,
            promised_at=self.promised_at,
            priority=self.priority,
            items=items,
        )


def _item(item: ItemIn, item_id: str, parent_id: str) -> ItemRequest:
    price = item.price
    return ItemRequest(
        item_id=item_id,
        parent_id=parent_id,
        action=item.action,
        offering=item.offering,
        quantity=item.quantity,
        characteristics=item.characteristics,
        one_off_price=price.one_off if price else None,
        recurring_price=price.recurring if price else None,
        currency=price.currency if price else "",
        place=item.place,
        parties=[party.model_dump() for party in item.parties],
        asset=item.asset,
        relations=[relation.model_dump() for relation in item.relations],
    )


class OrdersIn(Closed):
    """Many orders, taken in together: all of them well-formed, or none is created."""

    orders: Annotated[list[OrderIn], Field(min_length=1, max_length=MAXIMUM_BATCH)]

    @model_validator(mode="after")
    def _bounded(self) -> OrdersIn:
        if sum(1 for order in self.orders for _ in order.lines()) > MAXIMUM_ITEMS_TOGETHER:
            raise ValueError(
                f"one request carries at most {MAXIMUM_ITEMS_TOGETHER} items; send several"
            )
        return self
