"""Read models of the order desk: what an order was promised, and what keeps it.

The API and the admin show the same; neither works it out by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fulfillment.engine.store import graphs
from fulfillment.models import FalloutCase, Hold, ManualTask, Plan
from fulfillment.queries import fulfillments
from fulfillment.queries.why import hidden
from fulfillment.states import PLAN_SELECTABLE, PlanState
from fulfillment.waits import waiting
from oms.changes.standing import unsettled
from oms.models import CancellationState, Order
from oms.states import OrderState

_IN_TIME = "It waits for people, who have time left."


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A milestone; `reached_at` is None until it is kept."""

    name: str
    title: str
    reached_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Why the order, or its plan, waits as a whole; `until` as in `waits.waiting.Wait`."""

    of: Order | Plan
    reason: str
    until: datetime | None = None

    @property
    def is_stuck(self) -> bool:
        """The detector has flagged it."""
        return isinstance(self.of, Plan) and self.of.stuck_at is not None


def newest_plan(order: Order) -> Plan | None:
    """The plan that the order goes by, without its snapshot of the order."""
    plans = fulfillments.newest_plans(fulfillment_ids=[order.fulfillment_id])
    return plans.get(order.fulfillment_id)


def promises(*, order: Order, plan: Plan | None) -> list[Promise]:
    """Those that are kept, then those that the plan still has to keep."""
    found = {
        milestone.name: Promise(
            name=milestone.name, title=str(milestone), reached_at=milestone.reached_at
        )
        for milestone in order.milestones.all()
    }
    for node in graphs.by_id(plan.graph_id).nodes if plan else ():
        for promised in node.milestones:
            found.setdefault(
                promised.name,
                Promise(name=promised.name, title=promised.title, reached_at=None),
            )
    return list(found.values())


def waits_as_a_whole(*, order: Order, plan: Plan | None) -> list[Whole]:
    """What keeps the order, and what keeps its plan, the tasks' own waits aside."""
    found = []
    if order.waiting_reason:
        found.append(Whole(of=order, reason=order.waiting_reason, until=order.feasibility_due_at))
    if order.state == OrderState.ASSESSING_CANCELLATION:
        found.append(Whole(of=order, reason=_assessed_until(order)))
    if plan and plan.stuck_at and plan.state in PLAN_SELECTABLE:
        found.append(Whole(of=plan, reason=plan.stuck_reason))
    elif plan and (
        plan.state == PlanState.BLOCKED
        or (plan.state == PlanState.COMPENSATING and plan.blocked_reason)
    ):
        until = waiting.decided_by(plan=plan)
        # The detector comes round every few seconds, and says the same of what needs help.
        how = "Nothing can move without help." if until is None else _IN_TIME
        found.append(Whole(of=plan, reason=f"{how} {plan.blocked_reason}".strip(), until=until))
    return found


def _assessed_until(order: Order) -> str:
    """What has to end before its cancellation can be decided."""
    request = order.cancellations.filter(state=CancellationState.ASSESSING).first()
    ahead = unsettled(order=order, request=request) if request is not None else ()
    if not ahead:
        return "It is to be cancelled; that is about to be decided."
    are = "is" if len(ahead) == 1 else "are"
    return (
        f"It is to be cancelled. Whether {', '.join(ahead)} {are} done has to be known first; "
        "nothing else is sent meanwhile."
    )


def waits_of_tasks(order: Order) -> list[waiting.Wait]:
    """What the order's tasks wait for, the most pressing first."""
    found = waiting.waiting(fulfillment_ids=[order.fulfillment_id])
    return found.get(order.fulfillment_id, [])


def told_to_its_client(*, order: Order, waits: Sequence[waiting.Wait]) -> list[waiting.Wait]:
    """The same waits, without the names of orders that belong to somebody else."""
    named = {name.partition(" ")[0] for wait in waits for name in wait.names}
    if not named:
        return list(waits)
    own = Order.objects.filter(client_id=order.client_id, reference__in=named)
    owned = set(own.values_list("reference", flat=True))
    return [hidden(wait, owner_of=owned) for wait in waits]


def open_cases(order: Order) -> list[FalloutCase]:
    """What people have to look into before the order goes on, the first due first."""
    found = fulfillments.open_cases(fulfillment_ids=[order.fulfillment_id])
    return found.get(order.fulfillment_id, [])


def open_manual_tasks(order: Order) -> list[ManualTask]:
    """What people have to decide about it, the first due first."""
    found = fulfillments.open_manual_tasks(fulfillment_ids=[order.fulfillment_id])
    return found.get(order.fulfillment_id, [])


def active_holds(*, order: Order, plan: Plan | None) -> list[Hold]:
    """Who holds the order, its customer or a part of it, the oldest first."""
    return waiting.holds_of(plan=plan, order_reference=order.reference, customer=order.customer_id)
