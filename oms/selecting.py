"""Orders as a list that bulk jobs select from."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from pydantic import Field

from fulfillment.operations import bulk
from fulfillment.operations.repair import Parameters
from oms.models import Order
from oms.states import ORDER_TERMINAL, OrderState


class OrderFilter(Parameters):
    """Without a state: every order that is not over."""

    state: OrderState | None = None
    client: str = Field(default="", description="The name of the client that has sent it.")
    customer: str = Field(default="", description="The customer's id.")
    region: str = ""
    offering: str = Field(default="", description="Of one of its items.")
    is_stuck: bool = Field(default=False, description="Only those in which nothing moves.")


def _orders(wanted: OrderFilter) -> QuerySet[Order]:
    rows = Order.objects.order_by("pk")
    if wanted.state is not None:
        rows = rows.filter(state=wanted.state)
    else:
        rows = rows.exclude(state__in=sorted(ORDER_TERMINAL))
    columns: dict[str, Any] = {
        "client__name": wanted.client,
        "customer_id": wanted.customer,
        "region": wanted.region,
        "items__offering": wanted.offering,
    }
    rows = rows.filter(**{name: value for name, value in columns.items() if value})
    if wanted.is_stuck:
        rows = rows.filter(fulfillment__plans__stuck_at__isnull=False)
    return rows.distinct() if wanted.offering or wanted.is_stuck else rows


ORDERS = bulk.Listing(about="order", filters=OrderFilter, rows=_orders, name="reference")
