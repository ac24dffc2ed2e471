"""Resource locks: taken in the claim, all or nothing; kept through unknown outcomes (§9.1).

Whoever takes or releases a lock, or lines up for it, first holds a lock of the database on its
name, in the order of names, after the fulfillments and before the target's condition. So a task
that lines up is seen by whoever releases. Rows go with what their holder does, in the same
transaction: a crash leaks none.
"""

from __future__ import annotations

from collections.abc import Collection

import psycopg
from django.db import transaction

from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import Row, array, cursor

_ENTER = """
SELECT pg_advisory_xact_lock(hashtextextended('fulfillment.lock:' || v.name, 0))
FROM (SELECT unnest(%s::text[]) AS name ORDER BY 1) v
"""
_OTHER_ROOM = "SELECT pg_advisory_xact_lock(hashtextextended('fulfillment.resource:' || %s, 0))"
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
# So is a lock that the first in line could have: who was called up before may have been held, or
# put off, and the room that is left must not lie idle until somebody else lets go.
_DONE = """
DELETE FROM fulfillment_lockrelease l
WHERE l.name = ANY(%s::text[]) AND l.name <> ALL(%s::text[]) AND NOT EXISTS (
    SELECT 1 FROM fulfillment_targetsystem s
    CROSS JOIN LATERAL (
        SELECT coalesce(w.locks ->> l.name, (
            SELECT p.locks ->> l.name FROM fulfillment_plan p WHERE p.id = w.plan_id
        ), '1')::int AS units
        FROM fulfillment_task w
        WHERE w.waits_for_lock = l.name AND w.waits_for_lock <> '' AND w.target_id = s.name
        ORDER BY w.priority DESC, w.rank, w.depth, w.id LIMIT 1
    ) first
    WHERE first.units <= coalesce(
        (SELECT r.capacity FROM fulfillment_resource r WHERE r.name = split_part(l.name, ':', 1)), 1
    ) - (
        SELECT coalesce(sum(k.units), 0) FROM fulfillment_resourcelock k WHERE k.name = l.name
    )
)
"""
_BATCH = 500


def enter(raw: psycopg.Cursor[Row], *, names: Collection[str]) -> None:
    """Wait for others who take or release these; nobody does before this transaction ends."""
    raw.execute(_ENTER, [array(sorted(names))], prepare=True)


def have_lined_up(*, task_ids: Collection[int]) -> bool:
    """Whether any of these is out of the claim's way now."""
    with cursor() as raw:
        raw.execute(_LINED_UP, [list(task_ids)], prepare=True)
        return raw.fetchone() is not None


def leave_line(raw: psycopg.Cursor[Row], *, task_ids: Collection[int]) -> None:
    """What these waited for is not waited for any more; a claim looks at them anew."""
    raw.execute(_LEAVE_LINE, [array(sorted(task_ids))], prepare=True)


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
    enter(raw, names=names)
    raw.execute(_RELEASE, [array(sorted(task_ids)), array(sorted(plan_ids))], prepare=True)
    raw.execute(_NEXT_TURN, [array(sorted(names))], prepare=True)
    ((waiting,),) = raw.fetchall()
    return bool(waiting)


def take_over(raw: psycopg.Cursor[Row], *, plan_id: int, successor: int) -> None:
    """What one plan and its tasks keep, another keeps from now on."""
    raw.execute(_TAKE_OVER, [successor, plan_id], prepare=True)


def keeps_any(raw: psycopg.Cursor[Row], *, plan_id: int) -> bool:
    """Whether the plan, or a task of it, keeps a lock: then it must not wait for another."""
    raw.execute(_KEEPS, [plan_id], prepare=True)
    return raw.fetchone() is not None


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
            enter(raw, names=names)
            raw.execute(_WAKE, [names], prepare=True)
            rows = raw.fetchall()
            targets.update(target for target, _ in rows if target is not None)
            in_use = [name for _, name in rows if name is not None]
            raw.execute(_DONE, [names, in_use], prepare=True)
            failpoints.reach("locking.calling_up")
        failpoints.reach("locking.called_up")
        last = names[-1]
