"""Correcting what a task is sent."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from fulfillment.actions import Action
from fulfillment.engine.plans import correcting
from fulfillment.engine.work.unit import Unit
from fulfillment.operations.repair import Done, Found, Parameters, Why
from fulfillment.operations.tasks import TaskRepair, delayed, evidence_of
from fulfillment.states import TaskState


class CorrectParameters(Parameters):
    payload: dict[str, Any] | None = Field(
        default=None, description="The whole payload, in place of the one that its workflow makes."
    )
    patch: dict[str, Any] | None = Field(
        default=None,
        description="Or what is different in it, as a JSON merge patch (RFC 7386): null takes a "
        "member away.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> CorrectParameters:
        if (self.payload is None) == (self.patch is None):
            raise ValueError("give either payload or patch")
        return self


class CorrectTask(TaskRepair):
    """Another payload than the one that its workflow makes, under a key of its own."""

    action = Action.TASK_CORRECT
    kind = "correct"
    parameters = CorrectParameters
    from_states = frozenset(
        {
            TaskState.READY,
            TaskState.FAILED_RETRYABLE,
            TaskState.AWAITING_MANUAL,
            TaskState.FAILED_FINAL,
        }
    )

    def carry_out(self, unit: Unit, found: Found, parameters: CorrectParameters, why: Why) -> Done:
        if parameters.payload is not None:
            step: dict[str, Any] = {"replace": parameters.payload}
        else:
            step = {"merge": parameters.patch}
        done = correcting.correct(
            unit, task_id=found.pk, step=step, cause=why.reason, details=evidence_of(why)
        )
        customer, money = delayed(plan=done.plan, node=done.node, found=found)
        return Done(
            told=f"{done.task.key} ({done.node.title}) is sent corrected, as a new command to "
            f"{done.node.target}.",
            before={"state": str(done.before), "payload": done.payload_before},
            after={"state": str(done.task.state), "payload": dict(done.payload)},
            customer_impact=customer,
            financial_impact=money,
        )
