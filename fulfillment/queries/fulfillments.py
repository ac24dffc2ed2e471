"""Read models: how far a fulfillment is, and what has happened (`waiting` says why it waits).

Each takes many fulfillments and costs a fixed number of queries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fulfillment.engine.store import graphs
from fulfillment.models import (
    IS_UNRESOLVED,
    MANUAL_OPEN,
    Attempt,
    Command,
    FalloutCase,
    ManualOrigin,
    ManualTask,
    Plan,
    Task,
    Transition,
)
from fulfillment.states import TaskState
from fulfillment.waits.elements import fan_outs, states_of_elements


def newest_plans(*, fulfillment_ids: Collection[int]) -> dict[int, Plan]:
    """The newest plan of each fulfillment, without its snapshot of the order."""
    rows = (
        Plan.objects.filter(fulfillment_id__in=fulfillment_ids)
        .defer("context")
        .order_by("fulfillment_id", "order_version", "version")
    )
    return {plan.fulfillment_id: plan for plan in rows}


def newest_among(plans: Iterable[Plan]) -> Plan | None:
    """The one that the order of all these plans goes by; pure."""
    return max(plans, key=lambda plan: (plan.order_version, plan.version), default=None)


def open_cases(*, fulfillment_ids: Collection[int]) -> dict[int, list[FalloutCase]]:
    """The open fallout cases of each fulfillment that has any, the first due first."""
    rows = FalloutCase.objects.filter(IS_UNRESOLVED, fulfillment_id__in=fulfillment_ids).order_by(
        "sla_due_at", "pk"
    )
    found: dict[int, list[FalloutCase]] = {}
    for case in rows:
        if case.fulfillment_id is not None:
            found.setdefault(case.fulfillment_id, []).append(case)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Of the tasks that an order needs, how many have succeeded (reference §16)."""

    total: int
    done: int
    percent: int


def progress(*, total: int, still_open: int) -> Progress:
    """From a plan's `mandatory_total` and `mandatory_open`; nothing is done without a plan."""
    done = total - still_open
    return Progress(total=total, done=done, percent=100 * done // max(1, total))


def progress_of(plan: Plan | None) -> Progress:
    if plan is None:
        return progress(total=0, still_open=0)
    return progress(total=plan.mandatory_total, still_open=plan.mandatory_open)


def open_manual_tasks(*, fulfillment_ids: Collection[int]) -> dict[int, list[ManualTask]]:
    """What people have to decide for each fulfillment, as its workflow says; first due first."""
    rows = (
        ManualTask.objects.filter(
            task__plan__fulfillment_id__in=fulfillment_ids,
            task__state=TaskState.AWAITING_MANUAL,
            state__in=sorted(MANUAL_OPEN),
            origin=ManualOrigin.WORKFLOW,
        )
        .select_related("task", "fulfillment")
        .defer("context", "instructions", "task__outputs")
        .order_by("due_at", "pk")
    )
    found: dict[int, list[ManualTask]] = {}
    for row in rows:
        found.setdefault(row.fulfillment_id, []).append(row)
    return found


def how_it_stood(*, plan: Plan) -> dict[str, Any]:
    """The tasks of a plan when another took its place, and which: empty while none has.

    {"successor": plan id, "tasks": {key: state}, "elements": {node: {state: count}}}
    """
    row = Transition.objects.filter(
        fulfillment_id=plan.fulfillment_id,
        entity="plan",
        entity_id=str(plan.pk),
        name="supersede",
    ).first()
    return dict(row.details) if row is not None else {}


def graph_document(*, plan: Plan) -> dict[str, Any]:
    """A plan's graph with the state of every task: {"nodes": […], "edges": […], "undo_edges": […]}.

    What is asked of which target, and how it is undone, is told by the way that a task goes now: as
    planned, or by a fallback. In `undo_edges` the undo of `to` waits for that of `from`. A node
    that no task was made for has no state: its branch was not taken, or not yet. Of a node within
    a fan-out `elements` counts the states of all its tasks.
    """
    graph = graphs.by_id(plan.graph_id)
    tasks = {task.node: task for task in Task.objects.filter(plan=plan, element=0, round=0)}
    each = states_of_elements(plan=plan)
    progress = {one.node: one for one in fan_outs(plan=plan)}
    nodes = []
    for node in graph.nodes:
        task = tasks.get(node.index)
        group = None if node.group is None else progress.get(node.group)
        way = node.by(0 if task is None else task.route)
        nodes.append(
            {
                "id": node.index,
                "task": node.key,
                "title": node.title,
                "kind": node.kind.value.lower(),
                "item": node.item,
                "target": way.target or None,
                "action": way.action or None,
                "undo": None
                if way.compensation is None
                else {"target": way.compensation.target, "action": way.compensation.action},
                "no_undo": way.no_compensation or None,
                "required": node.required,
                "irreversible": node.irreversible,
                "depth": graph.depth[node.index],
                "milestones": [milestone.name for milestone in node.milestones],
                "exists": task is not None or node.index in each,
                "state": None if task is None else str(task.state),
                "outputs": None if task is None else task.outputs,
                "progress": None if task is None else task.progress,
                "elements": None
                if group is None
                else {
                    "total": group.total,
                    "started": group.started,
                    "states": {str(state): n for state, n in each.get(node.index, {}).items()},
                },
            }
        )
    return {
        "nodes": nodes,
        "edges": [
            {
                "from": edge.source,
                "to": edge.target,
                "type": edge.type.value.lower(),
                "output": edge.output,
                "when": edge.when or None,
                "labels": list(edge.labels),
            }
            for edge in graph.edges
        ],
        "undo_edges": [{"from": edge.source, "to": edge.target} for edge in graph.undo_edges],
    }


def timeline(*, fulfillment_id: int, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Everything that happened, oldest first: transitions with sequence > `after`.

    Commands and attempts stand among them by the time at which they were written or begun.
    Returns the entries, and whether there are more.
    """
    rows = list(
        Transition.objects.filter(fulfillment_id=fulfillment_id, sequence__gt=after).order_by(
            "sequence"
        )[: limit + 1]
    )
    more, rows = len(rows) > limit, rows[:limit]
    if not rows:
        return [], False
    names = dict(
        Task.objects.filter(
            pk__in={int(row.entity_id) for row in rows if row.entity == "task"}
        ).values_list("pk", "key")
    )
    entries = [(row.occurred_at, 0, row.sequence, _transition(row, names)) for row in rows]
    entries += _exchanges(fulfillment_id, rows, after=after, more=more)
    return [entry for *_, entry in sorted(entries, key=lambda entry: entry[:3])], more


def _transition(row: Transition, names: Mapping[int, str]) -> dict[str, Any]:
    subject = row.entity_id
    if row.entity == "task":
        subject = names.get(int(row.entity_id), subject)
    return {
        "kind": "transition",
        "sequence": row.sequence,
        "at": row.occurred_at,
        "entity": row.entity,
        "subject": subject,
        "name": row.name,
        "from": row.from_state,
        "to": row.to_state,
        "actor": row.actor,
        "cause": row.cause,
        "details": row.details,
        "hash": row.hash,
    }


_Entry = tuple[datetime, int, int, dict[str, Any]]


def _exchanges(
    fulfillment_id: int, rows: list[Transition], *, after: int, more: bool
) -> Iterable[_Entry]:
    """Commands and attempts from the end of the page before to the end of this one."""
    span: dict[str, datetime] = {}
    if after:
        span["gte"] = Transition.objects.get(
            fulfillment_id=fulfillment_id, sequence=rows[0].sequence - 1
        ).occurred_at
    if more:
        span["lt"] = rows[-1].occurred_at
    # Through the plan, whose index leads to the tasks and these to their commands.
    commands = Command.objects.filter(
        task__plan__fulfillment_id=fulfillment_id,
        **{f"created_at__{bound}": at for bound, at in span.items()},
    ).select_related("task")
    for command in commands:
        yield command.created_at, 1, command.pk, _command(command)
    attempts = Attempt.objects.filter(
        command__task__plan__fulfillment_id=fulfillment_id,
        **{f"started_at__{bound}": at for bound, at in span.items()},
    ).select_related("task", "command")
    for attempt in attempts:
        yield attempt.started_at, 2, attempt.pk, _attempt(attempt)


def _command(command: Command) -> dict[str, Any]:
    return {
        "kind": "command",
        "at": command.created_at,
        "task": command.task.key,
        "target": command.target_id,
        "action": command.action,
        "revision": command.revision,
        "idempotency_key": command.idempotency_key,
        "payload": command.payload,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "kind": "attempt",
        "at": attempt.started_at,
        "task": attempt.task.key,
        "target": attempt.command.target_id,
        "number": attempt.number,
        "purpose": attempt.purpose,
        "worker": attempt.worker,
        "finished_at": attempt.finished_at,
        "outcome": attempt.outcome,
        "code": attempt.code,
        "message": attempt.message,
    }
