"""Definitive answers that can't all be right, or that say that something was done twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from adapters.contract import Outcome, OutcomeKind
from fulfillment.definitions.graph import Node
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import clean, storable
from fulfillment.engine.tasks.reconciling import code_of, describe
from fulfillment.engine.tasks.stopped import Stopped
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Purpose, Task
from fulfillment.states import PLAN_TERMINAL, TASK_SUCCESSFUL, TASK_TERMINAL, TaskState

logger = logging.getLogger(__name__)

_NEWEST = f"""
SELECT c.target_id, c.action, EXISTS (
    SELECT 1 FROM fulfillment_attempt a
    WHERE a.command_id = c.id AND a.purpose = '{Purpose.SEND}' AND a.code <> 'not_sent')
FROM fulfillment_command c WHERE c.task_id = %s ORDER BY c.revision DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """A command that another has taken the place of: it was known to have had no effect."""

    revision: int
    target: str
    action: str
    idempotency_key: str


def conflicts(*, task: Task, outcome: Outcome) -> bool:
    """True when a settled task and a definitive outcome can't both be right."""
    if task.state not in TASK_TERMINAL or not outcome.is_definitive:
        return False
    # What was waived or skipped was not to be done any more.
    was_done = TaskState(task.state) is TaskState.SUCCEEDED
    return was_done != (outcome.kind is OutcomeKind.SUCCEEDED)


def compare_with_what_is_settled(unit: Unit, *, task: Task, node: Node, outcome: Outcome) -> None:
    """A second definitive outcome that contradicts the first changes nothing but is kept."""
    if not conflicts(task=task, outcome=outcome):
        return
    told = "has confirmed it" if outcome.kind is OutcomeKind.SUCCEEDED else "has refused it"
    tell(unit, task=task, news=f"Since then {task.target_id} {told}: look it up before you go on.")
    _record(
        unit,
        task,
        cause="a definitive outcome contradicts how the task was settled",
        outcome=str(outcome.kind),
        code=code_of(outcome),
    )
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.CONFLICT,
        reason_code="conflicting_outcome",
        explanation=f"It is {task.state}, and now {task.target_id} reports {outcome.kind}"
        + (f" ({describe(outcome)})" if describe(outcome) else "")
        + ". Both can't be right: look it up in the target system.",
        facts={
            "reported": {
                "outcome": str(outcome.kind),
                "reference": clean(outcome.reference, 200),
            }
        },
        # Getting on does not close it: somebody has to look.
        stays=task.state in TASK_SUCCESSFUL,
    )
    logger.error("conflicting outcome", extra={"task": task.id})


def done_after_all(
    unit: Unit, *, task: Task, node: Node, command: Overtaken, outcome: Outcome
) -> None:
    """What was given up has happened: whatever is not over yet stops, and a person is told.

    The answer to what has been sent meanwhile still settles the task.
    """
    explanation = (
        f"{command.target} did {command.action} after all, although that had been given up and "
        f"another command had taken its place. {_advice(unit, task, node, command)}"
    )
    tell(unit, task=task, news=explanation)
    if task.state not in TASK_TERMINAL:
        unit.change_task(
            task,
            Task.await_manual,
            cause="what was given up was done after all",
            why=Stopped.DONE_AFTER_ALL,
        )
    _record(
        unit,
        task,
        cause="a command that another has taken the place of was done after all",
        outcome=str(outcome.kind),
        code=code_of(outcome),
        target=command.target,
        action=command.action,
        revision=command.revision,
    )
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.CONFLICT,
        reason_code="done_after_all",
        title=f"{node.title}: {command.target} did it after all",
        explanation=explanation,
        facts={
            f"done_after_all_{command.revision}": {
                "target": command.target,
                "action": command.action,
                "idempotency_key": command.idempotency_key,
                "reference": clean(outcome.reference, 200),
                "outputs": _kept(node, outcome),
                "undo": _undo(unit, task, command),
            }
        },
        stays=True,
    )
    logger.error("done after all", extra={"task": task.id, "command": command.idempotency_key})


def tell(unit: Unit, *, task: Task, news: str) -> None:
    """What a person has to know before deciding, beside what stands there already; once.

    What is over stays as it is: there its case tells.
    """
    if unit.plans[task.plan_id].state not in PLAN_TERMINAL and news not in task.blocked_reason:
        task.blocked_reason = f"{task.blocked_reason}\n{news}".strip()
        unit.touched_tasks.add(task.id)


def _advice(unit: Unit, task: Task, node: Node, given_up: Overtaken) -> str:
    target, action, is_sent = _newest(unit, task, node)
    if task.state in TASK_SUCCESSFUL:
        return f"{target} has done {action} meanwhile: it has been done twice. Undo one of them."
    if task.state in TASK_TERMINAL:
        return (
            f"{target} has not done {action}. Before anything is tried again, undo what "
            f"{given_up.target} did, or it happens twice."
        )
    if is_sent:
        return (
            f"{target} was asked for {action} meanwhile. Nothing more is sent. Look up whether "
            "both have happened, and undo one of them."
        )
    return (
        f"Nothing has been sent to {target} since, and nothing is. Go on with what "
        f"{given_up.target} returned, or undo it there before the task is run again."
    )


def _newest(unit: Unit, task: Task, node: Node) -> tuple[str, str, bool]:
    """Target and action of the task's newest command, and whether it may have been sent."""
    for command in unit.new_commands:
        if command.task_id == task.id:
            return command.target_id, command.action, False
    unit.raw.execute(_NEWEST, [task.id], prepare=True)
    row = unit.raw.fetchone()
    return (row[0], row[1], row[2]) if row else (node.target, node.action, False)


def _kept(node: Node, outcome: Outcome) -> dict[str, Any]:
    """What undoing it may need, as far as it can be stored."""
    found = {name: outcome.outputs[name] for name in node.outputs if name in outcome.outputs}
    return {name: value for name, value in found.items() if storable(value)}


def _undo(unit: Unit, task: Task, command: Overtaken) -> dict[str, str]:
    """How the workflow undoes it, by the way that it was done."""
    graph_id = unit.plans[task.plan_id].graph_id
    for route in range(len(graphs.by_id(graph_id).nodes[task.node].fallbacks) + 1):
        way = graphs.routed(graph_id, task.node, route)
        if (way.target, way.action) == (command.target, command.action):
            if way.compensation is None:
                return {"none": way.no_compensation}
            return {"target": way.compensation.target, "action": way.compensation.action}
    return {}


def _record(unit: Unit, task: Task, *, cause: str, **details: Any) -> None:
    unit.record(
        fulfillment_id=task.fulfillment_id,
        entity="task",
        entity_id=str(task.id),
        name="conflicting_outcome",
        before=str(task.state),
        after=str(task.state),
        cause=cause,
        details=details,
    )
