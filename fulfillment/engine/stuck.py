"""The stuck-order detector: plans that can't move, or have not moved for too long (§31.2).

It looks only at plans whose patience is at its end (`fulfillment.engine.patience`): once for
every wait, not in every run. It flags them with the reason, and files a case for each that has
none yet: nothing waits silently. Any progress clears the flag and closes the case. Who only waits
for a time that has not come, or for a person who has time left, is not stuck.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial

from django.db import transaction

from fulfillment.engine import cases, patience
from fulfillment.engine.database import Row, cursor
from fulfillment.engine.halving import in_halves
from fulfillment.engine.unit import Unit, run_unit
from fulfillment.models import CaseCategory, Severity

logger = logging.getLogger(__name__)

# The rows are locked before their tasks are read: a unit that changes these has to wait, and then
# sets the plan's patience anew; what it had changed before is seen.
_DUE = """
SELECT id FROM fulfillment_plan
WHERE patient_until <= (SELECT fulfillment_now()) AND stuck_at IS NULL
  AND state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED')
ORDER BY patient_until LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""
# Facts beside the state, so no transition and no audit row: any progress clears them.
_LOOK = f"""
UPDATE fulfillment_plan p
SET patient_until = CASE WHEN v.waits THEN v.until ELSE p.patient_until END,
    stuck_at = CASE WHEN NOT v.waits THEN v.now END,
    stuck_reason = CASE WHEN v.waits THEN '' ELSE v.reason END
FROM (
    SELECT c.*, coalesce(until > now, false) AS waits, CASE
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
    FROM (
        SELECT p.id, p.state, p.blocked_reason, p.last_progress_at,
               (SELECT fulfillment_now()) AS now,
               greatest(
                   CASE WHEN p.state <> 'BLOCKED' THEN p.last_progress_at + p.stalls_after END,
                   {patience.BY_ITS_TASKS}
               ) AS until
        FROM fulfillment_plan p WHERE p.id = ANY(%s::bigint[])
    ) c
) v WHERE p.id = v.id
RETURNING p.stuck_at IS NOT NULL
"""
# Who has an open case, or is held by somebody who said why, has a reason and an owner already.
# A dead letter, or an answer that contradicts a success, is no such reason; one that stops what
# is still to be done is.
_WITHOUT_CASE = """
SELECT p.id, p.fulfillment_id FROM fulfillment_plan p
WHERE p.stuck_at IS NOT NULL
  AND p.state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED')
  AND NOT EXISTS (
      SELECT 1 FROM fulfillment_falloutcase c
      WHERE c.fulfillment_id = p.fulfillment_id AND c.state = 'OPEN'
        AND c.category <> 'UNDELIVERED'
        AND (NOT starts_with(c.subject, 'conflict:') OR EXISTS (
            SELECT 1 FROM fulfillment_task t
            WHERE t.id = c.task_id AND t.state = 'AWAITING_MANUAL')))
  AND (
      NOT EXISTS (
          SELECT 1 FROM fulfillment_task t WHERE t.plan_id = p.id AND t.held_by_id IS NOT NULL
            AND t.state IN ('READY', 'FAILED_RETRYABLE'))
      OR EXISTS (
          SELECT 1 FROM fulfillment_task t WHERE t.plan_id = p.id AND t.held_by_id IS NULL
            AND t.state IN ('READY', 'DISPATCHED', 'ACCEPTED', 'FAILED_RETRYABLE',
                            'OUTCOME_UNKNOWN', 'AWAITING_MANUAL')))
ORDER BY p.stuck_at LIMIT %s
"""
_CAUSES = """
SELECT p.id, p.fulfillment_id, p.stuck_reason, f.order_reference,
       CASE
           WHEN bool_or(t.state = 'AWAITING_MANUAL') THEN 'manual_unattended'
           WHEN bool_or(t.state = 'OUTCOME_UNKNOWN') THEN 'outcome_unknown'
           WHEN bool_or(t.state = 'FAILED_RETRYABLE') THEN 'keeps_failing'
           WHEN bool_or(t.state = 'ACCEPTED') THEN 'event_never_arrived'
           WHEN bool_or(t.state = 'READY' AND EXISTS (
               SELECT 1 FROM fulfillment_hold h WHERE h.released_at IS NULL
                 AND h.subject = 'target:' || t.target_id)) THEN 'target_held'
           WHEN bool_or(t.state = 'READY' AND k.paused_at IS NOT NULL) THEN 'target_paused'
           WHEN bool_or(t.state = 'READY' AND k.breaker <> 'CLOSED') THEN 'target_down'
           WHEN bool_or(t.state IN ('READY', 'DISPATCHED')) THEN 'not_sent'
           ELSE 'dependency_blocked'
       END,
       jsonb_object_agg(t.key, t.state) FILTER (
           WHERE t.state NOT IN ('SUCCEEDED', 'SKIPPED_BY_POLICY', 'WAIVED_BY_AUTHORIZED_USER'))
FROM fulfillment_plan p
JOIN fulfillment_fulfillment f ON f.id = p.fulfillment_id
JOIN fulfillment_task t ON t.plan_id = p.id
LEFT JOIN fulfillment_targetcondition k ON k.target_id = t.target_id
WHERE p.id = ANY(%s::bigint[]) AND p.stuck_at IS NOT NULL
GROUP BY p.id, f.order_reference
"""
_ACTOR = "stuck-order detector"
_REPAIRS = ("retry", "release the hold", "resume the target system", "waive", "cancel the order")
_ADVICE = {
    "manual_unattended": "A person has to decide, and nobody has.",
    "outcome_unknown": "It is being asked for; look whether the target system answers questions.",
    "keeps_failing": "It goes on being tried; look at what the target system answers.",
    "event_never_arrived": "The target system took it and has not reported; ask its owner.",
    "target_held": "Its target system is on hold; release the hold when nothing speaks against it.",
    "target_paused": "Its target system is paused; resume it when it is well.",
    "target_down": "Its target system does not answer properly; tell its owner.",
    "not_sent": "It may be sent and is not: look whether its worker runs, and at its limits.",
    "dependency_blocked": "What it waits for will not come by itself.",
}


def detect_stuck(*, limit: int = 1000) -> int:
    """Flag what is stuck, with the reason, and file what has no case yet.

    Returns how many plans were flagged now.
    """
    flagged = 0
    while True:
        looked, stuck = _look(limit)
        flagged += stuck
        if looked < limit:
            break
    with cursor() as raw:
        raw.execute(_WITHOUT_CASE, [limit], prepare=True)
        unfiled = raw.fetchall()
    for first in range(0, len(unfiled), 100):
        _file_or_split(unfiled[first : first + 100])
    return flagged


def _look(limit: int) -> tuple[int, int]:
    """At how many plans whose patience is at its end it looked, and how many are stuck.

    The others have more time, and are left alone until that is over.
    """
    with transaction.atomic(), cursor() as raw:
        raw.execute(_DUE, [limit], prepare=True)
        due = [row[0] for row in raw.fetchall()]
        if not due:
            return 0, 0
        raw.execute(_LOOK, [due], prepare=True)
        return len(due), sum(row[0] for row in raw.fetchall())


def _file_or_split(rows: Sequence[Row]) -> None:
    def file_together(batch: Sequence[Row]) -> list[None]:
        run_unit(
            partial(_file, plan_ids=[row[0] for row in batch]),
            fulfillment_ids=(row[1] for row in batch),
            actor=_ACTOR,
        )
        return []

    def leave(row: Row, error: Exception) -> None:
        logger.error("a stuck plan has no case yet", exc_info=error, extra={"plan": row[0]})

    in_halves(rows, work=file_together, culprit=leave)


def _file(unit: Unit, plan_ids: Sequence[int]) -> None:
    # Read under the locks: what has moved meanwhile is no longer flagged.
    unit.raw.execute(_CAUSES, [list(plan_ids)], prepare=True)
    for plan_id, fulfillment_id, reason, reference, code, states in unit.raw.fetchall():
        cases.open_case(
            unit, fallout=_fallout(plan_id, fulfillment_id, reason, reference, code, states)
        )


def _fallout(
    plan_id: int, fulfillment_id: int, reason: str, reference: str, code: str, states: str | None
) -> cases.Fallout:
    return cases.Fallout(
        subject=cases.of_plan(plan_id),
        category=CaseCategory.STUCK,
        severity=Severity.MEDIUM,
        reason_code=code,
        title=f"{reference} · nothing moves",
        explanation=f"{_ADVICE[code]} {reason}",
        facts={"open_tasks": json.loads(states or "{}")},
        repair_options=_REPAIRS,
        fulfillment_id=fulfillment_id,
        plan_id=plan_id,
        customer_impact="The order is late, or will be.",
    )
