"""How much of a resource may be in use at once."""

from __future__ import annotations

from django.db import transaction

from fulfillment.authority.actors import Actor
from fulfillment.definitions.locking import resources_of
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import cursor
from fulfillment.engine.work import hints, locking
from fulfillment.errors import CapacityUnusable, ResourceUnknown
from fulfillment.models import Plan, Resource
from fulfillment.operations.records import log, now_of, reason_of
from fulfillment.published import newest_definitions
from fulfillment.states import PLAN_TERMINAL

MOST = 1_000_000


def set_capacity(*, resource: str, capacity: int, actor: Actor, reason: str) -> None:
    """From the next claim on; what is in use beyond it is kept to its end.

    Raises ReasonMissing, ResourceUnknown for what no published workflow locks, and
    CapacityUnusable for less than a new order, or one under way, asks for at once.
    """
    reason = reason_of(reason)
    if capacity < 1:
        raise CapacityUnusable("A resource has room for one at least; hold its users instead.")
    if capacity > MOST:
        raise CapacityUnusable(f"A resource has room for {MOST:,} at most.")
    with transaction.atomic(), cursor() as raw:
        locking.change_room(raw, resource=resource)
        row = Resource.objects.select_for_update().filter(pk=resource).first()
        if row is None:
            raise ResourceUnknown(
                f"No published workflow locks {resource!r}; `manage.py resources list` names them."
            )
        asked = _asked_for(resource)
        if capacity < asked:
            raise CapacityUnusable(
                f"Some orders lock {asked} units of {resource} at once and would wait for ever; "
                f"leave it {asked} at least, or publish a version that asks for fewer and migrate "
                "the orders under way."
            )
        before = row.capacity
        row.capacity = capacity
        row.save(update_fields=["capacity"])
        if capacity > before:
            locking.call_up_for(raw, resource=resource)
        log(
            kind="set_capacity",
            subject=f"resource:{resource}",
            actor=actor.name,
            reason=reason,
            before={"capacity": before},
            after={"capacity": capacity},
            now=now_of(raw),
        )
    hints.publish(targets=dict.fromkeys(locking.wake(), 1), wake_ups={})


def _asked_for(resource: str) -> int:
    """The most units that a new order, or one under way, locks at once."""
    uses = (resources_of(definition).get(resource) for definition in newest_definitions())
    under_way = Plan.objects.exclude(state__in=PLAN_TERMINAL).values_list("graph_id", flat=True)
    locks = (lock for graph_id in under_way.distinct() for lock in graphs.by_id(graph_id).locks)
    units = [
        *(use.units for use in uses if use is not None),
        *(lock.units for lock in locks if lock.resource == resource),
    ]
    return max(units, default=1)
