"""Fallbacks: another way to the same outputs, after a known no-effect outcome of the one before."""

from __future__ import annotations

from adapters.contract import Outcome
from fulfillment.definitions.graph import Node
from fulfillment.engine.store import windows
from fulfillment.engine.tasks import commanding
from fulfillment.engine.timing import clocks
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ValueUnavailable
from fulfillment.models import Task
from fulfillment.states import TASK_MOVING


def fall_back(unit: Unit, *, task: Task, node: Node, outcome: Outcome) -> bool:
    """Give the task a command to its next fallback; False when there is none.

    Only ever after a known no-effect outcome: the command before can't happen any more.
    """
    if task.route >= len(node.fallbacks) or task.state not in TASK_MOVING:
        return False
    plan = unit.plans[task.plan_id]
    other = node.fallbacks[task.route]
    if outcome.code in other.unless:
        return False
    try:
        way = node.by(task.route + 1)
        payload = commanding.payload_of(unit, plan=plan, task=task, node=way)
    except ValueUnavailable:
        return False
    before = task.target_id
    task.route += 1
    commanding.begin_anew(task, target=other.target, at=windows.opening(node=node, at=unit.now))
    clocks.begin(unit, task=task, node=node)
    unit.change_task(
        task,
        Task.fall_back,
        cause=f"{before} did not do it; {other.target} is asked instead",
        code=outcome.code,
        way=task.route,
    )
    commanding.write(
        unit,
        plan=plan,
        task=task,
        target=other.target,
        action=other.action,
        payload=payload,
        revision=commanding.latest_revision(unit, task=task) + 1,
    )
    return True
