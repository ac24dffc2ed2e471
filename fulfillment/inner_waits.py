"""Waits of what no target system does: times and reports, people, the elements of a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from fulfillment import sentences
from fulfillment.conditions import KeptBy
from fulfillment.definitions.graph import Node, NodeKind
from fulfillment.engine import graphs
from fulfillment.models import FanOut, ManualState, ManualTask, Task
from fulfillment.states import PLAN_SELECTABLE, TaskState


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
    rows = ManualTask.objects.filter(task_id__in=waiting, state=ManualState.OPEN)
    return {row.task_id: row for row in rows.defer("context", "instructions")}


def inner_wait(*, task: Task, node: Node, manual: ManualTask | None) -> Wait:
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
    )


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
    )
