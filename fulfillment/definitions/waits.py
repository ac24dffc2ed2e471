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
    common = {"scope": task.scope, "required": task.required, "join": task.join}
    match one:
        case MilestoneDependency():
            return WaitSpec(
                title=f"Wait for {one.milestone.replace('_', ' ')}",
                wait=MilestoneWait(
                    milestone=one.milestone, within=one.within, otherwise=one.otherwise
                ),
                depends_on=others,
                **common,
            )
        case TimeDependency():
            after = SuccessDependency(success=one.after)
            return WaitSpec(
                title="Wait for some time",
                wait=DelayWait(delay=one.delay),
                depends_on=(after,),
                **common,
            )
        case InstantDependency():
            return WaitSpec(
                title="Wait until its time",
                wait=InstantWait(until=one.until),
                depends_on=others,
                **common,
            )
    raise AssertionError(f"{one!r} is no wait")
