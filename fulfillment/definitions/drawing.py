"""Where the boxes and arrows of a graph stand when it is drawn. Pure: pixels, no markup.

Columns are the graph's depth, left to right. Within a column the boxes are ordered by where
their predecessors stand, which keeps most arrows from crossing.
"""

from __future__ import annotations

from dataclasses import dataclass

from fulfillment.definitions.graph import EdgeType, Graph

BOX_WIDTH = 196
BOX_HEIGHT = 58
_COLUMN_GAP = 56
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
    label_x: float
    label_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def draw(graph: Graph) -> Drawing:
    """Lay the graph out. Nodes on a cycle (a graph that was never validated) stand at the left."""
    columns: dict[int, list[int]] = {}
    for node in graph.nodes:
        columns.setdefault(max(0, graph.depth[node.index]), []).append(node.index)
    tallest = max((len(column) for column in columns.values()), default=0)
    row: dict[int, float] = {}
    for depth in sorted(columns):
        column = sorted(columns[depth], key=lambda index: (_centre(graph, index, row), index))
        # Short columns stand in the middle of the tall ones.
        first = (tallest - len(column)) / 2
        row.update({index: first + position for position, index in enumerate(column)})
    boxes = {
        index: Box(
            node=index,
            x=_MARGIN + depth * (BOX_WIDTH + _COLUMN_GAP),
            y=_MARGIN + row[index] * (BOX_HEIGHT + _ROW_GAP),
        )
        for depth, column in columns.items()
        for index in column
    }
    return Drawing(
        width=2 * _MARGIN + len(columns) * (BOX_WIDTH + _COLUMN_GAP) - _COLUMN_GAP,
        height=2 * _MARGIN + tallest * (BOX_HEIGHT + _ROW_GAP) - _ROW_GAP,
        boxes=tuple(boxes[node.index] for node in graph.nodes),
        arrows=tuple(_arrows(graph, boxes)),
    )


def _centre(graph: Graph, index: int, row: dict[int, float]) -> float:
    above = [row[before] for before in graph.predecessors[index] if before in row]
    # Roots stand by item, so that the tasks of one item stay together.
    return sum(above) / len(above) if above else float(graph.nodes[index].item or 0)


def _arrows(graph: Graph, boxes: dict[int, Box]) -> list[Arrow]:
    labels: dict[tuple[int, int], list[str]] = {}
    for edge in graph.edges:
        if edge.source in boxes and edge.target in boxes:
            names = labels.setdefault((edge.source, edge.target), [])
            if edge.type is EdgeType.OUTPUT and edge.output is not None:
                names.append(edge.output)
    arrows = []
    for (source, target), names in labels.items():
        x1, y1 = boxes[source].x + BOX_WIDTH, boxes[source].y + BOX_HEIGHT / 2
        x2, y2 = boxes[target].x, boxes[target].y + BOX_HEIGHT / 2
        bend = max(24.0, (x2 - x1) / 2)
        arrows.append(
            Arrow(
                source=source,
                target=target,
                path=f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}",
                label=", ".join(names),
                label_x=(x1 + x2) / 2,
                label_y=(y1 + y2) / 2 - 5,
            )
        )
    return arrows
