"""What a template says about undo, as far as it can be wrong."""

from __future__ import annotations

from collections.abc import Iterator

from fulfillment.definitions.computed import check_amount
from fulfillment.definitions.durations import format_duration
from fulfillment.definitions.reading import Readable, Report
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.steps import CommandSpec
from fulfillment.definitions.undo_specs import CompensationSpec, Finality


def undos_of(name: str, task: CommandSpec) -> Iterator[tuple[str, CompensationSpec]]:
    """Path and undo of each way to do the task that declares one of its own."""
    if isinstance(task.compensation, CompensationSpec):
        yield f"tasks.{name}.compensation", task.compensation
    for position, other in enumerate(task.fallback):
        if isinstance(other.compensation, CompensationSpec):
            yield f"tasks.{name}.fallback[{position}].compensation", other.compensation


def check_undo(
    definition: WorkflowDefinition, name: str, task: CommandSpec, report: Report
) -> None:
    """Its compensations and its point of no return."""
    for path, undo in undos_of(name, task):
        # Undo runs after the task itself, so what it returned is known by then.
        readable = _readable(definition, name, task, report, is_done=True)
        readable.check_mapping(undo.input, f"{path}.input")
        if undo.refund is not None:
            check_amount(readable, undo.refund, f"{path}.refund", report)
        if task.irreversible:
            message = "An irreversible task can't be undone: write {none: <the reason>}."
            report("irreversible_with_compensation", path, message)
        _check_times(path, undo, report)
    _check_point_of_no_return(definition, name, task, report)


def _readable(
    definition: WorkflowDefinition, name: str, task: CommandSpec, report: Report, *, is_done: bool
) -> Readable:
    return Readable.for_task(
        definition=definition,
        task=name,
        report=report,
        own_outputs=is_done,
        element=task.for_each is not None,
    )


def _check_times(path: str, undo: CompensationSpec, report: Report) -> None:
    """Nobody is told in time of what may take longer than all of it."""
    if undo.within is None:
        return
    parts = {"timeouts.call": undo.timeouts.call}
    if undo.approval is not None:
        parts["approval.within"] = undo.approval.within
    for part, time in parts.items():
        if undo.within < time:
            message = (
                f"within ({format_duration(undo.within)}) is shorter than {part} "
                f"({format_duration(time)}); make it at least as long."
            )
            report("timeout_order", f"{path}.within", message)


def _check_point_of_no_return(
    definition: WorkflowDefinition, name: str, task: CommandSpec, report: Report
) -> None:
    point = task.point_of_no_return
    if point is None:
        return
    path = f"tasks.{name}.point_of_no_return"
    if point.kind is Finality.SOFT and task.irreversible:
        message = "An irreversible task can't be given up at any cost: write `kind: hard`."
        report("soft_but_irreversible", f"{path}.kind", message)
    if point.cost is None:
        return
    if point.kind is Finality.HARD:
        message = "Nobody pays for what is refused: write `kind: soft`, or leave out the cost."
        report("cost_unused", f"{path}.cost", message)
    # It counts from the first send, so nothing that the task returns can be read.
    readable = _readable(definition, name, task, report, is_done=False)
    check_amount(readable, point.cost, f"{path}.cost", report)
