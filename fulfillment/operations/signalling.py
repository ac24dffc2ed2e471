"""Milestones and signals reported by hand, when whoever should have reported them did not."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from fulfillment.authority.actors import Actor
from fulfillment.engine.plans import signals
from fulfillment.engine.store.database import cursor
from fulfillment.engine.work import subjects
from fulfillment.errors import OrderUnknown
from fulfillment.models import Fulfillment
from fulfillment.operations.records import log, now_of, reason_of


def send_signal(
    *,
    order_reference: str,
    name: str,
    actor: Actor,
    reason: str,
    key: str | None = None,
    payload: Mapping[str, Any] | None = None,
    event_id: str = "",
) -> signals.Received:
    """Report a milestone of an order; with a `key` a signal about that key of the order's owner.

    Raises OrderUnknown, ReasonMissing, SignalReused and SignalUnusable.
    """
    reason = reason_of(reason)
    order = Fulfillment.objects.filter(order_reference=order_reference).first()
    if order is None:
        raise OrderUnknown(f"There is no order {order_reference}; write it as O-17.")
    own = order.business_key or order.order_reference
    if key is None:
        subject = subjects.of_order(business_key=own)
    else:
        subject = subjects.of_key(owner=subjects.owner_of(business_key=own), key=key)
    received = signals.receive(
        source="by hand",
        event_id=event_id or uuid.uuid4().hex,
        name=name,
        subject=subject,
        payload=payload or {},
    )
    if not received.duplicate:
        with cursor() as raw:
            log(
                kind="send_signal",
                subject=f"signal:{received.signal_id}",
                actor=actor.name,
                reason=reason,
                after={"name": name, "subject": subject},
                now=now_of(raw),
            )
    return received
