"""Fallout cases: opened by the engine in the unit that found the trouble (reference §18)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fulfillment.engine.store.database import Update, clean
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, CaseState, FalloutCase, Severity

# What comes later about the same subject joins the case that is open.
_OPEN = """
INSERT INTO fulfillment_falloutcase (
    fulfillment_id, plan_id, task_id, subject, state, category, severity, reason_code, title,
    explanation, facts, repair_options, owner_queue, sla_due_at, customer_impact, revenue_impact,
    opened_by, opened_at, resolved_by, resolution)
VALUES (%s, %s, %s, %s, 'OPEN', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, '', '')
ON CONFLICT (subject) WHERE state = 'OPEN' DO UPDATE
SET reason_code = excluded.reason_code, title = excluded.title,
    explanation = excluded.explanation, severity = excluded.severity,
    category = excluded.category, owner_queue = excluded.owner_queue,
    repair_options = excluded.repair_options,
    facts = fulfillment_falloutcase.facts || excluded.facts
RETURNING id, xmax = 0
"""
_OPEN_ONES = """
SELECT id, fulfillment_id, state FROM fulfillment_falloutcase
WHERE state = 'OPEN' AND {which} ORDER BY id FOR NO KEY UPDATE
"""
_ABOUT = _OPEN_ONES.format(which="subject = ANY(%s::text[])")
_ONE = _OPEN_ONES.format(which="id = %s")
_RESOLVED = Update(
    "fulfillment_falloutcase",
    guard="state",
    state="text",
    resolved_by="text",
    resolved_at="timestamptz",
    resolution="text",
)
_QUEUES: Mapping[CaseCategory, tuple[str, timedelta]] = {
    CaseCategory.REFUSED: ("operations", timedelta(hours=4)),
    CaseCategory.UNCERTAIN: ("operations", timedelta(hours=1)),
    CaseCategory.CONFLICT: ("operations", timedelta(hours=1)),
    CaseCategory.DATA: ("data", timedelta(hours=4)),
    CaseCategory.RETRYING: ("integration", timedelta(hours=2)),
    CaseCategory.STUCK: ("operations", timedelta(hours=2)),
    CaseCategory.LATE: ("operations", timedelta(hours=2)),
    CaseCategory.POISON: ("engine", timedelta(hours=1)),
    CaseCategory.JEOPARDY: ("operations", timedelta(hours=2)),
    CaseCategory.UNDELIVERED: ("integration", timedelta(hours=8)),
    CaseCategory.LEAKAGE: ("billing", timedelta(hours=4)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallout:
    """What a person has to know about one piece of trouble; see `FalloutCase`."""

    subject: str
    category: CaseCategory
    reason_code: str
    title: str
    explanation: str
    severity: Severity = Severity.MEDIUM
    facts: Mapping[str, Any] = field(default_factory=dict)
    repair_options: Sequence[str] = ()
    fulfillment_id: int | None = None
    plan_id: int | None = None
    task_id: int | None = None
    customer_impact: str = ""
    revenue_impact: str = ""


def desk_of(category: CaseCategory) -> tuple[str, timedelta]:
    """The queue that has to do with it, and within what time."""
    return _QUEUES[category]


def open_case(unit: Unit, *, fallout: Fallout) -> int:
    """Open a case, or bring the open one about the same subject up to date. Returns its id."""
    queue, within = desk_of(fallout.category)
    unit.raw.execute(
        _OPEN,
        [
            fallout.fulfillment_id,
            fallout.plan_id,
            fallout.task_id,
            fallout.subject,
            str(fallout.category),
            str(fallout.severity),
            fallout.reason_code[:100] or "unknown",
            fallout.title[:300],
            fallout.explanation,
            json.dumps(fallout.facts),
            json.dumps(list(fallout.repair_options)),
            queue,
            unit.now + within,
            fallout.customer_impact,
            fallout.revenue_impact,
            unit.actor,
            unit.now,
        ],
        prepare=True,
    )
    row = unit.raw.fetchone()
    assert row is not None
    case_id, is_new = row
    if is_new and fallout.fulfillment_id is not None:
        _audit(unit, case_id, fallout.fulfillment_id, "open", "", CaseState.OPEN, fallout.title)
    return int(case_id)


def resolve_cases(unit: Unit, *, subjects: Iterable[str], resolution: str) -> int:
    """Close the open cases about these subjects: what they were about is no longer so."""
    wanted = sorted(set(subjects))
    if not wanted:
        return 0
    return _resolve(unit, _ABOUT, wanted, resolution)


def resolve_case(unit: Unit, *, case_id: int, resolution: str) -> bool:
    """Close one case by hand, under the lock of its order. False when it is closed already."""
    return bool(_resolve(unit, _ONE, case_id, resolution))


def _resolve(unit: Unit, statement: str, which: Any, resolution: str) -> int:
    unit.raw.execute(statement, [which], prepare=True)
    rows = []
    for case_id, fulfillment_id, state in unit.raw.fetchall():
        case = FalloutCase(id=case_id, fulfillment_id=fulfillment_id, state=state)
        case.resolve()
        rows.append((case_id, str(case.state), unit.actor, unit.now, resolution, state))
        if fulfillment_id is not None:
            _audit(unit, case_id, fulfillment_id, "resolve", state, case.state, resolution)
    return _RESOLVED.run(unit.raw, rows)


def of_task(task_id: int) -> str:
    """The subject of what keeps one task; closed when the task gets on."""
    return f"task:{task_id}"


def of_plan(plan_id: int) -> str:
    """The subject of a plan in which nothing moves; closed when something does."""
    return f"plan:{plan_id}"


def poison(
    *,
    subject: str,
    what: str,
    error: Exception,
    fulfillment_id: int | None = None,
    plan_id: int | None = None,
    task_id: int | None = None,
) -> Fallout:
    """The engine itself fails with this one; its neighbours go on."""
    return Fallout(
        subject=subject,
        category=CaseCategory.POISON,
        severity=Severity.HIGH,
        reason_code=type(error).__name__,
        title=f"{what}: the engine fails with it",
        explanation=clean(
            f"{type(error).__name__}: {error}. It is tried again every minute; nothing else waits "
            "for it. Find the cause in the log, correct the data or the row that it names, and "
            "it goes on by itself.",
            2000,
        ),
        facts={"error": clean(f"{type(error).__name__}: {error}", 2000)},
        fulfillment_id=fulfillment_id,
        plan_id=plan_id,
        task_id=task_id,
    )


def _audit(
    unit: Unit,
    case_id: int,
    fulfillment_id: int,
    name: str,
    before: str,
    after: str,
    cause: str,
) -> None:
    unit.record(
        fulfillment_id=fulfillment_id,
        entity="case",
        entity_id=str(case_id),
        name=name,
        before=before,
        after=after,
        cause=cause,
    )
