"""Trying again what has failed without effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.plans import rerunning
from fulfillment.engine.store import graphs
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NothingToRetry
from fulfillment.models import Task
from fulfillment.operations.catalog import perform
from fulfillment.operations.repair import Done, Found, Request, Why
from fulfillment.operations.subjects import context_of
from fulfillment.operations.tasks import TaskRepair, delayed
from fulfillment.states import TaskState


class RetryTask(TaskRepair):
    """Send it anew, with today's data and a key of its own; of a fan-out what has failed of it."""

    action = Action.TASK_RETRY
    kind = "retry"
    from_states = frozenset({TaskState.FAILED_FINAL})

    def aim(self, found: Found, parameters: Any) -> Found:
        """It begins with the first of its ways again, wherever it has failed."""
        task = Task.objects.select_related("plan", "fulfillment").get(pk=found.pk)
        node = graphs.by_id(task.plan.graph_id).nodes[task.node]
        if not node.target or node.target in found.context.targets:
            return found
        context = context_of(
            subject=found.subject,
            order=task.fulfillment,
            plan=task.plan,
            targets={*found.context.targets, node.target},
            positions=node.items,
        )
        return replace(found, context=context)

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        again = rerunning.rerun(unit, task_id=found.pk, reason=why.reason)
        task: Task = unit.tasks[found.pk]
        if not again:
            raise NothingToRetry(
                f"{task.key} is {task.state}: only what has failed for good, in a plan that still "
                "runs, is tried again by hand."
            )
        plan = unit.plans[task.plan_id]
        customer, money = delayed(
            plan=plan, node=graphs.by_id(plan.graph_id).nodes[task.node], found=found
        )
        return Done(
            told=f"Sent anew: {', '.join(again[:20])}.",
            before={"state": "FAILED_FINAL"},
            after={"state": str(task.state), "tasks": again[:100]},
            customer_impact=customer,
            financial_impact=money,
            result={"tasks": again},
        )


def retry(*, task_id: int, actor: Actor, reason: str) -> list[str]:
    """The keys of what runs again. Raises as `catalog.perform` does."""
    request = Request(action=Action.TASK_RETRY, subject=f"task:{task_id}", reason=reason)
    again: list[str] = perform(actor=actor, request=request).result["tasks"]
    return again
