"""What has taken longer than it may goes to others, again and again: a job of beat's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fulfillment.engine.store.database import Row, cursor
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.work import cases, casework
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import HIGHEST_LEVEL, IS_UNRESOLVED, UNRESOLVED, FalloutCase
from fulfillment.operations.records import log
from fulfillment.states import TASK_SUCCESSFUL

logger = logging.getLogger(__name__)

_DUE_ONES = f"""
SELECT id, fulfillment_id FROM fulfillment_falloutcase
WHERE {UNRESOLVED} AND sla_paused_at IS NULL AND escalation_level < {HIGHEST_LEVEL}
  AND coalesce(escalates_at, sla_due_at) <= fulfillment_now() {{only}}
"""
# In a subquery, so that the clock is asked once.
_DUE = (
    _DUE_ONES.format(only="").replace("fulfillment_now()", "(SELECT fulfillment_now())")
    + "ORDER BY coalesce(escalates_at, sla_due_at) LIMIT %s"
)
_STILL_DUE = _DUE_ONES.format(only="AND id = ANY(%s::bigint[])") + ("ORDER BY id FOR NO KEY UPDATE")
# While versions change, a task may get on in a process that does not know of cases with several.
_GOT_ON = """
SELECT k.task_id FROM fulfillment_casetask k JOIN fulfillment_task t ON t.id = k.task_id
WHERE k.case_id = ANY(%s::bigint[]) AND k.left_at IS NULL AND t.state = ANY(%s::text[])
"""
_TOGETHER = 50
_AT_MOST = 1000
_BY = "escalation"


def escalate_due(*, at_most: int = _AT_MOST) -> int:
    """Escalate every case whose time is over. Returns how many; what is left, the next time."""
    with cursor() as raw:
        raw.execute(_DUE, [at_most], prepare=True)
        due = raw.fetchall()
    done: list[int] = []
    for first in range(0, len(due), _TOGETHER):
        done += in_halves(due[first : first + _TOGETHER], work=_escalate, culprit=_leave)
    return len(done)


def _escalate(rows: Sequence[Row]) -> list[int]:
    def work(unit: Unit) -> list[int]:
        unit.raw.execute(_STILL_DUE, [[case_id for case_id, _ in rows]], prepare=True)
        still = [case_id for case_id, _ in unit.raw.fetchall()]
        unit.raw.execute(_GOT_ON, [still, sorted(TASK_SUCCESSFUL)], prepare=True)
        got_on = [cases.of_task(task_id) for (task_id,) in unit.raw.fetchall()]
        cases.resolve_cases(unit, subjects=got_on, resolution="The task has succeeded since.")
        for case in FalloutCase.objects.filter(IS_UNRESOLVED, pk__in=still).order_by("pk"):
            before = {"level": case.escalation_level, "owner_queue": case.owner_queue}
            casework.escalate(unit, case=case, cause="Its time is over.")
            if case.fulfillment_id is None:  # It is in no order's audit trail.
                log(
                    kind="escalate_case",
                    subject=f"case:{case.pk}",
                    actor=_BY,
                    reason="Its time is over.",
                    before=before,
                    after={"level": case.escalation_level, "owner_queue": case.owner_queue},
                    now=unit.now,
                )
        return still

    locked = [fulfillment_id for _, fulfillment_id in rows if fulfillment_id is not None]
    return run_unit(work, fulfillment_ids=locked, actor=_BY)


def _leave(row: Row, error: Exception) -> None:
    logger.error("a case is not escalated yet", exc_info=error, extra={"case": row[0]})
