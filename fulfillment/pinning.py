"""Graphs by the versions that a running plan was made with (reference §24).

Whatever is planned anew for an order in flight, each workflow that its plan uses stays at the
version that the plan has of it; what the plan does not know comes in at its newest version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fulfillment.definitions.assembly import Used
from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.errors import WorkflowUnknown
from fulfillment.models import WorkflowVersion
from fulfillment.published import definition_of, definitions_in, library_of


def published(name: str, version: int | None) -> WorkflowDefinition:
    """None: the newest one. Raises WorkflowUnknown."""
    rows = WorkflowVersion.objects.filter(name=name)
    if version is not None:
        rows = rows.filter(version=version)
    found = rows.order_by("-version").values_list("pk", flat=True).first()
    if found is None:
        which = name if version is None else f"{name} v{version}"
        raise WorkflowUnknown(
            f"{which} is not published; `manage.py workflows list` shows what there is."
        )
    return definition_of(found)


def versions_of(graph: Graph) -> dict[str, int]:
    """Every workflow of the graph, sub-processes among them, with its version."""
    found = {node.workflow: node.workflow_version for node in graph.nodes}
    return {**found, **{workflow.name: workflow.version for workflow in graph.workflows}}


def serving(graph: Graph) -> dict[int, str]:
    """Position of an item -> the workflow that fulfils it; without items that none does."""
    found = {item: workflow.name for workflow in graph.workflows for item in workflow.items}
    if found:
        return found
    # A graph of an older release says it of the nodes alone.
    names = {workflow.name for workflow in graph.workflows}
    for node in graph.nodes:
        if node.workflow in names and not node.undoes:
            for item in node.items:
                found.setdefault(item, node.workflow)
    return found


def graph_of(*, items: Sequence[ItemSelection], versions: Mapping[str, int]) -> Graph:
    """What these items become; sub-processes that `versions` names are as it says.

    Raises DefinitionInvalid when the selection makes no sense.
    """
    return decompose(items=items, library=_library({i.definition for i in items}, versions))


def _library(
    definitions: Iterable[WorkflowDefinition], versions: Mapping[str, int]
) -> dict[Used, WorkflowDefinition]:
    """The sub-processes; those that the plan has had before are as they were."""
    library = dict(definitions_in(library_of(definitions)))
    for used in library:
        name, version = used
        if version is None and name in versions:
            library[used] = published(name, versions[name])
    return library
