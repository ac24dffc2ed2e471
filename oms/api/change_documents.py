"""What the API tells alike of cancelling an order and of amending it."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel

from fulfillment.definitions.assessment import Direction


class ChargeOut(BaseModel):
    """`cost`: the customer pays it; `refund`: the customer gets it back."""

    task: str
    items: list[str]
    direction: Direction
    amount: Decimal
    currency: str
    reason: str


class RefusalOut(BaseModel):
    """Why it is not possible; `code` is stable."""

    code: str
    message: str
    task: str | None
    items: list[str]
