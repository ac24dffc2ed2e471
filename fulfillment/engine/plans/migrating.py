"""A plan takes the place of another one: explicitly, in one unit, under the fulfillment's lock.

What goes on moves over with its row: commands and their keys, attempts, outputs, cases and
decisions belong to the task, so results settle it wherever it is (docs/adr/0013).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fulfillment.definitions.graph import Graph, NodeKind
from fulfillment.definitions.migration import Comparison, Had, compare
from fulfillment.definitions.readiness import Place
from fulfillment.engine.plans.planning import start, stored_graph
from fulfillment.engine.plans.progress import tell_success
from fulfillment.engine.plans.settlement import go_on
from fulfillment.engine.protection import holds, locksmith
from fulfillment.engine.store import failpoints, graphs
from fulfillment.engine.store.database import Update, allocate
from fulfillment.engine.structure import lock_names, milestones, places
from fulfillment.engine.structure.instantiation import new_tasks
from fulfillment.engine.tasks import timing_out
from fulfillment.engine.timing import jeopardy, standing
from fulfillment.engine.work import cases, locking
from fulfillment.engine.work.port import registered
from fulfillment.engine.work.rows import tasks_by_plan
from fulfillment.engine.work.unit import Unit
from fulfillment.models import UNRESOLVED, HoldScope, Plan, Task
from fulfillment.states import TASK_MOVING, TASK_SUCCESSFUL, TASK_TERMINAL, TaskState

_MOVED = Update(
    "fulfillment_task",
    plan_id="bigint",
    node="int",
    depth="int",
    required="boolean",
    target_id="text",
)
_ASKED = (
    "SELECT task_id FROM fulfillment_manualtask "
    "WHERE task_id = ANY(%s::bigint[]) AND origin = 'WORKFLOW'"
)
_MOVE_FAN_OUT = (
    "UPDATE fulfillment_fanout SET plan_id = %s, node = %s WHERE plan_id = %s AND node = %s"
)
_MOVE_CASES = f"""
UPDATE fulfillment_falloutcase SET plan_id = %s
WHERE fulfillment_id = %s AND {UNRESOLVED} AND task_id = ANY(%s::bigint[])
"""


def examine(unit: Unit, *, plan: Plan, graph: Graph) -> Comparison:
    """What would become of an active plan under another graph; changes nothing.

    What an earlier change has undone stays behind; what it still undoes must not be lost.
    """
    tasks = tasks_of(unit, plan=plan)
    undoing = graphs.by_id(plan.graph_id).undoing
    undone = {(task.node, task.element): task for task in tasks if task.node in undoing}
    unit.raw.execute(_ASKED, [[task.id for task in tasks]], prepare=True)
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
                is_asked=task.id in asked or bool(task.awaits),
                outputs=task.outputs,
            )
            for task in tasks
        ],
        given_up=undone,
    )
    return replace(
        found,
        unsafe=(
            *found.unsafe,
            *(
                f"{task.key} is {task.state}: wait until that is over."
                for task in undone.values()
                if task.state not in TASK_SUCCESSFUL
            ),
            *lost_holds(unit, plan=plan, tasks=tasks, left=found.left),
            *locks_in_use(unit, plan=plan, graph=graph),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What is new about a plan beside its graph."""

    context: Mapping[str, Any]
    order_version: int
    is_undoing: bool
    """It holds nothing but what is undone."""
    due_at: datetime | None


def take_over(
    unit: Unit,
    *,
    plan: Plan,
    graph: Graph,
    comparison: Comparison,
    reason: str,
    following: Next | None = None,
) -> Plan:
    """Replace an active plan; `comparison` is what has just been found of it, and is safe.

    Without `following` it goes on for the same order. Raises DefinitionInvalid when no plan may
    run on the graph.
    """
    assert not comparison.unsafe
    graph_id = stored_graph(unit, graph=graph)
    tasks = tasks_of(unit, plan=plan)
    standing.plan_holds_still(unit, plan=plan)  # Later on nobody could tell since when.
    (plan_id,) = allocate(unit.raw, "fulfillment_plan", 1)
    _close(unit, plan, tasks, comparison.left, successor=plan_id, reason=reason)
    failpoints.reach("migrating.superseded")
    following = following or _as_before(plan)
    successor = _successor(unit, plan, graph, following, plan_id=plan_id, graph_id=graph_id)
    moved = [task for task in tasks if (task.node, task.element) in comparison.moved]
    _move(unit, moved, plan, successor, graph, comparison)
    _take_over_locks(unit, plan, successor, graph)
    standing.go_on(unit, plan=successor)
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
        replaces=plan.id,
        kept=len(moved),
        new=len(comparison.born),
    )
    if following.is_undoing:
        unit.change_plan(successor, Plan.compensate, cause=reason)
    milestones.close(unit, plan=plan, successor=successor)
    _catch_up(unit, plan, successor)
    waiting = {
        place
        for place, task in unit.places[successor.pk].items()
        if task is not None and task.state == TaskState.PENDING
    }
    go_on(unit, wanted={successor.pk: waiting})
    return successor


def tasks_of(unit: Unit, *, plan: Plan) -> list[Task]:
    """Every task of the plan that counts, in the order of its graph."""
    unit.adopt_tasks(tasks_by_plan(unit.raw, [plan.id]))
    mine = [task for task in unit.tasks.values() if task.plan_id == plan.id]
    return sorted(mine, key=lambda task: (task.node, task.element))


def lost_holds(
    unit: Unit, *, plan: Plan, tasks: Collection[Task], left: Collection[Place]
) -> list[str]:
    """Holds on what would be there no longer: nobody may lose one by the way."""
    names = {holds.subject_of(scope=HoldScope.PLAN, name=str(plan.id)): f"plan {plan.id}"} | {
        holds.subject_of(scope=HoldScope.TASK, name=str(task.id)): task.key
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
    behind = [task for task in tasks if (task.node, task.element) in left]
    over = [cases.of_task(task.id) for task in behind]
    withdraw(unit, tasks=behind, cause=f"plan {successor} has taken over")
    plan.selection_due_at = plan.look_at = None
    plan.moving = 0
    plan.blocked_reason = ""
    plan.finished_at = unit.now
    unit.change_plan(plan, Plan.supersede, cause=reason, successor=successor, **record)
    unit.write_now(plan)
    cases.resolve_cases(
        unit,
        subjects=[cases.of_plan(plan.id), *over],
        resolution=f"Plan {successor} has taken over.",
    )


def withdraw(unit: Unit, *, tasks: Collection[Task], cause: str) -> None:
    """Those that are still open end here: they have had no effect."""
    gone = [task for task in tasks if task.state not in TASK_TERMINAL]
    for task in gone:
        task.blocked_reason = ""
        unit.change_task(task, Task.withdraw, cause=cause)
    locking.leave_line(unit.raw, task_ids=[task.id for task in gone])


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


def _as_before(plan: Plan) -> Next:
    return Next(
        context=graphs.context_of(plan),
        order_version=plan.order_version,
        is_undoing=False,
        due_at=plan.due_at,
    )


def _successor(
    unit: Unit, plan: Plan, graph: Graph, following: Next, *, plan_id: int, graph_id: int
) -> Plan:
    successor = Plan(
        id=plan_id,
        fulfillment_id=plan.fulfillment_id,
        order_version=following.order_version,
        version=plan.version + 1,
        graph_id=graph_id,
        context=dict(following.context),
        tasks_total=0,
        tasks_open=0,
        mandatory_total=0,
        mandatory_open=0,
        due_at=following.due_at,
        look_at=None if following.due_at is None else unit.now,
        stalls_after=graph.stalls_after,
        last_progress_at=unit.now,
        patient_until=unit.now + graph.stalls_after,
        created_at=unit.now,
    )
    jeopardy.pass_on(unit, plan=plan, successor=successor)
    unit.new_plans.append(successor)
    unit.adopt_plans([successor])
    _take_over_deadline(unit, plan, successor, graph)
    return successor


def _take_over_deadline(unit: Unit, plan: Plan, successor: Plan, graph: Graph) -> None:
    """It goes on from where it began; where the new version allows more time, there is more."""
    successor.stopped_at, successor.stopped_by_id = plan.stopped_at, plan.stopped_by_id
    plan.stopped_at = plan.stopped_by_id = None
    unit.clocked_plans.update({plan.id, successor.pk})
    before, after = graphs.by_id(plan.graph_id).deadline, graph.deadline
    if after is None:
        timing_out.done(unit, plan=plan)
        return
    was_due = plan.finish_by or plan.late_since
    if was_due is not None and before is not None:
        successor.finish_by = was_due - before + after
    else:
        successor.finish_by = plan.created_at + after
    if plan.late_since is not None:
        if successor.finish_by <= unit.now:
            successor.late_since, successor.finish_by = successor.finish_by, None
        else:
            timing_out.done(unit, plan=plan)


def locks_in_use(unit: Unit, *, plan: Plan, graph: Graph) -> list[str]:
    """Whoever keeps a lock waits for none: otherwise orders might wait for each other."""
    need = _besides(unit, plan, graph)
    name = need and locksmith.lacking(unit.raw, need=need, now=unit.now)
    if not name:
        return []
    return [
        f"It keeps locks already, and would have to wait for {name} besides, which is in use; "
        "move it when that is free."
    ]


def _besides(unit: Unit, plan: Plan, graph: Graph) -> locksmith.Need | None:
    """What a plan that keeps locks has to have at once to go on by this graph."""
    if plan.locks is None or not locking.keeps_any(unit.raw, plan_id=plan.id):
        return None
    return locksmith.Need(
        task_id=0,
        plan_id=plan.id,
        fulfillment_id=plan.fulfillment_id,
        own={},
        of_plan={**plan.locks, **lock_names.of_graph(graph, plan=plan)},
    )


def _take_over_locks(unit: Unit, plan: Plan, successor: Plan, graph: Graph) -> None:
    """What the order keeps stays kept; what the new version locks besides it has at once.

    An order that keeps nothing yet takes all with its next command.
    """
    if plan.locks is None:
        return
    need = _besides(unit, plan, graph)
    successor.locks = {**plan.locks, **lock_names.of_graph(graph, plan=plan)}
    successor.is_locked = need is not None and bool(need.of_plan)
    locking.take_over(unit.raw, plan_id=plan.id, successor=successor.pk)
    if need is not None:
        need = replace(need, plan_id=successor.pk)
        for target in locksmith.take(unit.raw, need=need, now=unit.now):
            unit.hint(target=target)


def _move(
    unit: Unit,
    tasks: Collection[Task],
    plan: Plan,
    successor: Plan,
    graph: Graph,
    comparison: Comparison,
) -> None:
    here, there = unit.places[plan.id], unit.places.setdefault(successor.pk, {})
    for task in tasks:
        place = task.node, task.element
        node = graph.nodes[comparison.moved[place]]
        fan_out = graphs.by_id(plan.graph_id).nodes[task.node].kind is NodeKind.SPREAD
        if fan_out:
            unit.raw.execute(
                _MOVE_FAN_OUT, [successor.pk, node.index, plan.id, task.node], prepare=True
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
            (task.id, task.plan_id, task.node, task.depth, task.required, task.target_id)
            for task in tasks
        ],
    )
    unit.raw.execute(
        _MOVE_CASES,
        [successor.pk, successor.fulfillment_id, [task.id for task in tasks]],
        prepare=True,
    )


def _count(unit: Unit, plan: Plan, graph: Graph, unneeded: Collection[int]) -> None:
    """As if the plan had come so far by itself."""
    tasks = [task for task in unit.places[plan.id].values() if task is not None]
    mandatory = set(graph.mandatory) - set(unneeded)
    done = {task.node for task in tasks if not task.element and task.state in TASK_SUCCESSFUL}
    plan.tasks_total = len(tasks)
    plan.tasks_open = sum(task.state not in TASK_TERMINAL for task in tasks)
    plan.moving = sum(task.state in TASK_MOVING for task in tasks)
    plan.mandatory_total = len(mandatory)
    plan.mandatory_open = len(mandatory - done)


def _catch_up(unit: Unit, plan: Plan, successor: Plan) -> None:
    """Tell the order desk what is done under the new graph, and the milestones that are new."""
    before, after = (graphs.milestone_carriers(one.graph_id) for one in (plan, successor))
    old, new = graphs.by_id(plan.graph_id), graphs.by_id(successor.graph_id)
    # A task that was only an activation may bill as well now; what is known is noted once.
    for node in sorted(registered().watched(graph_id=successor.graph_id)):
        task = places.at(unit, plan=successor, place=(node, 0))
        if task is not None:
            tell_success(unit, plan=successor, task=task)
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
