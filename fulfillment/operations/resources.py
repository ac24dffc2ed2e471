"""How much of a resource may be in use at once."""

from __future__ import annotations

from pydantic import Field

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.context import Context
from fulfillment.definitions.locking import resources_of
from fulfillment.engine.store import graphs
from fulfillment.engine.work import hints, locking
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import AlreadySo, CapacityUnusable, ResourceUnknown
from fulfillment.models import Plan, Resource
from fulfillment.operations.catalog import perform
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Request, Why
from fulfillment.published import newest_definitions
from fulfillment.states import PLAN_TERMINAL

MOST = 1_000_000


class CapacityParameters(Parameters):
    capacity: int = Field(description=f"Units that may be in use at once: 1 to {MOST:,}.")


class SetCapacity(Repair):
    """From the next claim on; what is in use beyond it is kept to its end."""

    action = Action.RESOURCE_EDIT
    kind = "set_capacity"
    about = "resource"
    parameters = CapacityParameters

    def find(self, *, name: str) -> Found:
        if not Resource.objects.filter(pk=name).exists():
            raise ResourceUnknown(
                f"No published workflow locks {name[:100]!r}; `manage.py resources list` names "
                "them."
            )
        subject = f"resource:{name}"
        return Found(subject=subject, pk=0, context=Context(subject=subject))

    def version(self, unit: Unit, found: Found) -> str:
        return f"capacity {_resource(found).capacity}"

    def carry_out(self, unit: Unit, found: Found, parameters: CapacityParameters, why: Why) -> Done:
        capacity = parameters.capacity
        if capacity < 1:
            raise CapacityUnusable("A resource has room for one at least; hold its users instead.")
        if capacity > MOST:
            raise CapacityUnusable(f"A resource has room for {MOST:,} at most.")
        resource = _resource(found).pk
        locking.change_room(unit.raw, resource=resource)
        row = Resource.objects.select_for_update().get(pk=resource)
        asked = _asked_for(resource)
        if capacity < asked:
            raise CapacityUnusable(
                f"Some orders lock {asked} units of {resource} at once and would wait for ever; "
                f"leave it {asked} at least, or publish a version that asks for fewer and migrate "
                "the orders under way."
            )
        before = row.capacity
        if capacity == before:
            raise AlreadySo(f"{resource} has room for {before} already.")
        row.capacity = capacity
        row.save(update_fields=["capacity"])
        if capacity > before:
            locking.call_up_for(unit.raw, resource=resource)
        return Done(
            told=f"{resource} has room for {capacity} at once, instead of {before}.",
            before={"capacity": before},
            after={"capacity": capacity},
            customer_impact="More of those that wait for it go on."
            if capacity > before
            else "Others may wait for it longer.",
        )

    def afterwards(self, done: Done) -> Done:
        hints.publish(targets=dict.fromkeys(locking.wake(), 1), wake_ups={})
        return done


def set_capacity(*, resource: str, capacity: int, actor: Actor, reason: str) -> bool:
    """False when it has room for that many already.

    Raises as `catalog.perform` does, ResourceUnknown for what no published workflow locks, and
    CapacityUnusable for less than a new order, or one under way, asks for at once.
    """
    request = Request(
        action=Action.RESOURCE_EDIT,
        subject=f"resource:{resource}",
        reason=reason,
        parameters={"capacity": capacity},
    )
    try:
        perform(actor=actor, request=request)
    except AlreadySo:
        return False
    return True


def _resource(found: Found) -> Resource:
    return Resource.objects.get(pk=found.subject.partition(":")[2])


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
