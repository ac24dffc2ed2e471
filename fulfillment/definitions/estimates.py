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
    what will never exist is to be given as over. Elements of a fan-out are not looked at.
    """
    ends = _ends(graph, standing, usual, now)
    return reduce(max, (ends[index].at for index in graph.mandatory), now)


def longest_way(
    *, graph: Graph, standing: Mapping[int, Standing], usual: Usual, now: datetime
) -> tuple[int, ...]:
    """The nodes that decide when the plan is done, first to last; empty when nothing is ahead.

    The way to the task that ends last of those that the order needs, as far as it is ahead. Of
    ways that take equally long, as they do where nothing has been measured, the one of most steps.
    """
    ends = _ends(graph, standing, usual, now)
    wanted = [index for index in graph.mandatory if ends[index].steps]
    if not wanted:
        return ()
    at: int | None = max(wanted, key=lambda index: (ends[index].at, ends[index].steps))
    way = []
    while at is not None:
        way.append(at)
        at = ends[at].behind
    return tuple(reversed(way))


@dataclass(frozen=True, slots=True)
class _End:
    at: datetime
    steps: int
    """Tasks on the way to it that are not over; 0: it is over itself."""
    behind: int | None
    """The node that it has to wait for longest; None where it waits for nothing that is ahead."""


def _ends(
    graph: Graph, standing: Mapping[int, Standing], usual: Usual, now: datetime
) -> dict[int, _End]:
    ends: dict[int, _End] = {}
    for node in graph.nodes:
        mine = standing.get(node.index)
        before = max(
            graph.predecessors[node.index],
            key=lambda one: (ends[one].at, ends[one].steps),
            default=None,
        )
        begins, steps, behind = now, 0, None
        if before is not None and ends[before].steps:
            begins, steps, behind = ends[before].at, ends[before].steps, before
        if node.group is not None:
            # Its elements' own time is that of the fan-out's end; what is before them counts.
            ends[node.index] = _End(begins, steps, behind)
        elif mine is not None and mine.is_over:
            ends[node.index] = _End(now, 0, None)
        else:
            at = _end(node, mine, begins=begins, usual=usual, now=now)
            began = mine is not None and (mine.until is not None or mine.began_at is not None)
            ends[node.index] = _End(at, 1 if began else steps + 1, None if began else behind)
    return ends


def critical_path(*, graph: Graph, usual: Usual) -> timedelta:
    """How long a plan takes that begins now and meets with nothing unusual."""
    return finish(graph=graph, standing={}, usual=usual, now=_ANY_TIME) - _ANY_TIME


def _end(
    node: Node, standing: Standing | None, *, begins: datetime, usual: Usual, now: datetime
) -> datetime:
    if standing is not None:
        if standing.until is not None:
            return max(standing.until, now)
        if standing.began_at is not None:
            return max(standing.began_at + usual(node), now)
    if node.kind is NodeKind.WAIT and node.wait is not None and node.wait.kind == "delay":
        return begins + timedelta(seconds=node.wait.delay_seconds)
    return begins + usual(node)
