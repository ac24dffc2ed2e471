"""How one order stands: progress, milestones, why it waits, its graph, what has happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.urls import reverse

from fulfillment import queries
from fulfillment.admin.picture import Picture, plan_picture, task_address
from fulfillment.admin.reading import Badge, badge_of, signs_of
from fulfillment.admin.sending import OUTCOME_SIGNS
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.signs import PLAN_SIGNS, TASK_SIGNS, Sign
from fulfillment.engine import graphs
from fulfillment.models import Plan, Transition
from fulfillment.states import PLAN_SELECTABLE, PlanState, TaskState
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
_NEXT: Mapping[TaskState, str] = {
    TaskState.READY: "runnable since",
    TaskState.FAILED_RETRYABLE: "next try at",
    TaskState.OUTCOME_UNKNOWN: "asked again at",
    TaskState.ACCEPTED: "asked, if silent, at",
}
_SHOWN = 300
"""The newest transitions; the audit trail has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One answer to "why does it wait?"; `address` leads to the task that it is about."""

    badge: Badge
    what: str
    why: str
    until: datetime | None = None
    next: str = "looked at again"
    """What the engine does at `until`."""
    address: str = ""


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
    question: str = "Why it waits"
    """What `reasons` answer."""
    promises: list[Promise] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    picture: Picture | None = None
    too_large: int = 0
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Of the pages of the drawn tasks, by key."""
    entries: list[dict[str, Any]] = field(default_factory=list)
    earlier: int = 0


def standing(order: Order) -> Standing:
    """Everything that the order's page shows above its fields; a fixed number of queries."""
    found = Standing(badge=badge_of(order.state, ORDER_SIGNS))
    plan = queries.newest_plans(fulfillment_ids=[order.fulfillment_id]).get(order.fulfillment_id)
    graph = graphs.by_id(plan.graph_id) if plan else None
    if plan and graph:
        found.plan = plan
        found.plan_badge = badge_of(plan.state, PLAN_SIGNS)
        found.plan_address = reverse("admin:fulfillment_plan_change", args=[plan.pk])
        found.total = plan.mandatory_total
        found.done = plan.mandatory_total - plan.mandatory_open
        found.percent = 100 * found.done // max(1, found.total)
        found.picture = plan_picture(plan=plan, graph=graph)
        if found.picture is None:
            found.too_large = len(graph.nodes)
        else:
            found.addresses = {task.key: task.address for task in found.picture.tasks}
    if order.state == OrderState.REJECTED:
        found.question = "Why it was refused"
    found.promises = _promises(order, graph)
    found.reasons = _reasons(order, plan)
    _recall(found, order)
    return found


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
                badge=badge_of(order.state, ORDER_SIGNS),
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
    elif plan and plan.state == PlanState.BLOCKED:
        # The detector comes round every few seconds, and says the same.
        reasons.append(
            Reason(
                badge=badge_of(plan.state, PLAN_SIGNS),
                what="The plan as a whole",
                why=f"Nothing can move without help. {plan.blocked_reason}".strip(),
            )
        )
    waits = queries.waiting(fulfillment_ids=[order.fulfillment_id]).get(order.fulfillment_id, [])
    reasons += [
        Reason(
            badge=badge_of(wait.state, TASK_SIGNS),
            what=f"{wait.title} ({wait.task})",
            why=wait.reason,
            until=wait.until,
            next=_NEXT.get(wait.state, "looked at again"),
            address=task_address(wait.task_id),
        )
        for wait in waits
    ]
    return reasons


def _recall(found: Standing, order: Order) -> None:
    newest = (
        Transition.objects.filter(fulfillment_id=order.fulfillment_id)
        .order_by("-sequence")
        .values_list("sequence", flat=True)
        .first()
    ) or 0
    found.earlier = max(0, newest - _SHOWN)
    entries, _ = queries.timeline(
        fulfillment_id=order.fulfillment_id, after=found.earlier, limit=_SHOWN
    )
    for entry in entries:
        found.entries.append(_shown(entry, found.addresses))


def _shown(entry: Mapping[str, Any], addresses: Mapping[str, str]) -> dict[str, Any]:
    """An entry of the timeline with the signs of its states and the page of its task."""
    task = entry["subject"] if entry["kind"] == "transition" else entry["task"]
    shown = {**entry, "task": task, "address": addresses.get(task, "")}
    if entry["kind"] == "transition":
        signs = signs_of(entry["entity"])
        shown["before"] = badge_of(entry["from"], signs) if entry["from"] else None
        shown["after"] = badge_of(entry["to"], signs)
    elif entry["kind"] == "attempt" and entry["outcome"]:
        shown["result"] = badge_of(entry["outcome"], OUTCOME_SIGNS)
    return shown
