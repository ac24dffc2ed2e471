"""Resource locks: taken in the claim, all or nothing; kept through unknown outcomes (§9.1).

Whoever takes or releases a lock, or lines up for it, first holds a lock of the database on its
name, in the order of names, after the fulfillments and before the target's condition. So a task
that lines up is seen by whoever releases. Rows go with what their holder does, in the same
transaction: a crash leaks none.
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

from fulfillment.engine import failpoints
from fulfillment.engine.database import Row, Table, cursor

_ENTER = """
SELECT pg_advisory_xact_lock(hashtextextended('fulfillment.lock:' || v.name, 0))
FROM (SELECT unnest(%s::text[]) AS name ORDER BY 1) v
"""
_SAME_ROOM = """
SELECT pg_advisory_xact_lock_shared(hashtextextended('fulfillment.resource:' || v.name, 0))
FROM (SELECT unnest(%s::text[]) AS name ORDER BY 1) v
"""
_OTHER_ROOM = "SELECT pg_advisory_xact_lock(hashtextextended('fulfillment.resource:' || %s, 0))"
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
_KEEPS = "SELECT 1 FROM fulfillment_resourcelock WHERE plan_id = %s LIMIT 1"
_TAKE_OVER = "UPDATE fulfillment_resourcelock SET plan_id = %s WHERE plan_id = %s"
# From name to name in the index, however many wait for each; and in any collation.
_MORE_ROOM = """
WITH RECURSIVE awaited(name) AS (
    SELECT min(waits_for_lock) FROM fulfillment_task WHERE waits_for_lock <> ''
    UNION ALL
    SELECT (
        SELECT min(t.waits_for_lock) FROM fulfillment_task t
        WHERE t.waits_for_lock > a.name AND t.waits_for_lock <> ''
    ) FROM awaited a WHERE a.name IS NOT NULL
)
INSERT INTO fulfillment_lockrelease (name)
SELECT name FROM awaited WHERE starts_with(name, %s) ORDER BY name
ON CONFLICT DO NOTHING
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
_LINED_UP = """
SELECT 1 FROM fulfillment_task WHERE id = ANY(%s::bigint[]) AND waits_for_lock <> '' LIMIT 1
"""
_LEAVE_LINE = """
UPDATE fulfillment_task SET waits_for_lock = '', held_by_id = NULL WHERE id = ANY(%s::bigint[])
"""
_RELEASE = """
DELETE FROM fulfillment_resourcelock
WHERE task_id = ANY(%s::bigint[]) OR plan_id = ANY(%s::bigint[]) AND task_id IS NULL
"""
# A note may be there already, of one who had a turn before and is gone.
_NEXT_TURN = """
WITH next AS (
    SELECT v.name FROM unnest(%s::text[]) AS v(name)
    WHERE EXISTS (
        SELECT 1 FROM fulfillment_task t
        WHERE t.waits_for_lock = v.name AND t.waits_for_lock <> '')
), noted AS (
    INSERT INTO fulfillment_lockrelease (name) SELECT name FROM next ON CONFLICT DO NOTHING
)
SELECT count(*) FROM next
"""
_RELEASED = "SELECT name FROM fulfillment_lockrelease WHERE name > %s ORDER BY name LIMIT %s"
# Of each target system the first in line: a lock must not lie idle because the first of all can't
# be sent. What does not get it lines up again. Never waits for a row: without the fulfillment's
# lock that could be a deadlock.
_WAKE = """
WITH next AS MATERIALIZED (
    SELECT v.name, first.id FROM unnest(%s::text[]) AS v(name)
    LEFT JOIN fulfillment_resource r ON r.name = split_part(v.name, ':', 1)
    CROSS JOIN fulfillment_targetsystem s
    CROSS JOIN LATERAL (
        SELECT w.id FROM fulfillment_task w
        WHERE w.waits_for_lock = v.name AND w.waits_for_lock <> '' AND w.target_id = s.name
        ORDER BY w.priority DESC, w.rank, w.depth, w.id LIMIT coalesce(r.capacity, 1)
    ) first
), free AS MATERIALIZED (
    SELECT t.id FROM fulfillment_task t WHERE t.id IN (SELECT id FROM next)
    FOR NO KEY UPDATE OF t SKIP LOCKED
), woken AS (
    UPDATE fulfillment_task SET waits_for_lock = '', waits_for = 'TARGET'
    WHERE id IN (SELECT id FROM free) RETURNING target_id
)
SELECT target_id, NULL FROM woken
UNION ALL SELECT NULL, name FROM next WHERE id NOT IN (SELECT id FROM free)
"""
# What could not be woken because its row was in use is tried again, whoever else keeps the lock.
_DONE = """
DELETE FROM fulfillment_lockrelease l
WHERE l.name = ANY(%s::text[]) AND l.name <> ALL(%s::text[]) AND (
    EXISTS (
        SELECT 1 FROM fulfillment_resourcelock k WHERE k.name = l.name
    ) OR NOT EXISTS (
        SELECT 1 FROM fulfillment_task t WHERE t.waits_for_lock = l.name AND t.waits_for_lock <> ''
    )
)
"""
_BATCH = 500


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
        self.raw.execute(_ENTER, [wanted], prepare=True)
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


def have_lined_up(*, task_ids: Collection[int]) -> bool:
    """Whether any of these is out of the claim's way now."""
    with cursor() as raw:
        raw.execute(_LINED_UP, [list(task_ids)], prepare=True)
        return raw.fetchone() is not None


def leave_line(raw: psycopg.Cursor[Row], *, task_ids: Collection[int]) -> None:
    """What these waited for is not waited for any more; a claim looks at them anew."""
    raw.execute(_LEAVE_LINE, [sorted(task_ids)], prepare=True)


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


def release(
    raw: psycopg.Cursor[Row],
    *,
    names: Collection[str],
    task_ids: Collection[int],
    plan_ids: Collection[int],
) -> bool:
    """Let go of what these tasks and plans keep; `names` are all locks that they may have.

    Returns whether others wait for them. Whose turn it is next is told after the commit
    (`wake`), or by the scanner if this process dies.
    """
    raw.execute(_ENTER, [sorted(names)], prepare=True)
    raw.execute(_RELEASE, [sorted(task_ids), sorted(plan_ids)], prepare=True)
    raw.execute(_NEXT_TURN, [sorted(names)], prepare=True)
    ((waiting,),) = raw.fetchall()
    return bool(waiting)


def take_over(raw: psycopg.Cursor[Row], *, plan_id: int, successor: int) -> None:
    """What one plan and its tasks keep, another keeps from now on."""
    raw.execute(_TAKE_OVER, [successor, plan_id], prepare=True)


def keeps_any(raw: psycopg.Cursor[Row], *, plan_id: int) -> bool:
    """Whether the plan, or a task of it, keeps a lock: then it must not wait for another."""
    raw.execute(_KEEPS, [plan_id], prepare=True)
    return raw.fetchone() is not None


def lacking(raw: psycopg.Cursor[Row], *, need: Need, now: datetime) -> str:
    """The first of the locks that it can't have now; empty when it can have all."""
    smith = Locksmith(raw=raw, needs={need.task_id: need}, now=now)
    return smith.lacking_of(need)


def take(raw: psycopg.Cursor[Row], *, need: Need, now: datetime) -> set[str]:
    """Give what is not `lacking`. Returns the targets of tasks that have waited for it."""
    return Locksmith(raw=raw, needs={need.task_id: need}, now=now).write([need.task_id])


def change_room(raw: psycopg.Cursor[Row], *, resource: str) -> None:
    """Wait for those who have seen how much room there is; nobody looks before this commits."""
    raw.execute(_OTHER_ROOM, [resource], prepare=True)


def call_up_for(raw: psycopg.Cursor[Row], *, resource: str) -> None:
    """Whoever waits for one of these may have a turn: there is more room."""
    raw.execute(_MORE_ROOM, [f"{resource}:"], prepare=True)


def wake() -> set[str]:
    """Call up those who are next in line for what is free. Returns the targets with work again."""
    targets: set[str] = set()
    last = ""
    while True:
        with transaction.atomic(), cursor() as raw:
            raw.execute(_RELEASED, [last, _BATCH], prepare=True)
            names = [row[0] for row in raw.fetchall()]
            if not names:
                return targets
            # Before the rows are read again: nobody releases or lines up meanwhile.
            raw.execute(_ENTER, [names], prepare=True)
            raw.execute(_WAKE, [names], prepare=True)
            rows = raw.fetchall()
            targets.update(target for target, _ in rows if target is not None)
            in_use = [name for _, name in rows if name is not None]
            raw.execute(_DONE, [names, in_use], prepare=True)
            failpoints.reach("locking.calling_up")
        failpoints.reach("locking.called_up")
        last = names[-1]
