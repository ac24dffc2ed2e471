"""Publishing what leaves the system: outbox rows to the Redis stream that subscribers read."""

from __future__ import annotations

import json

import celery
from django.db import transaction

from fulfillment.engine import failpoints
from fulfillment.engine.database import cursor

STREAM = "oms:events"
_KEPT_IN_STREAM = 100_000
_UNPUBLISHED = """
SELECT e.id, e.event_type, f.order_reference, f.correlation_id, e.payload, e.occurred_at
FROM fulfillment_outboxevent e JOIN fulfillment_fulfillment f ON f.id = e.fulfillment_id
WHERE e.published_at IS NULL ORDER BY e.id LIMIT %s
"""


def publish_events(*, limit: int = 500) -> int:
    """Publish everything that is unpublished, in order, at least once; returns how many.

    Batches of `limit`, each in a transaction of its own.
    """
    published = 0
    while True:
        count = _publish(limit)
        published += count
        if count < limit:
            return published


def _publish(limit: int) -> int:
    """The oldest unpublished events.

    Whoever crashes between publishing and committing publishes them again: subscribers
    deduplicate by `event_id`. One publisher at a time, so that the order holds.
    """
    with transaction.atomic(), cursor() as raw:
        raw.execute("SELECT pg_try_advisory_xact_lock(hashtext('fulfillment.outbox'))")
        row = raw.fetchone()
        if row is None or not row[0]:
            return 0
        raw.execute(_UNPUBLISHED, [limit], prepare=True)
        events = raw.fetchall()
        if not events:
            return 0
        with celery.current_app.producer_pool.acquire(block=True, timeout=2) as producer:
            with producer.channel.conn_or_acquire() as client:
                pipeline = client.pipeline(transaction=False)
                for event_id, event_type, order, correlation_id, payload, occurred_at in events:
                    pipeline.xadd(
                        STREAM,
                        {
                            "event_id": event_id,
                            "event_type": event_type,
                            "order_id": order,
                            "correlation_id": correlation_id,
                            "occurred_at": occurred_at.isoformat(),
                            "payload": json.dumps(json.loads(payload)),
                        },
                        maxlen=_KEPT_IN_STREAM,
                        approximate=True,
                    )
                pipeline.execute()
        failpoints.reach("outbox.before_marking")
        raw.execute(
            "UPDATE fulfillment_outboxevent SET published_at = fulfillment_now() "
            "WHERE id = ANY(%s::bigint[])",
            [[event[0] for event in events]],
        )
    return len(events)
