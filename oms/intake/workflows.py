"""Which published workflow fulfils an item, and the graph that an order's items become."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.models import WorkflowSelector, WorkflowVersion

Selector = tuple[str, str]


def newest_versions(*, offerings: Collection[str]) -> Mapping[Selector, int]:
    """The id of the newest published version per (offering, action), for these offerings."""
    found: dict[Selector, int] = {}
    rows = (
        WorkflowSelector.objects.filter(offering__in=sorted(offerings))
        .order_by("offering", "action", "-workflow__version")
        .values_list("offering", "action", "workflow_id")
    )
    for offering, action, workflow_id in rows:
        found.setdefault((offering, action), workflow_id)
    return found


@lru_cache(maxsize=1024)
def definition_of(workflow_id: int) -> WorkflowDefinition:
    """A published version; it never changes, so it is parsed once per process."""
    return WorkflowDefinition.from_document(WorkflowVersion.objects.get(pk=workflow_id).document)


@lru_cache(maxsize=1024)
def definition_named(name: str, version: int) -> WorkflowDefinition | None:
    """The same by name and version; None when it was never published here."""
    workflow_id = (
        WorkflowVersion.objects.filter(name=name, version=version)
        .values_list("pk", flat=True)
        .first()
    )
    return None if workflow_id is None else definition_of(workflow_id)


@lru_cache(maxsize=1024)
def graph_for(selections: tuple[tuple[int, str, str, int], ...]) -> Graph:
    """The graph of an order whose items are (position, offering, action, workflow id).

    Orders of one shape share one graph. Raises DefinitionInvalid.
    """
    return decompose(
        items=[
            ItemSelection(
                position=position,
                offering=offering,
                action=action,
                definition=definition_of(workflow_id),
            )
            for position, offering, action, workflow_id in selections
        ]
    )


def forget() -> None:
    """For a process that turns to another database."""
    definition_of.cache_clear()
    definition_named.cache_clear()
    graph_for.cache_clear()
