"""Whose states stand in the chains of orders, and where their current ones are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One kind of rows that the rows of a chain are about."""

    name: str
    """As transitions name it."""
    table: str
    current: str
    """SELECT of id as text, fulfillment_id and state, for the fulfillments in %s."""
    first: str = ""
    """The state of what has not moved yet; empty: it leaves a row when it comes to be."""


def _of(name: str, table: str, first: str = "") -> Entity:
    return Entity(
        name=name,
        table=table,
        first=first,
        current=f"SELECT id::text, fulfillment_id, state FROM {table} "
        "WHERE fulfillment_id = ANY(%s::bigint[])",
    )


_known = {
    entity.name: entity
    for entity in (
        _of("plan", "fulfillment_plan"),
        Entity(
            name="task",
            table="fulfillment_task",
            first="PENDING",
            current="SELECT t.id::text, t.fulfillment_id, t.state FROM fulfillment_task t "
            "JOIN fulfillment_plan p ON p.id = t.plan_id "
            "WHERE p.fulfillment_id = ANY(%s::bigint[])",
        ),
        _of("case", "fulfillment_falloutcase"),
        _of("approval", "fulfillment_approval"),
        _of("manual", "fulfillment_manualtask", first="OPEN"),
    )
}


def register(*entities: Entity) -> None:
    """Called while apps start; the order desk adds its own."""
    _known.update((entity.name, entity) for entity in entities)


def entities() -> dict[str, Entity]:
    """All of them, by their names."""
    return dict(_known)
