"""A plan takes the place of another one: explicitly, in one unit, under the fulfillment's lock.

What goes on moves over with its row: commands and their keys, attempts, outputs, cases and
decisions belong to the task, so results settle it wherever it is (docs/adr/0013).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from fulfillment.definitions.graph import Graph, NodeKind
from fulfillment.definitions.migration import Comparison, Had, compare
from fulfillment.definitions.readiness import Place
from fulfillment.engine import cases, graphs, holds, milestones, places
from fulfillment.engine.database import Update, allocate
from fulfillment.engine.instantiation import new_tasks
from fulfillment.engine.planning import start, stored_graph
from fulfillment.engine.port import Notice, PlanChange, registered
from fulfillment.engine.rows import tasks_by_plan
from fulfillment.engine.settlement import go_on
from fulfillment.engine.unit import Unit
from fulfillment.models import HoldScope, Plan, Task
from fulfillment.states import TASK_MOVING, TASK_SUCCESSFUL, TASK_TERMINAL, TaskState

_MOVED = Update(
    "fulfillment_task",
    plan_id="bigint",
    node="int",
    depth="int",
    required="boolean",
    target_id="text",
)
_ASKED = "SELECT task_id FROM fulfillment_manualtask WHERE task_id = ANY(%s::bigint[])"
_MOVE_FAN_OUT = (
    "UPDATE fulfillment_fanout SET plan_id = %s, node = %s WHERE plan_id = %s AND node = %s"
)
_MOVE_CASES = """
UPDATE fulfillment_falloutcase SET plan_id = %s
WHERE fulfillment_id = %s AND state = 'OPEN' AND task_id = ANY(%s::bigint[])
"""


def examine(unit: Unit, *, plan: Plan, graph: Graph) -> Comparison:
    """What would become of an active plan under another graph; changes nothing."""
    tasks = _tasks(unit, plan)
    unit.raw.execute(_ASKED, [[task.pk for task in tasks]], prepare=True)
    asked = {task_id for (task_id,) in unit.raw.fetchall()}
    found = compare(
        before=graphs.by_id(plan.graph_id),
        after=graph,
        tasks=[
            Had(
                node=task.node,
                element=task.element,
                state=TaskState(task.state),
                attempts=task.attempts,
                route=task.route,
                is_asked=task.pk in asked or bool(task.awaits),
                outputs=task.outputs,
            )
            for task in tasks
        ],
    )
    return replace(found, unsafe=(*found.unsafe, *_lost_holds(unit, plan, tasks, found.left)))


def take_over(unit: Unit, *, plan: Plan, graph: Graph, comparison: Comparison, reason: str) -> Plan:
    """Replace an active plan; `comparison` is what `examine` has just found, and is safe.

    Raises DefinitionInvalid when no plan may run on the graph.
    """
    assert not comparison.unsafe
    graph_id = stored_graph(unit, graph=graph)
    tasks = _tasks(unit, plan)
    (plan_id,) = allocate(unit.raw, "fulfillment_plan", 1)
    _close(unit, plan, tasks, comparison.left, successor=plan_id, reason=reason)
    successor = _successor(unit, plan, graph, comparison, plan_id=plan_id, graph_id=graph_id)
    moved = [task for task in tasks if (task.node, task.element) in comparison.moved]
    _move(unit, moved, plan, successor, graph, comparison)
    new_tasks(
        unit,
        plan=successor,
        graph=graph,
        nodes=comparison.born,
        task_ids=allocate(unit.raw, "fulfillment_task", len(comparison.born)),
    )
    _count(unit, successor, graph, comparison.unneeded)
    start(
        unit,
        plan=successor,
        cause=reason,
        replaces=plan.pk,
        kept=len(moved),
        new=len(comparison.born),
    )
    _catch_up(unit, plan, successor)
    waiting = {
        place
        for place, task in unit.places[successor.pk].items()
        if task is not None and task.state == TaskState.PENDING
    }
    go_on(unit, wanted={successor.pk: waiting})
    return successor


def _tasks(unit: Unit, plan: Plan) -> list[Task]:
    unit.adopt_tasks(tasks_by_plan(unit.raw, [plan.pk]))
    mine = [task for task in unit.tasks.values() if task.plan_id == plan.pk]
    return sorted(mine, key=lambda task: (task.node, task.element))


def _lost_holds(
    unit: Unit, plan: Plan, tasks: Collection[Task], left: Collection[Place]
) -> list[str]:
    """Holds on what would be there no longer: nobody may lose one by the way."""
    names = {holds.subject_of(scope=HoldScope.PLAN, name=str(plan.pk)): f"plan {plan.pk}"} | {
        holds.subject_of(scope=HoldScope.TASK, name=str(task.pk)): task.key
        for task in tasks
        if (task.node, task.element) in left
    }
    return [
        f"Hold {hold_id} is on {names[subject]} and would be lost; release it, or place it on "
        "the order."
        for subject, hold_id in holds.active(unit.raw, subjects=names).items()
    ]


def _close(
    unit: Unit,
    plan: Plan,
    tasks: Collection[Task],
    left: Collection[Place],
    *,
    successor: int,
    reason: str,
) -> None:
    """SUPERSEDED, with a record of how it stood; what it has not begun ends with it."""
    record = how_it_stands(tasks)
    over = []
    for task in tasks:
        if (task.node, task.element) in left:
            over.append(cases.of_task(task.pk))
            if task.state not in TASK_TERMINAL:
                task.blocked_reason = ""
                unit.change_task(task, Task.withdraw, cause=f"plan {successor} has taken over")
    plan.selection_due_at = None
    plan.moving = 0
    plan.blocked_reason = ""
    plan.finished_at = unit.now
    unit.change_plan(plan, Plan.supersede, cause=reason, successor=successor, **record)
    unit.write_now(plan)
    cases.resolve_cases(
        unit,
        subjects=[cases.of_plan(plan.pk), *over],
        resolution=f"Plan {successor} has taken over.",
    )


def how_it_stands(tasks: Collection[Task]) -> dict[str, Any]:
    """{"tasks": {key: state}, "elements": {node: {state: count}}} for the audit trail."""
    elements: dict[str, Counter[str]] = {}
    for task in tasks:
        if task.element:
            elements.setdefault(str(task.node), Counter())[str(task.state)] += 1
    found: dict[str, Any] = {
        "tasks": {task.key: str(task.state) for task in tasks if not task.element}
    }
    if elements:
        found["elements"] = {node: dict(states) for node, states in elements.items()}
    return found


def _successor(
    unit: Unit, plan: Plan, graph: Graph, comparison: Comparison, *, plan_id: int, graph_id: int
) -> Plan:
    successor = Plan(
        id=plan_id,
        fulfillment_id=plan.fulfillment_id,
        order_version=plan.order_version,
        version=plan.version + 1,
        graph_id=graph_id,
        context=dict(graphs.context_of(plan)),
        tasks_total=0,
        tasks_open=0,
        mandatory_total=0,
        mandatory_open=0,
        stalls_after=graph.stalls_after,
        last_progress_at=unit.now,
        patient_until=unit.now + graph.stalls_after,
        created_at=unit.now,
    )
    unit.new_plans.append(successor)
    unit.adopt_plans([successor])
    return successor


def _move(
    unit: Unit,
    tasks: Collection[Task],
    plan: Plan,
    successor: Plan,
    graph: Graph,
    comparison: Comparison,
) -> None:
    here, there = unit.places[plan.pk], unit.places.setdefault(successor.pk, {})
    for task in tasks:
        place = task.node, task.element
        node = graph.nodes[comparison.moved[place]]
        fan_out = graphs.by_id(plan.graph_id).nodes[task.node].kind is NodeKind.SPREAD
        if fan_out:
            unit.raw.execute(
                _MOVE_FAN_OUT, [successor.pk, node.index, plan.pk, task.node], prepare=True
            )
        task.plan_id = successor.pk
        task.node = node.index
        task.depth = graph.depth[node.index]
        task.required = node.required
        if task.state == TaskState.PENDING:
            task.target_id = node.target
        there[task.node, task.element] = here.pop(place)
    _MOVED.run(
        unit.raw,
        [
            (task.pk, task.plan_id, task.node, task.depth, task.required, task.target_id)
            for task in tasks
        ],
    )
    unit.raw.execute(
        _MOVE_CASES,
        [successor.pk, successor.fulfillment_id, [task.pk for task in tasks]],
        prepare=True,
    )


def _count(unit: Unit, plan: Plan, graph: Graph, unneeded: Collection[int]) -> None:
    """As if the plan had come so far by itself."""
    tasks = [task for task in unit.places[plan.pk].values() if task is not None]
    mandatory = set(graph.mandatory) - set(unneeded)
    done = {task.node for task in tasks if not task.element and task.state in TASK_SUCCESSFUL}
    plan.tasks_total = len(tasks)
    plan.tasks_open = sum(task.state not in TASK_TERMINAL for task in tasks)
    plan.moving = sum(task.state in TASK_MOVING for task in tasks)
    plan.mandatory_total = len(mandatory)
    plan.mandatory_open = len(mandatory - done)


def _catch_up(unit: Unit, plan: Plan, successor: Plan) -> None:
    """Tell the order desk what is reached under the new graph and was not under the old one."""
    before, after = (graphs.milestone_carriers(one.graph_id) for one in (plan, successor))
    old, new = graphs.by_id(plan.graph_id), graphs.by_id(successor.graph_id)
    watched = registered().watched
    known = {node.key for node in old.nodes if node.index in watched(graph_id=plan.graph_id)}
    listening = watched(graph_id=successor.graph_id)
    for node in (node.index for node in new.nodes if node.index in listening):
        task = places.at(unit, plan=successor, place=(node, 0))
        if task is None or task.state not in TASK_SUCCESSFUL or new.nodes[node].key in known:
            continue
        unit.notices.append(
            Notice(
                fulfillment_id=successor.fulfillment_id,
                plan_id=successor.pk,
                graph_id=successor.graph_id,
                change=PlanChange.TASK_SUCCEEDED,
                node=node,
            )
        )
    for name, carriers in after.items():
        if {new.nodes[one].key for one in carriers} == {
            old.nodes[one].key for one in before.get(name, ())
        }:
            continue
        done = [
            node
            for node in carriers
            if (task := places.at(unit, plan=successor, place=(node, 0))) is not None
            and task.state in TASK_SUCCESSFUL
        ]
        if done:
            milestones.settle(unit, plan=successor, nodes=done[:1])
