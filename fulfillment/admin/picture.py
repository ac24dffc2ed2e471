"""The picture of a plan as its template draws it: boxes with their states and links, arrows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from fulfillment.admin.picture_parts import (
    DrawnArrow,
    DrawnTask,
    conditions,
    drawn_arrow,
    drawn_task,
)
from fulfillment.definitions.drawing import LARGEST, Drawing, Size, draw
from fulfillment.definitions.graph import Graph, NodeKind
from fulfillment.models import Plan
from fulfillment.queries.plan_map import PlanMap, Spot, plan_map, way_of
from fulfillment.waits.inner_waits import Wait

_SHAPES: Mapping[NodeKind, str] = {
    NodeKind.DECISION: "pointed at both sides: a decision",
    NodeKind.WAIT: "round ends: a wait",
    NodeKind.MANUAL: "slanted top: a person",
    NodeKind.SPREAD: "double sides: a list begins, or ends",
    NodeKind.GATHER: "double sides: a list begins, or ends",
    NodeKind.ENTER: "pointed at the right: a sub-process begins, or ends",
    NodeKind.LEAVE: "pointed at the right: a sub-process begins, or ends",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    width: int
    height: int
    size: Size
    tasks: tuple[DrawnTask, ...]
    arrows: tuple[DrawnArrow, ...]
    told: str
    """What it shows, for those who don't see it."""
    is_running: bool
    """It shows a plan, not only a graph: the longest way is what is still ahead of that."""
    conditional: bool
    """Some arrows, or what they lead to, exist on a condition."""
    shapes: tuple[str, ...]
    """What the outlines in it mean that are no plain rectangle's."""
    milestones: bool
    hard: bool
    soft: bool
    ahead: bool
    """A longest way is marked in it."""

    @property
    def text_left(self) -> int:
        """Where the texts of a box begin: behind its sign, if boxes have signs."""
        if self.size.is_compact:
            return 26 if self.is_running else 10
        return 32 if self.is_running else 12

    @property
    def mark_left(self) -> float:
        """Where the flag of a milestone ends."""
        return self.size.box_width - (6 if self.size.is_compact else 8)

    @property
    def way_arrows(self) -> list[DrawnArrow]:
        """Those of the longest way; they are drawn above the others."""
        return [arrow for arrow in self.arrows if arrow.is_ahead]


def plan_picture(
    *, plan: Plan, graph: Graph, waits: Iterable[Wait] | None = None
) -> Picture | None:
    """A fixed number of queries. None when the plan is too large for a picture.

    `waits` are the plan's own, if they are at hand.
    """
    if len(graph.nodes) > LARGEST:
        return None
    return _picture(graph, plan_map(plan=plan, graph=graph, waits=waits), plan.pk)


def graph_picture(*, graph: Graph) -> Picture | None:
    """The graph alone, without any order. None when it is too large."""
    if len(graph.nodes) > LARGEST:
        return None
    nothing = [Spot(node=node.index) for node in graph.nodes]
    return _picture(graph, PlanMap(spots=nothing, way=way_of(graph=graph)), None)


def _picture(graph: Graph, found: PlanMap, plan_id: int | None) -> Picture:
    drawing = draw(graph)
    way, steps = frozenset(found.way), frozenset(pairwise(found.way))
    outlines: dict[tuple[object, ...], str] = {}
    on_condition = conditions(graph)
    is_running = plan_id is not None and any(spot.is_there for spot in found.spots)
    tasks = tuple(
        drawn_task(
            box,
            graph.nodes[box.node],
            found.spots[box.node],
            plan_id=plan_id,
            is_running=is_running,
            is_ahead=box.node in way,
            size=drawing.size,
            outlines=outlines,
            condition=on_condition.get(box.node, ""),
        )
        for box in drawing.boxes
    )
    arrows = tuple(
        drawn_arrow(arrow, drawing.size, (arrow.source, arrow.target) in steps, tasks)
        for arrow in drawing.arrows
    )
    return Picture(
        width=round(drawing.width),
        height=round(drawing.height),
        size=drawing.size,
        tasks=tasks,
        arrows=arrows,
        told=_summary(graph, drawing, tasks),
        is_running=is_running,
        conditional=any(arrow.condition for arrow in drawing.arrows),
        shapes=_shapes(graph),
        milestones=any(task.has_milestone for task in tasks),
        hard=any(task.final == "hard" for task in tasks),
        soft=any(task.final == "soft" for task in tasks),
        ahead=len(way) > 1,
    )


def _shapes(graph: Graph) -> tuple[str, ...]:
    found = dict.fromkeys(_SHAPES[node.kind] for node in graph.nodes if node.kind in _SHAPES)
    if any(node.undoes for node in graph.nodes):
        found["pointed at the left: undoes something"] = None
    if any(node.is_command and not (node.required or node.needed) for node in graph.nodes):
        found["rounded: the order can do without it"] = None
    return tuple(found)


def _summary(graph: Graph, drawing: Drawing, tasks: Iterable[DrawnTask]) -> str:
    drawn = list(tasks)
    counts = Counter(task.badge.words for task in drawn if task.badge)
    if absent := sum(task.absent for task in drawn):
        counts["not there"] = absent
    states = ", ".join(f"{count} {words}" for words, count in counts.most_common())
    steps = 1 + max(graph.depth, default=0)
    return f"{len(drawing.boxes)} tasks in {steps} steps" + (f": {states}." if states else ".")
