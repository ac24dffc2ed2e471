"""Where a task stands in its plan: what it waits for, and what waits for it. One query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fulfillment.definitions.graph import Graph, Node
from fulfillment.definitions.outlines import condition
from fulfillment.definitions.readiness import place_beside
from fulfillment.engine.store import graphs
from fulfillment.models import Task
from fulfillment.states import TaskState

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """One task beside another; without a state where no task was made for it, or not yet."""

    title: str
    key: str
    condition: str
    """On which condition the one waits for the other, or is there at all; empty: always."""
    task_id: int | None = None
    state: TaskState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    before: Sequence[Neighbour]
    more_before: int
    """Others that are left out here."""
    behind: Sequence[Neighbour]
    more_behind: int


def neighbours(*, task: Task) -> Neighbours:
    """Within a fan-out those of the same element, or outside of it. Read the task with its plan."""
    graph = graphs.by_id(task.plan.graph_id)
    before, behind = graph.predecessors[task.node], graph.successors[task.node]
    shown = {*before[:_SHOWN], *behind[:_SHOWN]}
    rows = Task.objects.filter(
        plan_id=task.plan_id, node__in=shown, element__in={0, task.element}, round=0
    )
    there = {(row.node, row.element): row for row in rows.only("node", "element", "state")}

    def found(nodes: Iterable[int], *, is_before: bool) -> list[Neighbour]:
        listed = []
        for index in nodes:
            place = place_beside(graph=graph, node=index, element=task.element)
            row = there.get(place)
            ends = (index, task.node) if is_before else (task.node, index)
            listed.append(_neighbour(graph, graph.nodes[index], ends, row))
        return listed

    return Neighbours(
        before=found(before[:_SHOWN], is_before=True),
        more_before=max(0, len(before) - _SHOWN),
        behind=found(behind[:_SHOWN], is_before=False),
        more_behind=max(0, len(behind) - _SHOWN),
    )


def _neighbour(graph: Graph, node: Node, ends: tuple[int, int], row: Task | None) -> Neighbour:
    told = [condition(graph, edge) for edge in graph.incoming[ends[1]] if edge.source == ends[0]]
    return Neighbour(
        title=node.title,
        key=node.key,
        condition=", ".join(dict.fromkeys(filter(None, told))),
        task_id=None if row is None else row.pk,
        state=None if row is None else TaskState(row.state),
    )
