"""How the tasks of a plan stand for an estimate of when it will be done."""

from __future__ import annotations

from collections.abc import Iterable

from fulfillment.definitions.estimates import Standing
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.readiness import Choices, existence
from fulfillment.models import Task
from fulfillment.states import TASK_SUCCESSFUL, TASK_TERMINAL, TaskState

_AT_WORK = frozenset({TaskState.DISPATCHED, TaskState.ACCEPTED})


def standings(*, graph: Graph, tasks: Iterable[Task], choices: Choices) -> dict[int, Standing]:
    """By node, of the plan's `tasks`; `choices` are what has been decided outside of elements."""
    found: dict[int, Standing] = {}
    for task in tasks:
        if task.element:
            continue
        timed = task.state == TaskState.ACCEPTED and not task.target_id and not task.awaits
        found[task.node] = Standing(
            # What has failed for good and is needed has yet to be done, once somebody has helped.
            is_over=task.state in (TASK_SUCCESSFUL if task.required else TASK_TERMINAL),
            # Whoever waits to be sent, or for help, is no further than at the beginning.
            began_at=task.began_at if task.state in _AT_WORK else None,
            until=task.not_before if timed else None,
        )
    # Before its decision a branch counts; a branch that was not taken does not.
    for index, there in existence(graph=graph, element=0, choices=choices).items():
        if there is False:
            found[index] = Standing(is_over=True)
    return found
