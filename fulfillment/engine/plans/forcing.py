"""An order is completed by hand although not all of it is done: somebody answers for the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fulfillment.engine.plans import anew, migrating
from fulfillment.engine.plans.progress import after
from fulfillment.engine.plans.settlement import go_on
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import fanning
from fulfillment.engine.work import cases
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.models import Plan, Task
from fulfillment.states import TASK_SUCCESSFUL, TASK_TERMINAL, PlanState, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What stands between a plan and its completion."""

    open: tuple[Task, ...]
    """Not ended; and required, failed for good."""
    in_doubt: tuple[str, ...]
    """Keys: on the wire, or nobody knows whether they have had an effect."""
    being_undone: tuple[str, ...]


def rest_of(unit: Unit, *, plan: Plan) -> Rest:
    """Changes nothing."""
    tasks = migrating.tasks_of(unit, plan=plan)
    undoing = graphs.by_id(plan.graph_id).undoing
    return Rest(
        open=tuple(task for task in tasks if _is_open(task)),
        in_doubt=tuple(sorted(anew.in_doubt(unit, tasks=tasks))),
        being_undone=tuple(
            task.key for task in tasks if task.node in undoing and task.state not in TASK_SUCCESSFUL
        ),
    )


def complete(unit: Unit, *, plan: Plan, rest: Rest, cause: str, details: Mapping[str, Any]) -> None:
    """Waive what is mandatory, leave out what is not, and complete the plan with it.

    `rest` is what `rest_of` has just found: nothing in doubt, and nothing that is being undone.
    What no decision has brought into being is not needed any more, as nothing is chosen. Nothing
    of it was done in another way, as a waiver alone would say: no milestone is reached by it, and
    nothing is activated.
    Raises NotPossible when something of it would still be open.
    """
    assert not rest.in_doubt
    assert not rest.being_undone
    ended: list[Task] = []
    left: Collection[Task] = rest.open
    notices, signals = len(unit.notices), len(unit.signals)
    while left:
        for task in left:
            if _is_open(task):  # What hangs on one before it has ended with that.
                _end(unit, plan, task, cause, details)
                ended.append(task)
        left = [task for task in migrating.tasks_of(unit, plan=plan) if _is_open(task)]
    del unit.notices[notices:], unit.signals[signals:]
    cases.resolve_cases(
        unit,
        subjects=[cases.of_plan(plan.pk), *(cases.of_task(task.pk) for task in ended)],
        resolution=f"The order was completed by hand: {cause}",
    )
    plan.selection_due_at = None
    unit.touched_plans.add(plan.pk)
    go_on(unit, wanted={plan.pk: ()})
    if plan.state != PlanState.COMPLETED:
        raise NotPossible(
            f"Although all that is known of it has ended, its plan is {plan.state}: "
            f"{plan.blocked_reason or 'something of it is still to come.'}"
        )


def _end(unit: Unit, plan: Plan, task: Task, cause: str, details: Mapping[str, Any]) -> None:
    task.blocked_reason = ""
    transition = Task.waive if task.required else Task.leave_out
    unit.change_task(task, transition, cause=cause, **details)
    if task.element:
        fanning.end_there(unit, plan=plan, task=task)
    else:
        after(unit, plan=plan, task=task)


def _is_open(task: Task) -> bool:
    if task.state == TaskState.FAILED_FINAL:
        return task.required
    return task.state not in TASK_TERMINAL
