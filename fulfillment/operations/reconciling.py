"""Saying what became of a task whose outcome nobody knows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fulfillment.actions import Action
from fulfillment.engine.plans import repairing
from fulfillment.engine.work.unit import Unit
from fulfillment.operations.repair import Done, Found, Parameters, Why
from fulfillment.operations.tasks import TaskRepair, delayed, evidence_of, others
from fulfillment.states import TaskState


class ReconcileParameters(Parameters):
    happened: bool = Field(description="Whether the target system did it.")
    outputs: dict[str, Any] = Field(
        default_factory=dict,
        description="If it did: what it returned, all that the task declares.",
    )
    reference: str = Field(
        default="", max_length=200, description="If it did: the target system's own name for it."
    )
    then: Literal["retry", "fail"] = Field(
        default="retry",
        description="If it did not: send it as a new command, or let it fail for good.",
    )


class ReconcileTask(TaskRepair):
    """Somebody has looked it up in the target system."""

    action = Action.TASK_RECONCILE
    kind = "reconcile"
    parameters = ReconcileParameters
    needs_evidence = True
    from_states = frozenset(
        {
            TaskState.READY,
            TaskState.FAILED_RETRYABLE,
            TaskState.ACCEPTED,
            TaskState.OUTCOME_UNKNOWN,
            TaskState.AWAITING_MANUAL,
            TaskState.FAILED_FINAL,
        }
    )
    aims_at = frozenset({TaskState.SUCCEEDED, TaskState.FAILED_FINAL})
    fails_as = frozenset({TaskState.AWAITING_MANUAL, TaskState.CANCELLED})

    def carry_out(
        self, unit: Unit, found: Found, parameters: ReconcileParameters, why: Why
    ) -> Done:
        done = repairing.reconcile(
            unit,
            task_id=found.pk,
            happened=parameters.happened,
            outputs=parameters.outputs,
            reference=parameters.reference,
            then=parameters.then,
            cause=why.reason,
            details=evidence_of(why),
        )
        task = done.task
        customer, money = delayed(plan=done.plan, node=done.node, found=found)
        if parameters.happened:
            told = f"{done.node.target} did it, so it has succeeded, and the order goes on."
            customer, money = "It is done: the order goes on.", "None: it was done once."
        elif parameters.then == repairing.RETRY:
            told = f"{done.node.target} did not do it, so it is sent again as a new command."
        else:
            told = f"{done.node.target} did not do it, and it has failed for good."
        return Done(
            told=f"{task.key} ({done.node.title}): {told}",
            before={
                "state": str(done.before),
                "reason": done.blocked_before,
                "reference": done.reference_before,
                "outputs": dict(done.outputs_before),
            },
            after={
                "state": str(task.state),
                "happened": parameters.happened,
                "reference": task.reference,
                "outputs": task.outputs or {},
                "moved": others(unit, task=task),
            },
            customer_impact=customer,
            financial_impact=money,
        )
