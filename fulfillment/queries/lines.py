"""Read model of the lock board: who keeps what since when, and who waits in line behind them.

A fixed number of queries, and of each index and table no more than so many rows, however many
locks are kept and however long their lines are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fulfillment.engine.store.database import cursor
from fulfillment.keeping import Keeper, keepers
from fulfillment.models import UNRESOLVED, KeptBy, Resource

MOST = 10_000
"""Locks, or open cases, that are looked through."""
SHOWN = 50
"""Lines, and locks without one, that a board shows."""
LONGEST = 500
"""In one line; how many more there are is not counted."""
_NEXT = 3
_CIRCLE = "waited_in_a_circle"
# Those who have waited longest may all wait for the same, so other lines are looked for as well,
# from name to name in the index: in any collation, and however many wait for each.
_AWAITED = f"""
WITH RECURSIVE oldest AS MATERIALIZED (
    SELECT waits_for_lock AS name, changed_at FROM fulfillment_task
    WHERE waits_for = 'LOCK' ORDER BY changed_at LIMIT 1000
), names(name, place) AS (
    SELECT min(waits_for_lock), 1 FROM fulfillment_task WHERE waits_for_lock <> ''
    UNION ALL
    SELECT (
        SELECT min(t.waits_for_lock) FROM fulfillment_task t
        WHERE t.waits_for_lock > n.name AND t.waits_for_lock <> ''
    ), n.place + 1
    FROM names n WHERE n.name IS NOT NULL AND n.place < 1000
)
SELECT name FROM (
    SELECT name, changed_at FROM oldest WHERE name <> ''
    UNION ALL SELECT name, NULL FROM names WHERE name IS NOT NULL
) awaited
WHERE %(kind)s = '' OR split_part(name, ':', 1) = %(kind)s
GROUP BY name ORDER BY min(changed_at) NULLS LAST, name LIMIT {SHOWN}
"""
# The order of the index lets a look end where its limit is. Who is next is told of each target
# system by the index, and then among these.
_LINES = f"""
SELECT v.name, line.n, line.since, w.id, w.key, f.order_reference, w.target_id, w.changed_at
FROM unnest(%(names)s::text[]) AS v(name)
CROSS JOIN LATERAL (
    SELECT count(*) AS n, min(changed_at) AS since FROM (
        SELECT t.changed_at FROM fulfillment_task t
        WHERE t.waits_for_lock = v.name AND t.waits_for_lock <> ''
        ORDER BY t.target_id, t.priority DESC, t.rank, t.depth, t.id LIMIT {LONGEST + 1}
    ) those
) line
CROSS JOIN LATERAL (
    SELECT first.* FROM fulfillment_targetsystem s
    CROSS JOIN LATERAL (
        SELECT t.id, t.key, t.fulfillment_id, t.target_id, t.changed_at, t.priority, t.rank, t.depth
        FROM fulfillment_task t
        WHERE t.waits_for_lock = v.name AND t.waits_for_lock <> '' AND t.target_id = s.name
        ORDER BY t.priority DESC, t.rank, t.depth, t.id LIMIT %(next)s
    ) first
    ORDER BY first.priority DESC, first.rank, first.depth, first.id LIMIT %(next)s
) w
JOIN fulfillment_fulfillment f ON f.id = w.fulfillment_id
ORDER BY v.name, w.priority DESC, w.rank, w.depth, w.id
"""
_KEPT = f"""
SELECT l.id, l.name, l.units, l.fulfillment_id, f.order_reference, l.task_id, t.key, l.taken_at
FROM (
    SELECT * FROM (SELECT * FROM fulfillment_resourcelock ORDER BY id LIMIT {MOST}) first
    WHERE %(kind)s = '' OR split_part(name, ':', 1) = %(kind)s ORDER BY id LIMIT {SHOWN}
) l
JOIN fulfillment_fulfillment f ON f.id = l.fulfillment_id
LEFT JOIN fulfillment_task t ON t.id = l.task_id
ORDER BY l.id
"""
_IN_USE = f"""
SELECT split_part(name, ':', 1), count(*) FROM (
    SELECT name FROM fulfillment_resourcelock ORDER BY id DESC LIMIT {MOST}
) newest
GROUP BY 1
"""
_CIRCLES = f"""
SELECT id, explanation, opened_at FROM (
    SELECT id, reason_code, explanation, opened_at FROM fulfillment_falloutcase
    WHERE {UNRESOLVED} ORDER BY id DESC LIMIT {MOST}
) newest
WHERE reason_code = '{_CIRCLE}' ORDER BY id DESC LIMIT {SHOWN}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """A task that is to be sent as soon as it gets the lock."""

    task_id: int
    task: str
    order_reference: str
    target: str
    since: datetime
    """When nothing but this and its target system was in its way any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One lock that others wait for."""

    name: str
    keepers: Sequence[Keeper]
    """The first that took it first; empty: it has just become free."""
    capacity: int
    """Units of it that may be in use at once."""
    waiting: int
    """Counted up to LONGEST + 1."""
    since: datetime
    """Since when somebody has waited."""
    first: Sequence[Waiter]
    """Who gets it next, in this order; of each target system the first in line is called up."""

    @property
    def is_long(self) -> bool:
        return self.waiting > LONGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of resource that published workflows lock."""

    name: str
    kept_by: KeptBy
    capacity: int
    locks: int
    """In use, among the newest MOST locks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A lock in use."""

    name: str
    keeper: Keeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """Orders that have waited for each other, and nobody has looked yet how they go on."""

    case_id: int
    told: str
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LockBoard:
    kinds: Sequence[Kind]
    lines: Sequence[Line]
    """Those in which somebody has waited longest first, at most SHOWN."""
    kept: Sequence[Kept]
    """Those that have been kept longest first, at most SHOWN."""
    circles: Sequence[Circle]

    @property
    def locks(self) -> int:
        """In use; MOST and more are not told apart."""
        return sum(kind.locks for kind in self.kinds)

    @property
    def is_full(self) -> bool:
        return self.locks >= MOST


def lock_board(*, kind: str = "") -> LockBoard:
    """What is locked and waited for; of one kind of resource, if it is named. Seven queries."""
    with cursor() as raw:
        raw.execute(_IN_USE)
        in_use: dict[str, int] = dict(raw.fetchall())
        raw.execute(_AWAITED, {"kind": kind})
        awaited = [name for (name,) in raw.fetchall()]
        raw.execute(_KEPT, {"kind": kind})
        kept = [
            Kept(
                name=name,
                keeper=Keeper(
                    lock_id=lock_id,
                    fulfillment_id=fulfillment_id,
                    order_reference=reference,
                    task_id=task_id,
                    task=task or "",
                    units=units,
                    since=since,
                ),
            )
            for lock_id, name, units, fulfillment_id, reference, task_id, task, since in (
                raw.fetchall()
            )
        ]
        raw.execute(_CIRCLES)
        circles = [
            Circle(case_id=case_id, told=told, opened_at=opened_at)
            for case_id, told, opened_at in raw.fetchall()
        ]
    resources = list(Resource.objects.order_by("pk"))
    known = {row.pk: row.capacity for row in resources}
    return LockBoard(
        kinds=[
            Kind(
                name=row.pk,
                kept_by=KeptBy(row.kept_by),
                capacity=row.capacity,
                locks=in_use.get(row.pk, 0),
            )
            for row in resources
        ],
        lines=_lines(awaited, known, at_most=_NEXT),
        kept=kept,
        circles=circles,
    )


def line(*, name: str, at_most: int = 100) -> Line | None:
    """Who waits for this lock; None when nobody does. Three queries."""
    capacity = Resource.objects.filter(pk=kind_of(name)).values_list("pk", "capacity")
    return next(iter(_lines([name], dict(capacity), at_most=at_most)), None)


def kind_of(lock: str) -> str:
    """Of `customer:C-17` its resource."""
    return lock.partition(":")[0]


def _lines(names: Collection[str], capacity: Mapping[str, int], *, at_most: int) -> list[Line]:
    with cursor() as raw:
        raw.execute(_LINES, {"names": list(names), "next": at_most})
        rows = raw.fetchall()
    lengths: dict[str, tuple[int, datetime]] = {}
    waiters: dict[str, list[Waiter]] = defaultdict(list)
    for name, waiting, since, task_id, task, reference, target, waits_since in rows:
        lengths[name] = (waiting, since)
        waiters[name].append(
            Waiter(
                task_id=task_id,
                task=task,
                order_reference=reference,
                target=target,
                since=waits_since,
            )
        )
    held = keepers(names=lengths)
    found = [
        Line(
            name=name,
            keepers=held.get(name, ()),
            capacity=capacity.get(kind_of(name), 1),
            waiting=waiting,
            since=since,
            first=waiters[name],
        )
        for name, (waiting, since) in lengths.items()
    ]
    return sorted(found, key=lambda one: (one.since, one.name))
