"""What repairs of a whole order look at: its running plan, and what undoing would mean."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal

from fulfillment.definitions.assessment import Assessment, Becomes, Charge, Direction, Fate
from fulfillment.engine.store.database import array
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible, OutcomeInDoubt
from fulfillment.models import Plan
from fulfillment.operations.repair import Found
from fulfillment.operations.showing import amount
from fulfillment.operations.subjects import newest_plan
from fulfillment.states import PLAN_GOING_ON, TASK_TERMINAL, PlanState

SHOWN = 100
"""Names that a record lists; a list in an order may have thousands."""
_NAMED = 10
# What is under way is not looked at: that a call has begun makes no other order of it.
_ENDED = """
SELECT count(*), coalesce(md5(string_agg(id || state, ' ' ORDER BY id)), '')
FROM fulfillment_task WHERE plan_id = %s AND state = ANY(%s::text[])
"""


def order_version(unit: Unit, found: Found) -> str:
    """Another text whenever another plan has taken over, something of it has ended or begun anew,
    or is to be given up; not when something is merely sent, or is waited for."""
    plan = newest_plan(found.pk)
    if plan is None:
        return "no plan"
    unit.raw.execute(_ENDED, [plan.pk, array(sorted(TASK_TERMINAL))], prepare=True)
    ((ended, which),) = unit.raw.fetchall()
    state = "going on" if plan.state in PLAN_GOING_ON else plan.state
    told = f"{plan.pk} {state} {plan.order_version} {plan.giving_up} {ended} {which}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def running_plan(unit: Unit, fulfillment_id: int) -> Plan:
    """The plan that fulfils the order; nobody has asked to cancel or to change it. Under its lock.

    Raises NotPossible, which says what it is instead.
    """
    plan = known_plan(unit, fulfillment_id)
    if plan is None:
        raise NotPossible("It has no plan yet: nothing of it has begun.")
    check_goes_on(plan)
    if plan.giving_up:
        raise NotPossible(f"It is being given up already: {plan.giving_up}")
    if plan.rest_due_at is not None:
        raise NotPossible(
            "Somebody has asked to cancel or to change it, and that is decided first: look again "
            "when it is."
        )
    return plan


def goes_on(found: Found) -> bool:
    """Whether its order is still fulfilled, as far as that can be told without a lock."""
    return found.state in PLAN_GOING_ON


def known_plan(unit: Unit, fulfillment_id: int) -> Plan | None:
    """The plan that the order goes by, or went by last, as this unit has locked it."""
    newest = newest_plan(fulfillment_id)
    if newest is None:
        return None
    unit.adopt_plans(plans_by_id(unit.raw, [newest.pk]))
    plan: Plan = unit.plans[newest.pk]
    return plan


def check_goes_on(plan: Plan) -> None:
    """Raises NotPossible."""
    if plan.state == PlanState.COMPENSATING:
        raise NotPossible("It is being undone already.")
    if plan.state == PlanState.COMPLETED:
        raise NotPossible(
            "It is complete, and what is complete is not changed: order a change of its results."
        )
    if plan.state not in PLAN_GOING_ON:
        raise NotPossible(f"Its plan is {plan.state}: nothing of it goes on.")


def check(assessment: Assessment) -> None:
    """Raises NotPossible with all that refuses it, and OutcomeInDoubt with what is under way."""
    if assessment.refusals:
        raise NotPossible(" ".join(dict.fromkeys(one.message for one in assessment.refusals)))
    if assessment.in_flight:
        raise_in_doubt(assessment.in_flight)


def raise_in_doubt(keys: Collection[str]) -> None:
    """Raises OutcomeInDoubt."""
    raise OutcomeInDoubt(
        f"Under way, or in doubt: {named(keys)}. Wait for what becomes of it, or say it "
        "(task.reconcile); then ask again."
    )


def named(keys: Collection[str]) -> str:
    """The first of them, and how many more there are."""
    listed = sorted(keys)
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def becoming(fates: Iterable[Fate], *what: Becomes) -> list[str]:
    return [fate.key for fate in fates if fate.becomes in what]


def undone(fates: Iterable[Fate]) -> list[Fate]:
    """Those of which something is taken back, whether or not it is done again."""
    taken_back = (Becomes.UNDONE, Becomes.REDONE)
    return [one for one in fates if one.is_done and one.undo and one.becomes in taken_back]


def fates_document(fates: Iterable[Fate]) -> dict[str, str]:
    """Task -> what becomes of it, of those that do not just go on."""
    changed = [one for one in fates if one.becomes is not Becomes.KEPT]
    return {one.key: one.becomes.value for one in changed[:SHOWN]}


def customer_impact(fates: Iterable[Fate], *first: str) -> str:
    """What the workflows say that undoing means to the customer, after what is always so."""
    return " ".join([*first, *_said(one.customer_impact for one in fates)]) or "None."


def financial_impact(assessment: Assessment, *first: str) -> str:
    """The sums of what it costs and brings back, and what the workflows say of it."""
    told = [*first, *_sums(assessment.charges)]
    return " ".join([*told, *_said(one.financial_impact for one in assessment.fates)]) or "None."


def _said(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))[:_NAMED]


def _sums(charges: Sequence[Charge]) -> list[str]:
    sums: dict[tuple[Direction, str], Decimal] = {}
    for one in charges:
        of = one.direction, one.currency
        sums[of] = sums.get(of, Decimal(0)) + one.amount
    words = {Direction.COST: "The customer pays", Direction.REFUND: "The customer gets back"}
    told = [
        f"{words[direction]} {amount(total, currency)}."
        for (direction, currency), total in sorted(sums.items())
        if total
    ]
    return told + [one.reason for one in charges if not one.amount and one.reason]
