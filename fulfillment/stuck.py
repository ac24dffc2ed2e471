"""The stuck-order detector: plans that can't move, or have not moved for too long (§31.2).

It looks only at plans whose patience is at its end (`fulfillment.engine.work.patience`): once for
every wait, not in every run. It flags them with the reason, and files a case for each that has
none yet: nothing waits silently. Any progress clears the flag and closes the case. Who only waits
for a time that has not come, or for a person who has time left, is not stuck.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial

from django.db import transaction

from fulfillment.actions import Action
from fulfillment.engine.store.database import Row, cursor
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.work import cases, patience
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import UNRESOLVED, CaseCategory, Severity
from fulfillment.queries.why import Why, why
from fulfillment.states import Cause, TaskState

logger = logging.getLogger(__name__)

LOOK_FOR_CASE = timedelta(minutes=5)
"""How often it is made sure that somebody has what is stuck."""
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
    stuck_reason = CASE WHEN v.waits THEN '' ELSE v.reason END,
    case_due_at = v.now
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
# Not all that are stuck in every run, but each now and then: whoever closes a case by hand, or
# releases a hold, may leave a plan without. Locked as above.
_UNATTENDED = """
UPDATE fulfillment_plan SET case_due_at = fulfillment_now() + %s WHERE id IN (
    SELECT id FROM fulfillment_plan
    WHERE case_due_at <= (SELECT fulfillment_now()) AND stuck_at IS NOT NULL
      AND state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED')
    ORDER BY case_due_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
) RETURNING id
"""
# Who has an open case, or is held by somebody who said why, has a reason and an owner already.
# A dead letter, a leak, a deadline, a promise in jeopardy, a circle that was broken, or an answer
# that contradicts a success, is no such reason; one that stops what is still to be done is. The
# case about being stuck is told again, as what keeps the plan may be something else by now; of many
# any few in each run.
_WITHOUT_CASE = f"""
SELECT p.id, p.fulfillment_id, own.id IS NOT NULL FROM fulfillment_plan p
LEFT JOIN fulfillment_falloutcase own ON own.subject = 'plan:' || p.id AND own.{UNRESOLVED}
WHERE p.id = ANY(%s::bigint[]) AND p.stuck_at IS NOT NULL
  AND p.state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED')
  AND NOT EXISTS (
      SELECT 1 FROM fulfillment_falloutcase c
      WHERE c.fulfillment_id = p.fulfillment_id AND c.{UNRESOLVED}
        AND c.subject <> 'plan:' || p.id
        AND c.category NOT IN ('UNDELIVERED', 'LEAKAGE', 'JEOPARDY')
        AND NOT starts_with(c.subject, 'deadline:')
        AND NOT starts_with(c.subject, 'circle:')
        AND (NOT starts_with(c.subject, 'conflict:') OR EXISTS (
            SELECT 1 FROM fulfillment_task t
            WHERE t.id = c.task_id AND t.state = 'AWAITING_MANUAL')))
  AND (
      own.id IS NOT NULL
      OR NOT EXISTS (
          SELECT 1 FROM fulfillment_task t WHERE t.plan_id = p.id AND t.held_by_id IS NOT NULL
            AND t.state IN ('READY', 'FAILED_RETRYABLE'))
      OR EXISTS (
          SELECT 1 FROM fulfillment_task t WHERE t.plan_id = p.id AND t.held_by_id IS NULL
            AND t.state IN ('READY', 'DISPATCHED', 'ACCEPTED', 'FAILED_RETRYABLE',
                            'OUTCOME_UNKNOWN', 'AWAITING_MANUAL')))
ORDER BY own.id IS NOT NULL, random()
"""
_STILL_FLAGGED = f"""
SELECT p.id, p.fulfillment_id, p.stuck_reason, f.order_reference, coalesce((
           SELECT c.explanation FROM fulfillment_falloutcase c
           WHERE c.subject = 'plan:' || p.id AND c.{UNRESOLVED}), ''),
       jsonb_object_agg(t.key, t.state) FILTER (
           WHERE t.state NOT IN ('SUCCEEDED', 'SKIPPED_BY_POLICY', 'WAIVED_BY_AUTHORIZED_USER'))
FROM fulfillment_plan p
JOIN fulfillment_fulfillment f ON f.id = p.fulfillment_id
JOIN fulfillment_task t ON t.plan_id = p.id
WHERE p.id = ANY(%s::bigint[]) AND p.stuck_at IS NOT NULL
GROUP BY p.id, f.order_reference
"""
_ACTOR = "stuck-order detector"
_REPAIRS = (
    Action.TASK_RETRY,
    Action.HOLD_RELEASE,
    Action.TARGET_RESUME,
    Action.MANUAL_DECIDE,
    Action.TASK_WAIVE,
    Action.ORDER_CANCEL,
)
_TOLD_AGAIN = 100
"""Cases that are looked at again in one run, to see whether they still say why."""
_TOGETHER = 20
"""Cases in one unit: each is told by a dozen queries."""
_CODES: Mapping[Cause, str] = {
    Cause.HUMAN: "manual_unattended",
    Cause.REPAIR: "manual_unattended",
    Cause.UNKNOWN_OUTCOME: "outcome_unknown",
    Cause.RETRY: "keeps_failing",
    Cause.REPORT: "event_never_arrived",
    Cause.HOLD: "held",
    Cause.PAUSED: "target_paused",
    Cause.BREAKER: "target_down",
    Cause.LOCK: "lock_kept",
    Cause.MILESTONE: "not_reported",
    Cause.OTHER_ORDER: "not_reported",
    Cause.CUSTOMER: "not_reported",
    Cause.SIGNAL: "not_reported",
    Cause.NONE: "dependency_blocked",
    Cause.DEPENDENCY: "dependency_blocked",
}
"""By the cause that `why` names; everything else waits to be sent."""
_ADVICE = {
    "manual_unattended": "A person has to decide, and nobody has.",
    "outcome_unknown": "It is being asked for; look whether the target system answers questions.",
    "keeps_failing": "It goes on being tried; look at what the target system answers.",
    "event_never_arrived": "The target system took it and has not reported; ask its owner.",
    "target_held": "Its target system is on hold; release the hold when nothing speaks against it.",
    "held": "It is on hold; release the hold when nothing speaks against it.",
    "lock_kept": "Somebody else keeps what it needs; look what that one waits for.",
    "not_reported": "What it waits for has not been reported; ask whoever should.",
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
    again = _TOLD_AGAIN
    while True:
        with cursor() as raw:
            raw.execute(_UNATTENDED, [LOOK_FOR_CASE, limit], prepare=True)
            due = [row[0] for row in raw.fetchall()]
            raw.execute(_WITHOUT_CASE, [due], prepare=True)
            found = raw.fetchall()
        told = [row for row in found if row[2]]
        unfiled = [row for row in found if not row[2]] + told[:again]
        again -= len(told[:again])
        for first in range(0, len(unfiled), _TOGETHER):
            _file_or_split(unfiled[first : first + _TOGETHER])
        if len(due) < limit:
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
    unit.raw.execute(_STILL_FLAGGED, [list(plan_ids)], prepare=True)
    for plan_id, fulfillment_id, reason, reference, before, states in unit.raw.fetchall():
        told = why(fulfillment_id=fulfillment_id)
        code = _code(told)
        explanation = f"{told.sentence or reason} {_ADVICE[code]}"
        if explanation == before:
            continue
        cases.open_case(
            unit,
            fallout=cases.Fallout(
                subject=cases.of_plan(plan_id),
                category=CaseCategory.STUCK,
                severity=Severity.MEDIUM,
                reason_code=code,
                title=f"{reference} · nothing moves",
                explanation=explanation,
                facts={"open_tasks": json.loads(states or "{}"), "cause": str(told.cause)},
                repair_options=_REPAIRS,
                fulfillment_id=fulfillment_id,
                plan_id=plan_id,
                customer_impact="The order is late, or will be.",
            ),
        )


def _code(told: Why) -> str:
    if not told.chain:
        return _CODES[Cause.NONE]
    wait = told.chain[0].wait
    if wait.state is TaskState.FAILED_FINAL:
        return "dependency_blocked"
    if wait.cause is Cause.HOLD and wait.is_of_target:
        return "target_held"
    return _CODES.get(wait.cause, "not_sent")
