"""How much of a resource may be in use at once."""

from __future__ import annotations

from django.db import transaction

from fulfillment.engine import hints, locking
from fulfillment.engine.database import cursor
from fulfillment.errors import ResourceUnknown
from fulfillment.models import Resource
from fulfillment.operations.records import log, now_of, reason_of

MOST = 1_000_000


def set_capacity(*, resource: str, capacity: int, actor: str, reason: str) -> None:
    """From the next claim on; what is in use beyond it is kept to its end.

    Raises ReasonMissing, and ResourceUnknown for what no published workflow locks.
    """
    reason = reason_of(reason)
    if capacity < 1:
        raise ResourceUnknown("A resource has room for one at least; hold its users instead.")
    if capacity > MOST:
        raise ResourceUnknown(f"A resource has room for {MOST:,} at most.")
    with transaction.atomic(), cursor() as raw:
        locking.change_room(raw, resource=resource)
        row = Resource.objects.select_for_update().filter(pk=resource).first()
        if row is None:
            raise ResourceUnknown(
                f"No published workflow locks {resource!r}; `manage.py resources list` names them."
            )
        before = row.capacity
        row.capacity = capacity
        row.save(update_fields=["capacity"])
        if capacity > before:
            locking.call_up_for(raw, resource=resource)
        log(
            kind="set_capacity",
            subject=f"resource:{resource}",
            actor=actor,
            reason=reason,
            before={"capacity": before},
            after={"capacity": capacity},
            now=now_of(raw),
        )
    hints.publish(targets=dict.fromkeys(locking.wake(), 1), wake_ups={})
