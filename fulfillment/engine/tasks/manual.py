"""Manual tasks: a person is asked, decides or does not, and the plan goes on either way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fulfillment import sentences
from fulfillment.definitions.graph import Node
from fulfillment.definitions.node_parts import Manual
from fulfillment.definitions.outputs import output_faults
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import allocate, clean
from fulfillment.engine.structure.scope import Scope, scope_of
from fulfillment.engine.tasks.stopped import Stopped
from fulfillment.engine.timing import standing
from fulfillment.engine.work import asking, events, sla
from fulfillment.engine.work.asking import ESCALATE
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import DefinitionInvalid, Fault, FulfillmentError, ValueUnavailable
from fulfillment.models import CaseCategory, ManualOrigin, ManualTask, Plan, Task
from fulfillment.states import Cause

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
        due_at=_due(unit, work, work.within_seconds),
        calendar=work.calendar,
        otherwise=work.otherwise,
        opened_at=unit.now,
    )
    if node.stops_clock:
        standing.stop(unit, plan=plan)
    task.blocked_reason = sentences.of_manual(manual)
    unit.change_task(task, Task.await_manual, cause="a person decides", why=Stopped.DECISION)
    task.waits_for = waits_for(manual, node)
    asking.put(unit, manual=manual, task=task, cause=node.title)


def waits_for(manual: ManualTask, node: Node) -> Cause:
    """Whom its task waits for while it is to be decided."""
    if manual.awaits or node.stops_clock:
        return Cause.CUSTOMER
    return Cause.HUMAN if manual.origin == ManualOrigin.WORKFLOW else Cause.REPAIR


def check(unit: Unit, *, plan: Plan, task: Task, node: Node, outputs: Mapping[str, Any]) -> None:
    """Whether it may go on with these outputs, as everything is now.

    Raises DefinitionInvalid with every fault.
    """
    faults = [*faults_of(node, outputs), *_broken(unit, plan, task, node)]
    if faults:
        raise DefinitionInvalid(faults)


def faults_of(node: Node, outputs: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with values that somebody has entered as its outputs."""
    return [_of_the_form(fault) for fault in output_faults(declared=node.outputs, returned=outputs)]


def settle(
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
    """End the task of a workflow's own question by an outcome that proceeds, refuses or undoes.

    Raises DefinitionInvalid with every fault of the values.
    """
    effect = manual.outcomes[outcome]
    outputs = {name: values[name] for name in node.outputs if name in values}
    outputs["outcome"] = outcome
    if effect == "proceed":
        check(unit, plan=unit.plans[task.plan_id], task=task, node=node, outputs=outputs)
    close(unit, manual=manual, task=task, outcome=outcome, actor=actor, reason=reason)
    task.outputs = outputs
    if effect == "proceed":
        task.blocked_reason = ""
        unit.change_task(task, Task.succeed, cause=f"{actor} decided: {outcome}")
        return
    refuse(
        unit,
        task=task,
        node=node,
        outcome=outcome,
        actor=actor,
        reason=reason,
        undoes=effect == "undo",
    )


def refuse(
    unit: Unit,
    *,
    task: Task,
    node: Node,
    outcome: str,
    actor: str,
    reason: str,
    undoes: bool = False,
) -> None:
    """It fails for good, known to have had no effect; what follows is up to its workflow."""
    task.blocked_reason = f"{actor} decided: {outcome}. {reason}".strip()
    unit.change_task(task, Task.fail, cause=f"{actor} decided: {outcome}", code=outcome)
    if undoes:
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


def close(
    unit: Unit, *, manual: ManualTask, task: Task, outcome: str, actor: str, reason: str
) -> None:
    """DECIDED, with what, by whom and why; its task is settled by the caller."""
    manual.outcome = outcome
    manual.decided_by = clean(actor, 150)
    manual.reason = clean(reason, 2000)
    manual.decided_at = unit.now
    manual.awaits = ""
    manual.stopped_at = None
    asking.move(unit, manual=manual, transition=ManualTask.decide, cause=f"{outcome}: {reason}")
    asking.tell(unit, event_type=events.MANUAL_DECIDED, manual=manual, task=task)


def fall_due(unit: Unit, *, plan: Plan, manual: ManualTask, task: Task) -> None:
    """Nobody has decided in time: the outcome for that case, or somebody is told."""
    node = graphs.by_id(plan.graph_id).nodes[task.node]
    if manual.otherwise != ESCALATE:
        settle(
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
    _escalate(unit, plan, manual, task, node)
    if manual.origin == ManualOrigin.REPAIR:
        return  # It has a case, and that is escalated as well.
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


def _escalate(unit: Unit, plan: Plan, manual: ManualTask, task: Task, node: Node) -> None:
    """Others decide now, where its workflow names them; whoever had it has it no more."""
    before = {"queue": manual.queue, "role": manual.role, "claimed_by": manual.claimed_by}
    work = node.manual if manual.origin == ManualOrigin.WORKFLOW else None
    is_first = not manual.escalations
    manual.escalations += 1
    manual.escalated_at = unit.now
    manual.due_at = None
    if work is not None and work.escalate_role and is_first:
        try:
            scope = scope_of(unit, plan=plan, task=task)
            role = _name(scope, work.escalate_role)
            queue = _name(scope, work.escalate_queue) if work.escalate_queue else manual.queue
        except (NoName, ValueUnavailable):
            role, queue = manual.role, manual.queue  # The case that is opened tells of it.
        manual.role, manual.queue = role, queue
        manual.due_at = _due(unit, work, work.escalate_within_seconds or work.within_seconds)
        if manual.claimed_by:
            manual.claimed_by, manual.claimed_at = "", None
            asking.move(
                unit,
                manual=manual,
                transition=ManualTask.release,
                cause="nobody had decided in time",
            )
    asking.note(
        unit, manual=manual, name="escalate", cause="nobody had decided in time", details=before
    )
    asking.tell(unit, event_type=events.MANUAL_ESCALATED, manual=manual, task=task)


def _due(unit: Unit, work: Manual, seconds: float) -> Any:
    return sla.deadline(calendar=work.calendar, start=unit.now, within=timedelta(seconds=seconds))


def _broken(unit: Unit, plan: Plan, task: Task, node: Node) -> Iterator[Fault]:
    if not node.preconditions:
        return
    scope = scope_of(unit, plan=plan, task=task)
    for one in node.preconditions:
        try:
            holds = scope.holds(one.check)
        except ValueUnavailable:
            holds = False
        if not holds:
            yield Fault(code="manual.precondition", path="outcome", message=one.message)


def _name(scope: Scope, mapping: str) -> str:
    found = scope.value(mapping)
    if not isinstance(found, str) or not _NAME.fullmatch(found):
        raise NoName(
            f"{mapping} is {found!r}, which can't be the queue or the role of a manual task: at "
            "most 63 letters, digits, dashes and underscores."
        )
    return found


def _of_the_form(fault: Fault) -> Fault:
    """The same fault as whoever has entered, or left out, the value is told."""
    _, _, name = fault.path.partition(".")
    message = fault.message
    if fault.code == "output.missing":
        message = f"{name!r} has to be entered."
    return replace(fault, path=f"values.{name}", message=message)
