"""What a template means, as far as it can be wrong: every fault is named, not only the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fulfillment.definitions import topology
from fulfillment.definitions.billing import billing_faults
from fulfillment.definitions.customer import customer_faults
from fulfillment.definitions.graph import Targets, unknown_target
from fulfillment.definitions.references import (
    ITEM_FIELDS,
    ORDER_FIELDS,
    Reference,
    ReferenceMalformed,
    parse,
    texts_in,
)
from fulfillment.definitions.schema import (
    CompensationSpec,
    OutputDependency,
    RetryPolicySpec,
    Scope,
    TaskSpec,
    WorkflowDefinition,
)
from fulfillment.errors import Fault

Report = Callable[[str, str, str], None]
"""(code, path, message)"""


def validate(definition: WorkflowDefinition, targets: Targets | None = None) -> list[Fault]:
    """Every fault of a well-shaped definition, in reading order of the checks.

    `targets` are the target systems known where it is published; None leaves them unchecked.
    The faults carry paths; `loading` adds file and line.
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
    for name, task in definition.tasks.items():
        _check_dependencies(definition, name, task, report)
        _check_task(definition, name, task, report)
    if not any(task.required for task in definition.tasks.values()):
        report("nothing_required", "tasks", "At least one task must be required.")
    _check_order_of_tasks(definition, report)
    _check_feasibility(definition, report)
    faults.extend(customer_faults(definition))
    faults.extend(billing_faults(definition))
    if targets is not None:
        _check_targets(definition, targets, report)
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
    for name, task in definition.tasks.items():
        path = f"tasks.{name}.retry"
        if isinstance(task.retry, RetryPolicySpec):
            policies[path] = task.retry
        elif task.retry not in {"standard", *definition.retry_policies}:
            known = ", ".join(sorted({"standard", *definition.retry_policies}))
            message = f"There is no retry policy {task.retry!r} (known: {known})."
            report("unknown_retry_policy", path, message)
    for path, policy in policies.items():
        if policy.maximum_interval < policy.initial_interval:
            message = "maximum_interval is shorter than initial_interval."
            report("retry_interval", path, message)


def _check_dependencies(
    definition: WorkflowDefinition, name: str, task: TaskSpec, report: Report
) -> None:
    seen: set[str] = set()
    for position, dependency in enumerate(task.depends_on):
        kind = "output" if isinstance(dependency, OutputDependency) else "success"
        path = f"tasks.{name}.depends_on[{position}].{kind}"
        spelled = f"{kind} {dependency.model_dump()[kind]}"
        if spelled in seen:
            report("duplicate_dependency", path, f"{spelled} is listed twice.")
        seen.add(spelled)
        if dependency.task == name:
            report("self_dependency", path, "A task can't wait for itself.")
            continue
        upstream = definition.tasks.get(dependency.task)
        if upstream is None:
            report("unknown_task", path, f"There is no task {dependency.task!r}.")
            continue
        if isinstance(dependency, OutputDependency) and dependency.name not in upstream.outputs:
            message = f"{dependency.task} declares no output {dependency.name!r}."
            report("undeclared_output", path, message)
        if task.required and not upstream.required:
            message = (
                f"{name} is required but waits for {dependency.task}, which is optional: if that "
                "fails, the order can never complete. Make both required, or both optional."
            )
            report("required_after_optional", path, message)


def _check_task(definition: WorkflowDefinition, name: str, task: TaskSpec, report: Report) -> None:
    readable = {
        dependency.output
        for dependency in task.depends_on
        if isinstance(dependency, OutputDependency)
    }
    readers = _Readers(definition=definition, scope=task.scope, report=report)
    readers.check(task.input, path=f"tasks.{name}.input", readable=readable)
    if isinstance(task.compensation, CompensationSpec):
        own = {f"{name}.{output}" for output in task.outputs}
        path = f"tasks.{name}.compensation"
        # Undo runs after the task itself, so what it returned is known by then.
        readers.check(
            task.compensation.input, path=f"{path}.input", readable=readable | own, of=name
        )
        if task.irreversible:
            message = "An irreversible task can't be undone: write {none: <the reason>}."
            report("irreversible_with_compensation", path, message)


def _check_feasibility(definition: WorkflowDefinition, report: Report) -> None:
    for position, check in enumerate(definition.feasibility):
        readers = _Readers(definition=definition, scope=check.scope, report=report)
        readers.check(check.input, path=f"feasibility[{position}].input", readable=None)


def _check_order_of_tasks(definition: WorkflowDefinition, report: Report) -> None:
    names = list(definition.tasks)
    positions = {name: position for position, name in enumerate(names)}
    successors: list[list[int]] = [[] for _ in names]
    starved: set[int] = set()
    for name, task in definition.tasks.items():
        for dependency in task.depends_on:
            if dependency.task not in positions or dependency.task == name:
                starved.add(positions[name])
            else:
                successors[positions[dependency.task]].append(positions[name])
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
        asked.append((f"tasks.{name}", task.target, task.action))
        undo = task.compensation
        if isinstance(undo, CompensationSpec):
            asked.append((f"tasks.{name}.compensation", undo.target or task.target, undo.action))
    for path, target, action in asked:
        message = unknown_target(target=target, action=action, targets=targets)
        if message:
            part = "action" if target in targets else "target"
            report("unknown_target", f"{path}.{part}", message)


class _Readers:
    """Checks the references of one input mapping against what its scope may read."""

    def __init__(self, *, definition: WorkflowDefinition, scope: Scope, report: Report) -> None:
        self._tasks = definition.tasks
        self._scope = scope
        self._report = report

    def check(
        self, value: Mapping[str, Any], *, path: str, readable: set[str] | None, of: str = ""
    ) -> None:
        """`readable` are the `task.output` pairs at hand; None where no task has run yet. `of`
        is the task whose own outputs may be read, when it is an undo."""
        for place, text in texts_in(value, path=path):
            try:
                parts = parse(text)
            except ReferenceMalformed as malformed:
                self._report("reference_malformed", place, str(malformed))
                continue
            for part in parts:
                if isinstance(part, Reference):
                    code, message = self._fault(part, readable, of)
                    if code:
                        self._report(code, place, f"${{{part}}}: {message}")

    def _fault(self, reference: Reference, readable: set[str] | None, of: str) -> tuple[str, str]:
        root, rest = reference.root, reference.path[1:]
        if root == "tasks" and readable is not None:
            return self._task_fault(reference, readable, of)
        item_root = "item" if self._scope is Scope.ITEM else "items"
        if root == "order":
            return _field_fault(rest, ORDER_FIELDS)
        if root == item_root:
            # `items` alone is the list of whole items, `items.0.price` the first one's price.
            picked = rest[1:] if root == "items" and rest and rest[0].isdecimal() else rest
            return _field_fault(picked, ITEM_FIELDS)
        if root in ("item", "items"):
            message = (
                f"{self._scope.value}-level, so write {item_root}. (order-level tasks serve all "
                "items at once: items.price is the list of prices)."
            )
            return "reference_scope", message
        roots = f"order, {item_root}" + (", tasks" if readable is not None else "")
        return "reference_root", f"unknown root; here one may refer to {roots}."

    def _task_fault(self, reference: Reference, readable: set[str], of: str) -> tuple[str, str]:
        if len(reference.path) < 3:
            return "reference_path", "write tasks.<task>.<output>."
        task, output = reference.path[1:3]
        upstream = self._tasks.get(task)
        if upstream is None:
            return "unknown_task", f"there is no task {task!r}."
        if output not in upstream.outputs:
            return "undeclared_output", f"{task} declares no output {output!r}."
        if f"{task}.{output}" not in readable:
            message = f"add {{output: {task}.{output}}} to depends_on, so that the value is there."
            return "output_without_dependency", message
        if upstream.outputs[output].optional and not reference.optional:
            message = f"this output is optional; write ${{{reference}?}} to pass null without it."
            return "optional_output", message
        return "", ""


def _field_fault(
    path: tuple[str, ...], fields: Mapping[str, frozenset[str] | None]
) -> tuple[str, str]:
    if not path:
        return "", ""
    if path[0] not in fields:
        known = ", ".join(fields)
        return "reference_path", f"there is no {path[0]!r} (known: {known})."
    members = fields[path[0]]
    if members is not None and len(path) > 1 and (path[1] not in members or len(path) > 2):
        known = ", ".join(sorted(members)) or "none, it is a plain value"
        return "reference_path", f"{path[0]} has no member {'.'.join(path[1:])!r} (known: {known})."
    return "", ""
