"""What a subscriber gets: the envelope of reference §22.2. docs/events.md explains each field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from fulfillment.engine.store.database import Row

# The sequence counts what this subscriber is sent of this order. Events reach the deliveries in
# the order of their ids within an order, so the number of an event never changes.
_LETTERS = """
SELECT d.id, d.subscription_id, d.attempts, d.fulfillment_id, s.name, s.url, s.secret,
    s.next_secret, e.id, e.event_type, e.plan_id, e.task_id, e.causation_id, e.payload,
    e.occurred_at, f.order_reference, f.correlation_id,
    coalesce(e.payload->>'external_id', (
        SELECT p.context #>> '{order,external_id}' FROM fulfillment_plan p WHERE p.id = e.plan_id
    )),
    (
        SELECT count(*) FROM fulfillment_outboxevent earlier
        JOIN fulfillment_delivery sent
            ON sent.event_id = earlier.id AND sent.subscription_id = d.subscription_id
        WHERE earlier.fulfillment_id = d.fulfillment_id AND earlier.id <= e.id
    )
FROM fulfillment_delivery d
JOIN fulfillment_subscription s ON s.id = d.subscription_id
JOIN fulfillment_outboxevent e ON e.id = d.event_id
JOIN fulfillment_fulfillment f ON f.id = d.fulfillment_id
WHERE d.id = ANY(%s::bigint[]) ORDER BY e.id
"""
_IN_THE_ENVELOPE = frozenset({"external_id", "plan_id", "task", "result_ref"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One delivery with everything that its sending and its failing need."""

    delivery_id: int
    subscription_id: int
    subscription: str
    attempts: int
    """This one included."""
    fulfillment_id: int
    order_reference: str
    event_id: int
    event_type: str
    url: str
    secrets: tuple[str, ...] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def message_id(self) -> str:
        """The same for every repetition, and for every subscriber."""
        return f"evt-{self.event_id}"


def letters(raw: psycopg.Cursor[Row], *, delivery_ids: Sequence[int]) -> list[Letter]:
    """The letters of these deliveries, the oldest event first."""
    if not delivery_ids:
        return []
    raw.execute(_LETTERS, [list(delivery_ids)], prepare=True)
    return [_letter(row) for row in raw.fetchall()]


def _letter(row: Row) -> Letter:
    (
        delivery_id,
        subscription_id,
        attempts,
        fulfillment_id,
        subscription,
        url,
        secret,
        next_secret,
        event_id,
        event_type,
        plan_id,
        task_id,
        causation_id,
        payload,
        occurred_at,
        order_reference,
        correlation_id,
        external_id,
        sequence,
    ) = row
    data: dict[str, Any] = json.loads(payload)
    document = {
        "eventId": f"evt-{event_id}",
        "eventType": event_type,
        "orderId": order_reference,
        "externalId": external_id,
        "planId": _text(plan_id or data.get("plan_id")),
        "taskId": _text(task_id),
        "task": data.get("task"),
        "resultRef": data.get("result_ref") or None,
        "occurredAt": occurred_at.isoformat(),
        "correlationId": correlation_id,
        "causationId": causation_id or None,
        "sequence": sequence,
        "data": {name: value for name, value in data.items() if name not in _IN_THE_ENVELOPE},
    }
    return Letter(
        delivery_id=delivery_id,
        subscription_id=subscription_id,
        subscription=subscription,
        attempts=attempts,
        fulfillment_id=fulfillment_id,
        order_reference=order_reference,
        event_id=event_id,
        event_type=event_type,
        url=url,
        secrets=tuple(one for one in (secret, next_secret) if one),
        body=json.dumps(document, separators=(",", ":")).encode(),
    )


def _text(number: Any) -> str | None:
    return None if number is None else str(number)
