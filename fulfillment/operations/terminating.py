"""Giving an order up: what was done is undone, and it ends as FAILED (reference §14, §29)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fulfillment.actions import Action
from fulfillment.definitions.assessment import Becomes
from fulfillment.engine.plans import undoing, withholding
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.models import Plan
from fulfillment.operations import plans
from fulfillment.operations.repair import CameAbout, Done, Found, Repair, Why
from fulfillment.operations.showing import fates_table
from fulfillment.operations.subjects import order_found
from fulfillment.states import PLAN_SELECTABLE, PlanState


class TerminatePlan(Repair):
    """Send nothing more; once nothing is under way, undo what was done in the reverse order."""

    action = Action.PLAN_TERMINATE
    kind = "terminate_plan"
    about = "order"
    is_shown_first = True

    def find(self, *, name: str) -> Found:
        return order_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return plans.order_version(unit, found)

    def is_offered(self, found: Found) -> bool:
        return plans.goes_on(found)

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        plan = plans.known_plan(unit, found.pk)
        if plan is None:
            raise NotPossible("It has no plan: there is nothing to undo. Cancel the order.")
        plans.check_goes_on(plan)
        if plan.giving_up and withholding.what_of(plan).is_whole:
            raise NotPossible(f"It is given up already: {plan.giving_up}")
        assessment = undoing.assess(unit, plan=plan, wanted=None)
        if assessment.refusals:
            plans.check(assessment)
        fates, waits_for = assessment.fates, assessment.in_flight
        withholding.give_up(unit, plan=plan, reason=f"given up by hand: {why.reason}")
        undone = plans.becoming(fates, Becomes.UNDONE)
        told = [f"{found.context.order_reference} is given up, and ends as FAILED."]
        told.append(
            f"Undone in the reverse order: {plans.named(undone)}."
            if undone
            else "Nothing of it has to be undone."
        )
        if waits_for:
            told.append(f"First it is waited for {plans.named(waits_for)}.")
        stays = plans.becoming([one for one in fates if one.is_done], Becomes.STAYS)
        if stays:
            told.append(f"Without an undo: {plans.named(stays)}.")
        return Done(
            told=" ".join(told),
            before={"plan": plan.pk, "state": str(plan.state)},
            after={
                "giving_up": plan.giving_up,
                "tasks": plans.fates_document(fates),
                "waits_for": list(waits_for)[: plans.SHOWN],
            },
            customer_impact=plans.customer_impact(fates, "The customer does not get this order."),
            financial_impact=plans.financial_impact(assessment),
            tables=(fates_table(fates=fates),),
        )

    def came_about(self, *, pks: Collection[int]) -> Mapping[int, CameAbout]:
        """Once what was done is undone. A failure to undo something keeps it under way."""
        newest = Plan.objects.filter(fulfillment__in=pks).exclude(state=PlanState.SUPERSEDED)
        rows = newest.order_by("order_version", "version").values_list("fulfillment_id", "state")
        return {
            pk: CameAbout(
                is_so=None if state in PLAN_SELECTABLE else state == PlanState.FAILED,
                told=f"Its plan is {state}.",
            )
            for pk, state in rows
        }
