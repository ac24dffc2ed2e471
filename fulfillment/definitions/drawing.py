"""Where the boxes and arrows of a graph stand when it is drawn. Pure: pixels, no markup.

Columns are the graph's depth, left to right. Within a column the boxes are ordered by where
their predecessors stand, and stand as near to those as they can: most arrows run straight, and few
cross. An arrow that passes by a column has a place of its own in it, so that none runs behind a
box; in large pictures arrows that come from, or lead to, the same box share one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fulfillment.definitions.graph import EdgeType, Graph
from fulfillment.definitions.outlines import condition

BOX_WIDTH = 196
BOX_HEIGHT = 58
_MARGIN = 12
LARGEST = 1000
"""Nodes; beyond that a picture helps nobody."""
_COMPACT_FROM = 80
"""Nodes; from there on the boxes are small, and share lanes."""
_MOST_BENDS = 20_000
"""Beyond that, arrows run straight: there would be more lanes than boxes."""
_SWEEPS = 4
"""How often everything moves between its neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large things are drawn."""

    box_width: int
    box_height: int
    column_gap: int
    labelled_gap: int
    """Room for the conditions beside the arrows, where there are any."""
    row_gap: int
    is_compact: bool = False


FULL = Size(box_width=BOX_WIDTH, box_height=BOX_HEIGHT, column_gap=44, labelled_gap=150, row_gap=16)
COMPACT = Size(
    box_width=156, box_height=36, column_gap=44, labelled_gap=44, row_gap=8, is_compact=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Left upper corner of the node with this index."""

    node: int
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """`path` is SVG path data; `label` the outputs that go along it, empty for a success edge."""

    source: int
    target: int
    path: str
    label: str
    condition: str = ""
    """When it, or the branch that it leads to, exists; it is to end at `x`, above `y`."""
    x: float = 0
    y: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    size: Size = FULL


def draw(graph: Graph) -> Drawing:
    """Lay the graph out. Nodes on a cycle (a graph that was never validated) stand at the left."""
    size = COMPACT if len(graph.nodes) >= _COMPACT_FROM else FULL
    column = {node.index: max(0, graph.depth[node.index]) for node in graph.nodes}
    routes = _routes(graph, column, shares=size.is_compact)
    conditions = _conditions(graph)
    gap = size.labelled_gap if conditions else size.column_gap
    rows, tallest = _rows(graph, column, routes)
    points: dict[_Place, tuple[float, float]] = {
        place: (
            _MARGIN + place[1] * (size.box_width + gap),
            _MARGIN + row * (size.box_height + size.row_gap),
        )
        for place, row in rows.items()
    }
    columns = 1 + max(column.values(), default=0)
    return Drawing(
        width=2 * _MARGIN + columns * (size.box_width + gap) - gap,
        height=2 * _MARGIN + tallest * (size.box_height + size.row_gap) - size.row_gap,
        boxes=tuple(
            Box(node=index, x=points[index, at][0], y=points[index, at][1])
            for index, at in column.items()
        ),
        arrows=tuple(
            _arrow(route, labels, points, conditions, size) for route, labels in routes.items()
        ),
        size=size,
    )


def _conditions(graph: Graph) -> dict[tuple[int, int], str]:
    """By source and target, the conditions of the edges between them."""
    found: dict[tuple[int, int], list[str]] = {}
    for edge in graph.edges:
        if told := condition(graph, edge):
            found.setdefault((edge.source, edge.target), []).append(told)
    return {ends: ", ".join(dict.fromkeys(told)) for ends, told in found.items()}


_Place = tuple[int | str, int]
"""A node, or the bend of an arrow that passes by, and its column."""
_Route = tuple[_Place, ...]
_Sides = dict[_Place, dict[_Place, None]]
"""Per place those that stand before it, or behind it."""


def _routes(graph: Graph, column: dict[int, int], *, shares: bool) -> dict[_Route, list[str]]:
    """Every arrow from place to place, column by column, and the outputs that go along it."""
    known = [edge for edge in graph.edges if edge.source in column and edge.target in column]
    ends = dict.fromkeys((edge.source, edge.target) for edge in known)
    passing = [(one, other) for one, other in ends if column[other] - column[one] > 1]
    is_straight = sum(column[other] - column[one] - 1 for one, other in passing) > _MOST_BENDS
    out = Counter(source for source, _ in passing)
    into = Counter(target for _, target in passing)
    routes: dict[tuple[int, int], _Route] = {}
    for source, target in ends:
        lane = f"{source}>{target}"
        if shares:
            lane = f"{source}>" if out[source] >= into[target] else f">{target}"
        first, last = column[source], column[target]
        bends = () if is_straight else tuple((lane, at) for at in range(first + 1, last))
        routes[source, target] = ((source, first), *bends, (target, last))
    found: dict[_Route, list[str]] = {route: [] for route in routes.values()}
    for edge in known:
        if edge.type is EdgeType.OUTPUT and edge.output is not None:
            found[routes[edge.source, edge.target]].append(edge.output)
    return found


def _rows(
    graph: Graph, column: dict[int, int], routes: dict[_Route, list[str]]
) -> tuple[dict[_Place, float], int]:
    """The row of every place, so that each has one of its own; and how many rows there are."""
    before: _Sides = {place: {} for place in column.items()}
    after: _Sides = {place: {} for place in column.items()}
    for route in routes:
        for here, there in pairwise(route):
            before.setdefault(there, {})[here] = None
            after.setdefault(here, {})[there] = None
    # What leads to many, or comes from many, draws each of them the less.
    weight = {id(before): after, id(after): before}
    standing: dict[int, list[_Place]] = {}
    for place in before:
        standing.setdefault(place[1], []).append(place)
    tallest = max((len(places) for places in standing.values()), default=0)
    rows: dict[_Place, float] = {}

    def wanted(place: _Place, *sides: _Sides) -> float:
        near = [
            (rows[other], 1 / len(weight[id(side)][other]))
            for side in sides
            for other in side.get(place, ())
            if other in rows
        ]
        if near:
            return sum(row * much for row, much in near) / sum(much for _, much in near)
        # Roots stand by item, so that the tasks of one item stay together.
        item = graph.nodes[place[0]].item if isinstance(place[0], int) else None
        return rows.get(place, float(item or 0))

    def settle(at: int, *sides: _Sides, reorder: bool) -> None:
        by_place = {place: wanted(place, *sides) for place in standing[at]}
        if reorder:
            standing[at].sort(key=lambda place: (by_place[place], f"{place[0]:>9}"))
        near = _spaced([by_place[place] for place in standing[at]], rows=tallest)
        rows.update(zip(standing[at], near, strict=True))

    columns = sorted(standing)
    for at in columns:
        settle(at, before, reorder=True)
    # What stands early moves to where it leads; then everything between its neighbours.
    for at in reversed(columns):
        settle(at, after, reorder=True)
    for at in columns:
        settle(at, before, reorder=True)
    for _ in range(_SWEEPS):
        for at in (*reversed(columns), *columns):
            settle(at, before, after, reorder=False)
    return rows, tallest


def _spaced(wanted: Sequence[float], *, rows: int) -> list[float]:
    """Rows as near to the wanted ones as they can be, in their order, each with its own.

    Neighbours that want the same stand around it together.
    """
    groups: list[tuple[float, int]] = []
    """Their sum and their number; within a group they stand one below the other."""
    for position, row in enumerate(wanted):
        total, count = row - position, 1
        while groups and groups[-1][0] / groups[-1][1] >= total / count:
            before = groups.pop()
            total, count = total + before[0], count + before[1]
        groups.append((total, count))
    most = rows - len(wanted)
    starts = [
        min(max(0.0, total / count), float(most)) for total, count in groups for _ in range(count)
    ]
    return [start + position for position, start in enumerate(starts)]


def _arrow(
    route: _Route,
    labels: list[str],
    points: dict[_Place, tuple[float, float]],
    conditions: dict[tuple[int, int], str],
    size: Size,
) -> Arrow:
    middle = size.box_height / 2
    path = ""
    for here, there in pairwise(route):
        x1, y1 = points[here][0] + size.box_width, points[here][1] + middle
        x2, y2 = points[there][0], points[there][1] + middle
        bend = max(24.0, (x2 - x1) / 2)
        path += f"L{x1:g} {y1:.0f}" if path else f"M{x1:g} {y1:.0f}"
        path += (
            f"L{x2:g} {y2:.0f}"
            if abs(y1 - y2) < 1
            else f"C{x1 + bend:g} {y1:.0f} {x2 - bend:g} {y2:.0f} {x2:g} {y2:.0f}"
        )
    source, target = route[0][0], route[-1][0]
    assert isinstance(source, int)
    assert isinstance(target, int)
    return Arrow(
        source=source,
        target=target,
        path=path,
        label=", ".join(labels),
        condition=conditions.get((source, target), ""),
        x=points[route[-1]][0] - 10,
        y=points[route[-1]][1] + middle - 9,
    )
