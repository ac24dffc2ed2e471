"""Sweeping: what was claimed or accepted or waits, and of which nothing was heard in time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from fulfillment.engine.plans import deciding
from fulfillment.engine.plans.settlement import settle
from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import DATABASE_TROUBLE, Row, cursor
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.tasks import timing_out
from fulfillment.engine.tasks.outcomes import LEASE_LOST, Result
from fulfillment.engine.timing.clocks import TIME_IS_UP
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
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
SELECT id, plan_id, fulfillment_id, node, element, not_before FROM fulfillment_task
WHERE state = 'ACCEPTED' AND not_before < (SELECT fulfillment_now())
  AND (not_before, id) > (%s::timestamptz, %s)
ORDER BY not_before, id LIMIT %s
"""
_UNSTARTED = """
SELECT id, plan_id, fulfillment_id, node, element, start_by FROM fulfillment_task
WHERE state IN ('FAILED_RETRYABLE', 'READY') AND start_by IS NOT NULL AND stopped_at IS NULL
  AND start_by < (SELECT fulfillment_now()) AND (start_by, id) > (%s::timestamptz, %s)
ORDER BY start_by, id LIMIT %s
"""
_UNCLOSED = """
SELECT id, plan_id, fulfillment_id, node, element, close_by FROM fulfillment_task
WHERE state IN ('ACCEPTED', 'FAILED_RETRYABLE', 'OUTCOME_UNKNOWN', 'READY')
  AND close_by IS NOT NULL AND stopped_at IS NULL
  AND close_by < (SELECT fulfillment_now()) AND (close_by, id) > (%s::timestamptz, %s)
ORDER BY close_by, id LIMIT %s
"""
_LATE_PLANS = """
SELECT id, fulfillment_id, finish_by FROM fulfillment_plan
WHERE finish_by IS NOT NULL AND finish_by < (SELECT fulfillment_now()) AND stopped_at IS NULL
  AND state NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'SUPERSEDED')
  AND (finish_by, id) > (%s::timestamptz, %s)
ORDER BY finish_by, id LIMIT %s
"""
_UNDECIDED = """
SELECT id, fulfillment_id, due_at FROM fulfillment_manualtask
WHERE state IN ('CLAIMED', 'OPEN') AND due_at < (SELECT fulfillment_now())
  AND (due_at, id) > (%s::timestamptz, %s)
ORDER BY due_at, id LIMIT %s
"""
_STILL_OPEN = """
SELECT id FROM fulfillment_attempt WHERE id = ANY(%s::bigint[]) AND finished_at IS NULL
"""
_ACTOR = "lease sweeper"
_Key = tuple[datetime | str, int]
"""The moment and the row after which to go on reading."""
_FIRST: _Key = ("-infinity", 0)


def sweep(*, limit: int = 500) -> int:
    """Settle lost leases, and every time that is up. Returns how many it found.

    The results go through the settlement like any other, `limit` in a unit, and count only if
    they are still true under its locks: an answer or a report that comes in at the same moment
    wins, and two sweepers do no harm.
    """
    swept, problem = 0, None
    for look in _LOOKS:
        after = _FIRST
        while True:
            found, after = look(after, limit)
            try:
                _settle(found)
            except DATABASE_TROUBLE:
                raise
            except Exception as error:
                problem = error  # It has its case; those behind it are not to wait for it.
            swept += len(found)
            if len(found) < limit:
                break
    swept += _end_decisions(limit) + _end_deadlines(limit)
    if problem is not None:
        raise problem
    return swept


def _end_decisions(limit: int) -> int:
    """Manual tasks that nobody has decided in time."""

    def fall_due(batch: Sequence[Row]) -> list[None]:
        run_unit(
            lambda unit: deciding.fall_due(unit, manual_ids=[row[0] for row in batch]),
            fulfillment_ids=(row[1] for row in batch),
            actor="deadline",
        )
        return []

    def leave(row: Row, error: Exception) -> None:
        logger.error("a decision can't fall due", exc_info=error, extra={"manual": row[0]})

    return _end(_UNDECIDED, limit, work=fall_due, culprit=leave)


def _end_deadlines(limit: int) -> int:
    """Plans that should have been done by now."""

    def fall_due(batch: Sequence[Row]) -> list[None]:
        run_unit(
            lambda unit: timing_out.ring_plans(unit, plan_ids=[row[0] for row in batch]),
            fulfillment_ids=(row[1] for row in batch),
            actor="deadline",
        )
        return []

    def leave(row: Row, error: Exception) -> None:
        logger.error("a deadline can't fall due", exc_info=error, extra={"plan": row[0]})

    return _end(_LATE_PLANS, limit, work=fall_due, culprit=leave)


def _end(
    statement: str,
    limit: int,
    *,
    work: Callable[[Sequence[Row]], list[None]],
    culprit: Callable[[Row, Exception], None],
) -> int:
    """All that is due, `limit` in a unit; what that fails with keeps nothing behind it."""
    ended, after = 0, _FIRST
    while True:
        with cursor() as raw:
            raw.execute(statement, [*after, limit], prepare=True)
            due = raw.fetchall()
        if due:
            in_halves(due, work=work, culprit=culprit)
            after = (due[-1][-1], due[-1][0])
        ended += len(due)
        if len(due) < limit:
            return ended


def _lost_leases(after: _Key, limit: int) -> tuple[list[Result], _Key]:
    with cursor() as raw:
        raw.execute(_LOST_LEASES, [*after, limit], prepare=True)
        rows = raw.fetchall()
    found = [
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
        ) in rows
    ]
    return found, (rows[-1][-1], rows[-1][5]) if rows else after


def _run_out(statement: str, after: _Key, limit: int) -> tuple[list[Result], _Key]:
    """Tasks of which a clock has run out; which one, and what follows, is told under the locks."""
    with cursor() as raw:
        raw.execute(statement, [*after, limit], prepare=True)
        rows = raw.fetchall()
    found = [
        Result(
            task_id=task_id,
            plan_id=plan_id,
            fulfillment_id=fulfillment_id,
            node=node,
            element=element,
            outcome=TIME_IS_UP,
        )
        for task_id, plan_id, fulfillment_id, node, element, _ in rows
    ]
    return found, (rows[-1][-1], rows[-1][0]) if rows else after


_LOOKS: tuple[Callable[[_Key, int], tuple[list[Result], _Key]], ...] = (
    _lost_leases,
    *(partial(_run_out, statement) for statement in (_OVERDUE_REPORTS, _UNSTARTED, _UNCLOSED)),
)


def _settle(results: Sequence[Result]) -> None:
    if results:
        failpoints.reach("sweeping.before_settling")
        settle(results=results, actor=_ACTOR, still_true=_still_true)


def _still_true(unit: Unit, results: Sequence[Result]) -> list[Result]:
    """Leases that are still open; whether a time is still up is looked at with its task."""
    leases = [result.attempt_id for result in results if result.attempt_id is not None]
    unit.raw.execute(_STILL_OPEN, [leases], prepare=True)
    still_open = {row[0] for row in unit.raw.fetchall()}
    return [
        result for result in results if result.attempt_id is None or result.attempt_id in still_open
    ]
