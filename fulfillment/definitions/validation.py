"""What a template means, as far as it can be wrong: every fault is named, not only the first."""

from __future__ import annotations

from collections.abc import Mapping

from fulfillment.definitions import topology
from fulfillment.definitions.billing import billing_faults
from fulfillment.definitions.branches import check_branches
from fulfillment.definitions.computed import (
    check_clock,
    check_lock_key,
    check_priority,
    check_rules,
)
from fulfillment.definitions.customer import customer_faults
from fulfillment.definitions.dependencies import (
    InstantDependency,
    InstantWait,
    MilestoneWait,
    OutputDependency,
    SignalWait,
    SuccessDependency,
    TaskDependency,
    TimeDependency,
)
from fulfillment.definitions.expiry import check_expiry
from fulfillment.definitions.graph import Targets, unknown_target
from fulfillment.definitions.kinds import check_kinds, check_library, steps_with_outputs
from fulfillment.definitions.locking import check_locks
from fulfillment.definitions.outputs import instant
from fulfillment.definitions.reading import Readable, Report
from fulfillment.definitions.retry_specs import RetryPolicySpec
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.steps import (
    AnyStep,
    CommandSpec,
    DecisionSpec,
    Fallback,
    ManualSpec,
    NamedBranches,
    Rule,
    Scope,
    SubProcessSpec,
    WaitSpec,
)
from fulfillment.definitions.undo_checks import check_undo, undos_of
from fulfillment.definitions.undo_specs import CompensationSpec
from fulfillment.definitions.waits import written_out
from fulfillment.errors import Fault

_KINDS = ("success", "output", "human", "milestone", "delay", "until")


SubProcesses = Mapping[tuple[str, int | None], WorkflowDefinition]
"""Published sub-processes by (name, version); None stands for the newest."""


def validate(
    definition: WorkflowDefinition,
    targets: Targets | None = None,
    library: SubProcesses | None = None,
) -> list[Fault]:
    """Every fault of a well-shaped definition, in reading order of the checks.

    `targets` are the target systems known where it is published, `library` the sub-processes;
    None leaves them unchecked. The faults carry paths; `loading` adds file and line.
    """
    faults: list[Fault] = []

    def report(code: str, path: str, message: str) -> None:
        faults.append(Fault(code=f"definition.{code}", path=path, message=message))

    _check_selectors(definition, report)
    _check_retry_policies(definition, report)
    for name, milestone in definition.milestones.items():
        if milestone.reached_by not in definition.tasks:
            message = f"There is no task {milestone.reached_by!r}."
            report("unknown_task", f"milestones.{name}.reached_by", message)
    check_kinds(definition, report)
    for name, task in definition.tasks.items():
        _check_dependencies(definition, name, task, report)
        _check_reading(definition, name, task, report)
    _check_results(definition, report)
    check_branches(written_out(definition), report)
    check_expiry(written_out(definition), report)
    if not any(task.required for task in definition.tasks.values()):
        report("nothing_required", "tasks", "At least one task must be required.")
    _check_order_of_tasks(definition, report)
    check_locks(definition, report)
    _check_priority(definition, report)
    _check_feasibility(definition, report)
    faults.extend(customer_faults(definition))
    faults.extend(billing_faults(definition))
    if targets is not None:
        _check_targets(definition, targets, report)
    if library is not None:
        check_library(definition, library, report)
    return faults


def _check_selectors(definition: WorkflowDefinition, report: Report) -> None:
    seen: set[tuple[str, str]] = set()
    for position, selector in enumerate(definition.fulfils):
        for place, action in enumerate(selector.actions):
            pair = (selector.offering, action.value)
            if pair in seen:
                path = f"fulfils[{position}].actions[{place}]"
                report("duplicate_selector", path, f"{pair[1]} {pair[0]} is listed twice.")
            seen.add(pair)


def _check_retry_policies(definition: WorkflowDefinition, report: Report) -> None:
    policies = {f"retry_policies.{name}": p for name, p in definition.retry_policies.items()}
    named = {"standard", *definition.retry_policies}
    for name, task in definition.tasks.items():
        if not isinstance(task, CommandSpec):
            continue
        commands: list[tuple[str, CommandSpec | CompensationSpec]] = [(f"tasks.{name}", task)]
        for place, what in [*commands, *undos_of(name, task)]:
            path = f"{place}.retry"
            if isinstance(what.retry, RetryPolicySpec):
                policies[path] = what.retry
            elif what.retry not in named:
                known = ", ".join(sorted(named))
                message = f"There is no retry policy {what.retry!r} (known: {known})."
                report("unknown_retry_policy", path, message)
    for path, policy in policies.items():
        if policy.maximum_interval < policy.initial_interval:
            message = "maximum_interval is shorter than initial_interval."
            report("retry_interval", path, message)


def _check_dependencies(
    definition: WorkflowDefinition, name: str, task: AnyStep, report: Report
) -> None:
    readable = steps_with_outputs(definition.tasks)
    seen: set[str] = set()
    for position, dependency in enumerate(task.depends_on):
        path = f"tasks.{name}.depends_on[{position}]"
        document = dependency.model_dump(mode="json")
        kind = next(key for key in document if key in _KINDS)
        behind = f" after {dependency.after}" if isinstance(dependency, TimeDependency) else ""
        spelled = f"{kind} {document[kind]}{behind}"
        if spelled in seen:
            report("duplicate_dependency", f"{path}.{kind}", f"{spelled} is listed twice.")
        seen.add(spelled)
        if not isinstance(dependency, TaskDependency):
            continue
        path = f"{path}.{kind}"
        if dependency.task == name:
            report("self_dependency", path, "A task can't wait for itself.")
            continue
        upstream = definition.tasks.get(dependency.task)
        if upstream is None:
            report("unknown_task", path, f"There is no task {dependency.task!r}.")
            continue
        if (
            isinstance(dependency, OutputDependency)
            and dependency.name not in readable[dependency.task]
        ):
            message = f"{dependency.task} declares no output {dependency.name!r}."
            report("undeclared_output", path, message)
        if task.required and not upstream.required:
            message = (
                f"{name} is required but waits for {dependency.task}, which is optional: if that "
                "fails, the order can never complete. Make both required, or both optional."
            )
            report("required_after_optional", path, message)


def _check_reading(
    definition: WorkflowDefinition, name: str, task: AnyStep, report: Report
) -> None:
    """Every mapping and condition of a task, against what it can read where it stands."""
    path = f"tasks.{name}"
    each = task.for_each if isinstance(task, CommandSpec | SubProcessSpec) else None
    outside = Readable.for_task(definition=definition, task=name, report=report)
    inside = outside
    if each is not None:
        outside.check_mapping(each.over, f"{path}.for_each.over")
        if "${" not in each.over:
            message = f"{each.over!r} is a text; write a reference to a list, such as ${{…}}."
            report("no_list", f"{path}.for_each.over", message)
        inside = Readable.for_task(definition=definition, task=name, report=report, element=True)
    if task.only_if is not None:
        outside.check_condition(task.only_if, f"{path}.only_if")
    for position, one in enumerate(task.preconditions):
        outside.check_condition(one.check, f"{path}.preconditions[{position}].check")
    for position, dependency in enumerate(task.depends_on):
        place = f"{path}.depends_on[{position}]"
        if isinstance(dependency, InstantDependency):
            _check_until(outside, dependency.until, f"{place}.until", report)
        elif isinstance(dependency, SuccessDependency | OutputDependency) and dependency.when:
            # What a condition reads must be there whether it holds or not.
            certain = Readable.for_task(
                definition=definition, task=name, report=report, certain=True
            )
            certain.check_condition(dependency.when, f"{place}.when")
    match task:
        case CommandSpec():
            inside.check_mapping(task.input, f"{path}.input")
            for clock, text in task.timeouts.computed.items():
                check_clock(inside, text, f"{path}.timeouts.{clock}", report)
            for position, lock in enumerate(task.locks):
                check_lock_key(inside, lock.key, f"{path}.locks[{position}].key", report)
            for position, other in enumerate(task.fallback):
                inside.check_mapping(other.input, f"{path}.fallback[{position}].input")
            check_undo(definition, name, task, report)
        case SubProcessSpec():
            inside.check_mapping(task.input, f"{path}.input")
        case DecisionSpec(decide=NamedBranches() as named):
            outside.check_mapping(named.names, f"{path}.decide.names")
        case DecisionSpec(decide=tuple() as rules):
            conditions = [rule.when for rule in rules if isinstance(rule, Rule)]
            check_rules(outside, conditions, f"{path}.decide", report)
        case ManualSpec(manual=work):
            outside.check_mapping(work.queue, f"{path}.manual.queue")
            outside.check_mapping(work.role, f"{path}.manual.role")
            if work.escalate_to is not None:
                to = f"{path}.manual.escalate_to"
                outside.check_mapping(work.escalate_to.role, f"{to}.role")
                outside.check_mapping(work.escalate_to.queue or "", f"{to}.queue")
        case WaitSpec(wait=MilestoneWait(order=str() as order)):
            outside.check_mapping(order, f"{path}.wait.order")
        case WaitSpec(wait=SignalWait() as wait):
            outside.check_mapping(wait.key, f"{path}.wait.key")
        case WaitSpec(wait=InstantWait() as wait):
            _check_until(outside, wait.until, f"{path}.wait.until", report)


def _check_until(readable: Readable, text: str, path: str, report: Report) -> None:
    readable.check_mapping(text, path)
    if "${" not in text and instant(text) is None:
        message = f"{text!r} is no instant with a time zone, such as 2026-07-05T08:00:00Z."
        report("no_instant", path, message)


def _check_results(definition: WorkflowDefinition, report: Report) -> None:
    """What a sub-process hands back is made of outputs of its own tasks."""
    if definition.subprocess is None:
        return
    readable = Readable.for_results(definition=definition, report=report)
    for name, result in definition.subprocess.outputs.items():
        readable.check_mapping(result.value, f"subprocess.outputs.{name}.value")


def _check_priority(definition: WorkflowDefinition, report: Report) -> None:
    if definition.priority is None:
        return
    if definition.subprocess is not None:
        report("priority", "priority", "A sub-process has the priority of whoever uses it.")
        return
    readable = Readable(definition=definition, scope=Scope.ORDER, report=report, outputs=None)
    check_priority(readable, definition.priority, "priority", report)


def _check_feasibility(definition: WorkflowDefinition, report: Report) -> None:
    for position, check in enumerate(definition.feasibility):
        readable = Readable(
            definition=definition, scope=check.scope, report=report, outputs=None, plan=False
        )
        readable.check_mapping(check.input, f"feasibility[{position}].input")


def _check_order_of_tasks(definition: WorkflowDefinition, report: Report) -> None:
    names = list(definition.tasks)
    positions = {name: position for position, name in enumerate(names)}
    successors: list[list[int]] = [[] for _ in names]
    starved: set[int] = set()
    for name, task in definition.tasks.items():
        for dependency in task.depends_on:
            if isinstance(dependency, TaskDependency):
                upstream = dependency.task
            elif isinstance(dependency, TimeDependency):
                upstream = dependency.after
            else:
                continue
            if upstream not in positions or upstream == name:
                starved.add(positions[name])
            else:
                successors[positions[upstream]].append(positions[name])
        for branch in task.branches if isinstance(task, DecisionSpec) else ():
            if branch in positions and branch != name:
                successors[positions[name]].append(positions[branch])
    for cycle, members in topology.cycles(successors=successors):
        starved.update(members)
        path = " -> ".join(names[position] for position in [*cycle, cycle[0]])
        others = [names[position] for position in members if position not in cycle]
        tangled = f" Also caught in it: {', '.join(others)}." if others else ""
        message = f"Tasks wait for each other: {path}.{tangled}"
        report("cycle", f"tasks.{names[cycle[0]]}.depends_on", message)
    for position in sorted(topology.descendants(of=sorted(starved), successors=successors)):
        message = f"{names[position]} can never start, because something before it never can."
        report("unreachable", f"tasks.{names[position]}", message)


def _check_targets(definition: WorkflowDefinition, targets: Targets, report: Report) -> None:
    asked = [
        (f"feasibility[{position}]", check.target, check.action)
        for position, check in enumerate(definition.feasibility)
    ]
    for name, task in definition.tasks.items():
        if not isinstance(task, CommandSpec):
            continue
        ways: list[tuple[str, CommandSpec | Fallback]] = [(f"tasks.{name}", task)]
        ways += [(f"tasks.{name}.fallback[{at}]", other) for at, other in enumerate(task.fallback)]
        for path, way in ways:
            asked.append((path, way.target, way.action))
            undo = way.compensation or task.compensation
            if isinstance(undo, CompensationSpec):
                asked.append((f"{path}.compensation", undo.target or way.target, undo.action))
    for path, target, action in asked:
        message = unknown_target(target=target, action=action, targets=targets)
        if message:
            part = "action" if target in targets else "target"
            report("unknown_target", f"{path}.{part}", message)
