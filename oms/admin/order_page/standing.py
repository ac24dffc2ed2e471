"""How one order stands: for its customer, inside, item by item, and what keeps it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.urls import reverse

from fulfillment import keeping
from fulfillment.admin.cases import SEVERITY_SIGNS, due_badge, order_cases_link
from fulfillment.admin.manual import MANUAL_SIGNS
from fulfillment.admin.picture import Picture, plan_picture, task_address
from fulfillment.admin.reading import Badge, badge_of
from fulfillment.definitions.graph import NodeKind
from fulfillment.definitions.signs import PLAN_SIGNS, TASK_SIGNS
from fulfillment.engine.store import graphs
from fulfillment.models import FalloutCase, Hold, ManualTask, Plan
from fulfillment.queries import fulfillments
from fulfillment.queries.why import NOTHING, Why, why
from fulfillment.states import PLAN_SELECTABLE, TASK_SENDABLE, PlanState, TaskState
from fulfillment.waits.conditions import KeptBy
from fulfillment.waits.waiting import Wait
from oms import leaks
from oms.admin.customers import NOTIFICATION_SIGNS
from oms.admin.order_page.signs import (
    BILLING,
    BILLING_ENDS,
    COMPLETE,
    GAPS,
    LATE,
    ORDER_SIGNS,
    PARTIAL,
    PLAN_WORDS,
    SERVICE,
    SERVICE_ENDS,
    STUCK,
    UNBILLED,
)
from oms.models import Order, OrderItem
from oms.queries import told
from oms.queries.item_progress import ItemStanding, item_standings
from oms.queries.orders import (
    Promise,
    Whole,
    active_holds,
    open_cases,
    open_manual_tasks,
    promises,
    waits_as_a_whole,
)
from oms.queries.progress import NOTHING as NO_PROGRESS
from oms.queries.progress import Part, Structured, structured
from oms.queries.reasons import preface_of
from oms.states import OrderState

_NEXT = {
    TaskState.READY: "runnable since",
    TaskState.FAILED_RETRYABLE: "next try at",
    TaskState.OUTCOME_UNKNOWN: "asked again at",
    TaskState.ACCEPTED: "asked, if silent, at",
}
_IN_TROUBLE = frozenset(
    {
        TaskState.AWAITING_MANUAL,
        TaskState.FAILED_FINAL,
        TaskState.OUTCOME_UNKNOWN,
        TaskState.FAILED_RETRYABLE,
    }
)
SHOWN = 20
"""Of each kind of row: who has more of them goes to the lists."""
_AT_ONCE = 60
"""Tasks of a plan that is drawn with the page; the picture of a larger one comes after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One answer to "why does it wait?"; `address` leads to what it is about."""

    badge: Badge
    what: str
    why: str
    until: datetime | None = None
    next: str = "looked at again"
    """What the engine does at `until`."""
    address: str = ""
    task_id: int = 0
    """0: it is about no task."""
    key: str = ""
    is_in_doubt: bool = False
    """Nobody knows whether it was done."""
    goes_on: bool = False
    """By itself, in a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCase:
    """An open case, and `late` when somebody should have looked at it by now."""

    case: FalloutCase
    badge: Badge
    late: Badge | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownManual:
    manual: ManualTask
    badge: Badge


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
class ShownItem:
    of: ItemStanding
    trouble: Badge | None
    service: Badge | None
    billing: Badge | None
    details: str
    """What was ordered of it, as JSON: characteristics, prices, place …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """One order on the way to the root cause."""

    reference: str
    what: str
    why: str


@dataclass(slots=True, kw_only=True)
class Standing:
    badge: Badge
    told: told.Told
    told_badge: Badge | None = None
    """What became of the message that the customer was sent last."""
    plan: Plan | None = None
    plan_badge: Badge | None = None
    plan_words: str = ""
    plan_address: str = ""
    stuck: Badge | None = None
    late: Badge | None = None
    """In jeopardy: the plan says when it will be done."""
    progress: fulfillments.Progress = field(default_factory=lambda: fulfillments.progress_of(None))
    sentence: str = ""
    """Why it waits, in one sentence; what it is where it waits for nothing."""
    tone: str = "waiting"
    why: Why = NOTHING
    items: Sequence[ShownItem] = ()
    promises: Sequence[Promise] = ()
    parts: Sequence[ShownPart] = ()
    gaps: Sequence[ShownGap] = ()
    faults: Sequence[Reason] = ()
    """Why it was refused."""
    whole: Sequence[Reason] = ()
    """What keeps it as a whole."""
    troubles: Sequence[Reason] = ()
    """Tasks that can't go on, or not as they should, the most pressing first."""
    more_troubles: int = 0
    under_way: Sequence[Reason] = ()
    """Tasks that go on by themselves."""
    more_under_way: int = 0
    root: Sequence[Root] = ()
    """From the order down to the root cause, when that lies in another order."""
    cases: Sequence[ShownCase] = ()
    all_cases: str = ""
    manual: Sequence[ShownManual] = ()
    holds: Sequence[Hold] = ()
    locks: Sequence[keeping.Lock] = ()
    awaited_locks: Sequence[keeping.Lock] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The plan as a picture; neither: there is no plan, or it is fetched by the open page."""

    picture: Picture | None = None
    too_large: int = 0
    """So many tasks that there is no picture."""
    is_to_come: bool = False


def drawn(plan: Plan | None, *, waits: Sequence[Wait], at_once: bool) -> Drawn:
    """The plan's picture, with what its tasks wait for.

    Large ones are left for the open page to fetch, unless `at_once`.
    """
    if plan is None:
        return Drawn()
    graph = graphs.by_id(plan.graph_id)
    if len(graph.nodes) > _AT_ONCE and not at_once:
        return Drawn(is_to_come=True)
    picture = plan_picture(plan=plan, graph=graph, waits=waits)
    return Drawn(picture=picture, too_large=0 if picture else len(graph.nodes))


def standing(order: Order, *, plan: Plan | None, waits: Sequence[Wait]) -> Standing:
    """Everything that the page shows above its fields; a fixed number of queries.

    Read the order with its items and milestones prefetched, its newest plan, and what its tasks
    wait for (`oms.queries.orders`).
    """
    found = Standing(badge=badge_of(order.state, ORDER_SIGNS), told=told.told(order))
    if found.told.last is not None:
        found.told_badge = badge_of(found.told.last.state, NOTIFICATION_SIGNS)
    troubles = [wait for wait in waits if wait.state in _IN_TROUBLE]
    far = NO_PROGRESS
    if plan is not None:
        far = structured(orders=[order], plans={order.fulfillment_id: plan})[order.pk]
        _inside(found, plan)
    found.items = _items(order, plan, far, troubles)
    found.promises = promises(order=order, plan=plan)
    found.parts = _parts(far, ending={one.of.item.item_id for one in found.items if one.of.ends})
    found.gaps = _gaps(order)
    found.faults = [
        Reason(
            badge=Badge(sign="✗", tone="failed", words="fault"),
            what=fault["code"],
            why=f"{fault['message']} ({fault['path']})",
        )
        for fault in order.faults
    ]
    whole = waits_as_a_whole(order=order, plan=plan)
    found.whole = [_as_a_whole(one) for one in whole]
    found.troubles = [_reason(wait) for wait in troubles[:SHOWN]]
    found.more_troubles = max(0, len(troubles) - SHOWN)
    others = [wait for wait in waits if wait.state not in _IN_TROUBLE]
    found.under_way = [_reason(wait) for wait in others[:SHOWN]]
    found.more_under_way = max(0, len(others) - SHOWN)
    cases = open_cases(order)
    found.cases = [
        ShownCase(case=case, badge=badge_of(case.severity, SEVERITY_SIGNS), late=due_badge(case))
        for case in cases[:SHOWN]
    ]
    _dig(found, order, plan, waits, whole)
    found.all_cases = order_cases_link(order.fulfillment_id)
    found.manual = [
        ShownManual(manual=one, badge=badge_of(one.state, MANUAL_SIGNS))
        for one in open_manual_tasks(order)[:SHOWN]
    ]
    found.holds = active_holds(order=order, plan=plan)
    if plan is not None:
        found.locks, found.awaited_locks = keeping.locks_of(plan=plan)
    return found


def _inside(found: Standing, plan: Plan) -> None:
    found.plan = plan
    found.plan_badge = badge_of(plan.state, PLAN_SIGNS)
    found.plan_words = PLAN_WORDS[PlanState(plan.state)]
    found.plan_address = reverse("admin:fulfillment_plan_change", args=[plan.pk])
    found.progress = fulfillments.progress_of(plan)
    goes_on = plan.state in PLAN_SELECTABLE
    found.stuck = STUCK if goes_on and plan.stuck_at is not None else None
    found.late = LATE if goes_on and plan.at_risk_since is not None else None


def _dig(
    found: Standing,
    order: Order,
    plan: Plan | None,
    waits: Sequence[Wait],
    whole: Sequence[Whole],
) -> None:
    """To the root of it: one sentence, and what helps."""
    if plan is not None and plan.state in PLAN_SELECTABLE:
        found.why = why(fulfillment_id=order.fulfillment_id, plan=plan, waits=waits)
    if len(found.why.chain) > 1:
        found.root = [
            Root(
                reference=link.order_reference,
                what=f"{link.wait.title} ({link.wait.task})",
                why=link.wait.reason,
            )
            for link in found.why.chain
        ]
    is_over = order.is_final
    found.tone = found.badge.tone
    if order.state == OrderState.REJECTED:
        found.sentence = f"It was refused: {found.faults[0].why}" if found.faults else ""
    elif found.why.sentence and not is_over:
        assert plan is not None
        before = preface_of(order=order, plan=plan, whole=whole)
        found.sentence = before + found.why.sentence.removeprefix(f"{order.reference}, ")
        needs_help = any(not one.goes_on for one in found.troubles) or found.cases
        found.tone = "trouble" if needs_help or found.stuck else "moving"
    elif found.whole and not is_over:
        found.sentence = found.whole[0].why
        found.tone = "trouble" if found.stuck else "moving"
    elif is_over:
        found.sentence = found.told.words
    else:
        found.sentence = "Nothing keeps it waiting: it is about to move."


def _items(
    order: Order, plan: Plan | None, far: Structured, troubles: Sequence[Wait]
) -> list[ShownItem]:
    return [
        ShownItem(
            of=one,
            trouble=badge_of(one.waits[0].state, TASK_SIGNS) if one.waits else None,
            service=(SERVICE_ENDS if one.ends else SERVICE)[one.service],
            billing=(BILLING_ENDS if one.ends else BILLING)[one.billing],
            details=_details(one.item),
        )
        for one in item_standings(order=order, plan=plan, far=far, troubles=troubles)
    ]


def _details(item: OrderItem) -> str:
    prices = {
        name: f"{amount} {item.currency}"
        for name, amount in (
            ("price, once", item.one_off_price),
            ("price, recurring", item.recurring_price),
        )
        if amount is not None
    }
    told = {
        "characteristics": item.characteristics,
        **prices,
        "asset": item.asset,
        "place": item.place,
        "parties": item.parties,
        "relations": item.relations,
    }
    known = {name: value for name, value in told.items() if value}
    return json.dumps(known, indent=2, ensure_ascii=False) if known else ""


def _parts(far: Structured, *, ending: Collection[str]) -> list[ShownPart]:
    """`ending` are items that are ordered to end: theirs are no active items."""

    def staying(part: Part) -> Part:
        return Part(
            there=tuple(item for item in part.there if item not in ending),
            missing=tuple(item for item in part.missing if item not in ending),
        )

    named = (
        ("Items complete", far.commercial, PARTIAL),
        ("Milestones reached", far.customer_visible, PARTIAL),
        ("Items active", staying(far.asset), PARTIAL),
        ("Active items billed", staying(far.billing), UNBILLED),
        ("Items that may be used", staying(far.entitled), PARTIAL),
    )
    return [
        ShownPart(
            title=title,
            badge=COMPLETE if part.there and not part.missing else open_badge,
            there=", ".join(part.there) or "none",
            missing=", ".join(part.missing) or "none",
        )
        for title, part, open_badge in named
        if part.there or part.missing
    ]


def _gaps(order: Order) -> list[ShownGap]:
    return [
        ShownGap(
            badge=GAPS[gap.leak],
            item=gap.item.item_id,
            since=gap.since,
            due_at=gap.due_at,
            worth=leaks.in_words(gap.worth) or "no price",
        )
        for gap in leaks.gaps(order=order)
    ]


def _reason(wait: Wait) -> Reason:
    return Reason(
        badge=badge_of(wait.state, TASK_SIGNS),
        what=wait.title,
        key=wait.task,
        why=wait.reason,
        until=wait.until,
        next=_next(wait),
        task_id=wait.task_id,
        is_in_doubt=wait.state in (TaskState.OUTCOME_UNKNOWN, TaskState.AWAITING_MANUAL),
        goes_on=wait.state is TaskState.FAILED_RETRYABLE,
        address=task_address(wait.task_id)
        if wait.manual_id is None
        else reverse("admin:fulfillment_manualtask_change", args=[wait.manual_id]),
    )


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
        badge = STUCK
    else:
        signs = PLAN_SIGNS if isinstance(whole.of, Plan) else ORDER_SIGNS
        badge = badge_of(whole.of.state, signs)
    what = "The plan as a whole" if isinstance(whole.of, Plan) else "The order as a whole"
    return Reason(badge=badge, what=what, why=whole.reason, until=whole.until)
