"""What each kind of task must have beside its shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fulfillment.definitions.assembly import NESTING_LIMIT, Used
from fulfillment.definitions.clocks import check_timeouts
from fulfillment.definitions.dependencies import (
    MilestoneWait,
    Overdue,
    SignalWait,
    TimeDependency,
)
from fulfillment.definitions.node_kinds import outputs_of
from fulfillment.definitions.outputs import output_faults
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.steps import (
    BY_THE_DEADLINE,
    ESCALATE,
    OUTCOME,
    AnyStep,
    CommandSpec,
    Effect,
    ManualSpec,
    OutputSpec,
    Scope,
    SubProcessSpec,
    WaitSpec,
)
from fulfillment.definitions.undo_specs import OnFailure

Report = Callable[[str, str, str], None]
Library = Mapping[Used, WorkflowDefinition]
GATHERED = frozenset({"succeeded", "failed"})
"""Outputs that every fan-out has: how many of its elements succeeded and failed."""


def check_kinds(definition: WorkflowDefinition, report: Report) -> None:
    _check_interface(definition, report)
    for name, task in definition.tasks.items():
        path = f"tasks.{name}"
        if definition.subprocess is not None and task.scope is Scope.ORDER:
            message = "A sub-process stands where it is used; its tasks have no scope of their own."
            report("scope_in_subprocess", f"{path}.scope", message)
        for position, one in enumerate(task.depends_on):
            if not isinstance(one, TimeDependency):
                continue
            after = f"{path}.depends_on[{position}].after"
            if one.after == name:
                report("self_dependency", after, "A task can't wait for itself.")
            elif one.after not in definition.tasks:
                report("unknown_task", after, f"There is no task {one.after!r}.")
        match task:
            case CommandSpec():
                _check_command(path, task, report)
            case WaitSpec():
                _check_wait(path, task, report)
            case ManualSpec():
                _check_manual(path, task, report)
            case SubProcessSpec():
                _check_for_each(path, task, report)


def _check_interface(definition: WorkflowDefinition, report: Report) -> None:
    if definition.subprocess is None:
        if not definition.fulfils:
            message = "It must say what it `fulfils`, or be a `subprocess`."
            report("fulfils_nothing", "", message)
        return
    if definition.fulfils:
        report("fulfils_something", "fulfils", "A sub-process fulfils nothing by itself.")
    if definition.feasibility:
        report("feasibility", "feasibility", "A sub-process is not asked before an order is taken.")
    if definition.deadline is not None:
        message = "A sub-process has no plan of its own: the workflow that uses it has a deadline."
        report("deadline_of_subprocess", "deadline", message)
    if definition.on_failure.then is not OnFailure.HOLD:
        message = "A sub-process is no order: the workflow that uses it says `on_failure`."
        report("on_failure_of_subprocess", "on_failure", message)
    if definition.billing_trigger is not None:
        report("billing_trigger", "billing_trigger", "A sub-process has no billing of its own.")


def _check_command(path: str, task: CommandSpec, report: Report) -> None:
    if task.irreversible and task.fallback:
        message = "Nothing may stand in for an irreversible task."
        report("irreversible_with_fallback", f"{path}.fallback", message)
    check_timeouts(f"{path}.timeouts", task.timeouts, report)
    _check_for_each(path, task, report)


def _check_for_each(path: str, task: CommandSpec | SubProcessSpec, report: Report) -> None:
    for name in sorted(GATHERED & set(task.outputs)) if task.for_each is not None else ():
        message = f"Every fan-out has an output {name!r} of its own; call this one differently."
        report("output_reserved", f"{path}.outputs.{name}", message)


def _check_wait(path: str, task: WaitSpec, report: Report) -> None:
    wait = task.wait
    if not isinstance(wait, MilestoneWait | SignalWait):
        if task.outputs:
            report("outputs_of_time", f"{path}.outputs", "A time brings nothing along.")
        return
    if wait.otherwise is Overdue.CONTINUE:
        for fault in output_faults(declared=outputs_of(task.outputs), returned=wait.default):
            message = f"Continuing without the report needs its outputs: {fault.message}"
            report("default_outputs", f"{path}.wait.default", message)
        for name in wait.default.keys() - task.outputs.keys():
            known = ", ".join(task.outputs) or "none"
            message = f"The task declares no output {name!r} (it declares: {known})."
            report("undeclared_output", f"{path}.wait.default.{name}", message)
    elif wait.default:
        message = "`default` is used only with `otherwise: continue`."
        report("default_unused", f"{path}.wait.default", message)


def _check_manual(path: str, task: ManualSpec, report: Report) -> None:
    work = task.manual
    if OUTCOME in task.fields:
        message = f"{OUTCOME!r} is what was decided; call the field differently."
        report("output_reserved", f"{path}.fields.{OUTCOME}", message)
    if Effect.PROCEED not in work.outcomes.values():
        message = "At least one outcome must `proceed`."
        report("no_way_on", f"{path}.manual.outcomes", message)
    if work.escalate_to is not None and work.otherwise != ESCALATE:
        message = f"Nobody is told when it is {work.otherwise!r}: let it be {ESCALATE}."
        report("escalate_to_unused", f"{path}.manual.escalate_to", message)
    if work.otherwise != ESCALATE and work.otherwise not in work.outcomes:
        known = ", ".join([ESCALATE, *work.outcomes])
        message = f"{work.otherwise!r} is no outcome (known: {known})."
        report("unknown_outcome", f"{path}.manual.otherwise", message)
    elif work.otherwise != ESCALATE and work.outcomes[work.otherwise] not in BY_THE_DEADLINE:
        message = (
            f"{work.otherwise!r} is for somebody to answer for; nobody deciding can mean to "
            "proceed, refuse or undo, or escalate."
        )
        report("otherwise_by_nobody", f"{path}.manual.otherwise", message)
    elif work.otherwise != ESCALATE and work.outcomes[work.otherwise] is Effect.PROCEED:
        missing = [name for name, spec in task.fields.items() if not spec.optional]
        if missing:
            message = (
                f"When nobody decides, nobody enters {', '.join(missing)} either: make them "
                "optional, or escalate."
            )
            report("default_outputs", f"{path}.manual.otherwise", message)


def check_library(
    definition: WorkflowDefinition,
    library: Library,
    report: Report,
) -> None:
    """The sub-processes that it uses exist, and take and return what it gives and expects."""
    for name, task in definition.tasks.items():
        if not isinstance(task, SubProcessSpec):
            continue
        path = f"tasks.{name}"
        used = library.get((task.use, task.version))
        if used is None or used.subprocess is None:
            which = task.use if task.version is None else f"{task.use} v{task.version}"
            message = f"There is no published sub-process {which!r}; publish it first."
            report("unknown_subprocess", f"{path}.use", message)
            continue
        if task.for_each is not None and _fans_out(used):
            message = f"{task.use} fans out itself, and fan-outs are not nested."
            report("nested_fan_out", f"{path}.for_each", message)
        chain = _longest_chain((task.use, task.version), library, NESTING_LIMIT, {})
        if len(chain) > NESTING_LIMIT:
            names = " -> ".join((definition.name, *chain))
            message = f"At most {NESTING_LIMIT} sub-processes stand inside each other: {names}."
            if definition.name in chain:
                names = " -> ".join((definition.name, *chain[: chain.index(definition.name) + 1]))
                message = f"{definition.name} would be a part of itself: {names}."
            report("nesting", f"{path}.use", message)
        _check_call(path, task, used, report)


def _longest_chain(
    used: Used, library: Library, left: int, known: dict[tuple[Used, int], tuple[str, ...]]
) -> tuple[str, ...]:
    """The sub-processes inside each other that begin with this one, to one beyond the limit."""
    chain = known.get((used, left))
    if chain is None:
        inner = library[used].uses if used in library and left else ()
        chains = (_longest_chain(one, library, left - 1, known) for one in inner)
        chain = known[used, left] = (used[0], *max(chains, key=len, default=()))
    return chain


def _fans_out(definition: WorkflowDefinition) -> bool:
    return any(getattr(task, "for_each", None) is not None for task in definition.tasks.values())


def _check_call(path: str, task: SubProcessSpec, used: WorkflowDefinition, report: Report) -> None:
    assert used.subprocess is not None
    inputs, outputs = used.subprocess.inputs, used.subprocess.outputs
    for given in task.input:
        if given not in inputs:
            known = ", ".join(inputs) or "none"
            message = f"{task.use} takes no input {given!r} (it takes: {known})."
            report("unknown_input", f"{path}.input.{given}", message)
    for wanted, spec in inputs.items():
        if not spec.optional and wanted not in task.input:
            report("input_missing", f"{path}.input", f"{task.use} needs the input {wanted!r}.")
    for output, expected in task.outputs.items():
        there = outputs.get(output)
        if there is None:
            known = ", ".join(outputs) or "none"
            message = f"{task.use} has no output {output!r} (it has: {known})."
            report("undeclared_output", f"{path}.outputs.{output}", message)
        elif there.type != expected.type:
            message = f"{task.use} returns {output!r} as {there.type}, not {expected.type}."
            report("output_type", f"{path}.outputs.{output}", message)


def steps_with_outputs(tasks: Mapping[str, AnyStep]) -> dict[str, dict[str, OutputSpec]]:
    """Per task what those behind it may read: of a fan-out lists, and how many there are."""
    found: dict[str, dict[str, OutputSpec]] = {}
    for name, task in tasks.items():
        found[name] = dict(task.outputs)
        if getattr(task, "for_each", None) is not None:
            found[name] = {output: OutputSpec(type="list") for output in task.outputs}
            found[name].update({one: OutputSpec(type="integer") for one in GATHERED})
    return found
