"""The stuck-order detector: plans that can't move, or have not moved for too long (§31.2)."""

from __future__ import annotations

from fulfillment.engine.database import cursor

# Facts beside the state, so no transition and no audit row: any progress clears them.
_DETECT = """
UPDATE fulfillment_plan p SET stuck_at = fulfillment_now(), stuck_reason = v.reason
FROM (
    SELECT id, CASE
        WHEN state = 'BLOCKED' THEN 'Nothing can move without help. ' || blocked_reason
        ELSE 'Nothing has happened since '
             || to_char(last_progress_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC. '
             || coalesce((
                    SELECT 'Waiting for: ' || string_agg(
                        t.key || ' (' || t.state
                        || CASE WHEN t.blocked_reason = '' THEN '' ELSE ', ' || t.blocked_reason END
                        || ')', '; ' ORDER BY t.node)
                    FROM fulfillment_task t WHERE t.plan_id = c.id AND t.state IN (
                        'READY', 'DISPATCHED', 'ACCEPTED', 'FAILED_RETRYABLE',
                        'OUTCOME_UNKNOWN', 'AWAITING_MANUAL')
                ), 'No task is under way.')
        END AS reason
    FROM fulfillment_plan c
    WHERE state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED')
      AND stuck_at IS NULL
      AND (state = 'BLOCKED' OR last_progress_at + stalls_after < fulfillment_now())
    ORDER BY last_progress_at LIMIT %s
    FOR NO KEY UPDATE SKIP LOCKED
) v WHERE p.id = v.id
"""


def detect_stuck(*, limit: int = 1000) -> int:
    """Flag what is stuck, with the reason. Returns how many plans were flagged now."""
    with cursor() as raw:
        raw.execute(_DETECT, [limit], prepare=True)
        return raw.rowcount
