"""Decisions, the branches that they create, and the joins behind them: what can be wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fulfillment.definitions.dependencies import HumanDependency, TaskDependency
from fulfillment.definitions.node_parts import ENDS_WELL
from fulfillment.definitions.steps import (
    AnyStep,
    DecisionSpec,
    Effect,
    Join,
    LastRule,
    ManualSpec,
    NamedBranches,
    Rule,
    Scope,
)

Report = Callable[[str, str, str], None]
NESTING_LIMIT = 8
"""Decisions that may come to exist only through other decisions, one behind the other."""


def check_branches(tasks: Mapping[str, AnyStep], report: Report) -> None:
    """`tasks` have their waits written out. Every fault is reported, not only the first."""
    created_by = _check_decisions(tasks, report)
    _check_human(tasks, report)
    known = {branch: by for branch, by in created_by.items() if branch in tasks}
    _check_joins(tasks, known, report)


def uncertain_tasks(tasks: Mapping[str, AnyStep]) -> frozenset[str]:
    """Those that come to exist only by somebody's decision, or behind such a task."""
    found: set[str] = {
        branch
        for task in tasks.values()
        if isinstance(task, DecisionSpec)
        for branch in task.branches
    }
    found.update(
        name
        for name, task in tasks.items()
        for one in task.depends_on
        if isinstance(one, HumanDependency) and set(one.outcomes) != _proceeding(tasks, one.human)
    )
    while True:
        behind = {
            name
            for name, task in tasks.items()
            if task.join is Join.ALL
            and any(
                isinstance(one, TaskDependency) and one.task in found for one in task.depends_on
            )
        }
        if behind <= found:
            return frozenset(found)
        found |= behind


_END: Mapping[Effect, str] = {
    Effect.REFUSE: "{} fails",
    Effect.UNDO: "the order is undone",
    Effect.ASK_CUSTOMER: "{} is not decided yet",
    Effect.REQUOTE: "{} is not decided yet",
    Effect.CANCEL: "the order is cancelled",
}


def _proceeding(tasks: Mapping[str, AnyStep], name: str) -> set[str]:
    asked = tasks.get(name)
    if not isinstance(asked, ManualSpec):
        return set()
    return {outcome for outcome, effect in asked.manual.outcomes.items() if effect in ENDS_WELL}


def _check_decisions(tasks: Mapping[str, AnyStep], report: Report) -> dict[str, str]:
    created_by: dict[str, str] = {}
    for name, task in tasks.items():
        if not isinstance(task, DecisionSpec):
            continue
        path = f"tasks.{name}.decide"
        if not isinstance(task.decide, NamedBranches):
            for position, rule in enumerate(task.decide[:-1]):
                if isinstance(rule, LastRule):
                    message = "`otherwise` always holds, so no rule may stand behind it."
                    report("rule_unreachable", f"{path}[{position}]", message)
            if not isinstance(task.decide[-1], LastRule):
                message = "The last rule must be `otherwise`, so that every case is decided."
                report("rule_missing", path, message)
        for branch in task.branches:
            upstream = tasks.get(branch)
            if upstream is None:
                report("unknown_task", path, f"There is no task {branch!r}.")
            elif branch == name:
                report("self_dependency", path, "A decision can't create itself.")
            elif task.scope is Scope.ITEM and upstream.scope is Scope.ORDER:
                message = (
                    f"{name} is decided for each item, but {branch} stands for the whole order. "
                    "Give both the same scope."
                )
                report("branch_scope", path, message)
            elif upstream.required and not task.required:
                message = (
                    f"{branch} is required, but {name}, which creates it, is optional. Make both "
                    "required, or both optional."
                )
                report("required_after_optional", path, message)
            first = created_by.setdefault(branch, name)
            if first != name:
                message = f"{branch} is created by {first} already; one decision creates a task."
                report("two_producers", path, message)
    return created_by


def _check_human(tasks: Mapping[str, AnyStep], report: Report) -> None:
    for name, task in tasks.items():
        for position, one in enumerate(task.depends_on):
            if not isinstance(one, HumanDependency):
                continue
            path = f"tasks.{name}.depends_on[{position}]"
            upstream = tasks.get(one.human)
            if upstream is None:
                continue  # Named already, with the other dependencies.
            if not isinstance(upstream, ManualSpec):
                message = f"{one.human} is not a manual task; write {{success: {one.human}}}."
                report("not_manual", f"{path}.human", message)
                continue
            for outcome in one.outcomes:
                effect = upstream.manual.outcomes.get(outcome)
                if effect is None:
                    known = ", ".join(upstream.manual.outcomes)
                    message = f"{one.human} has no outcome {outcome!r} (it has: {known})."
                    report("unknown_outcome", f"{path}.outcomes", message)
                elif effect not in ENDS_WELL:
                    ends = _END[effect].format(one.human)
                    message = (
                        f"With {outcome!r} {ends}, and nothing that waits for it runs. "
                        "Let the outcome `proceed` to go on behind it."
                    )
                    report("outcome_refuses", f"{path}.outcomes", message)


def _check_joins(
    tasks: Mapping[str, AnyStep], created_by: Mapping[str, str], report: Report
) -> None:
    """A task that needs what can't exist together can never run."""
    needs: dict[str, dict[str, frozenset[str]]] = {}
    depths: dict[str, int] = {}
    for name in _in_order(tasks, created_by):
        task = tasks[name]
        mine: dict[str, frozenset[str]] = {}
        upstream = [
            one.task
            for one in task.depends_on
            if isinstance(one, TaskDependency) and task.join is Join.ALL
        ]
        creator = created_by.get(name)
        if creator is not None:
            mine[creator] = frozenset({name})
            upstream.append(creator)
        for one in task.depends_on:
            if isinstance(one, HumanDependency) and isinstance(tasks.get(one.human), ManualSpec):
                allowed = mine.get(one.human, frozenset(one.outcomes))
                mine[one.human] = allowed & frozenset(one.outcomes)
        for other in upstream:
            for chooser, labels in needs.get(other, {}).items():
                if isinstance(tasks[chooser], ManualSpec):
                    mine[chooser] = mine.get(chooser, labels) & labels
                else:
                    mine[chooser] = mine.get(chooser, frozenset()) | labels
        needs[name] = mine
        depths[name] = max((depths.get(one, 0) for one in upstream), default=0) + (
            isinstance(task, DecisionSpec)
        )
        if depths[name] > NESTING_LIMIT:
            message = f"More than {NESTING_LIMIT} decisions stand one behind the other here."
            report("nesting", f"tasks.{name}", message)
        for chooser, labels in mine.items():
            if not _can_be(tasks[chooser], labels):
                together = ", ".join(sorted(labels)) or "several outcomes of one question"
                message = (
                    f"{name} can never run: it needs what {chooser} never chooses together "
                    f"({together}). Write `join: deferred`, or depend on one branch only."
                )
                report("unreachable_join", f"tasks.{name}.depends_on", message)


def _can_be(chooser: AnyStep, labels: frozenset[str]) -> bool:
    if not isinstance(chooser, DecisionSpec):
        return bool(labels)
    if isinstance(chooser.decide, NamedBranches):
        return True
    return any(
        labels <= set(rule.create if isinstance(rule, Rule) else rule.otherwise)
        for rule in chooser.decide
    )


def _in_order(tasks: Mapping[str, AnyStep], created_by: Mapping[str, str]) -> list[str]:
    """Upstream first; what lies on a cycle is left out, because that is a fault of its own."""
    waiting = {
        name: {
            one.task
            for one in task.depends_on
            if isinstance(one, TaskDependency) and one.task in tasks
        }
        | ({created_by[name]} if name in created_by else set())
        for name, task in tasks.items()
    }
    ordered: list[str] = []
    while ready := [name for name, before in waiting.items() if not before]:
        for name in ready:
            del waiting[name]
        for before in waiting.values():
            before.difference_update(ready)
        ordered.extend(ready)
    return ordered
