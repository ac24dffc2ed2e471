"""The picture of a plan as its template draws it: boxes with their states and links, arrows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse

from fulfillment.admin.reading import Badge, badge_of
from fulfillment.definitions.drawing import BOX_HEIGHT, BOX_WIDTH, LARGEST, Drawing, draw
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.outlines import call, outline
from fulfillment.definitions.signs import TASK_SIGNS, in_words
from fulfillment.elements import fan_outs, states_of_elements
from fulfillment.models import Plan, Task
from fulfillment.states import TASK_SUCCESSFUL, TASK_TERMINAL, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTask:
    """A box of the picture; without a badge and an address where there is no task yet.

    `absent`: the plan runs, and no task was made for the node: its branch was not taken, or not
    yet. Of a node within a fan-out the badge sums all its tasks up.
    """

    x: float
    y: float
    title: str
    key: str
    call: str
    item: int | None
    milestones: str
    optional: bool
    outline: str
    absent: bool
    badge: Badge | None
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    drawing: Drawing
    tasks: tuple[DrawnTask, ...]
    told: str
    """What it shows, for those who don't see it."""
    conditional: bool = False
    """Some arrows, or what they lead to, exist on a condition."""
    kinds: bool = False
    """There is more than commands in it."""
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


def task_address(task_id: int) -> str:
    return reverse("admin:fulfillment_task_change", args=[task_id])


def plan_picture(*, plan: Plan, graph: Graph) -> Picture | None:
    """A fixed number of queries. None when the plan is too large for a picture."""
    if len(graph.nodes) > LARGEST:
        return None
    rows = Task.objects.filter(plan=plan, element=0, round=0).only("pk", "node", "state")
    totals = {one.node: one.total for one in fan_outs(plan=plan)}
    each = states_of_elements(plan=plan)
    return picture(
        graph=graph,
        tasks={task.node: task for task in rows},
        elements={
            node: _Elements(
                plan_id=plan.pk, total=totals.get(_group(graph, node), 0), states=states
            )
            for node, states in each.items()
        },
    )


def picture(
    *, graph: Graph, tasks: Mapping[int, Task], elements: Mapping[int, _Elements] | None = None
) -> Picture | None:
    """The graph with the states of `tasks` and `elements` by node. None when it is too large."""
    if len(graph.nodes) > LARGEST:
        return None
    drawing = draw(graph)
    elements = elements or {}
    drawn = []
    for box in drawing.boxes:
        node, task, each = graph.nodes[box.node], tasks.get(box.node), elements.get(box.node)
        optional = not (node.required or node.needed)
        badge = badge_of(task.state, TASK_SIGNS) if task else None
        address = task_address(task.pk) if task else ""
        if each is not None:
            badge, address = each.badge, each.address(node.index)
        drawn.append(
            DrawnTask(
                x=box.x,
                y=box.y,
                title=node.title,
                key=node.key,
                call=f"{node.target}: {in_words(node.action)}" if node.is_command else call(node),
                item=node.item,
                milestones=", ".join(milestone.title for milestone in node.milestones),
                optional=optional,
                outline=outline(node.kind, width=BOX_WIDTH, height=BOX_HEIGHT, optional=optional),
                absent=bool(tasks) and badge is None,
                badge=badge,
                address=address,
            )
        )
    counts = Counter(task.badge.words for task in drawn if task.badge)
    if absent := sum(task.absent for task in drawn):
        counts["not there"] = absent
    states = ", ".join(f"{count} {words}" for words, count in counts.most_common())
    steps = 1 + max(graph.depth, default=0)
    told = f"{len(drawn)} tasks in {steps} steps" + (f": {states}." if states else ".")
    return Picture(
        drawing=drawing,
        tasks=tuple(drawn),
        told=told,
        conditional=any(arrow.condition for arrow in drawing.arrows),
        kinds=len({node.kind for node in graph.nodes}) > 1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Elements:
    """The tasks of one node, one for each element that has begun."""

    plan_id: int
    total: int
    states: Mapping[TaskState, int]

    @property
    def badge(self) -> Badge:
        done = sum(count for state, count in self.states.items() if state in TASK_SUCCESSFUL)
        failed = sum(
            count
            for state, count in self.states.items()
            if state in TASK_TERMINAL - TASK_SUCCESSFUL
        )
        words = f"{done}/{self.total} done" + (f", {failed} failed" if failed else "")
        if failed:
            return Badge(sign="✗", tone="trouble", words=words)
        if done == self.total:
            return Badge(sign="✓", tone="done", words=words)
        return Badge(sign="◑", tone="moving", words=words)

    def address(self, node: int) -> str:
        """The list of these tasks."""
        asked = urlencode({"plan__id__exact": self.plan_id, "node__exact": node})
        return f"{reverse('admin:fulfillment_task_changelist')}?{asked}"


def _group(graph: Graph, node: int) -> int:
    group = graph.nodes[node].group
    assert group is not None
    return group
