"""Which published workflow fulfils an item, and the graph that an order's items become."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

from django.db.models import Exists, OuterRef

from fulfillment import published
from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.models import WorkflowSelector, WorkflowVersion
from fulfillment.published import Library, definition_of, definitions_in, library_of

Selector = tuple[str, str]


def newest_versions(*, offerings: Collection[str]) -> Mapping[Selector, int]:
    """The id of the published version per (offering, action), for these offerings.

    Only newest versions count: what a workflow no longer fulfils, no older version does either.
    """
    newer = WorkflowVersion.objects.filter(
        name=OuterRef("workflow__name"), version__gt=OuterRef("workflow__version")
    )
    rows = (
        WorkflowSelector.objects.filter(~Exists(newer), offering__in=sorted(offerings))
        .order_by("offering", "action", "workflow__name")
        .values_list("offering", "action", "workflow_id")
    )
    found: dict[Selector, int] = {}
    for offering, action, workflow_id in rows:
        found.setdefault((offering, action), workflow_id)
    return found


Selection = tuple[int, str, str, int]
"""Position, offering and action of an item, and the id of the workflow that fulfils it."""


@lru_cache(maxsize=1024)
def definition_named(name: str, version: int) -> WorkflowDefinition | None:
    """The same by name and version; None when it was never published here."""
    workflow_id = (
        WorkflowVersion.objects.filter(name=name, version=version)
        .values_list("pk", flat=True)
        .first()
    )
    return None if workflow_id is None else definition_of(workflow_id)


def graph_for(selections: tuple[Selection, ...]) -> Graph:
    """The graph of an order with these items, and with the sub-processes as they are now.

    Orders of one shape share one graph. Raises DefinitionInvalid.
    """
    chosen = {workflow_id for _, _, _, workflow_id in selections}
    return _graph(selections, library_of(map(definition_of, sorted(chosen))))


@lru_cache(maxsize=1024)
def _graph(selections: tuple[Selection, ...], library: Library) -> Graph:
    return decompose(
        items=[
            ItemSelection(
                position=position,
                offering=offering,
                action=action,
                definition=definition_of(workflow_id),
            )
            for position, offering, action, workflow_id in selections
        ],
        library=definitions_in(library),
    )


def forget() -> None:
    """For a process that turns to another database."""
    published.forget()
    _graph.cache_clear()
    definition_named.cache_clear()
