"""Completing an order by force (reference §29, §30): the last resort, and never over a doubt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fulfillment.actions import Action
from fulfillment.authority.context import MONEY
from fulfillment.definitions.signs import TASK_SIGNS
from fulfillment.engine.plans import forcing
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.models import Task
from fulfillment.operations import plans
from fulfillment.operations.repair import Done, Found, Repair, Why
from fulfillment.operations.showing import MOST_ROWS, NOTHING, Mark, Table
from fulfillment.operations.subjects import domains_of, order_found
from fulfillment.states import TaskState


class ForceComplete(Repair):
    """What is mandatory and open is waived, what is optional is left out, and the order is
    complete: what was done counts as all that there is to it."""

    action = Action.ORDER_FORCE_COMPLETE
    kind = "force_complete"
    about = "order"
    is_shown_first = True
    needs_evidence = True

    def find(self, *, name: str) -> Found:
        return order_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return plans.order_version(unit, found)

    def is_offered(self, found: Found) -> bool:
        return plans.goes_on(found)

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        plan = plans.running_plan(unit, found.pk)
        rest = forcing.rest_of(unit, plan=plan)
        if rest.in_doubt:
            plans.raise_in_doubt(rest.in_doubt)
        if rest.being_undone:
            raise NotPossible(
                f"Something of it is being undone: {plans.named(rest.being_undone)}. Wait until "
                "that is over."
            )
        before = {task.key: str(task.state) for task in rest.open[: plans.SHOWN]}
        targets = {task.target_id for task in rest.open if task.target_id}
        forcing.complete(
            unit,
            plan=plan,
            rest=rest,
            cause=f"completed by force: {why.reason}",
            details={"evidence": why.evidence[:1000]},
        )
        by_waiver = TaskState.WAIVED_BY_AUTHORIZED_USER
        waived = [task.key for task in rest.open if task.state == by_waiver]
        left_out = [task.key for task in rest.open if task.state != by_waiver]
        order = found.context.order_reference
        told = [f"{order} is complete."]
        if waived:
            told.append(f"Waived: {plans.named(waived)}.")
        if left_out:
            told.append(f"Left out: {plans.named(left_out)}.")
        money = sorted(targets) if not MONEY.isdisjoint(domains_of(targets)) else []
        return Done(
            told=" ".join(told),
            before={"plan": plan.pk, "tasks": before},
            after={
                "plan": plan.pk,
                "state": str(plan.state),
                "waived": waived[: plans.SHOWN],
                "left_out": left_out[: plans.SHOWN],
            },
            customer_impact="The customer is told that the order is complete, and gets no more "
            "than what was done.",
            financial_impact=f"What was not charged or billed never will be by this order: "
            f"{plans.named(money)} were not asked for all."
            if money
            else "None.",
            tables=(_fates(rest.open),),
        )


def _fates(tasks: Sequence[Task]) -> Table:
    """What is waived, and what is left out, with the signs that tasks have then."""
    rows = []
    for task in tasks[:MOST_ROWS]:
        sign, tone = TASK_SIGNS[TaskState(task.state)]
        is_waived = task.state == TaskState.WAIVED_BY_AUTHORIZED_USER
        words = "is waived: it counts as done" if is_waived else "is left out"
        rows.append((task.key, task.target_id or NOTHING, Mark(words=words, sign=sign, tone=tone)))
    more = len(tasks) - len(rows)
    return Table(
        title="What becomes of each open task",
        columns=("Task", "Target system", "It …"),
        rows=tuple(rows),
        told="What is done stays done." + (f" {more} more are not shown." if more else ""),
        tells=("tasks", "waived", "left_out"),
    )
