"""Counting after a run of workload W that the engine has left nothing out.

What has to be there is stated here by hand; what is there is read from the database, from the
audit trails, and from what the handlers have written down themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.load.sides import TASKS_PER_ORDER

AUDIT = {
    "order submit": 1,
    "order validate": 1,
    "order accept": 1,
    "order start": 1,
    "order complete": 1,
    "plan create": 1,
    "plan graph_validated": 1,
    "plan start": 1,
    "plan complete": 1,
    "task make_ready": TASKS_PER_ORDER,
    "task dispatch": TASKS_PER_ORDER,
    "task succeed": TASKS_PER_ORDER,
}
"""Audit rows of one order in which nothing goes wrong, by entity and transition."""


@dataclass(slots=True, kw_only=True)
class Found:
    """What some orders have left behind."""

    orders: Mapping[str, int] = field(default_factory=dict)
    """By state."""
    tasks: Mapping[str, int] = field(default_factory=dict)
    """By state."""
    keys: Sequence[str] = ()
    """The idempotency key of every command."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """By outcome; "" is an attempt that is still open."""
    audit: Mapping[str, int] = field(default_factory=dict)
    """Rows by "entity transition"."""
    broken_chains: int = 0
    locks: int = 0
    cases: int = 0
    effects: Mapping[str, int] = field(default_factory=dict)
    """By idempotency key, of every handler call since the database was made."""


def faults_of(found: Found, *, orders: int) -> list[str]:
    """Everything that is not as it has to be after so many orders. Pure."""
    tasks = orders * TASKS_PER_ORDER
    audit = {name: count * orders for name, count in AUDIT.items()}
    distinct = len(set(found.keys))
    repeated = sum(1 for count in found.effects.values() if count != 1)
    return [
        *_unless("orders by state", found.orders, {"COMPLETED": orders}),
        *_unless("tasks by state", found.tasks, {"SUCCEEDED": tasks}),
        *_unless("commands", len(found.keys), tasks),
        *_unless("idempotency keys", distinct, tasks),
        *_unless("attempts by outcome", found.attempts, {"SUCCEEDED": tasks}),
        *_unless("keys without an effect", _without(found.keys, found.effects), 0),
        *_unless("keys with more than one effect", repeated, 0),
        *_unless("audit rows", found.audit, audit),
        *_unless("broken audit chains", found.broken_chains, 0),
        *_unless("locks that are still taken", found.locks, 0),
        *_unless("open cases", found.cases, 0),
    ]


def _unless(what: str, found: Any, expected: Any) -> Iterator[str]:
    if found == expected:
        return
    if isinstance(expected, Mapping):
        for name in sorted({*found, *expected}):
            yield from _unless(
                f"{what}, {name or 'open'}", found.get(name, 0), expected.get(name, 0)
            )
        return
    yield f"{what}: {found:,} instead of {expected:,}"


def _without(keys: Sequence[str], effects: Mapping[str, int]) -> int:
    return sum(1 for key in keys if key not in effects)


def look(*, fulfillment_ids: Collection[int], effects: Mapping[str, int]) -> Found:
    """What is there of these orders; every audit chain is computed anew."""
    from django.db.models import Count

    from fulfillment.engine.work import audit
    from fulfillment.models import Attempt, Command, FalloutCase, ResourceLock, Task, Transition
    from oms.models import Order

    these = {"fulfillment_id__in": list(fulfillment_ids)}

    def counted(rows: Any, *names: str) -> dict[str, int]:
        found = rows.filter(**these).values_list(*names).order_by().annotate(n=Count("pk"))
        return {" ".join(row[:-1]): row[-1] for row in found}

    return Found(
        orders=counted(Order.objects, "state"),
        tasks=counted(Task.objects, "state"),
        keys=list(Command.objects.filter(**these).values_list("idempotency_key", flat=True)),
        attempts=counted(Attempt.objects, "outcome"),
        audit=counted(Transition.objects, "entity", "name"),
        broken_chains=sum(bool(audit.verify(fulfillment_id=each)) for each in fulfillment_ids),
        locks=ResourceLock.objects.filter(**these).count(),
        cases=FalloutCase.objects.filter(**these, state="OPEN").count(),
        effects=Counter(effects),
    )
