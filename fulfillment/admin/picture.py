"""The picture of a plan as its template draws it: boxes with their states and links, arrows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from django.urls import reverse

from fulfillment.admin.reading import Badge, badge_of
from fulfillment.definitions.drawing import BOX_HEIGHT, BOX_WIDTH, LARGEST, Drawing, draw
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.signs import TASK_SIGNS, in_words
from fulfillment.models import Plan, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTask:
    """A box of the picture; without a badge and an address where there is no task yet."""

    x: float
    y: float
    title: str
    key: str
    call: str
    item: int | None
    milestones: str
    optional: bool
    badge: Badge | None
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    drawing: Drawing
    tasks: tuple[DrawnTask, ...]
    told: str
    """What it shows, for those who don't see it."""
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


def task_address(task_id: int) -> str:
    return reverse("admin:fulfillment_task_change", args=[task_id])


def plan_picture(*, plan: Plan, graph: Graph) -> Picture | None:
    """One query. None when the plan is too large for a picture."""
    if len(graph.nodes) > LARGEST:
        return None
    rows = Task.objects.filter(plan=plan, round=0).only("pk", "node", "state")
    return picture(graph=graph, tasks={task.node: task for task in rows})


def picture(*, graph: Graph, tasks: Mapping[int, Task]) -> Picture | None:
    """The graph with the states of `tasks` by node. None when it is too large."""
    if len(graph.nodes) > LARGEST:
        return None
    drawing = draw(graph)
    drawn = []
    for box in drawing.boxes:
        node, task = graph.nodes[box.node], tasks.get(box.node)
        drawn.append(
            DrawnTask(
                x=box.x,
                y=box.y,
                title=node.title,
                key=node.key,
                call=f"{node.target}: {in_words(node.action)}",
                item=node.item,
                milestones=", ".join(milestone.title for milestone in node.milestones),
                optional=not node.required,
                badge=badge_of(task.state, TASK_SIGNS) if task else None,
                address=task_address(task.pk) if task else "",
            )
        )
    counts = Counter(task.badge.words for task in drawn if task.badge)
    states = ", ".join(f"{count} {words}" for words, count in counts.most_common())
    steps = 1 + max(graph.depth, default=0)
    told = f"{len(drawn)} tasks in {steps} steps" + (f": {states}." if states else ".")
    return Picture(drawing=drawing, tasks=tuple(drawn), told=told)
