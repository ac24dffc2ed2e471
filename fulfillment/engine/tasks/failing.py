"""What is known to have had no effect: another way is taken, or the task fails for good."""

from __future__ import annotations

from adapters.contract import Outcome
from fulfillment.definitions.graph import Node
from fulfillment.engine.tasks import falling_back
from fulfillment.engine.tasks.reconciling import code_of, describe, lost_track_before
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Task


def fail_or_fall_back(unit: Unit, task: Task, node: Node, outcome: Outcome, cause: str) -> None:
    """Another way is tried, if there is one and no doubt at all."""
    if not lost_track_before(unit, task, node) and falling_back.fall_back(
        unit, task=task, node=node, outcome=outcome
    ):
        return
    task.blocked_reason = describe(outcome)
    unit.change_task(task, Task.fail, cause=cause, code=code_of(outcome))
    if outcome.compensate:
        named = ", ".join(outcome.compensate)
        reason = f"{task.key} has failed for good, and its target has {named} undone."
        unit.give_up(task, reason=f"{reason} {describe(outcome)}", only=outcome.compensate)
    if task.required:
        open_for_task(
            unit,
            task=task,
            node=node,
            category=CaseCategory.REFUSED,
            reason_code=code_of(outcome) or str(outcome.kind),
            explanation=f"It has failed for good, because {cause}: {describe(outcome)}",
        )
