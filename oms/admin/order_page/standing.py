"""How one order stands: for its customer, inside, and what keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.urls import reverse

from fulfillment import keeping
from fulfillment.admin.cases import SEVERITY_SIGNS, due_badge, order_cases_link
from fulfillment.admin.manual_signs import MANUAL_SIGNS
from fulfillment.admin.picture import Picture, plan_picture
from fulfillment.admin.reading import Badge, badge_of
from fulfillment.definitions.signs import PLAN_SIGNS
from fulfillment.engine.store import graphs
from fulfillment.models import FalloutCase, Hold, ManualTask, Plan
from fulfillment.queries import fulfillments
from fulfillment.queries.why import NOTHING, Why, why
from fulfillment.states import PLAN_SELECTABLE, PlanState, TaskState
from fulfillment.waits.waiting import Wait
from oms.admin.customers import NOTIFICATION_SIGNS
from oms.admin.order_page.items import ShownGap, ShownItem, ShownPart, gaps, items, parts
from oms.admin.order_page.reasons import Reason, of_fault, of_wait, of_whole
from oms.admin.order_page.signs import (
    LATE,
    ORDER_SIGNS,
    PLAN_WORDS,
    STUCK,
)
from oms.models import Order
from oms.queries import told
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
from oms.queries.progress import structured
from oms.queries.reasons import preface_of
from oms.states import OrderState

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
    found.items = items(order, plan, far, troubles)
    found.promises = promises(order=order, plan=plan)
    found.parts = parts(far, ending={one.of.item.item_id for one in found.items if one.of.ends})
    found.gaps = gaps(order)
    found.faults = [of_fault(fault) for fault in order.faults]
    whole = waits_as_a_whole(order=order, plan=plan)
    found.whole = [of_whole(one) for one in whole]
    found.troubles = [of_wait(wait) for wait in troubles[:SHOWN]]
    found.more_troubles = max(0, len(troubles) - SHOWN)
    others = [wait for wait in waits if wait.state not in _IN_TROUBLE]
    found.under_way = [of_wait(wait) for wait in others[:SHOWN]]
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
