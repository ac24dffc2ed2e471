"""What a person has decided about one task: waived, left out, gone on with, or looked up.

Nothing here repeats, replaces or drops what may have had an effect: that is told first, with
`reconcile` (reference §29). Every function raises NotPossible or OutcomeInDoubt and nothing else,
and has then changed nothing that is kept: the caller's unit is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fulfillment.definitions.graph import Node, NodeKind
from fulfillment.definitions.readiness import Place
from fulfillment.engine.plans import knowing, needing, rerunning
from fulfillment.engine.plans.knowing import Known
from fulfillment.engine.plans.progress import after
from fulfillment.engine.plans.selection import select
from fulfillment.engine.plans.settlement import go_on
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import clean
from fulfillment.engine.structure import fanning, places
from fulfillment.engine.tasks.stopped import MAY_GO_ON, Stopped
from fulfillment.engine.work import cases
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible, OutcomeInDoubt
from fulfillment.models import CaseCategory, Plan, Task
from fulfillment.states import TASK_SUCCESSFUL, TASK_TERMINAL, TaskState

_NAMED = 50
RETRY = "retry"
FAIL = "fail"
_WAIVABLE = frozenset(
    {
        TaskState.PENDING,
        TaskState.READY,
        TaskState.ACCEPTED,
        TaskState.FAILED_RETRYABLE,
        TaskState.AWAITING_MANUAL,
        TaskState.FAILED_FINAL,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What a repair has made of a task, in a unit that is not committed yet."""

    task: Task
    plan: Plan
    node: Node
    before: TaskState
    blocked_before: str = ""
    outputs_before: Mapping[str, Any] = field(default_factory=dict)
    reference_before: str = ""
    woken: tuple[str, ...] = ()
    """Keys of tasks that had waited for it, and are looked at again."""


def waive(
    unit: Unit,
    *,
    task_id: int,
    outputs: Mapping[str, Any],
    cause: str,
    details: Mapping[str, Any] | None = None,
) -> Repaired:
    """It would be needed, and somebody answers for its not being done; the order goes on.

    `outputs` are values for its declared outputs: those that open tasks use have to be given.
    Only what has had no effect for certain.
    """
    known = knowing.look(unit, task_id=task_id)
    _check_waivable(known, what="waived")
    given = needing.checked(known, outputs, all_of_them=False)
    if known.node.kind is NodeKind.GATHER:
        given = {**fanning.gathered(unit, plan=known.plan, gather=known.task), **given}
    needing.refuse_if_needed(unit, known, outputs=given)
    told = {**_behind(known), **(details or {})}
    return _end(unit, known, Task.waive, cause=cause, outputs=given, details=told)


def skip(
    unit: Unit, *, task_id: int, cause: str, details: Mapping[str, Any] | None = None
) -> Repaired:
    """This order does not need it; the order goes on as if it had not been planned."""
    known = knowing.look(unit, task_id=task_id)
    _check_waivable(known, what="skipped")
    if known.node.undoes:
        raise NotPossible(
            f"{known.task.key} undoes what has been done: it is done, or waived by somebody who "
            "answers for what is left behind."
        )
    needing.refuse_if_needed(unit, known, outputs={})
    told = {**_behind(known), **(details or {})}
    return _end(unit, known, Task.leave_out, cause=cause, outputs={}, details=told)


def resume(unit: Unit, *, task_id: int, values: Mapping[str, Any], cause: str) -> Repaired:
    """A person has mended why it stopped: look again, or go on with the values it should have had.

    What never began is begun anew, and may not: then NotPossible says why. What was confirmed with
    outputs that can't be used, and what was to be reported, succeeds with `values`. What may have
    happened is reconciled instead.
    """
    known = knowing.look(unit, task_id=task_id)
    task = known.task
    if task.state != TaskState.AWAITING_MANUAL:
        raise NotPossible(f"{task.key} is {task.state}: it waits for nobody's repair.")
    if known.why is Stopped.DECISION:
        raise NotPossible(f"{task.key} is to be decided; its manual task has the outcomes.")
    if known.why is Stopped.OUTPUTS or (
        known.why in (Stopped.REPORTED, Stopped.UNREPORTED) and known.node.wait is not None
    ):
        outputs = needing.checked(known, values, all_of_them=True)
        return _end(unit, known, Task.confirm, cause=cause, outputs=outputs)
    knowing.refuse_in_doubt(known, what="resumed")
    if known.why not in MAY_GO_ON:
        raise NotPossible(f"{task.key} can't be resumed: {task.blocked_reason}")
    if values:
        raise NotPossible(
            f"{task.key} has not begun, so nothing can be entered for it. Enter what it needs with "
            "the task that should have returned it, or correct its payload."
        )
    return look_again(unit, known, cause=cause)


def reconcile(
    unit: Unit,
    *,
    task_id: int,
    happened: bool,
    outputs: Mapping[str, Any],
    reference: str,
    cause: str,
    then: str = RETRY,
    details: Mapping[str, Any] | None = None,
) -> Repaired:
    """A person has looked up what became of it in the target system.

    It happened: it succeeds with `outputs`, all that it declares, and `reference`. It did not:
    `then` is RETRY, a new command under a key of its own with today's data, or FAIL. An answer that
    contradicts this later opens a conflict, as always.
    """
    known = knowing.look(unit, task_id=task_id)
    _check_reconcilable(known, happened)
    task = known.task
    told = {**(details or {}), "happened": happened}
    if happened:
        given = needing.checked(known, outputs, all_of_them=True)
        found = _repaired(known, TaskState(task.state))
        task.reference = clean(reference.strip(), 200) or task.reference
        told["reference"] = task.reference
        if known.why is Stopped.DONE_AFTER_ALL and not task.sends:
            # Nothing was sent since, so nothing was done twice.
            cases.resolve_cases(
                unit, subjects=[f"conflict:{cases.of_task(task.id)}"], resolution=cause
            )
        _end(unit, known, Task.confirm, cause=cause, outputs=given, details=told)
        return found
    if outputs or reference:
        raise NotPossible("What has not happened has no outputs and no reference.")
    return _not_done(unit, known, cause=cause, then=then, details=told)


def _check_reconcilable(known: Known, happened: bool) -> None:
    task = known.task
    if not known.node.is_command:
        raise NotPossible(f"{task.key} asks no target system for anything.")
    if known.is_on_the_wire or task.state == TaskState.DISPATCHED:
        raise OutcomeInDoubt(
            f"A call of {task.key} is on the wire: wait for its answer, or for the end of its "
            "lease; nothing was done."
        )
    if task.state in TASK_TERMINAL and task.state != TaskState.FAILED_FINAL:
        raise NotPossible(
            f"{task.key} is {task.state}. If that is wrong, what was done is undone instead."
        )
    if not known.doubt and not (happened and task.state == TaskState.FAILED_FINAL):
        raise NotPossible(
            f"{task.key} is {task.state}, and nothing of it is in doubt: there is nothing to be "
            "found out."
        )


def _not_done(
    unit: Unit, known: Known, *, cause: str, then: str, details: Mapping[str, Any]
) -> Repaired:
    task, plan = known.task, known.plan
    before = TaskState(task.state)
    found = _repaired(known, before)
    wanted: set[Place] = set()
    # By itself too: what was said of it before does not count any more.
    unit.record(
        fulfillment_id=task.fulfillment_id,
        entity="task",
        entity_id=str(task.id),
        name=knowing.RECONCILE,
        before=before,
        after=before,
        cause=cause,
        details=dict(details),
    )
    if then == RETRY:
        rerunning.send_anew(unit, task=task, route=task.route, cause=cause)
        if task.element and before == TaskState.FAILED_FINAL:
            fan_out = rerunning.reopen(unit, task=task)
            wanted = fanning.go_on(unit, plan=plan, fan_out=fan_out)
    elif before != TaskState.FAILED_FINAL:
        task.blocked_reason = f"{task.target_id} did not do it, as {unit.actor} found out: {cause}"
        unit.change_task(task, Task.fail, cause=cause, code=knowing.RECONCILE)
        if task.required:
            open_for_task(
                unit,
                task=task,
                node=known.node,
                category=CaseCategory.REFUSED,
                reason_code="not_done",
                explanation=task.blocked_reason,
            )
        else:
            cases.resolve_cases(unit, subjects=[cases.of_task(task.id)], resolution=cause)
        wanted = after(unit, plan=plan, task=task)
    else:
        task.blocked_reason = f"{task.blocked_reason}\n{unit.actor} found out: {cause}".strip()
        unit.touched_tasks.add(task.id)
    go_on(unit, wanted={plan.id: wanted})
    return found


def look_again(
    unit: Unit,
    known: Known,
    *,
    cause: str,
    may_stay: bool = False,
    details: Mapping[str, Any] | None = None,
) -> Repaired:
    """Begin anew what had stopped before it began. Raises NotPossible when it stops again, unless
    it `may_stay`."""
    task, plan = known.task, known.plan
    task.blocked_reason = ""
    unit.change_task(task, Task.look_again, cause=cause, **(details or {}))
    select(unit, wanted={plan.id: {(task.node, task.element)}}, cause=cause)
    if task.state == TaskState.AWAITING_MANUAL and not may_stay and not known.node.manual:
        raise NotPossible(f"{task.key} still can't begin. {task.blocked_reason}")
    if task.state != TaskState.AWAITING_MANUAL or known.node.manual:
        resolution = "What kept it is mended; it was looked at again."
        cases.resolve_cases(unit, subjects=[cases.of_task(task.id)], resolution=resolution)
    go_on(unit, wanted={plan.id: ()})
    return _repaired(known, TaskState.AWAITING_MANUAL)


def _behind(known: Known) -> dict[str, Any]:
    """What goes on without it, for the audit trail (waiver-has-authority)."""
    graph = graphs.by_id(known.plan.graph_id)
    return {"downstream": needing.downstream(graph, node=known.task.node)[:_NAMED]}


def _check_waivable(known: Known, *, what: str) -> None:
    task = known.task
    knowing.refuse_in_doubt(known, what=what)
    if task.state not in _WAIVABLE:
        told = "it is over" if task.state in TASK_SUCCESSFUL else "that is no state to leave by it"
        raise NotPossible(f"{task.key} is {task.state}: {told}, so it is not {what}.")
    if known.node.kind is NodeKind.GATHER and task.state != TaskState.FAILED_FINAL:
        raise NotPossible(
            f"{task.key} ends with its elements: settle those that are open, and it ends by itself."
        )


def _end(
    unit: Unit,
    known: Known,
    transition: Callable[[Task], Any],
    *,
    cause: str,
    outputs: Mapping[str, Any],
    details: Mapping[str, Any] | None = None,
) -> Repaired:
    """Settle it as successful, and go on with what follows."""
    task, plan = known.task, known.plan
    before = TaskState(task.state)
    found = _repaired(known, before)
    task.outputs = dict(outputs) or None
    task.blocked_reason = ""
    task.unanswered_queries = 0
    told = {**(details or {}), **({"outputs": sorted(outputs)} if outputs else {})}
    unit.change_task(task, transition, cause=cause, **told)
    cases.resolve_cases(
        unit, subjects=[cases.of_task(task.id)], resolution=f"The task is {task.state}: {cause}"
    )
    go_on(unit, wanted={plan.id: following(unit, known, before=before)})
    return found


def following(unit: Unit, known: Known, *, before: TaskState) -> set[Place]:
    """The places that may go on now that a person has ended a task, whatever it was before."""
    task, plan = known.task, known.plan
    found: set[Place] = set()
    if task.element and before == TaskState.FAILED_FINAL and task.state in TASK_SUCCESSFUL:
        found |= _counts_again(unit, known)
    return found | after(unit, plan=plan, task=task)


def _counts_again(unit: Unit, known: Known) -> set[Place]:
    """Its element has not failed any more."""
    task, plan = known.task, known.plan
    fan_out = rerunning.reopen(unit, task=task)
    if task.element in fan_out.failed:
        return set()
    declared = graphs.by_id(plan.graph_id).nodes[fan_out.node].fan_out
    assert declared is not None
    last = places.at(unit, plan=plan, place=(declared.last, task.element))
    if last is not None and last is not task and last.state in TASK_SUCCESSFUL:
        fan_out.done += 1  # Ended before what had failed in front of it.
    return fanning.go_on(unit, plan=plan, fan_out=fan_out)


def _repaired(known: Known, before: TaskState) -> Repaired:
    return Repaired(
        task=known.task,
        plan=known.plan,
        node=known.node,
        before=before,
        blocked_before=known.task.blocked_reason,
        outputs_before=dict(known.task.outputs or {}),
        reference_before=known.task.reference,
    )
