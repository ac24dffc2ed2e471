"""Telling customers: one message per occasion, order version and channel (reference §25).

A text is made of its template and of the facts below, and of nothing else: whatever happens to
tasks, no word of theirs can get into it. A question is what a person has written for the customer.
Messages are written in the unit in which the occasion comes, so a customer is told what became
true, once, and never what was rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from fulfillment.definitions.customer import Channel, TellSpec
from fulfillment.definitions.references import parse
from fulfillment.engine.store.database import Row, arrays
from fulfillment.engine.work.port import OrderEvent
from oms.models import NotificationState, Order

EVENT = "CustomerNotified"
_SUBSCRIBERS = "subscribers"
_LONGEST_SUBJECT = 400
_INSERT = """
INSERT INTO oms_notification (order_id, order_version, occasion, channel, recipient, subject,
    body, state, reason, attempts, next_attempt_at, created_at, sent_at)
SELECT order_id, order_version, occasion, channel, recipient, subject, body, state, '', 0,
    CASE WHEN state = 'QUEUED' THEN %s::timestamptz END, %s,
    CASE WHEN state = 'SENT' THEN %s::timestamptz END
FROM unnest(%s::bigint[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::text[]) AS v(order_id, order_version, occasion, channel, recipient, subject, body, state)
ON CONFLICT (order_id, order_version, occasion, channel) DO NOTHING
RETURNING order_id, occasion, channel
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """One occasion to tell the customer of an order something; `title` is the usual subject."""

    order: Order
    occasion: str
    tell: TellSpec
    title: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What this text alone may say beside the facts of every order."""


def write(
    raw: psycopg.Cursor[Row], sayings: Sequence[Saying], *, now: datetime
) -> list[OrderEvent]:
    """Write the messages; those by webhook come back as events for the outbox.

    E-mail is queued for `oms.mailing` when the order has an address. An occasion that the
    customer has been told of is left out.
    """
    sayings = list({(one.order.pk, one.occasion): one for one in sayings}.values())
    texts = {(one.order.pk, one.occasion): composed(one) for one in sayings}
    rows = [
        (
            one.order.pk,
            one.order.version,
            one.occasion,
            channel.value,
            one.order.customer_email if channel is Channel.EMAIL else _SUBSCRIBERS,
            *texts[one.order.pk, one.occasion],
            (
                NotificationState.QUEUED if channel is Channel.EMAIL else NotificationState.SENT
            ).value,
        )
        for one in sayings
        for channel in one.tell.channels
        if channel is not Channel.EMAIL or one.order.customer_email
    ]
    if not rows:
        return []
    raw.execute(_INSERT, [now, now, now, *arrays(rows)], prepare=True)
    written = set(raw.fetchall())
    return [
        _event(one, *texts[one.order.pk, one.occasion])
        for one in sayings
        if (one.order.pk, one.occasion, Channel.WEBHOOK.value) in written
    ]


def of_question(number: str) -> str:
    """The occasion that a person's question is: each is asked once."""
    return f"question:{number}"


def of_milestone(name: str) -> str:
    """The occasion that a milestone is; workflows may call theirs as they like."""
    return f"milestone:{name}"


def facts_of(order: Order) -> Mapping[str, str]:
    """All that a text can say about an order, by the names that templates use."""
    return {
        "order.id": order.reference,
        "order.external_id": order.external_id,
        "order.customer.name": order.customer_name,
        "order.requested_at": _spelled(order.requested_at),
        "order.promised_at": _spelled(order.promised_at),
    }


def composed(saying: Saying) -> tuple[str, str]:
    """Subject and text."""
    facts = {**facts_of(saying.order), **saying.facts}
    subject = _filled(saying.tell.subject, facts) if saying.tell.subject else saying.title
    # A line break in a name would be one in the headers of an e-mail.
    subject = " ".join(subject.split())[:_LONGEST_SUBJECT]
    return subject, _filled(saying.tell.message, facts)


def _filled(text: str, facts: Mapping[str, str]) -> str:
    parts = parse(text)
    return "".join(part if isinstance(part, str) else facts.get(str(part), "") for part in parts)


def _spelled(instant: datetime | None) -> str:
    return f"{instant.day} {instant:%B %Y, %H:%M} UTC" if instant else ""


def _event(saying: Saying, subject: str, message: str) -> OrderEvent:
    order = saying.order
    event: dict[str, Any] = {
        "external_id": order.external_id,
        "version": order.version,
        "customer": order.customer_id,
        "occasion": saying.occasion,
        "subject": subject,
        "message": message,
    }
    return OrderEvent(fulfillment_id=order.fulfillment_id, event_type=EVENT, event=event)
