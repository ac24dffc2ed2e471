"""Manual tasks are decided: by a person, or by their deadline. One of both, and once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fulfillment.definitions.graph import Node
from fulfillment.definitions.readiness import Place
from fulfillment.engine.plans import awaiting, repairing
from fulfillment.engine.plans.progress import after
from fulfillment.engine.plans.settlement import go_on
from fulfillment.engine.store import failpoints, graphs
from fulfillment.engine.store.database import clean
from fulfillment.engine.tasks import manual
from fulfillment.engine.timing import standing
from fulfillment.engine.work import asking, cases
from fulfillment.engine.work.asking import HAPPENED, REFERENCE
from fulfillment.engine.work.port import registered
from fulfillment.engine.work.rows import plans_by_id, tasks_by_id
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import DecisionMade, DefinitionInvalid, Fault, ManualTaskTaken
from fulfillment.models import (
    MANUAL_OPEN,
    MANUAL_TIMED,
    ManualOrigin,
    ManualState,
    ManualTask,
    Plan,
    Task,
    Trouble,
)
from fulfillment.states import PLAN_SELECTABLE, TASK_SUCCESSFUL, TASK_TERMINAL, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What somebody chooses, and who they are."""

    outcome: str
    actor: str
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)
    question: str = ""
    """To the customer, or to commerce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What has become of a manual task, in a unit that is not committed yet."""

    manual: ManualTask
    told: str
    """One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An open manual task with all that it is about, under the lock of its order."""

    manual: ManualTask
    task: Task
    plan: Plan
    node: Node


def look(unit: Unit, *, manual_id: int, actor: str) -> Asked:
    """What is to be decided, if it still is, and by this one.

    Raises DecisionMade, and ManualTaskTaken when somebody else has it.
    """
    row = ManualTask.objects.get(pk=manual_id)
    task = _adopt(unit, [row])[row.task_id]
    if row.state not in MANUAL_OPEN or task.state != TaskState.AWAITING_MANUAL:
        done = row.outcome or str(row.state).lower()
        raise DecisionMade(
            f"{row.title}: {row.decided_by or 'somebody else'} was quicker, with {done}; nothing "
            "was changed."
        )
    if row.claimed_by and row.claimed_by != actor:
        raise ManualTaskTaken(
            f"{row.title}: {row.claimed_by} has it since {row.claimed_at:%Y-%m-%d %H:%M} UTC. Ask "
            "them, or have it reassigned; nothing was changed."
        )
    plan = unit.plans[task.plan_id]
    node = graphs.routed(plan.graph_id, task.node, task.route)
    return Asked(manual=row, task=task, plan=plan, node=node)


def take(unit: Unit, *, row: ManualTask, actor: str, cause: str) -> None:
    """CLAIMED by this one; who has it already goes on having it."""
    if row.claimed_by == actor:
        return
    row.claimed_by, row.claimed_at = clean(actor, 150), unit.now
    if row.state == ManualState.OPEN:
        asking.move(unit, manual=row, transition=ManualTask.claim, cause=cause)
    else:
        asking.note(unit, manual=row, name="take", cause=cause)


def decide(unit: Unit, *, manual_id: int, choice: Choice) -> Decided:
    """Do what an outcome of an open manual task does; the plan goes on in the same unit.

    Raises DecisionMade, ManualTaskTaken, DefinitionInvalid with every fault of the values, KeyError
    for an outcome that it does not have, and NotPossible.
    """
    asked = look(unit, manual_id=manual_id, actor=choice.actor)
    take(unit, row=asked.manual, actor=choice.actor, cause="to decide it")
    told = _EFFECTS[asked.manual.outcomes[choice.outcome]](unit, asked, choice)
    if asked.manual.state not in MANUAL_OPEN:
        awaiting.end(unit, manual=asked.manual, reason=choice.reason)
        standing.go_on(unit, plan=unit.plans[asked.task.plan_id])
    failpoints.reach("deciding.decided")
    return Decided(manual=asked.manual, told=told)


def fall_due(unit: Unit, *, manual_ids: Sequence[int]) -> None:
    """Nobody has decided these in time, if that is still so."""
    rows = list(
        ManualTask.objects.filter(
            pk__in=manual_ids, state__in=sorted(MANUAL_TIMED), due_at__lt=unit.now
        ).order_by("pk")
    )
    tasks = _adopt(unit, rows)
    wanted: dict[int, set[Place]] = {}
    for row in rows:
        task = tasks[row.task_id]
        if task.state == TaskState.AWAITING_MANUAL:
            manual.fall_due(unit, plan=unit.plans[task.plan_id], manual=row, task=task)
            # Before the next is decided: what hangs on both must not be counted by each.
            wanted.setdefault(task.plan_id, set()).update(_followed(unit, task))
    go_on(unit, wanted=wanted)


# --- what each effect does -----------------------------------------------------------------------


def _settle(unit: Unit, asked: Asked, choice: Choice) -> str:
    manual.settle(
        unit,
        manual=asked.manual,
        task=asked.task,
        node=asked.node,
        outcome=choice.outcome,
        values=choice.values,
        actor=choice.actor,
        reason=choice.reason,
    )
    _go_on(unit, asked)
    return f"{asked.manual.title}: {choice.outcome}."


def _refuse(unit: Unit, asked: Asked, choice: Choice) -> str:
    """Of a repair: it is not done, and not to be; what follows is up to its workflow."""
    if asked.manual.origin == ManualOrigin.WORKFLOW:
        return _settle(unit, asked, choice)
    if asked.manual.trouble == Trouble.UNKNOWN:
        if _happened(asked, choice):
            raise DefinitionInvalid(
                [
                    Fault(
                        code="manual.it_happened",
                        path=f"values.{HAPPENED}",
                        message="What has happened is not rejected. Choose "
                        f"{asking.REPAIRED}, and have it undone if it should not have.",
                    )
                ]
            )
        _close(unit, asked, choice)
        _reconcile(unit, asked, choice, happened=False, then=repairing.FAIL)
    else:
        _close(unit, asked, choice)
        manual.refuse(
            unit,
            task=asked.task,
            node=asked.node,
            outcome=choice.outcome,
            actor=choice.actor,
            reason=choice.reason,
        )
        _go_on(unit, asked)
    return f"{asked.task.key} is not done, by {choice.actor}'s word."


def _repair(unit: Unit, asked: Asked, choice: Choice) -> str:
    """Looked at again, or gone on with what was found out."""
    task = asked.task
    if asked.manual.trouble == Trouble.UNKNOWN:
        happened = _happened(asked, choice)
        if happened:
            _check_outputs(asked, choice)
        _close(unit, asked, choice)
        _reconcile(unit, asked, choice, happened=happened, then=repairing.RETRY)
        return (
            f"{task.key} has been done, and the order goes on."
            if happened
            else f"{task.key} has not been done, and is sent anew."
        )
    if asked.manual.trouble != Trouble.INPUT:
        _check_outputs(asked, choice)
    _close(unit, asked, choice)
    repairing.resume(
        unit,
        task_id=task.id,
        values=choice.values,
        cause=f"{choice.actor} has repaired it: {choice.reason}",
    )
    return f"{task.key} goes on: it is {task.state}."


def _waive(unit: Unit, asked: Asked, choice: Choice) -> str:
    """It goes on without, and whoever decides so answers for it."""
    outputs = {name: choice.values[name] for name in asked.node.outputs if name in choice.values}
    if asked.manual.origin == ManualOrigin.WORKFLOW:
        outputs["outcome"] = choice.outcome
    _close(unit, asked, choice)
    repairing.waive(
        unit,
        task_id=asked.task.id,
        outputs=outputs,
        cause=f"{choice.actor} has waived it: {choice.reason}",
    )
    return f"{asked.task.key} is waived, and the order goes on without."


def _ask_customer(unit: Unit, asked: Asked, choice: Choice) -> str:
    awaiting.ask_customer(
        unit,
        manual=asked.manual,
        task=asked.task,
        node=asked.node,
        question=choice.question or choice.reason,
    )
    return f"{asked.manual.title}: the customer was asked, and its time stands still until then."


def _requote(unit: Unit, asked: Asked, choice: Choice) -> str:
    hold = awaiting.ask_commerce(
        unit,
        manual=asked.manual,
        task=asked.task,
        node=asked.node,
        outcome=choice.outcome,
        reason=choice.question or choice.reason,
    )
    return f"{asked.manual.title}: the order is held (hold {hold.pk}) until there is a new quote."


def _cancel(unit: Unit, asked: Asked, choice: Choice) -> str:
    """Filed like a cancellation by the client. Unless it takes effect it is still to be decided."""
    filed = registered().cancel(
        unit,
        fulfillment_id=asked.manual.fulfillment_id,
        requested_by=choice.actor,
        reason=choice.reason,
    )
    if unit.tasks[asked.task.id].state != TaskState.AWAITING_MANUAL:
        _close(unit, asked, choice)
    else:
        asking.note(unit, manual=asked.manual, name="ask_to_cancel", cause=filed.told)
    return filed.told


_EFFECTS: Mapping[str, Callable[[Unit, Asked, Choice], str]] = {
    "proceed": _settle,
    "refuse": _refuse,
    "undo": _settle,
    "repair": _repair,
    "waive": _waive,
    "ask_customer": _ask_customer,
    "requote": _requote,
    "cancel": _cancel,
}


def _close(unit: Unit, asked: Asked, choice: Choice) -> None:
    manual.close(
        unit,
        manual=asked.manual,
        task=asked.task,
        outcome=choice.outcome,
        actor=choice.actor,
        reason=choice.reason,
    )


def _reconcile(unit: Unit, asked: Asked, choice: Choice, *, happened: bool, then: str) -> None:
    outputs = {name: choice.values[name] for name in asked.node.outputs if name in choice.values}
    reference = choice.values.get(REFERENCE, "")
    repairing.reconcile(
        unit,
        task_id=asked.task.id,
        happened=happened,
        outputs=outputs if happened else {},
        reference=reference if happened and isinstance(reference, str) else "",
        cause=f"{choice.actor} has looked it up: {choice.reason}",
        then=then,
    )


def _happened(asked: Asked, choice: Choice) -> bool:
    told = choice.values.get(HAPPENED)
    if isinstance(told, bool):
        return told
    message = f"Say whether {asked.node.target} has done it: true or false."
    raise DefinitionInvalid(
        [Fault(code="manual.value_missing", path=f"values.{HAPPENED}", message=message)]
    )


def _check_outputs(asked: Asked, choice: Choice) -> None:
    outputs = {name: choice.values[name] for name in asked.node.outputs if name in choice.values}
    faults = manual.faults_of(asked.node, outputs)
    if faults:
        raise DefinitionInvalid(faults)


def _go_on(unit: Unit, asked: Asked) -> None:
    go_on(unit, wanted={asked.plan.id: _followed(unit, asked.task)})


def _adopt(unit: Unit, rows: Collection[ManualTask]) -> dict[int, Task]:
    tasks = tasks_by_id(unit.raw, [row.task_id for row in rows])
    unit.adopt_tasks(tasks)
    unit.adopt_plans(plans_by_id(unit.raw, {task.plan_id for task in tasks}))
    return {task.id: unit.tasks[task.id] for task in tasks}


def _followed(unit: Unit, task: Task) -> set[Place]:
    """The places that may go on now that this has been decided, if it has."""
    plan = unit.plans[task.plan_id]
    if task.state in TASK_SUCCESSFUL:
        decided = [cases.of_task(task.id)]
        cases.resolve_cases(unit, subjects=decided, resolution="It has been decided.")
    if task.state in TASK_TERMINAL and plan.state in PLAN_SELECTABLE:
        return after(unit, plan=plan, task=task)
    return set()
