"""The commands of a task: written when it becomes runnable, and anew for another way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from fulfillment.definitions import merging
from fulfillment.definitions.graph import Node
from fulfillment.engine.store import graphs, windows
from fulfillment.engine.store.idempotency import idempotency_key
from fulfillment.engine.structure import lock_names, undo_payloads
from fulfillment.engine.structure.scope import Scope, scope_of
from fulfillment.engine.timing import clocks
from fulfillment.engine.work.rows import fresh
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Command, Plan, Task

_LATEST = "SELECT max(revision) FROM fulfillment_command WHERE task_id = %s"


def command(unit: Unit, *, plan: Plan, task: Task, node: Node, cause: str) -> None:
    """Make a task READY with its command. Raises ValueUnavailable and NeverOpens."""
    scope = scope_of(unit, plan=plan, task=task) if node.input or node.locks else None
    payload = payload_of(unit, plan=plan, task=task, node=node, scope=scope)
    _name_locks(unit, plan, task, node, scope)
    revision = 1
    if _may_have_had_one(plan, task):
        revision += latest_revision(unit, task=task)
    task.route = 0
    begin_anew(task, target=node.target, at=windows.opening(node=node, at=_from(unit, node)))
    clocks.begin(unit, task=task, node=node)
    unit.change_task(task, Task.make_ready, cause=cause)
    write(
        unit,
        plan=plan,
        task=task,
        target=node.target,
        action=node.action,
        payload=payload,
        revision=revision,
    )


def _from(unit: Unit, node: Node) -> datetime:
    """What can't be taken back waits for as long as its order may still be cancelled."""
    final = node.point_of_no_return
    return unit.now if final is None else unit.now + timedelta(seconds=final.window_seconds)


def payload_of(
    unit: Unit, *, plan: Plan, task: Task, node: Node, scope: Scope | None = None
) -> Mapping[str, Any]:
    """What the target is asked with. Raises ValueUnavailable."""
    if task.correction is not None and corrects(task, node=node):
        return _corrected(unit, plan, task, node, scope)
    return _as_planned(unit, plan, task, node, scope)


def corrects(task: Task, *, node: Node) -> bool:
    """Whether its payload was corrected by hand for this way; another has another payload."""
    found = task.correction or {}
    return (found.get("target"), found.get("action")) == (node.target, node.action)


def _corrected(
    unit: Unit, plan: Plan, task: Task, node: Node, scope: Scope | None
) -> Mapping[str, Any]:
    steps = (task.correction or {})["steps"]
    made = {} if merging.is_whole(steps) else _as_planned(unit, plan, task, node, scope)
    payload: Mapping[str, Any] = merging.corrected(made, steps)
    return payload


def _as_planned(
    unit: Unit, plan: Plan, task: Task, node: Node, scope: Scope | None
) -> Mapping[str, Any]:
    if node.undoes:
        return undo_payloads.payload_of(plan, node=node)
    if not node.input:
        return {}
    scope = scope or scope_of(unit, plan=plan, task=task)
    payload: Mapping[str, Any] = scope.value(node.input)
    return payload


def _name_locks(unit: Unit, plan: Plan, task: Task, node: Node, scope: Scope | None) -> None:
    """What the task, and with the first command its plan, has to lock before it is sent."""
    if scope is not None and node.locks:
        task.locks = lock_names.of_task(node, scope=scope)
    if plan.locks is None:
        plan.locks = lock_names.of_plan(plan)
        if plan.locks:
            unit.touched_plans.add(plan.id)


def _may_have_had_one(plan: Plan, task: Task) -> bool:
    return (
        task.attempts > 0 or plan.version > 1 or task.node in graphs.by_id(plan.graph_id).repeatable
    )


def latest_revision(unit: Unit, *, task: Task) -> int:
    """Of the commands that the task has had; 0 when there is none."""
    unit.raw.execute(_LATEST, [task.id], prepare=True)
    row = unit.raw.fetchone()
    return int(row[0] or 0) if row else 0


def begin_anew(task: Task, *, target: str, at: datetime) -> None:
    """Clear what the task has from an earlier command: it counts from the start, at `at`."""
    task.target_id = target
    task.sends = 0
    task.lost_leases = 0
    task.unanswered_queries = 0
    task.reference = ""
    task.blocked_reason = ""
    task.not_before = at


def write(
    unit: Unit,
    *,
    plan: Plan,
    task: Task,
    target: str,
    action: str,
    payload: Mapping[str, Any],
    revision: int,
) -> None:
    """Append a command with a key of its own to the task's log, and hint at it."""
    locked = unit.fulfillments[plan.fulfillment_id]
    unit.new_commands.append(
        fresh(
            Command,
            task_id=task.id,
            fulfillment_id=plan.fulfillment_id,
            revision=revision,
            target_id=target,
            action=action,
            idempotency_key=idempotency_key(
                order_reference=locked.order_reference,
                order_version=plan.order_version,
                plan_id=plan.id,
                task_id=task.id,
                action=action,
                revision=revision,
                target=target,
            ),
            payload=payload,
            created_at=unit.now,
        )
    )
    unit.hint(target=target)
