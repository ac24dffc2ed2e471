"""A reference or an output that a target system owed is entered by hand: what is missing, never
what is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fulfillment.engine.plans import knowing, needing
from fulfillment.engine.plans.knowing import Known
from fulfillment.engine.plans.repairing import Repaired, look_again
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import array, clean
from fulfillment.engine.tasks.stopped import MAY_GO_ON
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.states import TASK_SUCCESSFUL, TaskState

_LONGEST = 200
_WAITING = """
SELECT id, element FROM fulfillment_task
WHERE plan_id = %s AND node = ANY(%s::int[]) AND round = 0 AND state = 'AWAITING_MANUAL'
ORDER BY node, element
"""


def set_reference(
    unit: Unit,
    *,
    task_id: int,
    reference: str,
    outputs: Mapping[str, Any],
    cause: str,
    details: Mapping[str, Any] | None = None,
) -> Repaired:
    """Enter what a task that is done, or accepted, should have come with.

    What it has been confirmed with stays. Tasks that could not begin without it are looked at
    again. Raises NotPossible.
    """
    known = knowing.look(unit, task_id=task_id)
    task, had = known.task, dict(known.task.outputs or {})
    reference = clean(reference.strip(), _LONGEST + 1)
    _check(known, reference, outputs, had)
    before, reference_before = TaskState(task.state), task.reference
    task.reference = reference or task.reference
    if outputs:
        task.outputs = {**had, **needing.checked(known, outputs, all_of_them=False)}
    unit.touched_tasks.add(task.id)
    unit.record(
        fulfillment_id=task.fulfillment_id,
        entity="task",
        entity_id=str(task.id),
        name="set_reference",
        before=before,
        after=before,
        cause=cause,
        details={
            **(details or {}),
            "before": {"reference": reference_before, "outputs": had},
            "after": {"reference": task.reference, "outputs": task.outputs or {}},
        },
    )
    woken = _wake(unit, known, outputs=outputs.keys(), cause=f"{task.key} has what was missing")
    return Repaired(
        task=task,
        plan=known.plan,
        node=known.node,
        before=before,
        outputs_before=had,
        reference_before=reference_before,
        woken=woken,
    )


def _check(
    known: Known, reference: str, outputs: Mapping[str, Any], had: Mapping[str, Any]
) -> None:
    task = known.task
    if not reference and not outputs:
        raise NotPossible("Say what is missing: the reference, or outputs by their names.")
    if len(reference) > _LONGEST:
        raise NotPossible(f"A reference has at most {_LONGEST} characters.")
    is_accepted = task.state == TaskState.ACCEPTED and known.node.is_command
    if task.state not in TASK_SUCCESSFUL and not is_accepted:
        raise NotPossible(
            f"{task.key} is {task.state}: only what is done, or accepted, can lack what its target "
            "system owes."
        )
    if outputs and task.state not in TASK_SUCCESSFUL:
        raise NotPossible(
            f"{task.key} is {task.state}: what it returns comes with its report, or with what you "
            "have found out (task.reconcile)."
        )
    if reference and task.reference and reference != task.reference:
        raise NotPossible(
            f"{task.key} has the reference {task.reference} already; what is there stays."
        )
    there = sorted(name for name in outputs if had.get(name) is not None)
    if there:
        raise NotPossible(
            f"{task.key} has {', '.join(there)[:_LONGEST]} already, as it was confirmed; what is "
            "there stays."
        )
    if reference == task.reference and not outputs:
        raise NotPossible(f"{task.key} has the reference {task.reference} already.")


def _wake(unit: Unit, known: Known, *, outputs: Collection[str], cause: str) -> tuple[str, ...]:
    """Look again at those that use it and could not begin without; what else they lack shows."""
    mine = known.task
    users = {
        edge.target
        for edge in graphs.by_id(known.plan.graph_id).edges
        if edge.source == mine.node and edge.output in outputs
    }
    unit.raw.execute(_WAITING, [known.plan.id, array(sorted(users))], prepare=True)
    woken: list[str] = []
    for task_id, element in unit.raw.fetchall():
        waiting = knowing.look(unit, task_id=task_id)
        if mine.element not in (0, element) or waiting.why not in MAY_GO_ON or waiting.doubt:
            continue
        look_again(unit, waiting, cause=cause, may_stay=True)
        woken.append(waiting.task.key)
    return tuple(woken)
