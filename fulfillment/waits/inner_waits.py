"""Waits of what no target system does: times and reports, people, the elements of a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from fulfillment import sentences
from fulfillment.definitions.graph import Node, NodeKind
from fulfillment.engine.store import graphs
from fulfillment.models import MANUAL_OPEN, FanOut, ManualTask, Task
from fulfillment.states import PLAN_SELECTABLE, Cause, TaskState
from fulfillment.waits.conditions import KeptBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why one task has not succeeded yet."""

    task_id: int
    task: str
    title: str
    target: str
    state: TaskState
    reason: str
    until: datetime | None
    """When the engine looks at it again by itself; None when it is for somebody to go on."""
    sends: int
    """How often it has been sent."""
    maximum_attempts: int
    """How often it is at the most; 0 for what is sent to nobody."""
    kept_by: KeptBy | None = None
    """What keeps it back although, or even when, its time has come."""
    kind: NodeKind = NodeKind.COMMAND
    manual_id: int | None = None
    """The manual task that somebody has to decide."""
    cause: Cause = Cause.NONE
    hold_id: int | None = None
    """The oldest of the holds that keep it."""
    is_of_target: bool = False
    """That hold is on the whole target system."""
    others: tuple[int, ...] = ()
    """Fulfillments that it waits for: those that keep a lock, or are to reach a milestone."""
    names: tuple[str, ...] = ()
    """How the reason names orders other than its own."""
    node: int = -1
    """Its place in the plan's graph."""
    kept_by_task: int | None = None
    """The task of the first of `others` that keeps the lock; None when the whole order does."""
    report: str = ""
    """The milestone or signal that ends it."""
    report_key: str = ""
    """The business key that the signal is about."""
    report_is_of_other: bool = False
    """The milestone is that of another order."""


def under_way(*, fulfillment_ids: Collection[int]) -> list[tuple[Task, FanOut]]:
    """Fan-outs that have not ended, each with the task that ends with it."""
    rows = (
        FanOut.objects.filter(
            plan__fulfillment_id__in=fulfillment_ids, plan__state__in=PLAN_SELECTABLE
        )
        .select_related("plan")
        .defer("elements", "plan__context")
    )
    by_end = {}
    for row in rows:
        declared = graphs.by_id(row.plan.graph_id).nodes[row.node].fan_out
        assert declared is not None
        by_end[row.plan_id, declared.gather] = row
    if not by_end:
        return []
    ends = Task.objects.filter(
        plan_id__in={plan for plan, _ in by_end},
        node__in={node for _, node in by_end},
        element=0,
        state=TaskState.PENDING,
    ).select_related("plan")
    return [
        (task, by_end[task.plan_id, task.node])
        for task in ends.defer("outputs", "plan__context").order_by("plan_id", "node")
        if (task.plan_id, task.node) in by_end
    ]


def asked(tasks: Sequence[Task]) -> dict[int, ManualTask]:
    """By task, what people have been asked and not decided."""
    waiting = [
        task.pk
        for task in tasks
        if task.state == TaskState.AWAITING_MANUAL
        and graphs.by_id(task.plan.graph_id).nodes[task.node].kind is NodeKind.MANUAL
    ]
    if not waiting:
        return {}
    rows = ManualTask.objects.filter(task_id__in=waiting, state__in=sorted(MANUAL_OPEN))
    return {row.task_id: row for row in rows.defer("context", "instructions")}


def inner_wait(
    *, task: Task, node: Node, manual: ManualTask | None, others: Collection[int] = ()
) -> Wait:
    """The wait of what no target system does."""
    state = TaskState(task.state)
    before = task.blocked_reason
    until: datetime | None = None
    if manual is not None:
        # The reason of the task says the same, or did so in the release before.
        reason, until = sentences.of_manual(manual), manual.due_at
    elif node.kind is NodeKind.WAIT and task.awaits and state is not TaskState.FAILED_FINAL:
        reason = f"{sentences.of_wait(task, node)} {before}"
        until = task.not_before if state is TaskState.ACCEPTED else None
    elif node.kind is NodeKind.WAIT and state is TaskState.ACCEPTED:
        reason, until = sentences.of_wait(task, node), task.not_before
    elif node.kind is NodeKind.GATHER and state is TaskState.FAILED_FINAL:
        reason = f"{before} Those that failed can be tried again."
    elif state is TaskState.FAILED_FINAL:
        reason = f"It is over, and not begun again by itself. {before}"
    else:
        reason = f"A person has to decide. {before}"
    return Wait(
        task_id=task.pk,
        task=task.key,
        title=node.title,
        target="",
        state=state,
        reason=reason.strip(),
        until=until,
        sends=0,
        maximum_attempts=0,
        kind=node.kind,
        manual_id=None if manual is None else manual.pk,
        cause=Cause(task.waits_for),
        others=tuple(others),
        node=task.node,
        report=node.wait.name if node.wait is not None and task.awaits else "",
        report_key=_key(task) if node.wait is not None and node.wait.kind == "signal" else "",
        report_is_of_other=sentences.is_of_other(task),
    )


def _key(task: Task) -> str:
    """Without whose it is: of `paid key:7/INV-1` the end."""
    return task.awaits.partition(" ")[2].partition("/")[2]


def of_elements(*, task: Task, fan_out: FanOut) -> Wait:
    """How far a fan-out is, as the wait of the task that ends with it."""
    node = graphs.by_id(task.plan.graph_id).nodes[task.node]
    under_way = fan_out.started - fan_out.done - len(fan_out.failed)
    return Wait(
        task_id=task.pk,
        task=task.key,
        title=node.title,
        target="",
        state=TaskState.PENDING,
        reason=f"{sentences.of_fan_out(fan_out)}; {under_way} under way, of at most "
        f"{fan_out.at_once} at once.",
        until=None,
        sends=0,
        maximum_attempts=0,
        kind=node.kind,
        cause=Cause.DEPENDENCY,
        node=task.node,
    )
