"""When a plan will be done, by how long such tasks have taken: pure, over a graph and its states.

The critical path: every task begins with the last one that it waits for and takes as long as
usual; what is under way has begun already, and what takes longer than usual ends now. What
nobody has measured is taken for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce

from fulfillment.definitions.graph import Graph, Node, NodeKind

_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
Usual = Callable[[Node], timedelta]
"""How long a task takes from its beginning to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one task stands, as far as it matters here."""

    is_over: bool
    began_at: datetime | None = None
    until: datetime | None = None
    """It ends then, whatever is usual: a time that it waits for."""


def finish(
    *, graph: Graph, standing: Mapping[int, Standing], usual: Usual, now: datetime
) -> datetime:
    """When the last task that the order needs will have ended.

    `standing` has the tasks that exist, by node; what does not exist yet counts as waiting, and
    what will never exist, or is part of a fan-out's elements, is to be given as over.
    """
    ends: dict[int, datetime] = {}
    for index in range(len(graph.nodes)):
        node = graph.nodes[index]
        begins = reduce(max, (ends[one] for one in graph.predecessors[index]), now)
        ends[index] = _end(node, standing.get(index), begins=begins, usual=usual, now=now)
    return reduce(max, (ends[index] for index in graph.mandatory), now)


def critical_path(*, graph: Graph, usual: Usual) -> timedelta:
    """How long a plan takes that begins now and meets with nothing unusual."""
    now = _ANY_TIME
    inside = {node.index: Standing(is_over=True) for node in graph.nodes if node.group is not None}
    return finish(graph=graph, standing=inside, usual=usual, now=now) - now


def _end(
    node: Node, standing: Standing | None, *, begins: datetime, usual: Usual, now: datetime
) -> datetime:
    if standing is not None:
        if standing.is_over:
            return now
        if standing.until is not None:
            return max(standing.until, now)
        if standing.began_at is not None:
            return max(standing.began_at + usual(node), now)
    if node.kind is NodeKind.WAIT and node.wait is not None and node.wait.kind == "delay":
        return begins + timedelta(seconds=node.wait.delay_seconds)
    return begins + usual(node)
