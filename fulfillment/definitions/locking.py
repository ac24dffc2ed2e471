"""Resource locks of templates: what they are called, and what can be wrong with them (§9.1).

A workflow's own locks are all taken at once, before its first command, and kept until its plan
has ended; those of a task are taken, all at once, by a plan that has its own already. No kind of
resource is locked in both ways. So nobody who keeps one lock waits for another in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fulfillment.definitions.computed import check_lock_key
from fulfillment.definitions.node_parts import Lock
from fulfillment.definitions.reading import Readable, Report
from fulfillment.definitions.references import resolve
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.steps import CommandSpec, Scope
from fulfillment.errors import ValueUnavailable

MAXIMUM_NAME = 200


class LockUnusable(ValueUnavailable):
    """The key of a lock is no text or number, or too long."""

    code = "fulfillment.lock_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How a workflow uses one kind of resource."""

    kept_by: str
    """`TASK` or `PLAN`."""
    units: int
    """The most that it asks for at once of a single one of its kind."""


def resources_of(definition: WorkflowDefinition) -> dict[str, Use]:
    """The kinds of resources that it locks, and how."""
    of_tasks = [
        lock
        for task in definition.tasks.values()
        if isinstance(task, CommandSpec)
        for lock in task.locks
    ]
    return {
        lock.resource: Use(
            kept_by=kept_by,
            units=max(other.units for other in locks if other.resource == lock.resource),
        )
        for kept_by, locks in (("TASK", of_tasks), ("PLAN", definition.locks))
        for lock in locks
    }


def check_locks(definition: WorkflowDefinition, report: Report) -> None:
    """What publishing refuses, but for what other workflows lock (`publishing`)."""
    kept_by_plan = {lock.resource for lock in definition.locks}
    if definition.subprocess is not None and definition.locks:
        message = "A sub-process has no plan of its own: let its tasks, or its user, lock it."
        report("locks_of_subprocess", "locks", message)
    for position, lock in enumerate(definition.locks):
        readable = Readable(
            definition=definition, scope=Scope.ITEM, report=report, outputs=None, plan=False
        )
        check_lock_key(readable, lock.key, f"locks[{position}].key", report)
    places = [("locks", definition.locks)] + [
        (f"tasks.{name}.locks", task.locks)
        for name, task in definition.tasks.items()
        if isinstance(task, CommandSpec)
    ]
    for path, locks in places:
        seen: set[tuple[str, str]] = set()
        for position, lock in enumerate(locks):
            if (lock.resource, lock.key) in seen:
                message = f"{lock.resource} {lock.key} is listed twice."
                report("duplicate_lock", f"{path}[{position}]", message)
            seen.add((lock.resource, lock.key))
            if path != "locks" and lock.resource in kept_by_plan:
                message = (
                    f"{lock.resource} is locked for the whole order; a task can't lock it for "
                    "itself as well."
                )
                report("locked_in_both_ways", f"{path}[{position}].resource", message)


def named(
    locks: Sequence[Lock], *, values: Mapping[str, Any], names: Mapping[str, str] | None
) -> dict[str, int]:
    """Name of the lock -> units, for those whose key has a value. Raises ValueUnavailable."""
    found: dict[str, int] = {}
    for lock, key in _keys(locks, values, names):
        name = f"{lock.resource}:{key}"
        if len(name) > MAXIMUM_NAME:
            raise LockUnusable(
                f"The key of the lock {lock.resource} has {len(key)} characters; it may have "
                f"{MAXIMUM_NAME - len(lock.resource) - 1}."
            )
        found[name] = max(found.get(name, 0), lock.units)
    return found


def _keys(
    locks: Sequence[Lock], values: Mapping[str, Any], names: Mapping[str, str] | None
) -> Iterator[tuple[Lock, str]]:
    for lock in locks:
        key = resolve(lock.key, values, names=names)
        if key is None or key == "":
            continue
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise LockUnusable(
                f"The key of the lock {lock.resource} is {key!r}; it has to be a text or a whole "
                "number."
            )
        yield lock, str(key).replace("\x00", "")
