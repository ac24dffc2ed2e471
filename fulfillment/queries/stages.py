"""A plan summed up: how many of its tasks are in which state, as a whole and by stage.

What a plan of thousands of tasks shows in place of a picture. One query each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Count

from fulfillment.definitions.graph import Graph
from fulfillment.models import Plan, Task
from fulfillment.states import TaskState

_STAGES = 30
"""At the most; deeper plans have several steps in one stage."""
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Steps of the plan that follow each other: tasks from `first` to `last` by their depth."""

    first: int
    last: int
    titles: tuple[str, ...]
    """What is done there most often."""
    more: int
    """Other titles."""
    planned: int
    """Nodes of the graph; of a list each element has tasks of its own."""
    states: Mapping[TaskState, int]


def states_of(*, plan: Plan) -> dict[TaskState, int]:
    """How many tasks of the plan are in each state that some are in; elements are counted too."""
    rows = Task.objects.filter(plan=plan, round=0).values_list("state").order_by()
    counts = {TaskState(state): count for state, count in rows.annotate(count=Count("pk"))}
    return {state: counts[state] for state in TaskState if state in counts}


def stages(*, plan: Plan, graph: Graph) -> list[Stage]:
    """The plan from its beginning to its end."""
    rows = Task.objects.filter(plan=plan, round=0).values_list("depth", "state").order_by()
    by_depth: dict[int, Counter[TaskState]] = {}
    for depth, state, count in rows.annotate(count=Count("pk")):
        by_depth.setdefault(depth, Counter())[TaskState(state)] += count
    titles: dict[int, Counter[str]] = {}
    for node in graph.nodes:
        titles.setdefault(graph.depth[node.index], Counter())[node.title] += 1
    steps = 1 + max(titles, default=0)
    wide = -(-steps // _STAGES)
    found = []
    for first in range(0, steps, wide):
        depths = range(first, min(first + wide, steps))
        named: Counter[str] = Counter()
        states: Counter[TaskState] = Counter()
        for depth in depths:
            named.update(titles.get(depth, {}))
            states.update(by_depth.get(depth, {}))
        found.append(
            Stage(
                first=first,
                last=depths[-1],
                titles=tuple(title for title, _ in named.most_common(_NAMED)),
                more=max(0, len(named) - _NAMED),
                planned=named.total(),
                states=states,
            )
        )
    return found
