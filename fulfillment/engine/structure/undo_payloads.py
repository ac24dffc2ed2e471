"""What an undo asks for: worked out when it is planned, since its plan knows nothing of what the
undone task could read; kept in the plan's context under `undo`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulfillment.definitions.graph import Node
from fulfillment.engine.store import graphs
from fulfillment.engine.structure.scope import scope_after
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import UndoUnknown, ValueUnavailable
from fulfillment.models import Plan, Task


def of_task(unit: Unit, *, plan: Plan, task: Task) -> dict[str, Any]:
    """{"payload": …}, or {"error": …} when a value that it needs is not there."""
    return of_way(
        unit,
        plan=plan,
        task=task,
        way=graphs.routed(plan.graph_id, task.node, task.route),
        returned=task.outputs or {},
    )


def of_way(
    unit: Unit, *, plan: Plan, task: Task, way: Node, returned: Mapping[str, Any]
) -> dict[str, Any]:
    """The same for what the task has done by one of its ways, and what that has returned."""
    assert way.compensation is not None
    scope = scope_after(unit, plan=plan, task=task, returned=returned)
    try:
        return {"payload": scope.value(way.compensation.input)}
    except ValueUnavailable as error:
        return {"error": str(error)}


def of_plan(plan: Plan) -> Mapping[str, Any]:
    """Undo key -> what `of_task` has said of it."""
    found: Mapping[str, Any] = graphs.context_of(plan).get("undo", {}).get("asks", {})
    return found


def payload_of(plan: Plan, *, node: Node) -> Mapping[str, Any]:
    """Raises UndoUnknown."""
    found = of_plan(plan).get(node.key, {"error": "Its values were not kept."})
    if "error" in found:
        raise UndoUnknown(f"{found['error']} Look up in {node.target} what has to be undone.")
    payload: Mapping[str, Any] = found["payload"]
    return payload
