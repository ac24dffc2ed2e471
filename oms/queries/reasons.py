"""Why an order is not moving, from its first rule to the last task of its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fulfillment.models import Plan
from fulfillment.queries.why import NOTHING, Why, why
from fulfillment.states import PLAN_SELECTABLE, PlanState
from oms.models import Order
from oms.queries.orders import Whole, newest_plan, waits_as_a_whole
from oms.states import OrderState


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One sentence; `why` has the chain below it, which is empty when no task waits."""

    sentence: str
    why: Why
    is_waiting: bool
    preface: str = ""
    """What the sentence begins with before it comes to the task."""


def reason_of(order: Order) -> Reason:
    """Of any order in any state."""
    plan = newest_plan(order)
    if plan is not None and plan.state in PLAN_SELECTABLE and not order.is_final:
        found = why(fulfillment_id=order.fulfillment_id)
        if found.chain:
            preface = preface_of(
                order=order, plan=plan, whole=waits_as_a_whole(order=order, plan=plan)
            )
            return Reason(
                sentence=preface + found.sentence, why=found, is_waiting=True, preface=preface
            )
    wholes = waits_as_a_whole(order=order, plan=plan)
    if wholes:
        sentence = " ".join(f"{order.reference}: {whole.reason}" for whole in wholes)
        return Reason(sentence=sentence, why=NOTHING, is_waiting=True)
    return Reason(sentence=_at_rest(order), why=NOTHING, is_waiting=not order.is_final)


def preface_of(*, order: Order, plan: Plan, whole: Sequence[Whole]) -> str:
    """What is to be known before why a task waits; empty: nothing. `whole` is what keeps it as a
    whole."""
    if order.state == OrderState.ASSESSING_CANCELLATION:
        *_, assessed = (one for one in whole if isinstance(one.of, Order))
        return f"{assessed.reason} "
    if plan.state == PlanState.COMPENSATING:
        return "What was done of it is being undone. "
    return ""


def _at_rest(order: Order) -> str:
    name = order.reference
    if order.state == OrderState.COMPLETED:
        return f"{name} waits for nothing: it is complete."
    if order.is_final:
        return f"{name} waits for nothing: it has ended as {order.state}."
    return f"{name} is {order.state}; the engine is about to go on with it."
