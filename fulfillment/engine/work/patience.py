"""Until when a plan may rest without anybody being alarmed.

Every plan carries a moment, `patient_until`, before which the stuck-order detector does not look
at it. Whatever moves a plan brings it forward to `stalls_after` from then, where it is later; what
blocks it sets it here. Beyond that the detector alone extends it, by what it finds when the moment
has come: so a moment that is too early costs one look, and code that begins or moves a wait need
not know of it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from fulfillment.engine.work.unit import Unit
from fulfillment.models import MANUAL_OPEN, ManualOrigin, ManualState, ManualTask, Task
from fulfillment.states import TaskState

GRACE = timedelta(minutes=1)
"""Waits and decisions have alarms of their own; the sweeper needs a moment to raise them."""
_LOOKED_AT_AGAIN = timedelta(minutes=15)
"""The customer may take their time; whether they are still awaited is looked at now and then."""
_GRACE = f"interval '{GRACE.total_seconds():f} seconds'"

# What something or somebody ends in time: a wait, a person until the deadline, work of which there
# have to be signs of life, an execution window that opens and has since had as long as any task.
# What has been sent before also pauses between its attempts: only a pause that is longer than the
# plan's patience is the window's.
# Nothing else is patient.
_OF_ONE_TASK = f"""
CASE
    WHEN t.state = 'ACCEPTED' AND (t.target_id = '' OR t.not_before < t.report_by)
        THEN t.not_before + {_GRACE}
    WHEN t.state = 'READY' AND t.sends = 0 AND t.not_before > t.changed_at
        THEN t.not_before + p.stalls_after
    WHEN t.state IN ('READY', 'FAILED_RETRYABLE') AND t.not_before > t.changed_at + p.stalls_after
        AND (SELECT g.document -> 'nodes' -> t.node ->> 'window' FROM fulfillment_plangraph g
             WHERE g.id = p.graph_id) IS NOT NULL
        THEN t.not_before + p.stalls_after
    WHEN t.state = 'AWAITING_MANUAL' THEN (
        SELECT CASE WHEN m.state = 'AWAITING_CUSTOMER' THEN fulfillment_now() + p.stalls_after
            ELSE m.due_at + {_GRACE} END
        FROM fulfillment_manualtask m
        WHERE m.task_id = t.id AND (m.state = 'AWAITING_CUSTOMER'
            OR m.state IN ('OPEN', 'CLAIMED') AND m.origin = 'WORKFLOW'))
END
"""
BY_ITS_TASKS = f"""(
    SELECT min(coalesce({_OF_ONE_TASK}, '-infinity')) FROM fulfillment_task t
    WHERE t.plan_id = p.id AND (
        t.state IN ('READY', 'DISPATCHED', 'ACCEPTED', 'FAILED_RETRYABLE', 'OUTCOME_UNKNOWN',
                    'AWAITING_MANUAL')
        OR t.state IN ('FAILED_FINAL', 'CANCELLED') AND t.required)
)"""
"""SQL: until when all that is open in plan `p` is ended in time; '-infinity' or NULL: it isn't."""

_DUE = """
SELECT id, task_id,
       CASE state WHEN 'AWAITING_CUSTOMER' THEN fulfillment_now() + %s ELSE due_at END
FROM fulfillment_manualtask
WHERE task_id = ANY(%s::bigint[]) AND (state = 'AWAITING_CUSTOMER'
    OR state IN ('OPEN', 'CLAIMED') AND origin = 'WORKFLOW')
"""


def of_decisions(unit: Unit, *, tasks: Collection[Task]) -> datetime | None:
    """Until when a blocked plan with these tasks waits for nothing but decisions in time.

    None when something in it needs help that nobody has been asked for yet.
    """
    waiting = {task.id for task in tasks if task.state == TaskState.AWAITING_MANUAL}
    lost = any(
        task.required and task.state in (TaskState.FAILED_FINAL, TaskState.CANCELLED)
        for task in tasks
    )
    if lost or not waiting:
        return None
    unit.raw.execute(_DUE, [_LOOKED_AT_AGAIN, sorted(waiting)], prepare=True)
    due = {
        task_id: due_at
        for manual_id, task_id, due_at in unit.raw.fetchall()
        if manual_id not in unit.changed_manual
    } | {
        manual.task_id: _due(unit, manual)
        for manual in (*unit.new_manual, *unit.changed_manual.values())
        if manual.state in MANUAL_OPEN
    }
    ends = [at for task in waiting if (at := due.get(task)) is not None]
    return min(ends) + GRACE if len(ends) == len(waiting) else None


def _due(unit: Unit, manual: ManualTask) -> datetime | None:
    if manual.state == ManualState.AWAITING_CUSTOMER:
        return unit.now + _LOOKED_AT_AGAIN
    return manual.due_at if manual.origin == ManualOrigin.WORKFLOW else None
