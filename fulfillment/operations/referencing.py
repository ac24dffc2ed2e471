"""Entering a reference, or an output, that a target system owes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import Field

from fulfillment.actions import Action
from fulfillment.engine.plans import referencing
from fulfillment.engine.work import fallout
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Task
from fulfillment.operations.repair import CameAbout, Done, Found, Parameters, Why
from fulfillment.operations.tasks import TaskRepair, evidence_of
from fulfillment.states import TASK_SUCCESSFUL, TaskState


class ReferenceParameters(Parameters):
    reference: str = Field(
        default="", max_length=200, description="The target system's own name for what it did."
    )
    outputs: dict[str, Any] = Field(
        default_factory=dict,
        description="Values for outputs that the task declares and did not return.",
    )


class EnterReference(TaskRepair):
    """What is missing is filled in; what was confirmed stays as it is."""

    action = Action.TASK_REFERENCE
    kind = "reference"
    parameters = ReferenceParameters
    needs_evidence = True
    from_states = TASK_SUCCESSFUL | {TaskState.ACCEPTED}

    def came_about(self, *, pks: Collection[int]) -> Mapping[int, CameAbout]:
        rows = Task.objects.filter(pk__in=pks).values_list("pk", "reference", "outputs")
        return {
            pk: CameAbout(is_so=bool(reference or outputs), told=f"Its reference is {reference!r}.")
            for pk, reference, outputs in rows
        }

    def carry_out(
        self, unit: Unit, found: Found, parameters: ReferenceParameters, why: Why
    ) -> Done:
        done = referencing.set_reference(
            unit,
            task_id=found.pk,
            reference=parameters.reference,
            outputs=parameters.outputs,
            cause=why.reason,
            details=evidence_of(why),
        )
        task, woken = done.task, ", ".join(done.woken[:20])
        return Done(
            told=f"{task.key} ({done.node.title}) has what was missing."
            + (f" Looked at again: {woken}." if woken else ""),
            before={"reference": done.reference_before, "outputs": dict(done.outputs_before)},
            after={
                "reference": task.reference,
                "outputs": task.outputs or {},
                "woken": list(done.woken[:100]),
            },
            customer_impact=fallout.customer_impact(done.node) if done.woken else "None.",
        )
