"""Whom tasks wait for across orders: who keeps a lock, and who is to reach a milestone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from fulfillment.engine.store.database import cursor
from fulfillment.models import Fulfillment, Plan, ResourceLock, Task
from fulfillment.states import Cause

MOST = 5
"""Of those who share a resource; more names help nobody."""
_ORDER = "order:"
# A few of each in the order of its index: of a large pool nobody reads all.
_KEEPERS = """
SELECT v.name, l.id, l.fulfillment_id, f.order_reference, l.task_id, t.key, l.units, l.taken_at
FROM unnest(%s::text[]) AS v(name)
CROSS JOIN LATERAL (
    SELECT * FROM fulfillment_resourcelock k WHERE k.name = v.name
    ORDER BY k.plan_id, k.task_id LIMIT %s
) l
JOIN fulfillment_fulfillment f ON f.id = l.fulfillment_id
LEFT JOIN fulfillment_task t ON t.id = l.task_id
ORDER BY v.name, l.taken_at, l.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Who has a lock."""

    lock_id: int
    fulfillment_id: int
    order_reference: str
    task_id: int | None
    task: str
    """Empty when the order keeps it to its end."""
    units: int
    since: datetime

    @property
    def name(self) -> str:
        """The order, or its task: O-7 (ship@1)."""
        return f"{self.order_reference} ({self.task})" if self.task else self.order_reference


def keepers(*, names: Collection[str]) -> dict[str, list[Keeper]]:
    """By name of the lock, at most MOST of those who have it, the first that took it first.

    Of a pool that more share, those of the oldest plans."""
    if not names:
        return {}
    with cursor() as raw:
        raw.execute(_KEEPERS, [sorted(names), MOST], prepare=True)
        rows = raw.fetchall()
    found: dict[str, list[Keeper]] = {}
    for name, lock_id, fulfillment_id, reference, task_id, task, units, since in rows:
        found.setdefault(name, []).append(
            Keeper(
                lock_id=lock_id,
                fulfillment_id=fulfillment_id,
                order_reference=reference,
                task_id=task_id,
                task=task or "",
                units=units,
                since=since,
            )
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock that a plan has, or waits for."""

    name: str
    units: int = 0
    """Of those that it has; 0: it waits for it."""
    lock_id: int | None = None
    """The row of what it has."""
    tasks: tuple[str, ...] = ()
    """Keys of the tasks that have it, or wait; none: the whole order does."""
    since: datetime | None = None
    keepers: tuple[Keeper, ...] = ()
    """Who has what it waits for: at most MOST of them."""


def locks_of(*, plan: Plan) -> tuple[list[Lock], list[Lock]]:
    """What a plan has locked, and what it waits for; a fixed number of queries."""
    rows = ResourceLock.objects.filter(plan=plan).select_related("task").defer("task__outputs")
    has = [
        Lock(
            name=row.name,
            units=row.units,
            lock_id=row.pk,
            tasks=(row.task.key,) if row.task is not None else (),
            since=row.taken_at,
        )
        for row in rows.order_by("taken_at", "pk")
    ]
    waiting: dict[str, list[Task]] = {}
    waits = Task.objects.filter(plan=plan).exclude(waits_for_lock="")
    for task in waits.defer("outputs").order_by("pk"):
        waiting.setdefault(task.waits_for_lock, []).append(task)
    kept = keepers(names=waiting)
    return has, [
        Lock(
            name=name,
            tasks=tuple(task.key for task in tasks),
            since=min(task.changed_at for task in tasks),
            keepers=tuple(kept.get(name, ())),
        )
        for name, tasks in waiting.items()
    ]


def promising(tasks: Iterable[Task]) -> dict[int, list[int]]:
    """By task that waits for another order's milestone, the fulfillment of that order."""
    wanted = {
        task.pk: task.awaits.partition(" ")[2].removeprefix(_ORDER)
        for task in tasks
        if task.waits_for == Cause.OTHER_ORDER
    }
    if not wanted:
        return {}
    known = dict(
        Fulfillment.objects.filter(business_key__in=set(wanted.values())).values_list(
            "business_key", "id"
        )
    )
    return {task_id: [known[key]] for task_id, key in wanted.items() if key in known}
