"""What orders in flight still need of this release: the handlers that they were planned for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Count

from adapters.registry import AdapterMisconfigured
from fulfillment.definitions.graph import Graph
from fulfillment.engine.store import graphs, targets
from fulfillment.models import Plan, TargetSystem
from fulfillment.states import PLAN_TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Nobody here does what so many active orders may still ask for."""

    target: str
    action: str
    orders: int
    why: str


def missing() -> list[Missing]:
    """Every target and action that active plans name and this process can't serve.

    Handlers are functions in this process, so run it in the release that is to be deployed,
    with the modules imported that register them. What is done over a network is not asked.
    """
    needed: Counter[tuple[str, str]] = Counter()
    active = Plan.objects.exclude(state__in=PLAN_TERMINAL)
    for graph_id, orders in active.values_list("graph").annotate(orders=Count("pk")).order_by():
        for call in set(_calls(graphs.by_id(graph_id))):
            needed[call] += orders
    rows = {row.pk: row for row in TargetSystem.objects.filter(pk__in={one for one, _ in needed})}
    return [
        Missing(target=target, action=action, orders=orders, why=why)
        for (target, action), orders in sorted(needed.items())
        if (why := _lack(rows.get(target), action))
    ]


def _calls(graph: Graph) -> Iterator[tuple[str, str]]:
    """Also what stands in for a task, and what undoes it."""
    for node in graph.nodes:
        if node.is_command:
            yield node.target, node.action
        for other in node.fallbacks:
            yield other.target, other.action
        for undo in node.compensations:
            yield undo.target, undo.action


def _lack(row: TargetSystem | None, action: str) -> str:
    if row is None:
        return "there is no such target system"
    try:
        adapter = targets.adapter_for(row)
    except AdapterMisconfigured as error:
        return str(error)
    handles = getattr(adapter, "handles", None)
    return "" if handles is None or handles(action=action) else "no function handles it"
