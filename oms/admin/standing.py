"""How one order stands: progress, milestones, why it waits, its graph, what has happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.urls import reverse

from fulfillment import queries
from fulfillment.definitions.drawing import BOX_HEIGHT, BOX_WIDTH, LARGEST, Drawing, draw
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.signs import PLAN_SIGNS, TASK_SIGNS, Sign, in_words
from fulfillment.engine import graphs
from fulfillment.models import Plan, Task, Transition
from fulfillment.states import PLAN_SELECTABLE, TaskState
from oms.models import Order
from oms.states import OrderState

ORDER_SIGNS: Mapping[OrderState, Sign] = {
    OrderState.SUBMITTED: ("○", "waiting"),
    OrderState.VALIDATING: ("◔", "moving"),
    OrderState.REJECTED: ("✗", "failed"),
    OrderState.READY_FOR_FULFILLMENT: ("◔", "moving"),
    OrderState.IN_PROGRESS: ("▶", "moving"),
    OrderState.COMPLETED: ("✓", "done"),
    OrderState.PARTIALLY_COMPLETED: ("◐", "trouble"),
    OrderState.FAILED: ("✗", "failed"),
    OrderState.ASSESSING_CANCELLATION: ("↶", "moving"),
    OrderState.CANCELLING: ("↶", "moving"),
    OrderState.CANCELLED: ("⊘", "failed"),
}
_SHOWN = 300
"""The newest transitions; the audit trail has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    sign: str
    tone: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One answer to "why does it wait?"; `address` leads to the task that it is about."""

    badge: Badge
    what: str
    why: str
    until: datetime | None = None
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTask:
    """A box of the picture."""

    x: float
    y: float
    title: str
    key: str
    call: str
    badge: Badge
    address: str
    flags: str
    optional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    title: str
    reached_at: datetime | None


@dataclass(slots=True, kw_only=True)
class Standing:
    badge: Badge
    plan: Plan | None = None
    plan_badge: Badge | None = None
    plan_address: str = ""
    done: int = 0
    total: int = 0
    percent: int = 0
    promises: list[Promise] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    drawing: Drawing | None = None
    tasks: list[DrawnTask] = field(default_factory=list)
    box: tuple[int, int] = (BOX_WIDTH, BOX_HEIGHT)
    too_large: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)
    earlier: int = 0


def standing(order: Order) -> Standing:
    """Everything that the order's page shows above its fields; a fixed number of queries."""
    found = Standing(badge=_badge(order.state, ORDER_SIGNS))
    plan = queries.newest_plans(fulfillment_ids=[order.fulfillment_id]).get(order.fulfillment_id)
    graph = graphs.by_id(plan.graph_id) if plan else None
    if plan and graph:
        found.plan = plan
        found.plan_badge = _badge(plan.state, PLAN_SIGNS)
        found.plan_address = reverse("admin:fulfillment_plan_change", args=[plan.pk])
        found.total = plan.mandatory_total
        found.done = plan.mandatory_total - plan.mandatory_open
        found.percent = 100 * found.done // max(1, found.total)
        _draw(found, plan, graph)
    found.promises = _promises(order, graph)
    found.reasons = _reasons(order, plan)
    _recall(found, order)
    return found


def _badge(state: str, signs: Mapping[Any, Sign]) -> Badge:
    sign, tone = signs.get(state, ("•", "waiting"))
    return Badge(sign=sign, tone=tone, words=in_words(str(state)))


def _promises(order: Order, graph: Graph | None) -> list[Promise]:
    found = {
        milestone.name: Promise(title=str(milestone), reached_at=milestone.reached_at)
        for milestone in order.milestones.all()
    }
    for node in graph.nodes if graph else ():
        for milestone in node.milestones:
            found.setdefault(milestone.name, Promise(title=milestone.title, reached_at=None))
    return list(found.values())


def _reasons(order: Order, plan: Plan | None) -> list[Reason]:
    reasons = [
        Reason(
            badge=Badge(sign="✗", tone="failed", words="fault"),
            what=fault["code"],
            why=f"{fault['message']} ({fault['path']})",
        )
        for fault in order.faults
    ]
    if order.waiting_reason:
        reasons.append(
            Reason(
                badge=_badge(order.state, ORDER_SIGNS),
                what="The order as a whole",
                why=order.waiting_reason,
                until=order.feasibility_due_at,
            )
        )
    if plan and plan.stuck_at and plan.state in PLAN_SELECTABLE:
        reasons.append(
            Reason(
                badge=Badge(sign="⚠", tone="trouble", words="stuck"),
                what="The plan as a whole",
                why=plan.stuck_reason,
            )
        )
    waits = queries.waiting(fulfillment_ids=[order.fulfillment_id]).get(order.fulfillment_id, [])
    reasons += [
        Reason(
            badge=_badge(wait.state, TASK_SIGNS),
            what=f"{wait.title} ({wait.task})",
            why=wait.reason,
            until=wait.until,
            address=_task_address(wait.task_id),
        )
        for wait in waits
    ]
    return reasons


def _draw(found: Standing, plan: Plan, graph: Graph) -> None:
    if len(graph.nodes) > LARGEST:
        found.too_large = len(graph.nodes)
        return
    found.drawing = draw(graph)
    tasks = {task.node: task for task in Task.objects.filter(plan=plan).defer("outputs")}
    for box in found.drawing.boxes:
        node, task = graph.nodes[box.node], tasks[box.node]
        flags = [milestone.title for milestone in node.milestones]
        found.tasks.append(
            DrawnTask(
                x=box.x,
                y=box.y,
                title=node.title if node.item is None else f"{node.title} · item {node.item}",
                key=task.key,
                call=f"{node.target}: {in_words(node.action)}",
                badge=_badge(TaskState(task.state), TASK_SIGNS),
                address=_task_address(task.pk),
                flags=", ".join(flags),
                optional=not node.required,
            )
        )


def _recall(found: Standing, order: Order) -> None:
    newest = (
        Transition.objects.filter(fulfillment_id=order.fulfillment_id)
        .order_by("-sequence")
        .values_list("sequence", flat=True)
        .first()
    ) or 0
    found.earlier = max(0, newest - _SHOWN)
    found.entries, _ = queries.timeline(
        fulfillment_id=order.fulfillment_id, after=found.earlier, limit=_SHOWN
    )


def _task_address(task_id: int) -> str:
    return reverse("admin:fulfillment_task_change", args=[task_id])
