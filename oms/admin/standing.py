"""How one order stands: progress, milestones, why it waits, its graph, what has happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.urls import reverse

from fulfillment import queries
from fulfillment.admin.cases import SEVERITY_SIGNS, due_badge, order_cases_link
from fulfillment.admin.picture import Picture, plan_picture, task_address
from fulfillment.admin.reading import Badge, badge_of, signs_of
from fulfillment.admin.sending import OUTCOME_SIGNS
from fulfillment.conditions import KeptBy
from fulfillment.definitions.graph import NodeKind
from fulfillment.definitions.signs import PLAN_SIGNS, TASK_SIGNS, Sign
from fulfillment.engine.store import graphs
from fulfillment.models import FalloutCase, Hold, Plan, Transition
from fulfillment.remedies import Remedy
from fulfillment.states import PLAN_SELECTABLE, TASK_SENDABLE, TaskState
from fulfillment.waiting import Wait
from fulfillment.why import why
from oms import leaks
from oms.models import Leak, Order
from oms.progress import structured
from oms.queries import (
    Promise,
    Whole,
    active_holds,
    newest_plan,
    open_cases,
    promises,
    waits_as_a_whole,
    waits_of_tasks,
)
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
_COMPLETE = Badge(sign="✓", tone="done", words="all")
_PARTIAL = Badge(sign="◔", tone="moving", words="not all")
_UNBILLED = Badge(sign="⚠", tone="trouble", words="unbilled")
_GAPS: Mapping[Leak, Badge] = {
    Leak.ACTIVE_WITHOUT_BILLING: Badge(sign="⚠", tone="trouble", words="active, not billed"),
    Leak.BILLED_WITHOUT_SERVICE: Badge(sign="⚠", tone="trouble", words="billed, not active"),
}
_LATE = Badge(sign="⏲", tone="trouble", words="will be late")
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
class ShownCase:
    """An open case, and `late` when somebody should have looked at it by now."""

    case: FalloutCase
    badge: Badge
    late: Badge | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPart:
    """One kind of partial fulfilment (reference §15)."""

    title: str
    badge: Badge
    there: str
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownGap:
    """An item of which only the service or only the billing is there."""

    badge: Badge
    item: str
    since: datetime
    due_at: datetime | None
    worth: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """One order on the way to the root cause."""

    reference: str
    what: str
    why: str


@dataclass(slots=True, kw_only=True)
class Standing:
    badge: Badge
    plan: Plan | None = None
    plan_badge: Badge | None = None
    plan_address: str = ""
    progress: queries.Progress = field(default_factory=lambda: queries.progress_of(None))
    question: str = "Why it waits"
    """What `reasons` answer."""
    promises: list[Promise] = field(default_factory=list)
    parts: list[ShownPart] = field(default_factory=list)
    gaps: list[ShownGap] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    root: list[Root] = field(default_factory=list)
    """From the order down to the root cause, when that lies in another order."""
    remedies: Sequence[Remedy] = ()
    """What may be done about the root."""
    late: Badge | None = None
    """In jeopardy: the plan says when it will be done."""
    cases: list[ShownCase] = field(default_factory=list)
    all_cases: str = ""
    holds: list[Hold] = field(default_factory=list)
    picture: Picture | None = None
    too_large: int = 0
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Of the pages of the drawn tasks, by key."""
    entries: list[dict[str, Any]] = field(default_factory=list)
    earlier: int = 0


def standing(order: Order) -> Standing:
    """Everything that the order's page shows above its fields; a fixed number of queries."""
    found = Standing(badge=badge_of(order.state, ORDER_SIGNS))
    plan = newest_plan(order)
    graph = graphs.by_id(plan.graph_id) if plan else None
    if plan and graph:
        found.plan = plan
        found.plan_badge = badge_of(plan.state, PLAN_SIGNS)
        found.plan_address = reverse("admin:fulfillment_plan_change", args=[plan.pk])
        found.progress = queries.progress_of(plan)
        found.picture = plan_picture(plan=plan, graph=graph)
        if found.picture is None:
            found.too_large = len(graph.nodes)
        else:
            found.addresses = {task.key: task.address for task in found.picture.tasks}
    if order.state == OrderState.REJECTED:
        found.question = "Why it was refused"
    found.promises = promises(order=order, plan=plan)
    found.parts = _parts(order, plan)
    found.gaps = [
        ShownGap(
            badge=_GAPS[gap.leak],
            item=gap.item.item_id,
            since=gap.since,
            due_at=gap.due_at,
            worth=leaks.in_words(gap.worth) or "no price",
        )
        for gap in leaks.gaps(order=order)
    ]
    found.reasons = _reasons(order, plan)
    _dig(found, order, plan)
    found.cases = [
        ShownCase(case=case, badge=badge_of(case.severity, SEVERITY_SIGNS), late=due_badge(case))
        for case in open_cases(order)
    ]
    found.all_cases = order_cases_link(order.fulfillment_id)
    found.holds = active_holds(order=order, plan=plan)
    _recall(found, order)
    return found


def _dig(found: Standing, order: Order, plan: Plan | None) -> None:
    """To the root of it, and what helps."""
    if plan is None or plan.state not in PLAN_SELECTABLE:
        return
    told = why(fulfillment_id=order.fulfillment_id)
    found.remedies = told.remedies
    if len(told.chain) > 1:
        found.root = [
            Root(
                reference=link.order_reference,
                what=f"{link.wait.title} ({link.wait.task})",
                why=link.wait.reason,
            )
            for link in told.chain
        ]
    if plan.at_risk_since is not None:
        found.late = _LATE


def _parts(order: Order, plan: Plan | None) -> list[ShownPart]:
    if plan is None:
        return []
    far = structured(orders=[order], plans={order.fulfillment_id: plan})[order.pk]
    named = (
        ("Items complete", far.commercial, _PARTIAL),
        ("Milestones reached", far.customer_visible, _PARTIAL),
        ("Items active", far.asset, _PARTIAL),
        ("Active items billed", far.billing, _UNBILLED),
        ("Items that may be used", far.entitled, _PARTIAL),
    )
    return [
        ShownPart(
            title=title,
            badge=_COMPLETE if part.there and not part.missing else open_badge,
            there=", ".join(part.there) or "none",
            missing=", ".join(part.missing) or "none",
        )
        for title, part, open_badge in named
        if part.there or part.missing
    ]


def _reasons(order: Order, plan: Plan | None) -> list[Reason]:
    reasons = [
        Reason(
            badge=Badge(sign="✗", tone="failed", words="fault"),
            what=fault["code"],
            why=f"{fault['message']} ({fault['path']})",
        )
        for fault in order.faults
    ]
    reasons += [_as_a_whole(whole) for whole in waits_as_a_whole(order=order, plan=plan)]
    reasons += [
        Reason(
            badge=badge_of(wait.state, TASK_SIGNS),
            what=f"{wait.title} ({wait.task})",
            why=wait.reason,
            until=wait.until,
            next=_next(wait),
            address=task_address(wait.task_id)
            if wait.manual_id is None
            else reverse("admin:fulfillment_manualtask_change", args=[wait.manual_id]),
        )
        for wait in waits_of_tasks(order)
    ]
    return reasons


def _next(wait: Wait) -> str:
    if wait.kept_by is KeptBy.HOLD:
        return "held until"
    if wait.kept_by is KeptBy.BREAKER and wait.state in TASK_SENDABLE:
        return "not before"
    if wait.kind is NodeKind.WAIT:
        return "ends at"
    if wait.manual_id is not None:
        return "until"
    return _NEXT.get(wait.state, "looked at again")


def _as_a_whole(whole: Whole) -> Reason:
    if whole.is_stuck:
        badge = Badge(sign="⚠", tone="trouble", words="stuck")
    else:
        signs = PLAN_SIGNS if isinstance(whole.of, Plan) else ORDER_SIGNS
        badge = badge_of(whole.of.state, signs)
    what = "The plan as a whole" if isinstance(whole.of, Plan) else "The order as a whole"
    return Reason(badge=badge, what=what, why=whole.reason, until=whole.until)


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
