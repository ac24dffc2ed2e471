"""Where the boxes and arrows of a graph stand when it is drawn. Pure: pixels, no markup.

Columns are the graph's depth, left to right. Within a column the boxes are ordered by where
their predecessors stand, which keeps most arrows from crossing. An arrow that passes by a column
has a place of its own in it, so that none runs behind a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from fulfillment.definitions.graph import EdgeType, Graph
from fulfillment.definitions.outlines import condition

BOX_WIDTH = 196
BOX_HEIGHT = 58
_COLUMN_GAP = 56
_LABELLED_GAP = 150
"""Room for the conditions beside the arrows, where there are any."""
_ROW_GAP = 16
_MARGIN = 8
LARGEST = 160
"""Nodes; beyond that a picture helps nobody."""


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


def draw(graph: Graph) -> Drawing:
    """Lay the graph out. Nodes on a cycle (a graph that was never validated) stand at the left."""
    column = {node.index: max(0, graph.depth[node.index]) for node in graph.nodes}
    routes = _routes(graph, column)
    conditions = _conditions(graph)
    gap = _LABELLED_GAP if conditions else _COLUMN_GAP
    rows, tallest = _rows(graph, column, routes)
    points: dict[_Place, tuple[float, float]] = {
        place: (
            _MARGIN + place[1] * (BOX_WIDTH + gap),
            _MARGIN + row * (BOX_HEIGHT + _ROW_GAP),
        )
        for place, row in rows.items()
    }
    columns = 1 + max(column.values(), default=0)
    return Drawing(
        width=2 * _MARGIN + columns * (BOX_WIDTH + gap) - gap,
        height=2 * _MARGIN + tallest * (BOX_HEIGHT + _ROW_GAP) - _ROW_GAP,
        boxes=tuple(
            Box(node=index, x=points[index, at][0], y=points[index, at][1])
            for index, at in column.items()
        ),
        arrows=tuple(_arrow(route, labels, points, conditions) for route, labels in routes.items()),
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


def _routes(graph: Graph, column: dict[int, int]) -> dict[_Route, list[str]]:
    """Every arrow from place to place, column by column, and the outputs that go along it."""
    found: dict[_Route, list[str]] = {}
    for edge in graph.edges:
        if edge.source not in column or edge.target not in column:
            continue
        first, last = column[edge.source], column[edge.target]
        bends = [(f"{edge.source}>{edge.target}", at) for at in range(first + 1, last)]
        route: _Route = ((edge.source, first), *bends, (edge.target, last))
        labels = found.setdefault(route, [])
        if edge.type is EdgeType.OUTPUT and edge.output is not None:
            labels.append(edge.output)
    return found


def _rows(
    graph: Graph, column: dict[int, int], routes: dict[_Route, list[str]]
) -> tuple[dict[_Place, float], int]:
    """The row of every place, so that each has one of its own; and how many rows there are."""
    before: dict[_Place, list[_Place]] = {place: [] for place in column.items()}
    for route in routes:
        for here, there in pairwise(route):
            before.setdefault(there, []).append(here)
    standing: dict[int, list[_Place]] = {}
    for place in before:
        standing.setdefault(place[1], []).append(place)
    tallest = max((len(places) for places in standing.values()), default=0)
    rows: dict[_Place, float] = {}

    def wanted(place: _Place) -> tuple[float, str]:
        above = [rows[other] for other in before[place] if other in rows]
        # Roots stand by item, so that the tasks of one item stay together.
        item = graph.nodes[place[0]].item if isinstance(place[0], int) else None
        return sum(above) / len(above) if above else float(item or 0), f"{place[0]:>9}"

    for at in sorted(standing):
        # Short columns stand in the middle of the tall ones.
        first = (tallest - len(standing[at])) / 2
        for position, place in enumerate(sorted(standing[at], key=wanted)):
            rows[place] = first + position
    return rows, tallest


def _arrow(
    route: _Route,
    labels: list[str],
    points: dict[_Place, tuple[float, float]],
    conditions: dict[tuple[int, int], str],
) -> Arrow:
    path = ""
    for here, there in pairwise(route):
        x1, y1 = points[here][0] + BOX_WIDTH, points[here][1] + BOX_HEIGHT / 2
        x2, y2 = points[there][0], points[there][1] + BOX_HEIGHT / 2
        bend = max(24.0, (x2 - x1) / 2)
        path += f"L{x1:g} {y1:g}" if path else f"M{x1:g} {y1:g}"
        path += f"C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
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
        y=points[route[-1]][1] + BOX_HEIGHT / 2 - 9,
    )
