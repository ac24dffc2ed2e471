"""A payload that is corrected by hand, before anything was sent or once it had no effect.

The correction stays with the task: a later begin, a retry and a value that was obtained anew go
through the workflow's mapping and then through it. It is about one way, so a fallback is asked
with what the workflow says. Another version of the plan keeps it with the task that it keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fulfillment.definitions import merging
from fulfillment.definitions.graph import Node
from fulfillment.engine.plans import knowing, rerunning
from fulfillment.engine.plans.knowing import Known
from fulfillment.engine.plans.repairing import look_again
from fulfillment.engine.plans.settlement import go_on
from fulfillment.engine.store.database import storable
from fulfillment.engine.structure import fanning
from fulfillment.engine.tasks import commanding
from fulfillment.engine.tasks.stopped import MAY_GO_ON
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible, ValueUnavailable
from fulfillment.models import Plan, Task
from fulfillment.states import TASK_SENDABLE, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """What is sent now, and what was, or would have been, sent before."""

    task: Task
    plan: Plan
    node: Node
    before: TaskState
    payload_before: Mapping[str, Any] | None
    """None: it could not be made."""
    payload: Mapping[str, Any]


def correct(
    unit: Unit,
    *,
    task_id: int,
    step: merging.Step,
    cause: str,
    details: Mapping[str, Any] | None = None,
) -> Corrected:
    """Send other data than the workflow makes: a new command takes the place of the one before.

    `step` is {"replace": the whole payload} or {"merge": a merge patch (RFC 7386) on what would be
    sent otherwise}. Raises NotPossible, and OutcomeInDoubt for what may have had an effect: its
    payload is frozen until it is reconciled.
    """
    known = knowing.look(unit, task_id=task_id)
    task, node = known.task, known.node
    _check(known)
    steps = merging.with_step(_steps_so_far(task, node), step)
    shown = _payload_before(unit, known)
    if shown is None and not merging.is_whole(steps):
        raise NotPossible(
            f"The payload of {task.key} can't be made, so there is nothing to change in it: give "
            "all of it."
        )
    before = TaskState(task.state)
    task.correction = {"target": node.target, "action": node.action, "steps": steps}
    unit.corrected_tasks.add(task.id)
    payload = _made(unit, known)
    if not isinstance(payload, Mapping) or not storable(payload):
        raise NotPossible("What is sent has to be a JSON object with valid text and numbers.")
    if payload == shown:
        raise NotPossible(f"{task.key} is sent exactly that already; nothing would be corrected.")
    told = {**(details or {}), "corrected": dict(step)}
    if before == TaskState.AWAITING_MANUAL:
        look_again(unit, known, cause=cause, details=told)
    else:
        rerunning.send_anew(unit, task=task, route=task.route, cause=cause, details=told)
        if task.element and before == TaskState.FAILED_FINAL:
            fan_out = rerunning.reopen(unit, task=task)
            wanted = fanning.go_on(unit, plan=known.plan, fan_out=fan_out)
        else:
            wanted = set()
        go_on(unit, wanted={known.plan.id: wanted})
    return Corrected(
        task=task,
        plan=known.plan,
        node=node,
        before=before,
        payload_before=shown,
        payload=payload,
    )


def _check(known: Known) -> None:
    task = known.task
    if not known.node.is_command:
        raise NotPossible(f"{task.key} sends nothing to a target system.")
    knowing.refuse_in_doubt(known, what="corrected")
    waits_for_it = task.state == TaskState.AWAITING_MANUAL and known.why in MAY_GO_ON
    if task.state == TaskState.PENDING:
        raise NotPossible(
            f"{task.key} has not begun: what it is sent is made when it does. Place a hold on it "
            "to correct it before it is sent."
        )
    may_be_sent = task.state in TASK_SENDABLE or task.state == TaskState.FAILED_FINAL
    if not may_be_sent and not waits_for_it:
        raise NotPossible(f"{task.key} is {task.state}: nothing of it is to be sent.")


def _steps_so_far(task: Task, node: Node) -> list[merging.Step]:
    return list((task.correction or {})["steps"]) if commanding.corrects(task, node=node) else []


def _payload_before(unit: Unit, known: Known) -> Mapping[str, Any] | None:
    """What it would be sent without this; None where that can't be made."""
    try:
        return commanding.payload_of(unit, plan=known.plan, task=known.task, node=known.node)
    except ValueUnavailable:
        return None


def _made(unit: Unit, known: Known) -> Any:
    try:
        return commanding.payload_of(unit, plan=known.plan, task=known.task, node=known.node)
    except ValueUnavailable as error:
        raise NotPossible(f"What {known.task.key} is sent can't be made: {error}") from error
