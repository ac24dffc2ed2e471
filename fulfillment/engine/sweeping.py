"""Sweeping: what was claimed or accepted, and of which nothing was heard in time."""

from __future__ import annotations

from adapters.contract import Outcome, OutcomeKind
from fulfillment.engine.database import cursor
from fulfillment.engine.settlement import Result, settle
from fulfillment.models import Purpose

_LOST_LEASES = """
SELECT a.task_id, t.plan_id, a.fulfillment_id, t.node, a.id, a.number, a.purpose
FROM fulfillment_attempt a JOIN fulfillment_task t ON t.id = a.task_id
WHERE a.finished_at IS NULL AND a.lease_expires_at < fulfillment_now()
ORDER BY a.lease_expires_at LIMIT %s
"""
_OVERDUE_REPORTS = """
SELECT id, plan_id, fulfillment_id, node FROM fulfillment_task
WHERE state = 'ACCEPTED' AND not_before < fulfillment_now() ORDER BY not_before LIMIT %s
"""
_ACTOR = "lease sweeper"


def sweep(*, limit: int = 500) -> int:
    """Turn lost leases and overdue reports into unknown outcomes. Returns how many it found.

    The results go through the settlement like any other, so a report that comes in at the same
    moment wins or loses under the same lock, and two sweepers do no harm.
    """
    with cursor() as raw:
        raw.execute(_LOST_LEASES, [limit], prepare=True)
        leases = raw.fetchall()
        raw.execute(_OVERDUE_REPORTS, [limit], prepare=True)
        overdue = raw.fetchall()
    results = [
        Result(
            task_id=task_id,
            plan_id=plan_id,
            fulfillment_id=fulfillment_id,
            node=node,
            attempt_id=attempt_id,
            attempt_number=number,
            purpose=Purpose(purpose),
            outcome=Outcome(
                kind=OutcomeKind.UNKNOWN,
                code="lease_lost",
                message="The worker that made the call went away before it told the outcome.",
            ),
        )
        for task_id, plan_id, fulfillment_id, node, attempt_id, number, purpose in leases
    ] + [
        Result(
            task_id=task_id,
            plan_id=plan_id,
            fulfillment_id=fulfillment_id,
            node=node,
            outcome=Outcome(
                kind=OutcomeKind.UNKNOWN,
                code="report_overdue",
                message="The target system accepted the command and did not report in time.",
            ),
        )
        for task_id, plan_id, fulfillment_id, node in overdue
    ]
    if results:
        settle(results=results, actor=_ACTOR)
    return len(results)
