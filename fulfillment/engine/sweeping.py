"""Sweeping: what was claimed or accepted or waits, and of which nothing was heard in time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from adapters.contract import Outcome, OutcomeKind
from fulfillment.engine import deciding, failpoints
from fulfillment.engine.database import DATABASE_TROUBLE, Row, cursor
from fulfillment.engine.halving import in_halves
from fulfillment.engine.outcomes import LEASE_LOST, TIME_IS_UP, Result
from fulfillment.engine.settlement import settle
from fulfillment.engine.unit import Unit, run_unit
from fulfillment.models import Purpose

logger = logging.getLogger(__name__)

_LOST_LEASES = """
SELECT a.task_id, t.plan_id, a.fulfillment_id, t.node, t.element, a.id, a.number, a.purpose,
       a.command_id, a.lease_expires_at
FROM fulfillment_attempt a JOIN fulfillment_task t ON t.id = a.task_id
WHERE a.finished_at IS NULL AND a.lease_expires_at < (SELECT fulfillment_now())
  AND (a.lease_expires_at, a.id) > (%s::timestamptz, %s)
ORDER BY a.lease_expires_at, a.id LIMIT %s
"""
_OVERDUE_REPORTS = """
SELECT id, plan_id, fulfillment_id, node, element, target_id = '', not_before
FROM fulfillment_task
WHERE state = 'ACCEPTED' AND not_before < (SELECT fulfillment_now())
  AND (not_before, id) > (%s::timestamptz, %s)
ORDER BY not_before, id LIMIT %s
"""
_UNDECIDED = """
SELECT id, fulfillment_id FROM fulfillment_manualtask
WHERE state = 'OPEN' AND due_at < (SELECT fulfillment_now()) ORDER BY due_at LIMIT %s
"""
_STILL_OPEN = """
SELECT id FROM fulfillment_attempt WHERE id = ANY(%s::bigint[]) AND finished_at IS NULL
"""
_STILL_OVERDUE = """
SELECT id FROM fulfillment_task
WHERE id = ANY(%s::bigint[]) AND state = 'ACCEPTED' AND not_before < (SELECT fulfillment_now())
"""
_OVERDUE = Outcome(
    kind=OutcomeKind.UNKNOWN,
    code="report_overdue",
    message="The target system accepted the command and did not report in time.",
)
_ACTOR = "lease sweeper"
_FIRST: tuple[datetime | str, int] = ("-infinity", 0)


def sweep(*, limit: int = 500) -> int:
    """Turn lost leases and overdue reports into unknown outcomes. Returns how many it found.

    The results go through the settlement like any other, `limit` in a unit, and count only if
    they are still true under its locks: an answer or a report that comes in at the same moment
    wins, and two sweepers do no harm.
    """
    swept, problem = 0, None
    lease, report = _FIRST, _FIRST
    while True:
        with cursor() as raw:
            raw.execute(_LOST_LEASES, [*lease, limit], prepare=True)
            leases = raw.fetchall()
            raw.execute(_OVERDUE_REPORTS, [*report, limit], prepare=True)
            overdue = raw.fetchall()
        try:
            _settle(leases, overdue)
        except DATABASE_TROUBLE:
            raise
        except Exception as error:
            problem = error  # It has its case; those behind it are not to wait for it.
        swept += len(leases) + len(overdue)
        if len(leases) < limit and len(overdue) < limit:
            break
        lease = (leases[-1][-1], leases[-1][5]) if leases else lease
        report = (overdue[-1][-1], overdue[-1][0]) if overdue else report
    swept += _end_decisions(limit)
    if problem is not None:
        raise problem
    return swept


def _end_decisions(limit: int) -> int:
    """Manual tasks that nobody has decided in time."""
    with cursor() as raw:
        raw.execute(_UNDECIDED, [limit], prepare=True)
        due = raw.fetchall()

    def fall_due(batch: Sequence[Row]) -> list[None]:
        run_unit(
            lambda unit: deciding.fall_due(unit, manual_ids=[row[0] for row in batch]),
            fulfillment_ids=(row[1] for row in batch),
            actor="deadline",
        )
        return []

    def leave(row: Row, error: Exception) -> None:
        logger.error("a decision can't fall due", exc_info=error, extra={"manual": row[0]})

    if due:
        in_halves(due, work=fall_due, culprit=leave)
    return len(due)


def _settle(leases: Sequence[Row], overdue: Sequence[Row]) -> None:
    results = [
        Result(
            task_id=task_id,
            plan_id=plan_id,
            fulfillment_id=fulfillment_id,
            node=node,
            element=element,
            command_id=command_id,
            attempt_id=attempt_id,
            attempt_number=number,
            purpose=Purpose(purpose),
            outcome=LEASE_LOST,
        )
        for (
            task_id,
            plan_id,
            fulfillment_id,
            node,
            element,
            attempt_id,
            number,
            purpose,
            command_id,
            _,
        ) in leases
    ] + [
        Result(
            task_id=task_id,
            plan_id=plan_id,
            fulfillment_id=fulfillment_id,
            node=node,
            element=element,
            outcome=TIME_IS_UP if is_wait else _OVERDUE,
        )
        for task_id, plan_id, fulfillment_id, node, element, is_wait, _ in overdue
    ]
    if results:
        failpoints.reach("sweeping.before_settling")
        settle(results=results, actor=_ACTOR, still_true=_still_true)


def _still_true(unit: Unit, results: Sequence[Result]) -> list[Result]:
    leases = [result.attempt_id for result in results if result.attempt_id is not None]
    unit.raw.execute(_STILL_OPEN, [leases], prepare=True)
    still_open = {row[0] for row in unit.raw.fetchall()}
    unit.raw.execute(_STILL_OVERDUE, [[result.task_id for result in results]], prepare=True)
    overdue = {row[0] for row in unit.raw.fetchall()}
    return [
        result
        for result in results
        if result.attempt_id in still_open
        or (result.attempt_id is None and result.task_id in overdue)
    ]
