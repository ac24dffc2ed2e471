"""Published workflow versions as definitions, and the sub-processes that they use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from fulfillment.definitions.assembly import Used
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.models import WorkflowVersion

Library = tuple[tuple[Used, int], ...]
"""By (name, version or None for the newest) the id of the published version."""


@lru_cache(maxsize=1024)
def definition_of(workflow_id: int) -> WorkflowDefinition:
    """A published version; it never changes, so it is parsed once per process."""
    return WorkflowDefinition.from_document(WorkflowVersion.objects.get(pk=workflow_id).as_written)


def library_of(definitions: Iterable[WorkflowDefinition]) -> Library:
    """The sub-processes that these use, and that those use; what is not published is left out.

    One query per level of nesting, none for definitions that use nothing.
    """
    found: dict[Used, int] = {}
    wanted = {used for definition in definitions for used in definition.uses}
    while wanted:
        newest: dict[Used, int] = {}
        rows = WorkflowVersion.objects.filter(name__in={name for name, _ in wanted})
        for row in rows.order_by("name", "-version").values_list("name", "version", "pk"):
            name, version, workflow_id = row
            newest.setdefault((name, None), workflow_id)
            newest[name, version] = workflow_id
        fresh = {used: newest[used] for used in wanted if used in newest}
        found.update(fresh)
        wanted = {
            used for workflow_id in fresh.values() for used in definition_of(workflow_id).uses
        } - found.keys()
    return tuple(sorted(found.items(), key=str))


def definitions_in(library: Library) -> Mapping[Used, WorkflowDefinition]:
    """The same with the definitions themselves."""
    return {used: definition_of(workflow_id) for used, workflow_id in library}


def newest_definitions() -> list[WorkflowDefinition]:
    """The newest published version of every workflow."""
    rows = WorkflowVersion.objects.order_by("name", "-version").values_list("name", "pk")
    newest: dict[str, int] = {}
    for name, workflow_id in rows:
        newest.setdefault(name, workflow_id)
    return [definition_of(workflow_id) for workflow_id in newest.values()]


def library_after(definitions: Iterable[WorkflowDefinition]) -> dict[Used, WorkflowDefinition]:
    """What these would find if they were published together, now."""
    together = tuple(definitions)
    found = dict(definitions_in(library_of(together)))
    for one in together:
        found[one.name, one.version] = one
        newest = found.get((one.name, None))
        if newest is None or newest.version <= one.version:
            found[one.name, None] = one
    return found


def forget() -> None:
    """For a process that turns to another database."""
    definition_of.cache_clear()
