"""Deliveries: events to subscribers by signed webhook, at least once, in sequence for each order.

One loop per process takes what is due, hands it to sender threads, and records in one transaction
every answer that has arrived meanwhile. For one subscriber and order only the oldest pending
event is ever under way; when it has been delivered, or given up, the next one is due. A
subscriber that hangs or fails holds few threads, and rests between its failures.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from django.conf import settings
from django.db import transaction

from adapters import webhooks
from adapters.signatures import sign
from adapters.webhooks import Receipt
from fulfillment.engine.outbound import giving_up
from fulfillment.engine.outbound.envelopes import Letter, letters
from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import Row, arrays, clean, cursor
from fulfillment.engine.store.one_loop import OneLoop
from fulfillment.engine.store.retry import RetryPolicy, backoff

logger = logging.getLogger(__name__)

DEADLINE = timedelta(seconds=10)
_LEASE = DEADLINE + timedelta(seconds=20)
POLICY = RetryPolicy(
    initial_interval=timedelta(seconds=5),
    backoff_coefficient=3.0,
    maximum_interval=timedelta(hours=1),
    maximum_attempts=12,
)
"""Given up after some hours: 5, 15, 45 … seconds apart at the most, then an hour."""
_GONE = 410
_AT_ONCE = 64
_AT_ONCE_PER_SUBSCRIBER = 4
_AILING_AFTER = 3
_LONGEST_REST = timedelta(seconds=30)

_NOW = "SELECT fulfillment_now()"
# The head of an order is its oldest pending event; when that is not due, nothing of the order is.
_TAKE = """
UPDATE fulfillment_delivery d SET attempts = d.attempts + 1, not_before = %(until)s
FROM (
    SELECT taken.id
    FROM fulfillment_subscription s
    LEFT JOIN unnest(%(ids)s::bigint[], %(rooms)s::int[], %(rests)s::timestamptz[])
        AS known(id, room, rests_until) ON known.id = s.id
    CROSS JOIN LATERAL (
        SELECT head.id FROM (
            SELECT DISTINCT ON (p.fulfillment_id) p.id, p.not_before
            FROM fulfillment_delivery p
            WHERE p.subscription_id = s.id AND p.state = 'PENDING'
            ORDER BY p.fulfillment_id, p.event_id
        ) head
        WHERE head.not_before <= %(now)s LIMIT coalesce(known.room, %(room)s)
    ) due
    JOIN fulfillment_delivery taken ON taken.id = due.id
    WHERE s.active AND (known.rests_until IS NULL OR known.rests_until <= %(now)s)
        AND taken.state = 'PENDING' AND taken.not_before <= %(now)s
    ORDER BY coalesce(known.room, %(room)s) DESC LIMIT %(limit)s
    FOR UPDATE OF taken SKIP LOCKED
) t WHERE d.id = t.id
RETURNING d.id
"""
# A delivery is one, whichever attempt brought it; only the latest attempt postpones.
_DELIVERED = """
UPDATE fulfillment_delivery d
SET state = 'DELIVERED', finished_at = %s, last_answer = 'It answered ' || v.status || '.'
FROM unnest(%s::bigint[], %s::int[]) AS v(id, status)
WHERE d.id = v.id AND d.state = 'PENDING'
"""
_POSTPONED = """
UPDATE fulfillment_delivery d SET not_before = v.at, last_answer = v.answer
FROM unnest(%s::bigint[], %s::int[], %s::timestamptz[], %s::text[]) AS v(id, attempts, at, answer)
WHERE d.id = v.id AND d.attempts = v.attempts AND d.state = 'PENDING'
"""


@dataclass(slots=True, kw_only=True)
class _Subscriber:
    """What this process knows of a subscriber's health, and how much it has on the wire."""

    in_flight: int = 0
    failures_in_a_row: int = 0
    rests_until: datetime | None = None

    @property
    def room(self) -> int:
        ailing = self.failures_in_a_row >= _AILING_AFTER
        return max(0, (1 if ailing else _AT_ONCE_PER_SUBSCRIBER) - self.in_flight)

    def answered(self, *, delivered: bool, now: datetime) -> None:
        if delivered:
            self.failures_in_a_row, self.rests_until = 0, None
            return
        self.failures_in_a_row += 1
        doublings = self.failures_in_a_row - _AILING_AFTER
        if doublings >= 0:
            self.rests_until = now + min(_LONGEST_REST, timedelta(seconds=2 ** min(doublings, 10)))


Answer = tuple[Letter, Receipt | None]
"""None when nothing was sent, because the process had been stopped for too long."""


class _Deliverer:
    """The loop of this process; `run` in several threads is one loop that looks again."""

    def __init__(self) -> None:
        self._loop = OneLoop[Answer](name="deliveries", begin=self._take_and_send, end=self._record)
        self._senders: ThreadPoolExecutor | None = None
        self._subscribers: dict[int, _Subscriber] = defaultdict(_Subscriber)

    def run(self) -> int:
        return self._loop.run()

    def _take_and_send(self) -> None:
        limit = 0 if _stopping.is_set() else _AT_ONCE - self._loop.under_way
        if limit <= 0:
            return
        send_before = time.monotonic() + (_LEASE - DEADLINE).total_seconds()
        with transaction.atomic(), cursor() as raw:
            taken = self._take(raw, limit)
            found = letters(raw, delivery_ids=taken)
        if self._senders is None:
            self._senders = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhooks")
        for letter in found:
            self._senders.submit(self._send, letter, send_before)
            self._loop.begun()
            self._subscribers[letter.subscription_id].in_flight += 1

    def _take(self, raw: psycopg.Cursor[Row], limit: int) -> list[int]:
        now = _now(raw)
        known = list(self._subscribers.items())
        raw.execute(
            _TAKE,
            {
                "now": now,
                "until": now + _LEASE,
                "room": _AT_ONCE_PER_SUBSCRIBER,
                "limit": limit,
                "ids": [pk for pk, _ in known],
                "rooms": [one.room for _, one in known],
                "rests": [one.rests_until for _, one in known],
            },
            prepare=True,
        )
        return [row[0] for row in raw.fetchall()]

    def _send(self, letter: Letter, send_before: float) -> None:
        receipt: Receipt | None = None
        try:
            if time.monotonic() < send_before:
                failpoints.reach("outbox.claimed_before_send")
                receipt = send(letter)
                failpoints.reach("outbox.sent_before_marked")
        except Exception as error:
            logger.exception("event not sent", extra={"subscription": letter.subscription})
            receipt = Receipt(reason=f"It can't be sent: {type(error).__name__}: {error}")
        finally:
            self._loop.arrived((letter, receipt))

    def _record(self, answers: Sequence[Answer]) -> int:
        """What can't be recorded is sent again, under the same id, when its lease has ended."""
        for letter, _ in answers:
            self._subscribers[letter.subscription_id].in_flight -= 1
        sent = [(letter, receipt) for letter, receipt in answers if receipt is not None]
        try:
            return self._record_now(sent) if sent else 0
        except Exception:
            logger.exception("answers of subscribers not recorded", extra={"events": len(sent)})
            return 0

    def _record_now(self, sent: Sequence[tuple[Letter, Receipt]]) -> int:
        delivered = [
            (letter.delivery_id, receipt.status) for letter, receipt in sent if receipt.delivered
        ]
        postponed: list[Row] = []
        used_up: list[tuple[Letter, Receipt]] = []
        with transaction.atomic(), cursor() as raw:
            now = _now(raw)
            for letter, receipt in sent:
                subscriber = self._subscribers[letter.subscription_id]
                subscriber.answered(delivered=receipt.delivered, now=now)
                if receipt.delivered:
                    continue
                # Who is switched off has not refused this event: it waits.
                if receipt.status != _GONE and letter.attempts >= POLICY.maximum_attempts:
                    used_up.append((letter, receipt))
                    continue
                delay = backoff(
                    policy=POLICY,
                    sends=letter.attempts,
                    key=f"delivery-{letter.delivery_id}",
                    retry_after=receipt.retry_after,
                )
                answer = clean(receipt.reason, 1000)
                postponed.append((letter.delivery_id, letter.attempts, now + delay, answer))
            if delivered:
                raw.execute(_DELIVERED, [now, *arrays(delivered)], prepare=True)
            if postponed:
                raw.execute(_POSTPONED, arrays(postponed), prepare=True)
        for letter, receipt in used_up:
            giving_up.bury(letter=letter, answer=clean(receipt.reason, 1000))
        for name in {one.subscription for one, receipt in sent if receipt.status == _GONE}:
            giving_up.switch_off(subscription=name)
        return len(delivered)


def send(letter: Letter) -> Receipt:
    """One request, signed now with every live secret of the subscription."""
    headers = sign(
        message_id=letter.message_id,
        at_seconds=int(time.time()),
        body=letter.body,
        secrets=letter.secrets,
    )
    return webhooks.post(
        url=letter.url,
        body=letter.body,
        headers=headers,
        deadline=DEADLINE,
        allowed_origins=settings.OMS_WEBHOOK_ALLOWED_ORIGINS,
    )


def _now(raw: psycopg.Cursor[Row]) -> datetime:
    raw.execute(_NOW, prepare=True)
    row = raw.fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


_stopping = threading.Event()
_deliverer = _Deliverer()


def deliver() -> int:
    """Deliver everything that is due. Returns how many events subscribers have taken here.

    While the loop runs in another thread of this process, it is told to look again and this
    call returns at once, so a slow subscriber occupies one of the worker's threads.
    """
    return _deliverer.run()


def stop() -> None:
    """Take nothing more in this process; what is on the wire is still recorded."""
    _stopping.set()


def forget() -> None:
    """Know nothing of any subscriber's health; for tests that change their database."""
    global _deliverer
    _deliverer = _Deliverer()
