"""Waits that stand in a dependency become wait tasks of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from fulfillment.definitions.dependencies import (
    DelayWait,
    Dependency,
    InstantDependency,
    InstantWait,
    MilestoneDependency,
    MilestoneWait,
    SuccessDependency,
    TaskDependency,
    TimeDependency,
    Wait,
)
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.steps import AnyStep, WaitSpec


@lru_cache(maxsize=512)
def written_out(definition: WorkflowDefinition) -> Mapping[str, AnyStep]:
    """The tasks of a template with every wait as a task: `<task>~<milestone>`, `<task>~2`.

    A wait for a milestone or an instant begins when the other dependencies of its task are met;
    a delay counts from the task that it names. Afterwards dependencies only point at tasks.
    """
    found: dict[str, AnyStep] = {}
    for name, task in definition.tasks.items():
        others = tuple(one for one in task.depends_on if isinstance(one, TaskDependency))
        dependencies: list[Dependency] = []
        for position, one in enumerate(task.depends_on, 1):
            if isinstance(one, TaskDependency):
                dependencies.append(one)
                continue
            label = one.milestone if isinstance(one, MilestoneDependency) else str(position)
            wait = f"{name}~{label}"
            found[wait] = _wait(task, one, others)
            # Not a name that a file could have, so it is not to be checked as one.
            dependencies.append(SuccessDependency.model_construct(success=wait, when=None))
        found[name] = (
            task
            if len(others) == len(task.depends_on)
            else task.model_copy(update={"depends_on": tuple(dependencies)})
        )
    return found


def _wait(task: AnyStep, one: Dependency, others: tuple[TaskDependency, ...]) -> WaitSpec:
    title: str
    wait: Wait
    match one:
        case MilestoneDependency():
            title = f"Wait for {one.milestone.replace('_', ' ')}"
            wait = MilestoneWait(
                milestone=one.milestone, within=one.within, otherwise=one.otherwise
            )
        case TimeDependency():
            title, wait = "Wait for some time", DelayWait(delay=one.delay)
            others = (SuccessDependency(success=one.after),)
        case InstantDependency():
            title, wait = "Wait until its time", InstantWait(until=one.until)
        case _:
            raise AssertionError(f"{one!r} is no wait")
    return WaitSpec(
        title=title,
        scope=task.scope,
        required=task.required,
        join=task.join,
        depends_on=others,
        affected_by=task.affected_by,
        wait=wait,
    )
