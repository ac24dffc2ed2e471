"""A running plan by hand: what is open begins anew, what was done is done again, or undone.

All of it is the next version of the plan, assessed and carried out as the change of an order is
(docs/adr/0018): nothing that runs is edited, and what is under way goes on with its row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from fulfillment.definitions.graph import Graph
from fulfillment.definitions.node_parts import NodeKind
from fulfillment.definitions.pruning import without_items
from fulfillment.definitions.undo_graph import Undo, with_undo
from fulfillment.engine.plans import migrating
from fulfillment.engine.plans.concern import Wanted, concerned
from fulfillment.engine.protection import doubt
from fulfillment.engine.store import graphs
from fulfillment.engine.structure.scope import read_ahead
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task
from fulfillment.states import TASK_SENDABLE, TASK_TERMINAL, TaskState

_ON_THE_WAY = frozenset({TaskState.DISPATCHED, TaskState.ACCEPTED, TaskState.OUTCOME_UNKNOWN})
_STANDS = TASK_SENDABLE | {TaskState.FAILED_FINAL, TaskState.AWAITING_MANUAL}
"""Of a command that is in no doubt: it has had no effect, and waits to be sent or for help."""
_ASKED = frozenset({NodeKind.MANUAL, NodeKind.WAIT})


def same_graph(plan: Plan) -> Graph:
    """What the plan is for, without what an earlier change undoes: that is carried on by itself."""
    return without_items(graphs.by_id(plan.graph_id), items=())


def wanted(plan: Plan, *, graph: Graph, begin_anew: Collection[str]) -> Wanted:
    """The same order by this graph, with these tasks from their beginning."""
    return Wanted(
        graph=graph,
        context=graphs.context_of(plan),
        order_version=plan.order_version,
        changed={},
        begin_anew=frozenset(begin_anew),
    )


def open_anew(unit: Unit, *, plan: Plan, graph: Graph) -> set[str]:
    """The tasks that are open and begin anew when the rest is planned again, by their keys.

    Commands that are known to have had no effect; and people and waits that would be asked
    something else now. What is part of a list goes on as it is: the list would begin anew as a
    whole, with all that is done of it.
    """
    before = graphs.by_id(plan.graph_id)
    tasks = migrating.tasks_of(unit, plan=plan)
    read_ahead(unit, plan=plan)
    mine = [
        task
        for task in tasks
        if task.node not in before.undoing and before.nodes[task.node].group is None
    ]
    unknown = in_doubt(unit, tasks=mine)
    found = {
        task.key
        for task in mine
        if before.nodes[task.node].is_command and task.state in _STANDS and task.key not in unknown
    }
    plain = replace(wanted(plan, graph=graph, begin_anew=()), begin_anew=None)
    other = concerned(unit, plan=plan, tasks=mine, wanted=plain)
    return found | {
        task.key
        for task in mine
        if (task.node, task.element) in other
        and before.nodes[task.node].kind in _ASKED
        and task.state not in TASK_TERMINAL
    }


def in_doubt(unit: Unit, *, tasks: Iterable[Task]) -> set[str]:
    """Those that are on the wire, or of which nobody knows whether they have had an effect."""
    tasks = [task for task in tasks if _is_command(unit, task)]
    failed = [task.id for task in tasks if task.state == TaskState.FAILED_FINAL]
    doubtful = doubt.in_doubt(unit.raw, task_ids=[task.id for task in tasks if task.sends])
    doubtful |= doubt.contradicted(unit.raw, task_ids=failed)
    return {task.key for task in tasks if task.state in _ON_THE_WAY or task.id in doubtful}


def with_undo_of(
    plan: Plan, *, task: Task, route: int, key: str, about: str, asks: dict[str, Any]
) -> Wanted:
    """The same order, and beside it the undo of what a task has done by one of its ways.

    `asks` is what `undo_payloads.of_way` has said of it.
    """
    same = same_graph(plan)
    place = same.by_key[graphs.by_id(plan.graph_id).nodes[task.node].key], task.element
    undo = Undo(place=place, route=route, key=key)
    asking = wanted(plan, graph=with_undo(same, undo=undo, about=about), begin_anew=())
    known = asking.context.get("undo", {})
    return replace(
        asking,
        context={
            **asking.context,
            "undo": {**known, "asks": {**known.get("asks", {}), key: asks}},
        },
    )


def _is_command(unit: Unit, task: Task) -> bool:
    return graphs.by_id(unit.plans[task.plan_id].graph_id).nodes[task.node].is_command
