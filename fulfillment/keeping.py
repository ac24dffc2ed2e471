"""Whom tasks wait for across orders: who keeps a lock, and who is to reach a milestone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from fulfillment.models import Fulfillment, ResourceLock, Task
from fulfillment.states import Cause

MOST = 5
"""Of those who share a resource; more names help nobody."""
_ORDER = "order:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Who has a lock."""

    fulfillment_id: int
    order_reference: str
    task: str
    """Empty when the order keeps it to its end."""
    units: int
    since: datetime

    @property
    def name(self) -> str:
        """The order, or its task: O-7 (ship@1)."""
        return f"{self.order_reference} ({self.task})" if self.task else self.order_reference


def keepers(*, names: Collection[str]) -> dict[str, list[Keeper]]:
    """By name of the lock, the first that took it first, each time at most MOST."""
    if not names:
        return {}
    rows = (
        ResourceLock.objects.filter(name__in=names)
        .order_by("name", "taken_at", "pk")
        .values_list(
            "name",
            "fulfillment_id",
            "fulfillment__order_reference",
            "task__key",
            "units",
            "taken_at",
        )
    )
    found: dict[str, list[Keeper]] = {}
    for name, fulfillment_id, reference, task, units, since in rows:
        mine = found.setdefault(name, [])
        if len(mine) < MOST:
            mine.append(
                Keeper(
                    fulfillment_id=fulfillment_id,
                    order_reference=reference,
                    task=task or "",
                    units=units,
                    since=since,
                )
            )
    return found


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
