"""A plan as a map: how every node of its graph stands, why it waits, and which way is the longest
that is still ahead.

A fixed number of queries, however many tasks the plan has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fulfillment import sentences
from fulfillment.definitions.estimates import Standing, longest_way
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.readiness import Choices, Place, chosen_by
from fulfillment.engine.timing import durations, outlook
from fulfillment.models import Plan, Task
from fulfillment.states import PLAN_SELECTABLE, TASK_SUCCESSFUL, TASK_TERMINAL, TaskState
from fulfillment.waits.conditions import NOW
from fulfillment.waits.elements import fan_outs, states_of_elements
from fulfillment.waits.inner_waits import Wait
from fulfillment.waits.waiting import waiting

_NAMED = 4
"""Tasks that one sentence names; of the others it says how many."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """How one node stands. Within a fan-out it has a task for every element that has begun."""

    node: int
    task_id: int | None = None
    state: TaskState | None = None
    elements: Mapping[TaskState, int] = field(default_factory=dict)
    """Within a fan-out: how many of its tasks are in which state."""
    total: int = 0
    """Elements of its fan-out."""
    why: str = ""
    """What it waits for, and what that waits for; empty: it waits for nothing."""
    is_left_out: bool = False
    """No task was made for it, and none will be."""

    @property
    def is_there(self) -> bool:
        """A task has been made for it."""
        return self.state is not None or bool(self.elements)

    @property
    def is_over(self) -> bool:
        """Nothing of it is still to come."""
        if self.is_left_out:
            return True
        if self.elements:
            ended = sum(n for state, n in self.elements.items() if state in TASK_TERMINAL)
            return ended >= self.total
        return self.state in TASK_TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMap:
    spots: Sequence[Spot]
    """One for each node of the graph, in its order."""
    way: tuple[int, ...]
    """The longest way that is still ahead, node after node; empty when nothing is."""


def plan_map(*, plan: Plan, graph: Graph, waits: Iterable[Wait] | None = None) -> PlanMap:
    """`waits` are the plan's own, as `waits.waiting` tells them, if they are at hand."""
    is_going_on = plan.state in PLAN_SELECTABLE
    tasks = _tasks(plan)
    totals = {one.node: one.total for one in fan_outs(plan=plan)}
    each = states_of_elements(plan=plan)
    if waits is None:
        found = waiting(fulfillment_ids=[plan.fulfillment_id]) if is_going_on else {}
        waits = found.get(plan.fulfillment_id, ())
    standings = outlook.standings(
        graph=graph, tasks=tasks, choices=_choices(plan, graph) if is_going_on else {}
    )
    by_node = {task.node: task for task in tasks}
    reasons = _reasons(graph, by_node, standings, list(waits)) if is_going_on else {}
    return PlanMap(
        spots=[
            Spot(
                node=node.index,
                task_id=by_node[node.index].pk if node.index in by_node else None,
                state=TaskState(by_node[node.index].state) if node.index in by_node else None,
                elements=each.get(node.index, {}),
                total=0 if node.group is None else totals.get(node.group, 0),
                why=reasons.get(node.index, ""),
                is_left_out=node.index not in by_node
                and node.index not in each
                and (not is_going_on or _is_over(node.index, standings)),
            )
            for node in graph.nodes
        ],
        way=_way(graph, standings, now=_asked_at(tasks)) if is_going_on else (),
    )


def way_of(*, graph: Graph) -> tuple[int, ...]:
    """The longest way through a graph of which nothing has been done."""
    return _way(graph, {}, now=_EPOCH)


def _way(graph: Graph, standings: Mapping[int, Standing], *, now: datetime) -> tuple[int, ...]:
    return longest_way(graph=graph, standing=standings, usual=durations.usual(), now=now)


def _tasks(plan: Plan) -> list[Task]:
    rows = Task.objects.filter(plan=plan, element=0, round=0).annotate(asked_at=NOW)
    return list(
        rows.only(
            *("node", "element", "state", "required"),
            *("began_at", "not_before", "target", "awaits"),
        )
    )


def _asked_at(tasks: Sequence[Any]) -> datetime:
    """By the database's clock, as all that is known of them."""
    return tasks[0].asked_at if tasks else _EPOCH


def _choices(plan: Plan, graph: Graph) -> Choices:
    """What has been decided outside of elements; one query, if anything decides."""
    if not graph.choosers:
        return {}
    rows = Task.objects.filter(
        plan=plan, node__in=graph.choosers, element=0, round=0, state__in=TASK_SUCCESSFUL
    )
    found: dict[Place, frozenset[str]] = {}
    for node, outputs in rows.values_list("node", "outputs"):
        found[node, 0] = chosen_by(kind=graph.nodes[node].kind, outputs=outputs or {})
    return found


# --- why each of them waits -----------------------------------------------------------------------


def _reasons(
    graph: Graph,
    tasks: Mapping[int, Task],
    standings: Mapping[int, Standing],
    waits: Sequence[Wait],
) -> dict[int, str]:
    """By node: its own wait, or what it waits for and what is at the root of that."""
    rank = {id(wait): place for place, wait in enumerate(waits)}  # The most pressing first.
    own: dict[int, list[Wait]] = {}
    for wait in waits:
        own.setdefault(wait.node, []).append(wait)
    found = {node: _told(graph, node, mine) for node, mine in own.items()}
    root: dict[int, Wait] = {}
    for node in graph.nodes:  # In topological order.
        index = node.index
        if index in own:
            root[index] = own[index][0]
            continue
        standing = standings.get(index)
        if standing is not None and standing.is_over:
            continue
        ahead = [one for one in graph.predecessors[index] if not _is_over(one, standings)]
        roots = [root[one] for one in ahead if one in root]
        if roots:
            root[index] = min(roots, key=lambda wait: rank[id(wait)])
        task = tasks.get(index)
        if ahead and (task is None or task.state == TaskState.PENDING):
            found[index] = _behind(graph, index, ahead, root.get(index))
    return found


def _is_over(node: int, standings: Mapping[int, Standing]) -> bool:
    standing = standings.get(node)
    return standing is not None and standing.is_over


def _told(graph: Graph, node: int, waits: Sequence[Wait]) -> str:
    first = waits[0]
    told = first.reason
    if graph.nodes[node].group is not None:
        told = f"{first.task}: {told}"
        if len(waits) > 1:
            told += f" {len(waits) - 1} more of its elements wait."
    if first.until is not None and sentences.moment(first.until) not in told:
        told += f" The engine goes on with it at {sentences.moment(first.until)}."
    return told


def _behind(graph: Graph, node: int, ahead: Sequence[int], root: Wait | None) -> str:
    titles = Counter(graph.nodes[one].title for one in ahead)
    named = [f"“{title}”" + (f" ({n} times)" if n > 1 else "") for title, n in titles.items()]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    told = f"It waits for {', '.join(named[:_NAMED])}{more}."
    if root is None:
        return told
    if root.node in ahead:
        return (
            f"{told} {root.reason}" if len(ahead) == 1 else f"{told} “{root.title}”: {root.reason}"
        )
    return f"{told} At the root of it, “{root.title}”: {root.reason}"
