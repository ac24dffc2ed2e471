"""What is known of a task that somebody wants to repair: from its own history, under the lock."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from adapters.contract import OutcomeKind
from fulfillment.definitions.graph import Node
from fulfillment.engine.protection import doubt
from fulfillment.engine.store import graphs
from fulfillment.engine.tasks.stopped import MAY_HAVE_HAPPENED, Stopped
from fulfillment.engine.work.rows import plans_by_id, tasks_by_id
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible, OutcomeInDoubt
from fulfillment.models import Plan, Purpose, Task
from fulfillment.states import PLAN_SELECTABLE, TASK_SENDABLE, TaskState

RECONCILE = "reconcile"
"""Name of the audit row with which a person has said what became of a task."""
_HISTORY = """
SELECT name, from_state, to_state, details FROM fulfillment_transition
WHERE fulfillment_id = %s AND entity = 'task' AND entity_id = %s ORDER BY sequence DESC LIMIT 100
"""
_CONTRADICTED = """
SELECT DISTINCT entity_id FROM fulfillment_transition
WHERE fulfillment_id = %s AND entity = 'task' AND name = 'conflicting_outcome'
  AND entity_id = ANY(%s::text[])
ORDER BY entity_id
"""
# Not with IS NULL: that would invite the index of all open attempts.
_ON_THE_WIRE = f"""
SELECT 1 FROM fulfillment_attempt
WHERE command_id IN (SELECT id FROM fulfillment_command WHERE task_id = %s)
  AND purpose = '{Purpose.SEND}' AND coalesce(finished_at, 'infinity') = 'infinity'
  AND lease_expires_at > %s
LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A task under the lock of its order, and what its history says."""

    plan: Plan
    task: Task
    node: Node
    """By the way that it goes now."""
    why: Stopped | None
    """Why a person has it; None where nobody has, or an older release has not said."""
    is_on_the_wire: bool
    """A call that may have an effect is being made; what has failed for good knows better."""
    is_lost: bool
    """The answer to a send was lost, and nobody has found out since."""
    was_contradicted: bool
    """Since it ended without effect, a target system has said that it did it."""

    @property
    def doubt(self) -> str:
        """Why it may have had an effect, or will; empty when it is known that it has not."""
        task = self.task
        if self.is_on_the_wire or task.state == TaskState.DISPATCHED:
            return "a call of it is on the wire"
        if task.state == TaskState.OUTCOME_UNKNOWN:
            return f"whether {task.target_id} did it is not known"
        if task.state == TaskState.ACCEPTED and self.node.is_command:
            return f"{task.target_id} has it and will report"
        if task.state in TASK_SENDABLE and self.is_lost:
            return "the answer to an earlier send was lost"
        if task.state == TaskState.AWAITING_MANUAL and self._may_have_happened:
            return task.blocked_reason or "it may have happened"
        if self.was_contradicted:
            return f"since it failed {task.target_id} has said that it was done"
        return ""

    @property
    def _may_have_happened(self) -> bool:
        if self.why is None:
            return self.node.is_command and self.task.sends > 0
        return self.why in MAY_HAVE_HAPPENED or self.is_lost


def look(unit: Unit, *, task_id: int) -> Known:
    """Read a task and its history. Raises NotPossible when nothing of its plan can be changed."""
    unit.adopt_tasks(tasks_by_id(unit.raw, {task_id} - unit.tasks.keys()))
    task = unit.tasks[task_id]
    unit.adopt_plans(plans_by_id(unit.raw, {task.plan_id} - unit.plans.keys()))
    plan = unit.plans[task.plan_id]
    if plan.state not in PLAN_SELECTABLE:
        raise NotPossible(
            f"The plan of {task.key} is {plan.state}: nothing of it is repaired any more."
        )
    if task.round:
        raise NotPossible(f"{task.key} has expired, and another task stands in its place.")
    why, was_contradicted = _history(unit, task)
    return Known(
        plan=plan,
        task=task,
        node=graphs.routed(plan.graph_id, task.node, task.route),
        why=why if task.state == TaskState.AWAITING_MANUAL else None,
        is_on_the_wire=task.state != TaskState.FAILED_FINAL and _is_on_the_wire(unit, task),
        is_lost=task.id in doubt.lost(unit.raw, task_ids=[task.id]),
        was_contradicted=was_contradicted,
    )


def refuse_in_doubt(known: Known, *, what: str) -> None:
    """Raises OutcomeInDoubt for what may have had an effect; `what` is to be done to it."""
    if known.doubt:
        raise OutcomeInDoubt(
            f"{known.task.key} is not {what} now: {known.doubt.rstrip('.')}. Say first what became "
            "of it (task.reconcile); nothing was done."
        )


def refuse_any_in_doubt(unit: Unit, *, tasks: Collection[Task], what: str) -> None:
    """The same for many of one order, in one look at its history; most have none to be looked at.

    Raises OutcomeInDoubt for the first.
    """
    by_id = {str(task.id): task for task in tasks}
    for fulfillment_id in {task.fulfillment_id for task in tasks}:
        unit.raw.execute(_CONTRADICTED, [fulfillment_id, list(by_id)], prepare=True)
        for (entity_id,) in unit.raw.fetchall():
            refuse_in_doubt(look(unit, task_id=by_id[entity_id].pk), what=what)


def _history(unit: Unit, task: Task) -> tuple[Stopped | None, bool]:
    """Why a person has it, and whether its failure was contradicted since; newest rows first."""
    unit.raw.execute(_HISTORY, [task.fulfillment_id, str(task.id)], prepare=True)
    was_contradicted, is_current = False, True
    for name, before, after, text in unit.raw.fetchall():
        details = json.loads(text)
        if name == "conflicting_outcome":
            is_done = details.get("outcome") == OutcomeKind.SUCCEEDED
            was_contradicted |= is_current and is_done and task.state == TaskState.FAILED_FINAL
        elif name == "await_manual":
            why = details.get("why")
            return (Stopped(why) if why else None), was_contradicted
        if name == RECONCILE or before != after:
            is_current = False
        if not is_current and task.state != TaskState.AWAITING_MANUAL:
            break
    return None, was_contradicted


def _is_on_the_wire(unit: Unit, task: Task) -> bool:
    unit.raw.execute(_ON_THE_WIRE, [task.id, unit.now], prepare=True)
    return unit.raw.fetchone() is not None
