"""What every random run of the language begins with, and how it names what it sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.store import calendars
from fulfillment.models import BusinessCalendar
from fulfillment.publishing import publish
from oms.intake import workflows
from oms.models import Order
from tests import desk
from tests.properties.language_commands import ASKABLE
from tests.properties.language_scenarios import Item
from tests.properties.language_state import Place
from tests.properties.language_tree import Expansion, Node
from tests.properties.templates import Template

T = TypeVar("T")
HOUR = 3600.0
TARGETS = ("alpha", "beta")
VALID_FOR = (1.5, 6.5, 300.5)
"""Hours, for what expires."""
Wanted = tuple[int, Sequence[Item]]
"""Priority and items of an order."""


def publish_all(template: Template, *, start: datetime) -> list[dict[str, Any]]:
    """Two target systems and the template; its documents."""
    for name in TARGETS:
        desk.target(
            name,
            status_query=name in ASKABLE,
            query_slots=100,
            sender_slots=100,
        )
    for name, spec in template.calendars(start=start).items():
        BusinessCalendar.objects.create(name=name, title=name, spec=spec)
    calendars.forget()
    documents = template.documents(start=start)
    for document in documents:
        publish(definition=WorkflowDefinition.model_validate(document), published_by="a test")
    workflows.forget()
    return documents


def submit_all(orders: Sequence[Wanted], *, start: datetime) -> list[Order]:
    """Of two orders each may wait for the other."""
    submitted = desk.submit_all(
        *(
            desk.request(
                *(
                    desk.item(item_id=str(position), characteristics=said(item, start=start))
                    for position, item in enumerate(items, 1)
                ),
                external_id=str(number),
                channel=str(1 - number),
                priority=priority,
            )
            for number, (priority, items) in enumerate(orders)
        )
    )
    return [Order.objects.get(reference=one.reference) for one in submitted]


def said(item: Item, *, start: datetime) -> dict[str, Any]:
    """The characteristics of an item, as whoever orders says them."""
    return {
        "n": item.n,
        "list": item.as_list(),
        "soon": (start + timedelta(hours=item.soon)).isoformat(),
    }


def meant(item: Item) -> dict[str, Any]:
    """The same as the model reads them."""
    return {"n": item.n, "list": item.as_list(), "soon": item.soon}


def nodes_of(template: Template, *, positions: Iterable[int]) -> dict[str, Node]:
    """The tasks of an order with items at these positions."""
    return Expansion("thing", tuple(positions), template.parts).of(template.tasks)


def returned(
    template: Template, *, place: Place, spec: Mapping[str, Any], value: int, until: str
) -> dict[str, Any]:
    """What a target system returns: one number says it all."""
    found: dict[str, Any] = {}
    for name in spec.get("outputs", {}):
        if name == "n":
            found[name] = value
        elif name == "m":
            found |= {name: value} if value % 2 else {}
        elif name == "until":
            found[name] = until
        elif name == "parts":
            found[name] = list(range(value % 6))
        elif name == "names":
            found[name] = _named(template, place[0], value)
    return found


def key_of(place: Place) -> str:
    """As operators see it."""
    key, element = place
    return f"{key.replace('~element', '')}[{element}]" if element else key


def picked(among: Iterable[T], which: int) -> list[T]:
    found = list(among)
    return [found[which % len(found)]] if found else []


def _named(template: Template, key: str, value: int) -> list[str]:
    """Some of the branches that the decision behind it may create; now and then a wrong one."""
    name = key.rpartition("@")[0].rpartition("/")[2] or key.rpartition("/")[2]
    for spec in template.every_task():
        decide = spec.get("decide")
        if isinstance(decide, dict) and decide["names"] == f"${{tasks.{name}.names}}":
            if value == 9:
                return ["nobody"]
            return [one for bit, one in enumerate(decide["among"]) if value >> bit & 1]
    return []
