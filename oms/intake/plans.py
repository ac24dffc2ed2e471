"""From an order to the plan that the engine is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fulfillment.definitions.graph import Graph
from fulfillment.engine.plans.planning import PlanRequest, graph_faults
from fulfillment.errors import DefinitionInvalid, Fault
from oms.intake import workflows
from oms.intake.requests import OrderFault, OrderRequest
from oms.models import Order
from oms.states import ItemAction


class Plannable:
    """Whether orders can become plans; each shape is looked at once per batch.

    The last rule: one order whose workflows don't go together must not fail its neighbours.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[Fault]] = {}

    def faults_of(
        self, request: OrderRequest, selectors: Mapping[tuple[str, str], int]
    ) -> list[OrderFault]:
        try:
            graph = graph_of(request, selectors)
            if graph.sha256 not in self._known:
                self._known[graph.sha256] = graph_faults(graph=graph)
            faults: Sequence[Fault] = self._known[graph.sha256]
        except DefinitionInvalid as error:
            faults = error.faults
        return [
            OrderFault(
                code="offering.not_plannable",
                path="items",
                message=f"Its published workflows can't fulfil it as they are: {fault.message}",
            )
            for fault in faults
        ]


def graph_of(request: OrderRequest, selectors: Mapping[tuple[str, str], int]) -> Graph:
    """The items' newest workflows as one graph. Raises DefinitionInvalid."""
    return workflows.graph_for(
        tuple(
            (position, item.offering, item.action, selectors[item.offering, item.action])
            for position, item in request.lines()
            if (item.offering, item.action) in selectors
        )
    )


def plan_request(
    order: Order, request: OrderRequest, selectors: Mapping[tuple[str, str], int]
) -> PlanRequest:
    """The plan of an order: its items' newest workflows as one graph, and its snapshot."""
    graph = graph_of(request, selectors)
    return PlanRequest(
        fulfillment_id=order.fulfillment_id,
        order_version=order.version,
        graph=graph,
        context=snapshot(order, request),
        stalls_after=graph.stalls_after,
        due_at=order.promised_at,
    )


def snapshot(order: Order, request: OrderRequest, *, version: int = 0) -> Mapping[str, Any]:
    """The order as input mappings see it; the names are those of docs/workflows.md.

    `version` is the one that `request` is about to make of the order; 0: the one that it has.
    """
    return {
        "order": {
            "id": order.reference,
            "external_id": order.external_id,
            "version": version or order.version,
            "customer": {
                "id": request.customer_id,
                "name": request.customer_name,
                "tier": request.customer_tier,
            },
            "billing_account": request.billing_account,
            "region": request.region,
            "channel": request.channel,
            "requested_at": request.requested_at and request.requested_at.isoformat(),
            "promised_at": request.promised_at and request.promised_at.isoformat(),
            "priority": request.priority,
            **_priced(request),
        },
        "items": {
            str(position): {
                "item_id": item.item_id,
                "position": position,
                "action": str(item.action),  # An enumeration is no value of an expression.
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
            for position, item in request.lines()
            if item.action != ItemAction.NO_CHANGE
        },
    }


def _priced(request: OrderRequest) -> Mapping[str, Any]:
    """What the order costs once. As a JSON number it is exact up to fifteen digits."""
    priced = [
        item
        for item in request.items
        if item.action != ItemAction.NO_CHANGE and item.one_off_price is not None
    ]
    currencies = {item.currency for item in priced}
    if len(currencies) != 1:
        return {"total": None, "currency": None}
    total = sum((item.one_off_price or 0) * item.quantity for item in priced)
    return {"total": float(total), "currency": currencies.pop() or None}
