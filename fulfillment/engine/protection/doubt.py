"""Tasks that may have had an effect although they wait to be sent, or for a person, or have failed.

A call whose outcome was lost is asked for, where the target system can be asked. Where it can't,
the same key is sent again, so until that is answered nobody knows. What has failed for good and
was confirmed since is in doubt until a person has looked it up.
"""

from __future__ import annotations

from collections.abc import Collection

import psycopg

from fulfillment.engine.store.database import Row, array
from fulfillment.states import TaskState

# An order's history is gone through once, however many of its tasks wait. What has been asked for
# since the last answer was lost is known, of the ones before as well.
_LOST = """
WITH waiting AS MATERIALIZED (
    SELECT id, fulfillment_id, state FROM fulfillment_task
    WHERE id = ANY(%s::bigint[]) AND sends > 0
      AND state IN ('READY', 'FAILED_RETRYABLE', 'AWAITING_MANUAL')
), lost AS MATERIALIZED (
    SELECT entity_id, max(occurred_at) AS at FROM fulfillment_transition
    WHERE fulfillment_id IN (SELECT fulfillment_id FROM waiting)
      AND entity = 'task' AND name = 'lose_track'
    GROUP BY entity_id
)
SELECT w.id, w.state, l.at IS NOT NULL AND l.at >= c.created_at AND NOT EXISTS (
    SELECT 1 FROM fulfillment_attempt a
    WHERE a.command_id = c.id AND a.purpose = 'QUERY' AND a.started_at >= l.at
      AND a.outcome IN ('NOT_FOUND', 'FAILED', 'REJECTED'))
FROM waiting w
LEFT JOIN lost l ON l.entity_id = w.id::text
JOIN LATERAL (
    SELECT id, created_at FROM fulfillment_command
    WHERE task_id = w.id ORDER BY revision DESC LIMIT 1
) c ON true
"""
# As `knowing` reads one task's history: what was said of it before it moved, or before a person
# has looked it up, does not count any more; nor what was undone as a command of its own.
_CONTRADICTED = """
WITH failed AS MATERIALIZED (
    SELECT id, fulfillment_id, key FROM fulfillment_task
    WHERE id = ANY(%s::bigint[]) AND state = 'FAILED_FINAL'
), told AS MATERIALIZED (
    SELECT f.id, f.fulfillment_id, f.key, max(c.sequence) AS last FROM failed f
    JOIN fulfillment_transition c ON c.fulfillment_id = f.fulfillment_id
     AND c.entity = 'task' AND c.entity_id = f.id::text
    WHERE c.name = 'conflicting_outcome' AND c.details ->> 'outcome' = 'SUCCEEDED'
    GROUP BY f.id, f.fulfillment_id, f.key
)
SELECT t.id FROM told t
WHERE NOT EXISTS (
    SELECT 1 FROM fulfillment_transition c
    WHERE c.fulfillment_id = t.fulfillment_id AND c.entity = 'task' AND c.entity_id = t.id::text
      AND c.sequence > t.last AND (c.name = 'reconcile' OR c.from_state <> c.to_state)
) AND NOT EXISTS (
    SELECT 1 FROM fulfillment_task u
    WHERE u.fulfillment_id = t.fulfillment_id AND u.state <> 'CANCELLED'
      AND starts_with(u.key, 'undo.v') AND strpos(u.key, '/' || t.key || '~command') > 0
)
"""


def in_doubt(raw: psycopg.Cursor[Row], *, task_ids: Collection[int]) -> frozenset[int]:
    """Those of these tasks of commands that may have had an effect.

    What a person has in hand after it was sent counts as such until it is settled.
    """
    return frozenset(
        task_id
        for task_id, state, is_lost in _look_up(raw, task_ids)
        if is_lost or state == TaskState.AWAITING_MANUAL
    )


def contradicted(raw: psycopg.Cursor[Row], *, task_ids: Collection[int]) -> frozenset[int]:
    """Those of them that have failed for good, and were confirmed since by their target system."""
    if not task_ids:
        return frozenset()
    raw.execute(_CONTRADICTED, [array(sorted(task_ids))], prepare=True)
    return frozenset(task_id for (task_id,) in raw.fetchall())


def lost(raw: psycopg.Cursor[Row], *, task_ids: Collection[int]) -> frozenset[int]:
    """Those of them of which a send's answer was lost, and nobody has found out since."""
    return frozenset(task_id for task_id, _, is_lost in _look_up(raw, task_ids) if is_lost)


def _look_up(raw: psycopg.Cursor[Row], task_ids: Collection[int]) -> list[Row]:
    if not task_ids:
        return []
    raw.execute(_LOST, [array(sorted(task_ids))], prepare=True)
    return raw.fetchall()
