"""What it means that a task begins, by its kind."""

from __future__ import annotations

from fulfillment.definitions.expressions import ExpressionFailed
from fulfillment.definitions.graph import Node, NodeKind
from fulfillment.definitions.outputs import output_faults
from fulfillment.definitions.readiness import Place
from fulfillment.definitions.references import ValueMissing
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import fanning
from fulfillment.engine.structure.scope import Scope, scope_of
from fulfillment.engine.tasks import expiring, manual, waits
from fulfillment.engine.tasks.commanding import command
from fulfillment.engine.tasks.stopped import Stopped
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    CalendarInvalid,
    CalendarUnknown,
    FulfillmentError,
    NeverOpens,
    ValueUnavailable,
)
from fulfillment.models import CaseCategory, Plan, Task

_BECAUSE_OF_ITS_VALUES = (
    ValueUnavailable,
    fanning.NotAList,
    waits.NoInstant,
    manual.NoName,
    NeverOpens,
    CalendarUnknown,
    CalendarInvalid,
)


def begin(unit: Unit, *, plan: Plan, task: Task, cause: str) -> set[Place]:
    """Begin a PENDING task whose dependencies are met; further places that may run now.

    What the engine does itself is terminal afterwards. What can't begin waits for a person,
    with a case that says why.
    """
    node = graphs.by_id(plan.graph_id).nodes[task.node]
    try:
        if node.only_if and not scope_of(unit, plan=plan, task=task).holds(node.only_if):
            unit.change_task(task, Task.skip, cause=f"it is not the case that {node.only_if}")
            return set()
        asked_anew = expiring.set_aside(unit, plan=plan, task=task)
        if asked_anew is not None:
            return asked_anew
        if not _meets_preconditions(unit, plan, task, node):
            return set()
        return _begin(unit, plan, task, node, cause)
    except _BECAUSE_OF_ITS_VALUES as error:
        cannot_begin(unit, task=task, node=node, error=error)
        return set()


def cannot_begin(unit: Unit, *, task: Task, node: Node, error: FulfillmentError) -> None:
    """A value is missing or makes no sense: a person has to give it."""
    missing = isinstance(error, ValueMissing)
    what = "input" if node.is_command else "condition or value"
    task.blocked_reason = f"The {what} of {task.key} can't be made: {error}"
    unit.change_task(
        task,
        Task.await_manual,
        cause="input could not be resolved" if missing else "it could not be told how to begin",
        why=Stopped.INPUT,
    )
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.DATA,
        reason_code="input_missing" if missing else error.code,
        explanation=f"{task.blocked_reason} Give the value, or waive the task.",
    )


def _meets_preconditions(unit: Unit, plan: Plan, task: Task, node: Node) -> bool:
    if not node.preconditions:
        return True
    scope = scope_of(unit, plan=plan, task=task)
    broken = [one.message for one in node.preconditions if not scope.holds(one.check)]
    if broken:
        task.blocked_reason = f"{task.key} must not begin: {' '.join(broken)}"
        unit.change_task(
            task,
            Task.await_manual,
            cause="a precondition does not hold",
            why=Stopped.PRECONDITION,
        )
        open_for_task(
            unit,
            task=task,
            node=node,
            category=CaseCategory.DATA,
            reason_code="precondition",
            explanation=task.blocked_reason,
        )
    return not broken


def _begin(unit: Unit, plan: Plan, task: Task, node: Node, cause: str) -> set[Place]:
    match node.kind:
        case NodeKind.COMMAND:
            command(unit, plan=plan, task=task, node=node, cause=cause)
        case NodeKind.DECISION:
            _decide(unit, task, node, scope_of(unit, plan=plan, task=task))
        case NodeKind.WAIT:
            waits.begin(unit, plan=plan, task=task, node=node)
        case NodeKind.MANUAL:
            manual.ask(unit, plan=plan, task=task, node=node)
        case NodeKind.SPREAD:
            return fanning.spread(unit, plan=plan, task=task)
        case NodeKind.ENTER | NodeKind.LEAVE:
            _pass_on(unit, task, node, scope_of(unit, plan=plan, task=task))
        case NodeKind.GATHER:
            raise AssertionError("a fan-out ends with its elements")
    return set()


def _decide(unit: Unit, task: Task, node: Node, scope: Scope) -> None:
    assert node.decision is not None
    decision = node.decision
    if decision.names:
        named = scope.value(decision.names)
        if not isinstance(named, list) or any(one not in decision.among for one in named):
            raise ExpressionFailed(
                text=decision.names,
                reason=f"it named {named!r}, and may name {', '.join(decision.among)}",
            )
        created = tuple(dict.fromkeys(named))
    else:
        created = next(
            rule.create for rule in decision.rules if not rule.when or scope.holds(rule.when)
        )
    task.outputs = {"created": list(created)}
    unit.change_task(
        task, Task.conclude, cause=f"decided: {', '.join(created) or 'none of the branches'}"
    )


def _pass_on(unit: Unit, task: Task, node: Node, scope: Scope) -> None:
    outputs = {name: scope.value(value) for name, value in node.input.items()}
    faults = output_faults(declared=node.outputs, returned=outputs)
    if faults:
        raise ExpressionFailed(text=node.task, reason=" ".join(fault.message for fault in faults))
    task.outputs = outputs
    unit.change_task(task, Task.conclude, cause="its values are there")
