"""The boxes and arrows of a picture: what each says, and where it leads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.urls import reverse

from fulfillment.admin.reading import Badge, badge_of, list_address
from fulfillment.definitions.drawing import Arrow, Box, Size
from fulfillment.definitions.graph import Graph, Node
from fulfillment.definitions.outlines import call, condition, outline
from fulfillment.definitions.signs import TASK_SIGNS, in_words
from fulfillment.models import Task
from fulfillment.queries.plan_map import Spot
from fulfillment.states import TASK_SUCCESSFUL, TaskState

_TROUBLE = frozenset({"trouble", "failed"})


_TITLE = {False: 23, True: 20}
_CALL = {False: 25, True: 16}
"""Characters that have room in a box, and in a small one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTask:
    """A box of the picture; without a badge and an address where there is no task yet.

    `absent`: the plan runs, and no task was made for the node: its branch was not taken, or not
    yet. Of a node within a fan-out the badge sums all its tasks up.
    """

    x: int
    y: int
    title: str
    key: str
    title_shown: str
    call_shown: str
    """What has room in the box: what it does; in a small one its state, once it has any."""
    item: int | None
    has_milestone: bool
    final: str
    """Its point of no return: hard, soft, or empty."""
    outline: str
    absent: bool
    badge: Badge | None
    address: str
    told: str
    """All there is to say about it, a line for each thing; the first two are title and key."""
    is_ahead: bool
    """On the longest way that is still ahead."""
    groups: str
    """What it is shown as a part of when only a part is: `open`, `trouble`, `way`."""

    @property
    def is_marked(self) -> bool:
        """It has a milestone, or is a point of no return."""
        return self.has_milestone or bool(self.final)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnArrow:
    path: str
    told: str
    is_output: bool
    condition: str
    """Beside the arrow, where there is room for it; it ends at `x`, above `y`."""
    is_conditional: bool
    x: int
    y: int
    is_ahead: bool
    groups: str


def task_address(task_id: int) -> str:
    return reverse("admin:fulfillment_task_change", args=[task_id])


def tasks_address(plan_id: int, **lookups: object) -> str:
    """The list of those tasks of the plan that have these values."""
    return list_address(Task, plan__id__exact=plan_id, **lookups)


# --- one box --------------------------------------------------------------------------------------


def drawn_task(
    box: Box,
    node: Node,
    spot: Spot,
    *,
    plan_id: int | None,
    is_running: bool,
    is_ahead: bool,
    size: Size,
    outlines: dict[tuple[object, ...], str],
    condition: str,
) -> DrawnTask:
    badge, address = _badge(spot), ""
    if spot.elements and plan_id is not None:
        address = tasks_address(plan_id, node__exact=node.index)
    elif spot.task_id is not None:
        address = task_address(spot.task_id)
    optional = not (node.required or node.needed)
    absent = is_running and badge is None
    shape = (node.kind, optional, bool(node.undoes))
    if shape not in outlines:
        outlines[shape] = outline(
            node.kind,
            width=size.box_width,
            height=size.box_height,
            optional=optional,
            undoes=bool(node.undoes),
        )
    does = f"{node.target}: {in_words(node.action)}" if node.is_command else call(node)
    final = _final(node)
    return DrawnTask(
        x=round(box.x),
        y=round(box.y),
        title=node.title,
        key=node.key,
        title_shown=_cut(node.title, _TITLE[size.is_compact]),
        call_shown=_cut(
            _small(does, badge, absent) if size.is_compact else does, _CALL[size.is_compact]
        ),
        item=node.item,
        has_milestone=bool(node.milestones),
        final=final,
        outline=outlines[shape],
        absent=absent,
        badge=badge,
        address=address,
        told="\n".join(
            _lines(node, spot, badge, does, final, is_running, absent, is_ahead, condition)
        ),
        is_ahead=is_ahead,
        groups=_groups(badge, is_over=spot.is_over, is_ahead=is_ahead),
    )


def _small(does: str, badge: Badge | None, absent: bool) -> str:
    if badge:
        return badge.words
    return "not there" if absent else does


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _lines(
    node: Node,
    spot: Spot,
    badge: Badge | None,
    does: str,
    final: str,
    is_running: bool,
    absent: bool,
    is_ahead: bool,
    condition: str,
) -> Iterable[str]:
    yield node.title
    yield node.key
    yield does
    if badge:
        yield f"{badge.sign} {badge.words}"
    if absent:
        left_out = "Not there: its branch was not taken."
        yield left_out if spot.is_left_out else "Not there yet: whether it comes shows later."
    if spot.why:
        yield spot.why
    if condition:
        yield f"It is there on a condition: {condition}."
    for milestone in node.milestones:
        yield f"⚑ Milestone: {milestone.title}"
    if final:
        hard = final == "hard"
        words = "No way back once it is done" if hard else "Once done, giving up costs something"
        said = node.point_of_no_return
        yield f"{words}: {said.reason}" if said is not None and said.reason else f"{words}."
    if node.undoes:
        yield f"It undoes {node.undoes}."
    if not (node.required or node.needed):
        yield "The order can do without it."
    if is_ahead:
        yield f"On the longest way{' that is still ahead' if is_running else ''}."


def _badge(spot: Spot) -> Badge | None:
    if spot.elements:
        return _sum_of(spot.elements, spot.total)
    return badge_of(spot.state, TASK_SIGNS) if spot.state is not None else None


def _sum_of(states: Mapping[TaskState, int], total: int) -> Badge:
    """Of the tasks of one node, one for each element that has begun."""
    done = sum(count for state, count in states.items() if state in TASK_SUCCESSFUL)
    failed = states.get(TaskState.FAILED_FINAL, 0)
    cancelled = states.get(TaskState.CANCELLED, 0)
    words = f"{done}/{total} done" + (f", {failed} failed" if failed else "")
    words += f", {cancelled} cancelled" if cancelled else ""
    if failed:
        return Badge(sign="✗", tone="trouble", words=words)
    if done == total:
        return Badge(sign="✓", tone="done", words=words)
    if cancelled and done + cancelled == total:
        return Badge(sign="⊘", tone="failed", words=words)
    return Badge(sign="◑", tone="moving", words=words)


def _final(node: Node) -> str:
    if node.is_final:
        return "hard"
    return "" if node.point_of_no_return is None else node.point_of_no_return.kind


def _groups(badge: Badge | None, *, is_over: bool, is_ahead: bool) -> str:
    found = [] if is_over else ["open"]
    if badge is not None and badge.tone in _TROUBLE:
        found.append("trouble")
    if is_ahead:
        found.append("way")
    return " ".join(found)


# --- arrows ---------------------------------------------------------------------------------------


def conditions(graph: Graph) -> dict[int, str]:
    """By node, on which conditions it is there, or waits for what it waits for."""
    found: dict[int, list[str]] = {}
    for edge in graph.edges:
        if told := condition(graph, edge):
            found.setdefault(edge.target, []).append(told)
    return {node: "; ".join(dict.fromkeys(told)) for node, told in found.items()}


def drawn_arrow(
    arrow: Arrow, size: Size, is_ahead: bool, tasks: tuple[DrawnTask, ...]
) -> DrawnArrow:
    told = f"hands over {arrow.label}" if arrow.label else "comes before"
    if arrow.condition:
        told += f": {arrow.condition}"
    # With what it leads to; for the longest way, or for what is open.
    groups = [one for one in tasks[arrow.target].groups.split() if one != "way"]
    return DrawnArrow(
        path=arrow.path,
        told=told,
        is_output=bool(arrow.label),
        condition="" if size.is_compact else arrow.condition,
        is_conditional=bool(arrow.condition),
        x=round(arrow.x),
        y=round(arrow.y),
        is_ahead=is_ahead,
        groups=" ".join([*groups, "way"] if is_ahead else groups),
    )
