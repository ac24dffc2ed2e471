"""How far the fan-outs of a plan are: their elements, and the tasks that these have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Count

from fulfillment.engine.store import graphs
from fulfillment.models import FanOut, Plan, Task
from fulfillment.states import TaskState

_NAMED_AT_MOST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutProgress:
    """One list that a plan works through; `task` is what ends when every element has."""

    node: int
    """The SPREAD node."""
    task: str
    title: str
    total: int
    started: int
    done: int
    failed: int
    failed_elements: list[int]
    """Their numbers, from 1; the first hundred."""


def fan_outs(*, plan: Plan) -> list[FanOutProgress]:
    """Those that have begun, in the graph's order. One query, without the lists themselves."""
    graph = graphs.by_id(plan.graph_id)
    if not graph.groups:
        return []
    found = []
    for row in FanOut.objects.filter(plan=plan).defer("elements").order_by("node"):
        declared = graph.nodes[row.node].fan_out
        assert declared is not None
        end = graph.nodes[declared.gather]
        found.append(
            FanOutProgress(
                node=row.node,
                task=end.key,
                title=end.title,
                total=row.total,
                started=row.started,
                done=row.done,
                failed=len(row.failed),
                failed_elements=sorted(row.failed)[:_NAMED_AT_MOST],
            )
        )
    return found


def states_of_elements(*, plan: Plan) -> Mapping[int, Counter[TaskState]]:
    """By node, how many of its elements' tasks are in which state. One query."""
    found: dict[int, Counter[TaskState]] = {}
    if not graphs.by_id(plan.graph_id).groups:
        return found
    rows = (
        Task.objects.filter(plan=plan, element__gt=0, round=0)
        .values_list("node", "state")
        .annotate(count=Count("pk"))
        .order_by()
    )
    for node, state, count in rows:
        found.setdefault(node, Counter())[TaskState(state)] = count
    return found
