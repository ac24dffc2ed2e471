"""Who gets which locks: all that a task needs or none, in the order of selection (§9.1).

`locking` has the other side: how locks are let go, and how those in line are called up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from django.db import transaction

from fulfillment.engine.store.database import Row, Table, cursor
from fulfillment.engine.work import locking

_SAME_ROOM = """
SELECT pg_advisory_xact_lock_shared(hashtextextended('fulfillment.resource:' || v.name, 0))
FROM (SELECT unnest(%s::text[]) AS name ORDER BY 1) v
"""
_TAKEN = """
SELECT name, units, plan_id, task_id FROM fulfillment_resourcelock WHERE name = ANY(%s::text[])
"""
_CAPACITY = "SELECT name, capacity FROM fulfillment_resource WHERE name = ANY(%s::text[])"
_LOCKS = Table(
    "fulfillment_resourcelock",
    name="text",
    units="int",
    fulfillment_id="bigint",
    plan_id="bigint",
    task_id="bigint",
    taken_at="timestamptz",
)
_LOCKED = "UPDATE fulfillment_plan SET is_locked = true WHERE id = ANY(%s::bigint[])"
# Whoever would wait for what its own order has would wait for ever.
_HAVE_IT_NOW = """
UPDATE fulfillment_task SET waits_for_lock = '', waits_for = 'TARGET'
WHERE plan_id = ANY(%s::bigint[]) AND waits_for_lock = ANY(%s::text[]) RETURNING target_id
"""
_LINE_UP = """
UPDATE fulfillment_task t SET waits_for_lock = v.name, waits_for = 'LOCK'
FROM unnest(%s::bigint[], %s::text[]) AS v(id, name) WHERE t.id = v.id
"""
# Of tasks that may not have lined up yet: what they need, and whether it has been given since is
# told by the locks themselves.
_NEEDS = """
SELECT t.id, t.plan_id, t.fulfillment_id, t.locks, CASE WHEN NOT p.is_locked THEN p.locks END
FROM fulfillment_task t
JOIN LATERAL (
    SELECT p.is_locked, p.locks FROM fulfillment_plan p WHERE p.id = t.plan_id LIMIT 1
) p ON true
WHERE t.id = ANY(%s::bigint[]) AND (t.locks IS NOT NULL OR p.locks IS NOT NULL)
"""
# Never waits for a row, as below.
_LINE_UP_TOGETHER = """
UPDATE fulfillment_task t SET waits_for_lock = v.name, waits_for = 'LOCK'
FROM unnest(%s::bigint[], %s::text[]) AS v(id, name) WHERE t.id = v.id AND t.id IN (
    SELECT w.id FROM fulfillment_task w
    WHERE w.id = ANY(%s::bigint[]) AND w.state IN ('FAILED_RETRYABLE', 'READY')
      AND w.held_by_id IS NULL AND w.waits_for_lock = ''
    FOR NO KEY UPDATE SKIP LOCKED
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The locks that one task has to have before it is sent."""

    task_id: int
    plan_id: int
    fulfillment_id: int
    own: Mapping[str, int]
    """Name -> units, kept until the task has ended."""
    of_plan: Mapping[str, int]
    """The same, kept until the plan has ended; empty when the plan has them already."""


def parsed(document: Any) -> Mapping[str, int]:
    """Locks as a row has them: JSON text from a raw cursor, or the value; none is {}."""
    found: Mapping[str, int] = json.loads(document) if isinstance(document, str) else document or {}
    return found


@dataclass
class Locksmith:
    """Gives out locks within one claim, to whoever comes first in the selection order."""

    raw: psycopg.Cursor[Row]
    needs: Mapping[int, Need]
    """By task; a task without locks is none of them."""
    now: datetime
    _free: dict[str, int] = field(default_factory=dict)
    _had: dict[int, set[str]] = field(default_factory=dict)
    _had_by_plan: dict[int, set[str]] = field(default_factory=dict)
    _turned_away: list[Need] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Waits for others who take or release the same; before the target's condition."""
        names = {name for need in self.needs.values() for name in (*need.own, *need.of_plan)}
        if not names:
            return
        wanted = sorted(names)
        locking.enter(self.raw, names=wanted)
        resources = sorted({name.partition(":")[0] for name in names})
        self.raw.execute(_SAME_ROOM, [resources], prepare=True)
        self.raw.execute(_CAPACITY, [resources], prepare=True)
        capacity: dict[str, int] = dict(self.raw.fetchall())
        self._free = {name: capacity.get(name.partition(":")[0], 1) for name in names}
        self.raw.execute(_TAKEN, [wanted], prepare=True)
        for name, units, plan_id, task_id in self.raw.fetchall():
            self._free[name] -= units
            if task_id is None:
                # A plan that has taken over from another may have some of its locks already.
                self._had_by_plan.setdefault(plan_id, set()).add(name)
            else:
                self._had.setdefault(task_id, set()).add(name)

    def lacking(self) -> dict[int, str]:
        """By task what it would have to line up for although nobody else is given anything."""
        found = {task_id: self.lacking_of(need) for task_id, need in self.needs.items()}
        return {task_id: name for task_id, name in found.items() if name}

    def give(self, task_ids: Iterable[int]) -> list[int]:
        """Those of the tasks, in their order, that may be sent; nothing is taken yet."""
        free, plans = dict(self._free), set[int]()
        given: list[int] = []
        for task_id in task_ids:
            need = self.needs.get(task_id)
            if need is None:
                given.append(task_id)
            elif self._lacking(need, free, plans):
                self._turned_away.append(need)
            else:
                given.append(task_id)
                self._take(need, free, plans)
        return given

    def write(self, task_ids: Collection[int]) -> set[str]:
        """The locks of those that are really sent; nobody has asked for another's meanwhile.

        Only who lacks what somebody really has lines up, so that somebody will call it up.
        Returns the targets of tasks that have waited for what their order has got.
        """
        plans: dict[int, Need] = {}
        locked: set[int] = set()
        rows: list[tuple[Any, ...]] = []
        for need in (self.needs[task_id] for task_id in task_ids if task_id in self.needs):
            had = self._had.get(need.task_id, set())
            rows += [
                (name, units, need.fulfillment_id, need.plan_id, need.task_id, self.now)
                for name, units in need.own.items()
                if name not in had
            ]
            self._take(need, self._free, locked)
            if need.of_plan:
                plans[need.plan_id] = need
        rows += [
            (name, units, need.fulfillment_id, need.plan_id, None, self.now)
            for need in plans.values()
            for name, units in need.of_plan.items()
            if name not in self._had_by_plan.get(need.plan_id, ())
        ]
        _LOCKS.insert(self.raw, rows)
        self._line_up(locked)
        if not plans:
            return set()
        names = sorted({name for need in plans.values() for name in need.of_plan})
        self.raw.execute(_LOCKED, [sorted(plans)], prepare=True)
        self.raw.execute(_HAVE_IT_NOW, [sorted(plans), names], prepare=True)
        return {row[0] for row in self.raw.fetchall()}

    def lacking_of(self, need: Need) -> str:
        """The first lock that is not free; empty when all are."""
        return self._lacking(need, self._free, ())

    def _line_up(self, plans: Collection[int]) -> None:
        lacking = {
            need.task_id: name
            for need in self._turned_away
            if (name := self._lacking(need, self._free, plans))
        }
        if lacking:
            self.raw.execute(_LINE_UP, [list(lacking), list(lacking.values())], prepare=True)

    def _take(self, need: Need, free: dict[str, int], plans: set[int]) -> None:
        for name, units in self._new(need, plans).items():
            free[name] -= units
        if need.of_plan:
            plans.add(need.plan_id)

    def _new(self, need: Need, plans: Collection[int]) -> Counter[str]:
        """What it still has to be given, by name; these plans have been given theirs now."""
        had = self._had.get(need.task_id, set())
        wanted = Counter({name: units for name, units in need.own.items() if name not in had})
        if need.plan_id not in plans:
            had = self._had_by_plan.get(need.plan_id, set())
            wanted.update({name: n for name, n in need.of_plan.items() if name not in had})
        return wanted

    def _lacking(self, need: Need, free: Mapping[str, int], plans: Collection[int]) -> str:
        """The first lock that is not free; empty when all are."""
        wanted = self._new(need, plans)
        return min((name for name, units in wanted.items() if units > free[name]), default="")


def line_up(*, task_ids: Collection[int]) -> None:
    """Those of the tasks whose locks others have line up at once, without a claim of their own.

    Otherwise thousands of orders of one customer would line up a few with every claim.
    """
    with transaction.atomic(), cursor() as raw:
        raw.execute(_NEEDS, [list(task_ids)], prepare=True)
        needs = {
            task_id: Need(
                task_id=task_id,
                plan_id=plan_id,
                fulfillment_id=fulfillment_id,
                own=parsed(own),
                of_plan=parsed(of_plan),
            )
            for task_id, plan_id, fulfillment_id, own, of_plan in raw.fetchall()
        }
        raw.execute("SELECT fulfillment_now()", prepare=True)
        ((now,),) = raw.fetchall()
        found = Locksmith(raw=raw, needs=needs, now=now).lacking()
        if found:
            waiting = list(found)
            raw.execute(_LINE_UP_TOGETHER, [waiting, list(found.values()), waiting], prepare=True)


def lacking(raw: psycopg.Cursor[Row], *, need: Need, now: datetime) -> str:
    """The first of the locks that it can't have now; empty when it can have all."""
    smith = Locksmith(raw=raw, needs={need.task_id: need}, now=now)
    return smith.lacking_of(need)


def take(raw: psycopg.Cursor[Row], *, need: Need, now: datetime) -> set[str]:
    """Give what is not `lacking`. Returns the targets of tasks that have waited for it."""
    return Locksmith(raw=raw, needs={need.task_id: need}, now=now).write([need.task_id])
