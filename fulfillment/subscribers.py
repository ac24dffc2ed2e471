"""Subscribers: who gets events, how far behind each is, and what an operator does about it."""

from __future__ import annotations

import base64
import re
import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from adapters.webhooks import check_url
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.engine.outbound.giving_up import switched_off_subject, undelivered_subject
from fulfillment.engine.store.database import cursor
from fulfillment.engine.work import hints
from fulfillment.engine.work.cases import resolve_cases
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import FulfillmentError
from fulfillment.models import Delivery, DeliveryState, Operation, Subscription

_EVENT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9]{0,59}")
_ORDERS_AT_ONCE = 200
_LAGS = """
SELECT s.id, s.name, s.url, s.active, pending.count, dead.count,
    fulfillment_now() - e.occurred_at, coalesce(oldest.last_answer, '')
FROM fulfillment_subscription s
CROSS JOIN LATERAL (
    SELECT count(*) AS count, min(event_id) AS event_id FROM fulfillment_delivery
    WHERE subscription_id = s.id AND state = 'PENDING'
) pending
CROSS JOIN LATERAL (
    SELECT count(*) AS count FROM fulfillment_delivery
    WHERE subscription_id = s.id AND state = 'DEAD'
) dead
LEFT JOIN fulfillment_outboxevent e ON e.id = pending.event_id
LEFT JOIN fulfillment_delivery oldest
    ON oldest.subscription_id = s.id AND oldest.event_id = pending.event_id
WHERE s.id = %(of)s::bigint OR %(of)s::bigint IS NULL
ORDER BY s.name
"""
_SEND_AGAIN = """
UPDATE fulfillment_delivery
SET state = 'PENDING', attempts = 0, finished_at = NULL, not_before = fulfillment_now()
WHERE id = ANY(%s::bigint[]) AND state = 'DEAD'
"""

_STILL_DEAD = """
SELECT DISTINCT subscription_id, fulfillment_id FROM fulfillment_delivery
WHERE state = 'DEAD' AND subscription_id = ANY(%s::bigint[])
    AND fulfillment_id = ANY(%s::bigint[])
"""


class SubscriptionRefused(FulfillmentError):
    """The subscription can't be made or changed so; the message says what would be accepted."""

    code = "fulfillment.subscription_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far behind one subscriber is. `oldest` is the age of what it has waited for longest."""

    subscription_id: int
    name: str
    url: str
    active: bool
    pending: int
    dead: int
    oldest: timedelta | None
    last_answer: str
    """Of the oldest pending event; empty while nothing was tried."""


def lags(*, of: int | None = None) -> list[Lag]:
    """Every subscriber by name, or the one with this id. One query, over what is not delivered."""
    with cursor() as raw:
        raw.execute(_LAGS, {"of": of})
        return [
            Lag(
                subscription_id=pk,
                name=name,
                url=url,
                active=active,
                pending=pending,
                dead=dead,
                oldest=oldest,
                last_answer=last_answer,
            )
            for pk, name, url, active, pending, dead, oldest, last_answer in raw.fetchall()
        ]


def in_seconds(age: timedelta) -> str:
    """Such as "1:02:03"; what is younger than a second has no age worth telling."""
    return str(timedelta(seconds=int(age.total_seconds())))


def new_secret() -> str:
    """256 random bits as `whsec_…`, the way of the Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def checked_event_types(names: Collection[str]) -> list[str]:
    """Raises SubscriptionRefused for what can't be the name of an event."""
    for name in names:
        if not _EVENT_TYPE.fullmatch(name):
            raise SubscriptionRefused(
                f"{name!r} is no name of an event. Use names such as OrderCompleted or "
                "FulfillmentTaskFailed; without any, every event is sent."
            )
    return sorted(set(names))


def subscribe(
    *, name: str, url: str, actor: Actor, event_types: Collection[str] = ()
) -> Subscription:
    """A new active subscription with a secret of its own; it gets what happens from now on.

    Raises SubscriptionRefused, Denied or adapters.webhooks.AddressForbidden.
    """
    may_edit(name=name, actor=actor)
    check_url(url=url, allowed_origins=settings.OMS_WEBHOOK_ALLOWED_ORIGINS)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        raise SubscriptionRefused(f"{name!r} can't be its name; use letters, digits, - and _.")
    try:
        with transaction.atomic():
            made = Subscription.objects.create(
                name=name,
                url=url,
                secret=new_secret(),
                event_types=checked_event_types(event_types),
            )
            record(kind="add_subscription", subscription=made, actor=actor, url=url)
            return made
    except IntegrityError:
        raise SubscriptionRefused(f"There is a subscription {name!r} already.") from None


def may_edit(*, name: str, actor: Actor, action: Action = Action.SUBSCRIPTION_EDIT) -> None:
    """Raises Denied unless the actor may do this to the subscription that is called so."""
    authorize(actor=actor, action=action, context=Context(subject=f"subscription:{name}"))


def record(*, kind: str, subscription: Subscription, actor: Actor, **after: Any) -> None:
    """Append to the log of operations, in the caller's transaction."""
    with cursor() as raw:
        raw.execute("SELECT fulfillment_now()")
        ((now,),) = raw.fetchall()
    Operation.objects.create(
        kind=kind,
        subject=f"subscription:{subscription.name}",
        actor=actor.name,
        after=after,
        happened_at=now,
    )


def begin_rotation(*, subscription: Subscription, actor: Actor) -> str:
    """A second secret; until the rotation is finished, deliveries are signed with both."""
    may_edit(name=subscription.name, actor=actor)
    if subscription.next_secret:
        raise SubscriptionRefused(
            f"The secrets of {subscription} are changing already. Give the receiver the new one, "
            "then finish the rotation."
        )
    subscription.next_secret = new_secret()
    with transaction.atomic():
        subscription.save(update_fields=["next_secret"])
        record(kind="begin_rotation", subscription=subscription, actor=actor)
    return subscription.next_secret


def finish_rotation(*, subscription: Subscription, actor: Actor) -> None:
    """From now on only the new secret signs."""
    may_edit(name=subscription.name, actor=actor)
    if not subscription.next_secret:
        raise SubscriptionRefused(f"The secrets of {subscription} are not changing; begin first.")
    subscription.secret, subscription.next_secret = subscription.next_secret, ""
    with transaction.atomic():
        subscription.save(update_fields=["secret", "next_secret"])
        record(kind="finish_rotation", subscription=subscription, actor=actor)


def edit(*, subscription: Subscription, actor: Actor, changed: Collection[str]) -> None:
    """Save a subscription whose form was filled in; of `changed` columns the record keeps the new
    values. Raises Denied."""
    may_edit(name=subscription.name, actor=actor)
    values = {name: getattr(subscription, name) for name in sorted(changed)}
    with transaction.atomic():
        is_new = subscription.pk is None
        subscription.save()
        kind = "add_subscription" if is_new else "edit_subscription"
        record(kind=kind, subscription=subscription, actor=actor, **values)
    if not is_new and "active" in changed:
        switch(subscription=subscription, active=subscription.active, actor=actor)


def switch(*, subscription: Subscription, active: bool, actor: Actor) -> None:
    """Off: nothing is sent, what is pending waits, and what happens is not kept for it.

    Raises Denied.
    """
    may_edit(name=subscription.name, actor=actor)
    subscription.active = active
    with transaction.atomic():
        subscription.save(update_fields=["active"])
        kind = "switch_subscription"
        record(kind=kind, subscription=subscription, actor=actor, active=active)
    if active:
        run_unit(
            lambda unit: resolve_cases(
                unit,
                subjects=[switched_off_subject(subscription=subscription.name)],
                resolution="Switched on again.",
            ),
            fulfillment_ids=[],
            actor=actor.name,
        )


def send_again(*, deliveries: QuerySet[Delivery], actor: Actor) -> int:
    """Dead letters among `deliveries` become pending again; their cases are resolved.

    Each goes out before the pending events of its order. Returns how many there were. Raises
    Denied unless it is allowed for every subscription among them.
    """
    dead = list(
        deliveries.filter(state=DeliveryState.DEAD)
        .select_related("subscription", "fulfillment")
        .order_by("fulfillment_id", "event_id")
    )
    counts = Counter(delivery.subscription for delivery in dead)
    for subscription in counts:
        may_edit(name=subscription.name, actor=actor, action=Action.DELIVERY_RESEND)
    orders = sorted({delivery.fulfillment_id for delivery in dead})
    count = 0
    for start in range(0, len(orders), _ORDERS_AT_ONCE):
        among = set(orders[start : start + _ORDERS_AT_ONCE])
        batch = [delivery for delivery in dead if delivery.fulfillment_id in among]
        count += run_unit(
            partial(_send_again, batch=batch), fulfillment_ids=among, actor=actor.name
        )
    for subscription, letters in counts.items():
        record(kind="resend", subscription=subscription, actor=actor, deliveries=letters)
    return count


def _send_again(unit: Unit, *, batch: Sequence[Delivery]) -> int:
    unit.raw.execute(_SEND_AGAIN, [[delivery.pk for delivery in batch]], prepare=True)
    count = unit.raw.rowcount
    about = {(one.subscription_id, one.fulfillment_id): one for one in batch}
    unit.raw.execute(_STILL_DEAD, [list(ids) for ids in zip(*about, strict=True)], prepare=True)
    for still_dead in unit.raw.fetchall():
        about.pop(still_dead, None)
    resolve_cases(
        unit,
        subjects=[
            undelivered_subject(
                subscription=one.subscription.name,
                order_reference=one.fulfillment.order_reference,
            )
            for one in about.values()
        ],
        resolution="Sent again.",
    )
    transaction.on_commit(hints.announce_events, robust=True)
    return count
