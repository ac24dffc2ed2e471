"""What a workflow that is to be published would do to those that are there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fulfillment.definitions.assembly import Used
from fulfillment.definitions.kinds import check_library
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.errors import Fault
from fulfillment.published import library_after, newest_definitions


def neighbour_faults(
    *, definition: WorkflowDefinition, together: Sequence[WorkflowDefinition]
) -> list[Fault]:
    """What it would take from others, or break in them, as their newest versions are.

    `together` are published with it. A version that would not be its newest changes nothing for
    anybody, and neither does one that is published already.
    """
    newest = {one.name: one for one in newest_definitions()}
    coming: dict[str, WorkflowDefinition] = {}
    for one in sorted(together, key=lambda one: one.version):
        if one.name not in newest or newest[one.name].version < one.version:
            coming[one.name] = one
    if coming.get(definition.name) != definition:
        return []
    before = newest.get(definition.name)
    others = [one for one in {**newest, **coming}.values() if one.name != definition.name]
    faults = _taken(definition, others)
    if before is not None and before.subprocess is not None:  # Otherwise nobody uses it.
        unchanged = [one for one in others if one.name not in coming]
        faults += _broken(definition, unchanged, together)
    return faults


def _taken(definition: WorkflowDefinition, others: Sequence[WorkflowDefinition]) -> list[Fault]:
    """An order needs one answer to the question which workflow fulfils it."""
    by = {selector: other.name for other in others for selector in other.selectors}
    return [
        Fault(
            code="definition.fulfilled_already",
            path=f"fulfils[{position}].actions[{place}]",
            message=(
                f"{action.value} {one.offering} is fulfilled by {by[one.offering, action.value]} "
                "already. Publish a version of that without it first, or together with this."
            ),
        )
        for position, one in enumerate(definition.fulfils)
        for place, action in enumerate(one.actions)
        if (one.offering, action.value) in by
    ]


def _broken(
    definition: WorkflowDefinition,
    others: Sequence[WorkflowDefinition],
    together: Sequence[WorkflowDefinition],
) -> list[Fault]:
    """Those that name a version of it go on with that; the others would take this one."""
    lost: list[str] = []
    for user in others:
        library = library_after([*together, user])
        if (definition.name, None) in _reached(user, library):
            name = user.name

            def report(code: str, path: str, message: str, name: str = name) -> None:
                lost.append(f"{name} uses it, and could no longer be planned. {path}: {message}")

            check_library(user, library, report)
    return [
        Fault(
            code="definition.breaks_user",
            path="workflow",
            message=f"{one} Publish a version of that together with this.",
        )
        for one in lost
    ]


def _reached(user: WorkflowDefinition, library: Mapping[Used, WorkflowDefinition]) -> set[Used]:
    """Every sub-process that it uses, itself or by another."""
    found: set[Used] = set()
    ahead = list(user.uses)
    while ahead:
        used = ahead.pop()
        if used not in found:
            found.add(used)
            ahead.extend(library[used].uses if used in library else ())
    return found
