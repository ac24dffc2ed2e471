"""Manual tasks: a person is asked, decides or does not, and the plan goes on either way."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fulfillment import sentences
from fulfillment.definitions.graph import Node
from fulfillment.definitions.outputs import output_faults
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import allocate, clean
from fulfillment.engine.structure.scope import Scope, scope_of
from fulfillment.engine.tasks.stopped import Stopped
from fulfillment.engine.timing import standing
from fulfillment.engine.work import events
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import DefinitionInvalid, Fault, FulfillmentError
from fulfillment.models import CaseCategory, ManualState, ManualTask, Plan, Task
from fulfillment.states import Cause

ESCALATE = "escalate"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class NoName(FulfillmentError):
    """What a queue or a role of a manual task was to be is no name."""

    code = "fulfillment.no_name"


def ask(unit: Unit, *, plan: Plan, task: Task, node: Node) -> None:
    """AWAITING_MANUAL, with what the person has to know, as it is now.

    Raises NoName, ValueMissing and ExpressionFailed.
    """
    work = node.manual
    assert work is not None
    scope = scope_of(unit, plan=plan, task=task)
    manual = ManualTask(
        id=next(allocate(unit.raw, "fulfillment_manualtask", 1)),
        task_id=task.id,
        fulfillment_id=task.fulfillment_id,
        queue=_name(scope, work.queue),
        role=_name(scope, work.role),
        title=node.title,
        instructions=work.instructions,
        outcomes=dict(work.outcomes),
        fields={
            name: {"type": output.type, "optional": output.optional}
            for name, output in node.outputs.items()
            if name != "outcome"
        },
        context=dict(scope.values),
        due_at=unit.now + timedelta(seconds=work.within_seconds),
        otherwise=work.otherwise,
        opened_at=unit.now,
    )
    unit.new_manual.append(manual)
    if node.stops_clock:
        standing.stop(unit, plan=plan)
    task.blocked_reason = sentences.of_manual(manual)
    unit.change_task(task, Task.await_manual, cause="a person decides", why=Stopped.DECISION)
    task.waits_for = Cause.CUSTOMER if node.stops_clock else Cause.HUMAN
    _tell(unit, events.MANUAL_OPENED, manual, task)


def decide(
    unit: Unit,
    *,
    manual: ManualTask,
    task: Task,
    node: Node,
    outcome: str,
    values: Mapping[str, Any],
    actor: str,
    reason: str,
) -> None:
    """Settle the task with one of its outcomes.

    Raises DefinitionInvalid with every fault of the outcome and the values.
    """
    effect = manual.outcomes.get(outcome)
    assert effect is not None
    outputs = {name: values[name] for name in node.outputs if name in values}
    outputs["outcome"] = outcome
    if effect == "proceed":
        faults = output_faults(declared=node.outputs, returned=outputs)
        if faults:
            raise DefinitionInvalid([_of_the_form(fault) for fault in faults])
    manual.outcome = outcome
    manual.decided_by = clean(actor, 150)
    manual.reason = clean(reason, 2000)
    manual.decided_at = unit.now
    manual.decide()
    unit.decided.append(manual)
    _tell(unit, events.MANUAL_DECIDED, manual, task)
    task.outputs = outputs
    if effect == "proceed":
        task.blocked_reason = ""
        unit.change_task(task, Task.succeed, cause=f"{actor} decided: {outcome}")
        return
    task.blocked_reason = f"{actor} decided: {outcome}. {reason}".strip()
    unit.change_task(task, Task.fail, cause=f"{actor} decided: {outcome}", code=outcome)
    if effect == "undo":
        unit.give_up(task, reason=f"{node.title}: {task.blocked_reason}")
        return
    if task.required:
        open_for_task(
            unit,
            task=task,
            node=node,
            category=CaseCategory.REFUSED,
            reason_code=f"decided_{outcome}",
            explanation=f"{task.blocked_reason} The order can't go on behind it.",
        )


def withdraw(unit: Unit, *, tasks: Collection[Task]) -> None:
    """Nobody has to decide these any more: their tasks are withdrawn."""
    if not tasks:
        return
    by_id = {task.id: task for task in tasks}
    rows = ManualTask.objects.filter(task__in=by_id, state=ManualState.OPEN).order_by("pk")
    decided = {row.pk for row in unit.decided}  # In this unit, and not written yet.
    for row in rows.exclude(pk__in=decided):
        row.withdraw()
        row.decided_at = unit.now
        unit.decided.append(row)
        _tell(unit, events.MANUAL_WITHDRAWN, row, by_id[row.task_id])


def fall_due(unit: Unit, *, plan: Plan, manual: ManualTask, task: Task) -> None:
    """Nobody has decided in time: the outcome for that case, or somebody is told."""
    node = graphs.by_id(plan.graph_id).nodes[task.node]
    if manual.otherwise != ESCALATE:
        decide(
            unit,
            manual=manual,
            task=task,
            node=node,
            outcome=manual.otherwise,
            values={},
            actor="deadline",
            reason="Nobody had decided in time.",
        )
        return
    manual.due_at = None
    unit.decided.append(manual)
    task.blocked_reason = sentences.of_manual(manual)
    unit.touched_tasks.add(task.id)
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.STUCK,
        reason_code="decision_overdue",
        explanation=task.blocked_reason,
    )


def _name(scope: Scope, mapping: str) -> str:
    found = scope.value(mapping)
    if not isinstance(found, str) or not _NAME.fullmatch(found):
        raise NoName(
            f"{mapping} is {found!r}, which can't be the queue or the role of a manual task: at "
            "most 63 letters, digits, dashes and underscores."
        )
    return found


def _tell(unit: Unit, event_type: str, manual: ManualTask, task: Task) -> None:
    unit.emit(
        fulfillment_id=task.fulfillment_id,
        event_type=event_type,
        payload=events.of_manual(manual, task),
        plan_id=task.plan_id,
        task_id=task.id,
    )


def _of_the_form(fault: Fault) -> Fault:
    """The same fault as whoever has entered, or left out, the value is told."""
    _, _, name = fault.path.partition(".")
    message = fault.message
    if fault.code == "output.missing":
        message = f"{name!r} has to be entered."
    return replace(fault, path=f"values.{name}", message=message)
