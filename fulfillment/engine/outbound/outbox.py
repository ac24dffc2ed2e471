"""The outbox relay: written events to the Redis stream, and to every subscriber that wants them.

In-house readers follow the stream; for each subscription a delivery is written, which
`fulfillment.engine.outbound.deliveries` sends. Neither waits for the other.
"""

from __future__ import annotations

import json
import logging

import celery
import psycopg
from django.db import transaction
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import Row, cursor

logger = logging.getLogger(__name__)

STREAM = "oms:events"
_KEPT_IN_STREAM = 100_000
# Always the oldest there are: units of one order commit in the order of their ids, so an event
# is never seen without those that came before it in its order. Among several orders ids may
# become visible in any order, so going on from the last id seen would leave some out.
_UNPUBLISHED = """
SELECT e.id, e.event_type, f.order_reference, f.correlation_id, e.plan_id, e.task_id,
    e.causation_id, e.payload, e.occurred_at
FROM fulfillment_outboxevent e JOIN fulfillment_fulfillment f ON f.id = e.fulfillment_id
WHERE e.published_at IS NULL ORDER BY e.id LIMIT %s
"""
# An event is not for those who subscribed after it.
_FAN_OUT = """
INSERT INTO fulfillment_delivery
    (subscription_id, event_id, fulfillment_id, state, attempts, not_before, last_answer)
SELECT s.id, e.id, e.fulfillment_id, 'PENDING', 0, fulfillment_now(), ''
FROM fulfillment_outboxevent e JOIN fulfillment_subscription s
    ON s.active AND s.created_at <= e.occurred_at
    AND (s.event_types = '[]' OR s.event_types ? e.event_type)
WHERE {which} AND NOT EXISTS (
    SELECT FROM fulfillment_delivery d WHERE d.subscription_id = s.id AND d.event_id = e.id)
ORDER BY e.id
"""
_FAN_OUT_THESE = _FAN_OUT.format(which="e.id = ANY(%s::bigint[])")
_FAN_OUT_ALL = _FAN_OUT.format(which="e.published_at IS NULL")
_PUBLISHED = """
UPDATE fulfillment_outboxevent SET published_at = fulfillment_now() WHERE id = ANY(%s::bigint[])
"""


def publish_events(*, limit: int = 500) -> int:
    """Relay everything that is unpublished, in order, at least once; returns how many.

    Batches of `limit`, each in a transaction of its own. Without Redis events stay unpublished;
    subscribers get them nevertheless.
    """
    published = 0
    try:
        # Until there is nothing: what comes meanwhile finds this relay at work and waits for it.
        while count := _publish(limit):
            published += count
    except (BrokerError, RedisError, OSError) as error:
        logger.warning(
            "events not published to the stream; the next tick repeats it",
            extra={"reason": type(error).__name__},
        )
        _fan_out_all()
    return published


def _publish(limit: int) -> int:
    """The oldest unpublished events.

    Whoever crashes between publishing and committing publishes them again: readers deduplicate
    by `event_id`.
    """
    with transaction.atomic(), cursor() as raw:
        if not _alone(raw):
            return 0
        raw.execute(_UNPUBLISHED, [limit], prepare=True)
        events = raw.fetchall()
        if not events:
            return 0
        ids = [event[0] for event in events]
        raw.execute(_FAN_OUT_THESE, [ids], prepare=True)
        _to_stream(events)
        failpoints.reach("outbox.streamed_before_marked")
        raw.execute(_PUBLISHED, [ids], prepare=True)
    return len(events)


def _fan_out_all() -> None:
    with transaction.atomic(), cursor() as raw:
        if _alone(raw):
            raw.execute(_FAN_OUT_ALL, prepare=True)


def _alone(raw: psycopg.Cursor[Row]) -> bool:
    """One relay at a time, so that the order holds; until the transaction's end."""
    raw.execute("SELECT pg_try_advisory_xact_lock(hashtext('fulfillment.outbox'))")
    row = raw.fetchone()
    return row is not None and bool(row[0])


def _to_stream(events: list[Row]) -> None:
    with celery.current_app.producer_pool.acquire(block=True, timeout=2) as producer:
        with producer.channel.conn_or_acquire() as client:
            pipeline = client.pipeline(transaction=False)
            for (
                event_id,
                event_type,
                order,
                correlation_id,
                plan_id,
                task_id,
                causation_id,
                payload,
                occurred_at,
            ) in events:
                pipeline.xadd(
                    STREAM,
                    {
                        "event_id": event_id,
                        "event_type": event_type,
                        "order_id": order,
                        "correlation_id": correlation_id,
                        "causation_id": causation_id,
                        "plan_id": plan_id or "",
                        "task_id": task_id or "",
                        "occurred_at": occurred_at.isoformat(),
                        "payload": json.dumps(json.loads(payload)),
                    },
                    maxlen=_KEPT_IN_STREAM,
                    approximate=True,
                )
            pipeline.execute()
