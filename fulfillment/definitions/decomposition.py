"""Decomposition: the selected templates of one order's items become one task graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from fulfillment.definitions import graph as g
from fulfillment.definitions.durations import plain_seconds
from fulfillment.definitions.schema import (
    CompensationSpec,
    NoCompensation,
    OutputDependency,
    RetryPolicySpec,
    Scope,
    TaskSpec,
    WorkflowDefinition,
)
from fulfillment.errors import DefinitionInvalid, Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSelection:
    """An item of the order and the template that fulfils it."""

    position: int
    """From 1, unique in the order."""
    offering: str
    action: str
    definition: WorkflowDefinition


def decompose(*, items: Sequence[ItemSelection]) -> g.Graph:
    """One graph for the whole order: order-level tasks once per template, the others per item.

    The result depends only on positions and definitions, not on the order of `items`. The
    definitions must have passed `validation.validate`. Raises DefinitionInvalid, with every
    fault, when the selection makes no sense.
    """
    faults = _selection_faults(items)
    if faults:
        raise DefinitionInvalid(faults)
    ordered = sorted(items, key=lambda item: item.position)
    return _decomposed(tuple((item.position, item.definition) for item in ordered))


# Most orders of a day share few shapes, and the graph is immutable.
@lru_cache(maxsize=256)
def _decomposed(selected: tuple[tuple[int, WorkflowDefinition], ...]) -> g.Graph:
    positions: dict[WorkflowDefinition, list[int]] = {}
    for position, definition in selected:
        positions.setdefault(definition, []).append(position)
    nodes: list[g.Node] = []
    edges: list[g.Edge] = []
    for definition, served in positions.items():
        _add_workflow(definition, tuple(served), nodes=nodes, edges=edges)
    workflows = [
        g.PlannedWorkflow(
            name=definition.name,
            version=definition.version,
            title=definition.title,
            billing_trigger=definition.billing_trigger.value,
            stalls_after_seconds=plain_seconds(definition.stalls_after),
        )
        for definition in positions
    ]
    return g.arrange(workflows=workflows, nodes=nodes, edges=edges)


def _add_workflow(
    definition: WorkflowDefinition,
    served: tuple[int, ...],
    *,
    nodes: list[g.Node],
    edges: list[g.Edge],
) -> None:
    indexes: dict[str, dict[int | None, int]] = {}
    for name, task in definition.tasks.items():
        places = served if task.scope is Scope.ITEM else (None,)
        indexes[name] = {}
        for item in places:
            indexes[name][item] = len(nodes)
            nodes.append(_node(definition, name, task, len(nodes), item, served))
    for name, task in definition.tasks.items():
        for item, target in indexes[name].items():
            for dependency in task.depends_on:
                upstream = indexes[dependency.task]
                per_item = item is not None and item in upstream
                sources = [upstream[item]] if per_item else list(upstream.values())
                output = dependency.name if isinstance(dependency, OutputDependency) else None
                kind = g.EdgeType.SUCCESS if output is None else g.EdgeType.OUTPUT
                edges.extend(
                    g.Edge(source=source, target=target, type=kind, output=output)
                    for source in sources
                )


def _node(
    definition: WorkflowDefinition,
    name: str,
    task: TaskSpec,
    index: int,
    item: int | None,
    served: tuple[int, ...],
) -> g.Node:
    undo = task.compensation
    return g.Node(
        index=index,
        key=f"{definition.name}/{name}" if item is None else f"{name}@{item}",
        task=name,
        title=task.title,
        item=item,
        items=served if item is None else (item,),
        workflow=definition.name,
        workflow_version=definition.version,
        target=task.target,
        action=task.action,
        input=task.input,
        outputs={
            output: g.Output(type=spec.type, optional=spec.optional)
            for output, spec in task.outputs.items()
        },
        required=task.required,
        irreversible=task.irreversible,
        retry=_retry(definition.retry_policy(task)),
        call_timeout_seconds=plain_seconds(task.timeouts.call),
        callback_timeout_seconds=plain_seconds(task.timeouts.callback),
        compensation=(
            g.Compensation(target=undo.target or task.target, action=undo.action, input=undo.input)
            if isinstance(undo, CompensationSpec)
            else None
        ),
        no_compensation=undo.none if isinstance(undo, NoCompensation) else "",
        milestones=tuple(
            g.Milestone(name=milestone, title=spec.title)
            for milestone, spec in definition.milestones.items()
            if spec.reached_by == name
        ),
    )


def _selection_faults(items: Sequence[ItemSelection]) -> list[Fault]:
    faults: list[Fault] = []

    def fault(code: str, path: str, message: str) -> None:
        faults.append(Fault(code=f"selection.{code}", path=path, message=message))

    if not items:
        fault(
            "empty",
            "items",
            "No item of the order has a workflow, so there is nothing to plan.",
        )
    seen: set[int] = set()
    versions: dict[str, WorkflowDefinition] = {}
    for item in items:
        path = f"items[{item.position}]"
        definition = item.definition
        if item.position < 1 or item.position in seen:
            fault("position", path, "Positions start at 1 and are used once in an order.")
        seen.add(item.position)
        if (item.offering, item.action) not in definition.selectors:
            message = f"{definition.name} does not fulfil {item.action} {item.offering}."
            fault("not_fulfilled", path, message)
        first = versions.setdefault(definition.name, definition)
        if first is not definition and first != definition:
            message = (
                f"It selects {definition.name} v{definition.version}, another item selects "
                f"different content (v{first.version}). One order uses one version of a workflow."
            )
            fault("mixed_versions", path, message)
    return faults


def _retry(policy: RetryPolicySpec | None) -> g.Retry | None:
    if policy is None:
        return None
    return g.Retry(
        initial_interval_seconds=plain_seconds(policy.initial_interval),
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval_seconds=plain_seconds(policy.maximum_interval),
        maximum_attempts=policy.maximum_attempts,
        retryable=policy.retryable,
        non_retryable=policy.non_retryable,
        reconcile_first=policy.reconcile_first,
        escalate_after=policy.escalate_after,
    )
