"""How far each item of an order is: its tasks, its service and its billing (reference §16, §31.4).

Items stand as they are nested, those that an amendment has left out last.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from fulfillment.definitions.graph import Graph
from fulfillment.engine.store import graphs
from fulfillment.models import Plan
from fulfillment.waits.waiting import Wait
from oms import terms
from oms.models import BillingMatch, Order, OrderItem
from oms.queries.progress import Structured, Tasks
from oms.states import ItemAction


class Is(enum.StrEnum):
    """Whether something of an item is as it was ordered: there, or over where the item ends."""

    NOTHING = "NOTHING"
    """There is nothing of the kind to come."""
    NOT_YET = "NOT_YET"
    THERE = "THERE"
    MISSING = "MISSING"
    """The other of the two is there, and this one is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemStanding:
    item: OrderItem
    depth: int
    """0, or how deep it is nested."""
    tasks: Tasks | None
    """None when it has no tasks of its own: it comes with the line around it, or with the order."""
    waits: tuple[Wait, ...]
    """What its tasks wait for that is trouble."""
    service: Is
    service_at: datetime | None
    billing: Is
    billed_at: datetime | None

    @property
    def is_left_out(self) -> bool:
        return self.item.removed_in_version is not None

    @property
    def ends(self) -> bool:
        """It is ordered to end: what is there then is its end."""
        return self.item.action == ItemAction.DISCONNECT

    @property
    def percent(self) -> int:
        return 0 if self.tasks is None else round(100 * self.tasks.share)


def item_standings(
    *, order: Order, plan: Plan | None, far: Structured, troubles: Collection[Wait]
) -> list[ItemStanding]:
    """Two queries. `far` is how far the order is, `troubles` what of it waits for help."""
    items = list(OrderItem.ever.filter(order=order).order_by("position"))
    matches = {match.item_id: match for match in BillingMatch.objects.filter(item__in=items)}
    graph = graphs.by_id(plan.graph_id) if plan is not None else None
    billable = terms.of_graph(plan.graph_id).billing if plan is not None else {}
    by_item = _by_item(graph, troubles)
    found = []
    for item, depth in _nested(items):
        match = matches.get(item.pk)
        service_at = match.service_at if match else None
        billed_at = match.billed_at if match else None
        is_now = item.removed_in_version is None
        is_active = service_at is not None or (is_now and item.item_id in far.asset.there)
        to_come = is_now and item.item_id in far.asset.missing
        found.append(
            ItemStanding(
                item=item,
                depth=depth,
                tasks=far.items.get(item.item_id) if is_now else None,
                waits=tuple(by_item[item.position]) if is_now else (),
                service=_is(there=is_active, other=billed_at is not None, to_come=to_come),
                service_at=service_at,
                billing=_is(
                    there=billed_at is not None,
                    other=is_active and is_now,
                    to_come=is_now and item.position in billable,
                ),
                billed_at=billed_at,
            )
        )
    return found


def _is(*, there: bool, other: bool, to_come: bool) -> Is:
    if there:
        return Is.THERE
    if not to_come:
        return Is.NOTHING
    return Is.MISSING if other else Is.NOT_YET


def _by_item(graph: Graph | None, troubles: Collection[Wait]) -> dict[int, list[Wait]]:
    found: dict[int, list[Wait]] = defaultdict(list)
    for wait in troubles if graph is not None else ():
        assert graph is not None
        for position in graph.nodes[wait.node].items:
            found[position].append(wait)
    return found


def _nested(items: Collection[OrderItem]) -> Iterator[tuple[OrderItem, int]]:
    """Each behind the line around it; what is left out comes last."""
    within: dict[int | None, list[OrderItem]] = defaultdict(list)
    known = {item.pk for item in items}
    for item in sorted(items, key=lambda one: (one.removed_in_version is not None, one.position)):
        within[item.parent_id if item.parent_id in known else None].append(item)
    ahead = [(item, 0) for item in reversed(within[None])]
    while ahead:
        item, depth = ahead.pop()
        yield item, depth
        ahead += [(inner, depth + 1) for inner in reversed(within[item.pk])]
