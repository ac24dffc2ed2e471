"""Decomposition: the selected templates of one order's items become one task graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fulfillment.definitions import graph as g
from fulfillment.definitions.assembly import Assembly, Used
from fulfillment.definitions.durations import plain_seconds
from fulfillment.definitions.node_kinds import locks_of
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.errors import DefinitionInvalid, Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSelection:
    """An item of the order and the template that fulfils it."""

    position: int
    """From 1, unique in the order."""
    offering: str
    action: str
    definition: WorkflowDefinition


def decompose(
    *, items: Sequence[ItemSelection], library: Mapping[Used, WorkflowDefinition] | None = None
) -> g.Graph:
    """One graph for the whole order: order-level tasks once per template, the others per item.

    `library` holds the sub-processes. The result depends only on positions and
    definitions, not on the order of `items`. The definitions must have passed
    `validation.validate`. Raises DefinitionInvalid, with every fault, when the selection makes
    no sense or a sub-process is missing.
    """
    faults = _selection_faults(items)
    if faults:
        raise DefinitionInvalid(faults)
    ordered = sorted(items, key=lambda item: item.position)
    return _decomposed(
        tuple((item.position, item.definition) for item in ordered),
        tuple((library or {}).items()),
    )


# Most orders of a day share few shapes, and the graph is immutable.
@lru_cache(maxsize=256)
def _decomposed(
    selected: tuple[tuple[int, WorkflowDefinition], ...],
    library: tuple[tuple[Used, WorkflowDefinition], ...],
) -> g.Graph:
    positions: dict[WorkflowDefinition, list[int]] = {}
    for position, definition in selected:
        positions.setdefault(definition, []).append(position)
    assembly = Assembly(library=dict(library))
    for definition, served in positions.items():
        assembly.add(definition, served=tuple(served))
    workflows = [_planned(definition, served) for definition, served in positions.items()]
    return g.arrange(workflows=workflows, nodes=assembly.nodes, edges=assembly.edges)


def sketch(
    definition: WorkflowDefinition, *, library: Mapping[Used, WorkflowDefinition]
) -> g.Graph:
    """The graph of a definition without an order, as it looks for one item; of a sub-process too.

    Raises DefinitionInvalid when a sub-process is missing in `library`.
    """
    assembly = Assembly(library=library)
    assembly.add(definition, served=(1,))
    workflows = [_planned(definition, [1])]
    return g.arrange(workflows=workflows, nodes=assembly.nodes, edges=assembly.edges)


def _planned(definition: WorkflowDefinition, served: Sequence[int]) -> g.PlannedWorkflow:
    return g.PlannedWorkflow(
        name=definition.name,
        version=definition.version,
        title=definition.title,
        billing_trigger=definition.billing_trigger.value if definition.billing_trigger else "",
        stalls_after_seconds=plain_seconds(definition.stalls_after),
        locks=locks_of(definition.locks),
        items=tuple(served),
        deadline_seconds=(
            plain_seconds(definition.deadline.within) if definition.deadline else None
        ),
        priority=definition.priority or "",
        on_failure=definition.on_failure.then.value,
        failure_of=definition.on_failure.of.value,
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
