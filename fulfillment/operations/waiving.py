"""Waiving and skipping: a task is not done, and the order goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from pydantic import Field

from fulfillment.actions import Action
from fulfillment.engine.plans import needing, repairing
from fulfillment.engine.plans.repairing import Repaired
from fulfillment.engine.store import graphs
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Task
from fulfillment.operations.repair import Done, Found, Parameters, Why
from fulfillment.operations.subjects import context_of
from fulfillment.operations.tasks import TaskRepair, evidence_of, others, without_it
from fulfillment.states import TaskState

_NOT_DONE = frozenset(
    {
        TaskState.PENDING,
        TaskState.READY,
        TaskState.ACCEPTED,
        TaskState.FAILED_RETRYABLE,
        TaskState.AWAITING_MANUAL,
        TaskState.FAILED_FINAL,
    }
)


class WaiveParameters(Parameters):
    outputs: dict[str, Any] = Field(
        default_factory=dict,
        description="Values for outputs that the task declares: those that later tasks use have "
        "to be given.",
    )


class _NotDone(TaskRepair):
    """Allowed only where everything is allowed that is not done with it."""

    needs_evidence = True
    from_states = _NOT_DONE

    def _aimed(self, found: Found, labels: Collection[str]) -> Found:
        task = Task.objects.select_related("plan", "fulfillment").get(pk=found.pk)
        graph = graphs.by_id(task.plan.graph_id)
        missing = needing.left_out(graph, node=task.node, element=task.element, labels=labels)
        if missing == {task.node}:
            return found
        nodes = [graph.nodes[one] for one in missing]
        context = context_of(
            subject=found.subject,
            order=task.fulfillment,
            plan=task.plan,
            targets=found.context.targets.union(node.target for node in nodes) - {""},
            positions={position for node in nodes for position in node.items},
        )
        return replace(found, context=context)

    def _carry_out(
        self,
        unit: Unit,
        found: Found,
        why: Why,
        act: Callable[[], Repaired],
        words: str,
    ) -> Done:
        done = act()
        task, plan = done.task, done.plan
        graph = graphs.by_id(plan.graph_id)
        labels = _labels(task.outputs or {})
        missing = needing.left_out(graph, node=task.node, element=task.element, labels=labels)
        nodes = [done.node, *(graph.nodes[one] for one in sorted(missing - {task.node}))]
        customer, money = without_it(plan=plan, nodes=nodes, found=found)
        moved = others(unit, task=task)
        goes_on = f" What goes on: {', '.join(moved)}." if moved else ""
        return Done(
            told=f"{task.key} ({done.node.title}) is {words}: the order goes on without it."
            f"{goes_on}",
            before={"state": str(done.before), "reason": done.blocked_before},
            after={
                "state": str(task.state),
                "outputs": task.outputs or {},
                "downstream": needing.downstream(graph, node=task.node)[:50],
                "left_out": [node.key for node in nodes[1:51]],
                "moved": moved,
            },
            customer_impact=customer,
            financial_impact=money,
        )


class WaiveTask(_NotDone):
    """It would be needed, and somebody answers for its not being done."""

    action = Action.TASK_WAIVE
    kind = "waive"
    parameters = WaiveParameters
    aims_at = frozenset({TaskState.WAIVED_BY_AUTHORIZED_USER})

    def aim(self, found: Found, parameters: WaiveParameters) -> Found:
        return self._aimed(found, _labels(parameters.outputs))

    def carry_out(self, unit: Unit, found: Found, parameters: WaiveParameters, why: Why) -> Done:
        return self._carry_out(
            unit,
            found,
            why,
            lambda: repairing.waive(
                unit,
                task_id=found.pk,
                outputs=parameters.outputs,
                cause=why.reason,
                details=evidence_of(why),
            ),
            "waived",
        )


class SkipTask(_NotDone):
    """It does not apply to this order: nobody misses anything."""

    action = Action.TASK_SKIP
    kind = "skip"
    aims_at = frozenset({TaskState.SKIPPED_BY_POLICY})

    def aim(self, found: Found, parameters: Parameters) -> Found:
        return self._aimed(found, ())

    def carry_out(self, unit: Unit, found: Found, parameters: Parameters, why: Why) -> Done:
        return self._carry_out(
            unit,
            found,
            why,
            lambda: repairing.skip(
                unit, task_id=found.pk, cause=why.reason, details=evidence_of(why)
            ),
            "skipped",
        )


def _labels(outputs: dict[str, Any]) -> frozenset[str]:
    """What a person has chosen with the outputs that stand for a decision."""
    outcome = outputs.get("outcome")
    return frozenset({outcome}) if isinstance(outcome, str) else frozenset()
