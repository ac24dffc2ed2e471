"""Trying again what has failed without effect."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.plans import rerunning
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NothingToRetry
from fulfillment.models import Task
from fulfillment.operations.catalog import perform
from fulfillment.operations.repair import CameAbout, Done, Found, Repair, Request, Why
from fulfillment.operations.subjects import task_found, task_version
from fulfillment.states import TASK_SUCCESSFUL, TaskState

_CAME_TO_NOTHING = frozenset(
    {TaskState.FAILED_FINAL, TaskState.AWAITING_MANUAL, TaskState.CANCELLED}
)
"""Nothing more comes of it by itself."""


class RetryTask(Repair):
    """Send it anew, with today's data and a key of its own; of a fan-out what has failed of it."""

    action = Action.TASK_RETRY
    kind = "retry"
    about = "task"
    from_states = frozenset({TaskState.FAILED_FINAL})

    def find(self, *, name: str) -> Found:
        return task_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return task_version(unit, found)

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        again = rerunning.rerun(unit, task_id=found.pk)
        if not again:
            task: Task = unit.tasks[found.pk]
            raise NothingToRetry(
                f"{task.key} is {task.state}: only what has failed for good, in a plan that still "
                "runs, is tried again by hand."
            )
        return Done(
            told=f"Sent anew: {', '.join(again[:20])}.",
            before={"state": "FAILED_FINAL"},
            after={"tasks": again[:100]},
            customer_impact="The order goes on as soon as it succeeds.",
            result={"tasks": again},
        )

    def came_about(self, *, pks: Collection[int]) -> Mapping[int, CameAbout]:
        """That it was sent is not what it was for: it has to succeed."""
        rows = Task.objects.filter(pk__in=pks).values_list("pk", "state", "blocked_reason")
        return {pk: _came_of(TaskState(state), blocked) for pk, state, blocked in rows}


def _came_of(state: TaskState, blocked: str) -> CameAbout:
    if state in TASK_SUCCESSFUL:
        return CameAbout(is_so=True, told=f"It is {state}.")
    if state in _CAME_TO_NOTHING:
        return CameAbout(is_so=False, told=f"It is {state}. {blocked}".strip())
    return CameAbout(is_so=None, told=f"It is {state}.")


def retry(*, task_id: int, actor: Actor, reason: str) -> list[str]:
    """The keys of what runs again. Raises as `catalog.perform` does."""
    request = Request(action=Action.TASK_RETRY, subject=f"task:{task_id}", reason=reason)
    again: list[str] = perform(actor=actor, request=request).result["tasks"]
    return again
