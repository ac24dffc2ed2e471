"""Which rows of the order desk the audit trails of orders are about."""

from __future__ import annotations

from fulfillment.audit.entities import Entity

_OF_AN_ORDER = (
    "SELECT r.id::text, o.fulfillment_id, r.state FROM {table} r "
    "JOIN oms_order o ON o.id = r.order_id WHERE o.fulfillment_id = ANY(%s::bigint[])"
)
ENTITIES = (
    Entity(
        name="order",
        table="oms_order",
        current="SELECT reference, fulfillment_id, state FROM oms_order "
        "WHERE fulfillment_id = ANY(%s::bigint[])",
    ),
    Entity(
        name="cancellation",
        table="oms_cancellationrequest",
        current=_OF_AN_ORDER.format(table="oms_cancellationrequest"),
    ),
    Entity(
        name="amendment",
        table="oms_amendmentrequest",
        current=_OF_AN_ORDER.format(table="oms_amendmentrequest"),
    ),
)
