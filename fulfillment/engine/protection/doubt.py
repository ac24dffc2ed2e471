"""Tasks that may have had an effect although they wait to be sent, or for a person.

A call whose outcome was lost is asked for, where the target system can be asked. Where it can't,
the same key is sent again, so until that is answered nobody knows.
"""

from __future__ import annotations

from collections.abc import Collection

import psycopg

from fulfillment.engine.store.database import Row, array
from fulfillment.states import TaskState

_LOST = """
SELECT t.id, t.state, EXISTS (
    SELECT 1 FROM fulfillment_transition x
    WHERE x.fulfillment_id = t.fulfillment_id AND x.entity = 'task' AND x.entity_id = t.id::text
      AND x.name = 'lose_track' AND x.occurred_at >= c.created_at
      AND NOT EXISTS (
          SELECT 1 FROM fulfillment_attempt a
          WHERE a.command_id = c.id AND a.purpose = 'QUERY' AND a.started_at >= x.occurred_at
            AND a.outcome IN ('NOT_FOUND', 'FAILED', 'REJECTED')))
FROM fulfillment_task t
JOIN LATERAL (
    SELECT c.id, c.created_at FROM fulfillment_command c
    WHERE c.task_id = t.id ORDER BY c.revision DESC LIMIT 1
) c ON true
WHERE t.id = ANY(%s::bigint[]) AND t.sends > 0
  AND t.state IN ('READY', 'FAILED_RETRYABLE', 'AWAITING_MANUAL')
"""


def in_doubt(raw: psycopg.Cursor[Row], *, task_ids: Collection[int]) -> frozenset[int]:
    """Those of these tasks of commands that may have had an effect.

    What a person has in hand after it was sent counts as such until it is settled.
    """
    if not task_ids:
        return frozenset()
    raw.execute(_LOST, [array(sorted(task_ids))], prepare=True)
    return frozenset(
        task_id
        for task_id, state, is_lost in raw.fetchall()
        if is_lost or state == TaskState.AWAITING_MANUAL
    )
