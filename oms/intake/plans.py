"""From an order to the plan that the engine is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulfillment.engine.planning import PlanRequest
from oms.intake import workflows
from oms.intake.requests import OrderRequest
from oms.models import Order
from oms.states import ItemAction


def plan_request(
    order: Order, request: OrderRequest, selectors: Mapping[tuple[str, str], int]
) -> PlanRequest:
    """The plan of an order: its items' newest workflows as one graph, and its snapshot."""
    selected = tuple(
        (position, item.offering, item.action, selectors[item.offering, item.action])
        for position, item in enumerate(request.items, 1)
        if (item.offering, item.action) in selectors
    )
    graph = workflows.graph_for(selected)
    return PlanRequest(
        fulfillment_id=order.fulfillment_id,
        order_version=order.version,
        graph=graph,
        context=snapshot(order, request),
        stalls_after=graph.stalls_after,
    )


def snapshot(order: Order, request: OrderRequest) -> Mapping[str, Any]:
    """The order as input mappings see it; the names are those of docs/workflows.md."""
    return {
        "order": {
            "id": order.reference,
            "external_id": order.external_id,
            "version": order.version,
            "customer": {
                "id": order.customer_id,
                "name": order.customer_name,
                "tier": order.customer_tier,
            },
            "billing_account": order.billing_account,
            "region": order.region,
            "channel": order.channel,
            "requested_at": order.requested_at and order.requested_at.isoformat(),
            "promised_at": order.promised_at and order.promised_at.isoformat(),
            "priority": order.priority,
        },
        "items": {
            str(position): {
                "item_id": item.item_id,
                "position": position,
                "action": item.action,
                "offering": item.offering,
                "quantity": item.quantity,
                "characteristics": item.characteristics,
                "price": {
                    "one_off": None if item.one_off_price is None else str(item.one_off_price),
                    "recurring": None
                    if item.recurring_price is None
                    else str(item.recurring_price),
                    "currency": item.currency,
                },
                "place": item.place,
                "asset": item.asset or None,
            }
            for position, item in enumerate(request.items, 1)
            if item.action != ItemAction.NO_CHANGE
        },
    }
