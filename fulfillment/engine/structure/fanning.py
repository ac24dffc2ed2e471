"""Fan-outs: a list is spread over elements, a few at a time, and gathered when all have ended."""

from __future__ import annotations

import json
import math
from typing import Any

from fulfillment.definitions.node_parts import FanOut as Declared
from fulfillment.definitions.outputs import kind_of
from fulfillment.definitions.readiness import Place, existence
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import places
from fulfillment.engine.structure.instantiation import instantiate
from fulfillment.engine.structure.scope import scope_of
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import FulfillmentError
from fulfillment.models import CaseCategory, FanOut, Plan, Task
from fulfillment.states import TASK_SUCCESSFUL, TaskState

LARGEST = 10_000
"""Elements of one fan-out."""
_READ = """
SELECT id, plan_id, fulfillment_id, node, total, at_once, tolerated, started, done, failed
FROM fulfillment_fanout WHERE plan_id = %s AND node = %s
"""
_COLUMNS = (
    "id",
    "plan_id",
    "fulfillment_id",
    "node",
    "total",
    "at_once",
    "tolerated",
    "started",
    "done",
    "failed",
)
_OUTPUTS = """
SELECT id, element, outputs FROM fulfillment_task
WHERE plan_id = %s AND node = %s AND element > 0 AND state = ANY(%s::text[])
"""


class NotAList(FulfillmentError):
    """What a fan-out was to work through is no list, or too long a one."""

    code = "fulfillment.not_a_list"


def spread(unit: Unit, *, plan: Plan, task: Task) -> set[Place]:
    """Begin with the elements of a list. Returns the places that may run now.

    Raises NotAList, ValueMissing and ExpressionFailed.
    """
    declared = _declared(plan, task.node)
    elements = scope_of(unit, plan=plan, task=task).value(declared.over)
    if not isinstance(elements, list):
        raise NotAList(f"{declared.over} is no list but {kind_of(elements)}.")
    if len(elements) > LARGEST:
        raise NotAList(
            f"{declared.over} has {len(elements)} elements; a fan-out takes at most {LARGEST}. "
            "Hand over larger parts."
        )
    fan_out = FanOut(
        plan_id=plan.id,
        fulfillment_id=plan.fulfillment_id,
        node=task.node,
        elements=elements,
        total=len(elements),
        at_once=declared.at_once,
        tolerated=math.floor(declared.tolerate * len(elements) + 1e-9),
        started=0,
        done=0,
        failed=[],
    )
    unit.fan_outs[plan.id, task.node] = fan_out
    unit.change_task(task, Task.conclude, cause=f"{fan_out.total} elements")
    return go_on(unit, plan=plan, fan_out=fan_out)


def ended(unit: Unit, *, plan: Plan, task: Task) -> set[Place]:
    """Count an element whose last task has succeeded, or of which a needed one has failed."""
    graph = graphs.by_id(plan.graph_id)
    node = graph.nodes[task.node]
    assert node.group is not None
    fan_out = of(unit, plan=plan, node=node.group)
    if task.state in TASK_SUCCESSFUL:
        if task.node != _declared(plan, node.group).last:
            return set()
        fan_out.done += 1
    elif node.needed and task.element not in fan_out.failed:
        fan_out.failed = [*fan_out.failed, task.element]
    else:
        return set()
    return go_on(unit, plan=plan, fan_out=fan_out)


def end_there(unit: Unit, *, plan: Plan, task: Task) -> None:
    """Count an element whose last task has ended by hand, and begin with no other: the list is
    not worked through to its end."""
    group = graphs.by_id(plan.graph_id).nodes[task.node].group
    assert group is not None
    fan_out = of(unit, plan=plan, node=group)
    if task.node == _declared(plan, group).last and task.element not in fan_out.failed:
        fan_out.done += 1


def go_on(unit: Unit, *, plan: Plan, fan_out: FanOut) -> set[Place]:
    """Start as many elements as may be under way, or end the fan-out."""
    declared = _declared(plan, fan_out.node)
    running = fan_out.started - fan_out.done - len(fan_out.failed)
    broken = len(fan_out.failed) > fan_out.tolerated
    started: set[Place] = set()
    if not broken and fan_out.started < fan_out.total:
        members = _members(unit, plan, fan_out.node)
        while running < fan_out.at_once and fan_out.started < fan_out.total:
            fan_out.started += 1
            running += 1
            instantiate(unit, plan=plan, nodes=members, element=fan_out.started)
            started.update((node, fan_out.started) for node in members)
    if running or started:
        return started
    gather = places.at(unit, plan=plan, place=(declared.gather, 0))
    if gather is None or gather.state != TaskState.PENDING:
        return set()
    if broken:
        _give_up(unit, plan, gather, fan_out)
        return set()
    gather.outputs = _gathered(unit, plan, gather, fan_out, declared)
    unit.change_task(gather, Task.conclude, cause="every element has ended")
    return {(gather.node, 0)}


def of(unit: Unit, *, plan: Plan, node: int) -> FanOut:
    """How far a fan-out is, read once per unit; without its list."""
    if (plan.id, node) not in unit.fan_outs:
        unit.raw.execute(_READ, [plan.id, node], prepare=True)
        row = unit.raw.fetchone()
        assert row is not None, f"plan {plan.id} has no fan-out at {node}"
        values = dict(zip(_COLUMNS, row, strict=True))
        values["failed"] = json.loads(values["failed"])
        unit.fan_outs[plan.id, node] = FanOut(**values)
    return unit.fan_outs[plan.id, node]


def _members(unit: Unit, plan: Plan, spread_node: int) -> list[int]:
    """The tasks that every element begins with; branches within it come by their decisions."""
    graph = graphs.by_id(plan.graph_id)
    members = graph.groups[spread_node]
    if not any(graph.nodes[node].group == spread_node for node in graph.choosers):
        return list(members)
    # No element of this number has decided anything.
    undecided = existence(
        graph=graph, element=LARGEST + 1, choices=places.choices(unit, plan=plan, element=0)
    )
    return [node for node in members if undecided[node]]


def _give_up(unit: Unit, plan: Plan, gather: Task, fan_out: FanOut) -> None:
    share = f"{len(fan_out.failed)} of {fan_out.total} elements failed"
    gather.blocked_reason = f"{share}; {fan_out.tolerated} may. " + (
        f"{fan_out.total - fan_out.started} were not begun. "
        if fan_out.started < fan_out.total
        else ""
    )
    unit.change_task(gather, Task.give_up, cause=share)
    open_for_task(
        unit,
        task=gather,
        node=graphs.by_id(plan.graph_id).nodes[gather.node],
        category=CaseCategory.REFUSED,
        reason_code="fan_out_failed",
        explanation=f"{gather.blocked_reason}Mend what they failed with, then try the failed "
        "elements again; the others stay as they are.",
        facts={"failed_elements": fan_out.failed[:100]},
    )


def gathered(unit: Unit, *, plan: Plan, gather: Task) -> dict[str, Any]:
    """What the end of a fan-out returns, as far as its elements have succeeded by now."""
    spread = next(
        node
        for node in graphs.by_id(plan.graph_id).nodes
        if node.fan_out is not None and node.fan_out.gather == gather.node
    )
    fan_out = of(unit, plan=plan, node=spread.index)
    return _gathered(unit, plan, gather, fan_out, _declared(plan, spread.index))


def _gathered(
    unit: Unit, plan: Plan, gather: Task, fan_out: FanOut, declared: Declared
) -> dict[str, Any]:
    """The outputs of the elements that succeeded, as lists in the elements' order."""
    unit.raw.execute(_OUTPUTS, [plan.id, declared.last, sorted(TASK_SUCCESSFUL)], prepare=True)
    found: dict[int, dict[str, Any]] = {
        element: json.loads(outputs) if outputs else {}
        for _, element, outputs in unit.raw.fetchall()
    }
    for (node, element), task in unit.places[plan.id].items():
        if node == declared.last and task is not None and task.state in TASK_SUCCESSFUL:
            found[element] = task.outputs or {}
    # Of a failed element the last task may have been given up, and skipped.
    succeeded = sorted(found.keys() - set(fan_out.failed))
    names = graphs.by_id(plan.graph_id).nodes[declared.last].outputs
    return {
        **{name: [found[element].get(name) for element in succeeded] for name in names},
        "succeeded": fan_out.done,
        "failed": len(fan_out.failed),
    }


def _declared(plan: Plan, node: int) -> Declared:
    declared = graphs.by_id(plan.graph_id).nodes[node].fan_out
    assert declared is not None
    return declared
