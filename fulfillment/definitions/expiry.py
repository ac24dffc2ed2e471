"""Outputs that are of use for a while only: what a template may say about them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fulfillment.definitions.dependencies import Expired, OutputDependency
from fulfillment.definitions.steps import AnyStep, CommandSpec, OutputSpec, SubProcessSpec

Report = Callable[[str, str, str], None]


def check_expiry(tasks: Mapping[str, AnyStep], report: Report) -> None:
    """`tasks` have their waits written out. Every fault is reported, not only the first."""
    for name, task in tasks.items():
        _check_outputs(f"tasks.{name}", task, report)
        for position, one in enumerate(task.depends_on):
            if isinstance(one, OutputDependency) and one.expired is not None:
                path = f"tasks.{name}.depends_on[{position}].expired"
                _check_use(path, task, one, tasks.get(one.task), report)


def _check_outputs(path: str, task: AnyStep, report: Report) -> None:
    outputs: Mapping[str, OutputSpec] = task.outputs
    for name, output in outputs.items():
        if output.valid_until is None:
            continue
        place = f"{path}.outputs.{name}.valid_until"
        end = outputs.get(output.valid_until)
        if not isinstance(task, CommandSpec) or task.for_each is not None:
            message = "Only what one command to a target system returns can expire."
            report("valid_until", place, message)
        elif end is None or end.type != "string" or output.valid_until == name:
            message = (
                f"{output.valid_until!r} must be another output of the task, of the type string: "
                "the instant until which this one can be used."
            )
            report("valid_until", place, message)


def _check_use(
    path: str, task: AnyStep, used: OutputDependency, upstream: AnyStep | None, report: Report
) -> None:
    spec = None if upstream is None else upstream.outputs.get(used.name)
    if upstream is None or spec is None:
        return  # Named already, with the other dependencies.
    if spec.valid_until is None:
        report("never_expires", path, f"{used.output} has no `valid_until`, so it never expires.")
    elif used.expired is Expired.REOBTAIN:
        if isinstance(upstream, CommandSpec) and upstream.irreversible:
            message = f"{used.task} is irreversible, so it is not asked a second time."
            report("not_obtained_twice", path, message)
        if isinstance(task, CommandSpec | SubProcessSpec) and task.for_each is not None:
            message = (
                "The elements of a fan-out share the value that it began with. Let a person "
                "decide (`case`), or use the value in a task in front of the fan-out."
            )
            report("not_obtained_twice", path, message)
