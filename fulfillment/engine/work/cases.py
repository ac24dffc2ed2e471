"""Fallout cases: opened by the engine in the unit that found the trouble (reference §18).

What fails in one order for the same reason is one case with several tasks: its subject is then
the cause, and a row says of each task since when it belongs to it. Everything else has one case
per subject.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from fulfillment.definitions import amounts
from fulfillment.engine.store import routing
from fulfillment.engine.store.database import Update, array, clean
from fulfillment.engine.work import sla
from fulfillment.engine.work.unit import Unit
from fulfillment.models import UNRESOLVED, CaseCategory, CaseState, FalloutCase, Severity

Revenue = Mapping[str, Mapping[str, Sequence[str]]]
"""By item, by currency: what it is sold for once, and what recurs; amounts as text."""

# What comes later about the same subject joins the case that is open. What another task than the
# one it speaks of brings along adds to what it costs, and to nothing else.
_OWN = "(NOT %(gathers)s OR c.task_id = excluded.task_id)"
_ELSEWHERE = (
    f"{_OWN} AND c.escalation_level = 0 AND "
    "(c.category, c.target, c.action, c.reason_code) IS DISTINCT FROM "
    "(excluded.category, excluded.target, excluded.action, excluded.reason_code)"
)
_OPEN = f"""
INSERT INTO fulfillment_falloutcase AS c (
    fulfillment_id, plan_id, task_id, subject, state, category, severity, target, action,
    reason_code, fingerprint, title, explanation, facts, repair_options, tasks_open, tasks_total,
    owner_queue, role, sla_due_at, sla_within, sla_calendar, escalation_queue, customer_impact,
    revenue_impact, revenue, revenue_amount, revenue_currency, opened_by, opened_at, resolved_by,
    resolution)
VALUES (
    %(fulfillment)s, %(plan)s, %(task)s, %(subject)s, 'OPEN', %(category)s, %(severity)s,
    %(target)s, %(action)s, %(reason_code)s, %(fingerprint)s, %(title)s, %(explanation)s,
    %(facts)s, %(repair_options)s, %(joins)s, %(joins)s, %(queue)s, %(role)s, %(due_at)s,
    %(within)s, %(calendar)s, %(escalation_queue)s, %(customer_impact)s, %(revenue_impact)s,
    %(revenue)s, %(amount)s, %(currency)s, %(actor)s, %(now)s, '', '')
ON CONFLICT (subject) WHERE {UNRESOLVED} DO UPDATE SET
    category = excluded.category, target = excluded.target, action = excluded.action,
    fingerprint = excluded.fingerprint, reason_code = excluded.reason_code,
    incident_id = CASE WHEN c.fingerprint = excluded.fingerprint THEN c.incident_id END,
    repair_options = excluded.repair_options,
    severity = CASE
        WHEN {_OWN} THEN excluded.severity
        WHEN 'HIGH' IN (c.severity, excluded.severity) THEN 'HIGH'
        WHEN 'MEDIUM' IN (c.severity, excluded.severity) THEN 'MEDIUM'
        ELSE 'LOW' END,
    title = CASE WHEN {_OWN} THEN excluded.title ELSE c.title END,
    explanation = CASE WHEN {_OWN} THEN excluded.explanation ELSE c.explanation END,
    facts = CASE WHEN {_OWN} THEN c.facts || excluded.facts ELSE c.facts END,
    owner_queue = CASE WHEN {_ELSEWHERE} THEN excluded.owner_queue ELSE c.owner_queue END,
    role = CASE WHEN {_ELSEWHERE} THEN excluded.role ELSE c.role END,
    escalation_queue = excluded.escalation_queue,
    tasks_open = c.tasks_open + excluded.tasks_open,
    tasks_total = c.tasks_total + excluded.tasks_total,
    revenue = c.revenue || excluded.revenue
RETURNING id, xmax = 0, revenue, revenue_impact
"""
_COSTS = """
UPDATE fulfillment_falloutcase SET revenue_impact = %s, revenue_amount = %s, revenue_currency = %s
WHERE id = %s
"""
# The case in which a task is; of one that was opened by the release before, it is the subject.
_CASE_OF = f"""
SELECT c.id, c.subject, c.tasks_open, EXISTS (
    SELECT 1 FROM fulfillment_falloutcase o WHERE o.subject = %(key)s AND o.{UNRESOLVED})
FROM fulfillment_falloutcase c JOIN fulfillment_casetask t ON t.case_id = c.id
WHERE t.task_id = %(task)s AND t.left_at IS NULL
UNION ALL
SELECT id, subject, tasks_open, true FROM fulfillment_falloutcase
WHERE subject = %(subject)s AND {UNRESOLVED} AND tasks_open = 0
"""
_BECOMES = "UPDATE fulfillment_falloutcase SET subject = %s WHERE id = %s"
_JOIN = """
INSERT INTO fulfillment_casetask (case_id, task_id, title, explanation, facts, joined_at,
                                  left_because)
VALUES (%(case)s, %(task)s, %(title)s, %(explanation)s, %(facts)s, %(now)s, '')
ON CONFLICT (task_id) WHERE left_at IS NULL DO UPDATE
SET title = excluded.title, explanation = excluded.explanation,
    facts = fulfillment_casetask.facts || excluded.facts
"""
_ABOUT = f"""
SELECT id, NULL::bigint FROM fulfillment_falloutcase
WHERE subject = ANY(%s::text[]) AND {UNRESOLVED}
UNION ALL
SELECT case_id, task_id FROM fulfillment_casetask
WHERE task_id = ANY(%s::bigint[]) AND left_at IS NULL
"""
_LOCKED = f"""
SELECT id, fulfillment_id, state, tasks_open, task_id FROM fulfillment_falloutcase
WHERE id = ANY(%s::bigint[]) AND {UNRESOLVED} ORDER BY id FOR NO KEY UPDATE
"""
_LEAVE = """
UPDATE fulfillment_casetask SET left_at = %s, left_because = %s
WHERE left_at IS NULL AND {which} = ANY(%s::bigint[])
"""
_TASKS_LEAVE = _LEAVE.format(which="task_id")
_ALL_LEAVE = _LEAVE.format(which="case_id")
_FEWER = Update("fulfillment_falloutcase", tasks_open="int")
# Whom it spoke of has left: it speaks of the next one.
_SPEAKS_OF = """
UPDATE fulfillment_falloutcase c
SET task_id = t.task_id, title = t.title, explanation = t.explanation, facts = t.facts
FROM (
    SELECT DISTINCT ON (case_id) case_id, task_id, title, explanation, facts
    FROM fulfillment_casetask WHERE case_id = ANY(%s::bigint[]) AND left_at IS NULL
    ORDER BY case_id, id
) t WHERE c.id = t.case_id
"""
_RESOLVED = Update(
    "fulfillment_falloutcase",
    guard="state",
    state="text",
    resolved_by="text",
    resolved_at="timestamptz",
    resolution="text",
    tasks_open="int",
)
_OF_TASK = "task:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallout:
    """What a person has to know about one piece of trouble; see `FalloutCase`."""

    subject: str
    category: CaseCategory
    reason_code: str
    title: str
    explanation: str
    severity: Severity = Severity.MEDIUM
    target: str = ""
    action: str = ""
    """Of the target system, or of what the engine does itself: `<workflow>/<task>`."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    repair_options: Sequence[str] = ()
    """Names of operations that may help with it (`Action`)."""
    fulfillment_id: int | None = None
    plan_id: int | None = None
    task_id: int | None = None
    customer_impact: str = ""
    revenue: Revenue = field(default_factory=dict)
    """What waits for it."""


def open_case(unit: Unit, *, fallout: Fallout) -> int:
    """Open a case, or bring the open one about the same up to date. Returns its id.

    A task joins what has failed in its order for the same reason. Of a task that fails for
    another reason than before, the case becomes one about that, unless others share it.
    """
    reason_code = fallout.reason_code[:100] or "unknown"
    cause = fingerprint(target=fallout.target, action=fallout.action, reason_code=reason_code)
    gathers = fallout.task_id is not None and fallout.subject == of_task(fallout.task_id)
    subject = fallout.subject
    joins = False
    if gathers:
        if cause:
            subject = f"cause:{fallout.fulfillment_id}:{fallout.category}:{cause}"
        joins = _comes_from(unit, fallout, key=subject)
    route = routing.route(
        category=fallout.category,
        target=fallout.target,
        action=fallout.action,
        reason_code=reason_code,
        severity=fallout.severity,
    )
    impact, amount, currency = cost(fallout.revenue)
    values = {
        "fulfillment": fallout.fulfillment_id,
        "plan": fallout.plan_id,
        "task": fallout.task_id,
        "subject": subject,
        "category": str(fallout.category),
        "severity": str(route.severity),
        "target": fallout.target[:100],
        "action": fallout.action[:100],
        "reason_code": reason_code,
        "fingerprint": cause,
        "title": fallout.title[:300],
        "explanation": fallout.explanation,
        "facts": json.dumps(fallout.facts),
        "repair_options": json.dumps(list(fallout.repair_options)),
        "gathers": gathers,
        "joins": int(joins),
        "queue": route.owner_queue,
        "role": route.role,
        "due_at": sla.deadline(calendar=route.calendar, start=unit.now, within=route.within),
        "within": route.within,
        "calendar": route.calendar,
        "escalation_queue": route.escalation_queue,
        "customer_impact": fallout.customer_impact,
        "revenue_impact": impact,
        "revenue": json.dumps(fallout.revenue),
        "amount": amount,
        "currency": currency,
        "actor": unit.actor,
        "now": unit.now,
    }
    unit.raw.execute(_OPEN, values, prepare=True)
    row = unit.raw.fetchone()
    assert row is not None
    case_id, is_new, revenue, told = row
    if not is_new and fallout.revenue:
        impact, amount, currency = cost(json.loads(revenue))
        if impact != told:
            unit.raw.execute(_COSTS, [impact, amount, currency, case_id], prepare=True)
    if gathers:
        unit.raw.execute(_JOIN, {"case": case_id, **values}, prepare=True)
    if is_new:
        unit.fell_out |= bool(cause)
        if fallout.fulfillment_id is not None:
            record(
                unit,
                case_id=case_id,
                fulfillment_id=fallout.fulfillment_id,
                name="open",
                before="",
                after=CaseState.OPEN,
                cause=fallout.title,
            )
    return int(case_id)


def _comes_from(unit: Unit, fallout: Fallout, *, key: str) -> bool:
    """Whether the task is in no case yet, or not any more, that is open under this key."""
    unit.raw.execute(
        _CASE_OF,
        {"key": key, "task": fallout.task_id, "subject": fallout.subject},
        prepare=True,
    )
    row = unit.raw.fetchone()
    if row is None:
        return True
    case_id, before, tasks_open, is_known = row
    if before == key:
        return not tasks_open
    if tasks_open == 1 and not is_known:
        unit.raw.execute(_BECOMES, [key, case_id], prepare=True)
        return False
    resolve_cases(
        unit,
        subjects=[fallout.subject],
        resolution=f"It goes on for another reason: {fallout.reason_code}.",
    )
    return True


def resolve_cases(unit: Unit, *, subjects: Iterable[str], resolution: str) -> int:
    """What these subjects were about is no longer so: close their cases.

    A task leaves its case, which closes with the last of them. Returns how many were closed.
    """
    wanted = sorted(set(subjects))
    if not wanted:
        return 0
    task_ids = [
        int(one.removeprefix(_OF_TASK))
        for one in wanted
        if one.startswith(_OF_TASK) and one[len(_OF_TASK) :].isdigit()
    ]
    unit.raw.execute(_ABOUT, [wanted, array(task_ids)], prepare=True)
    leaving: dict[int, set[int]] = defaultdict(set)
    whole: set[int] = set()
    for case_id, task_id in unit.raw.fetchall():
        if task_id is None:
            whole.add(case_id)
        else:
            leaving[case_id].add(task_id)
    if not leaving and not whole:
        return 0
    return _resolve(unit, whole, leaving, resolution)


def resolve_case(unit: Unit, *, case_id: int, resolution: str) -> bool:
    """Close one case by hand, under the lock of its order. False when it is closed already."""
    return bool(_resolve(unit, {case_id}, {}, resolution))


def _resolve(unit: Unit, whole: set[int], leaving: Mapping[int, set[int]], resolution: str) -> int:
    unit.raw.execute(_LOCKED, [sorted({*whole, *leaving})], prepare=True)
    over: list[tuple[Any, ...]] = []
    fewer: list[tuple[int, int]] = []
    mute: list[int] = []
    for case_id, fulfillment_id, state, tasks_open, task_id in unit.raw.fetchall():
        left = tasks_open - len(leaving.get(case_id, ()))
        if left > 0 and case_id not in whole:
            fewer.append((case_id, left))
            if task_id in leaving[case_id]:
                mute.append(case_id)
            continue
        case = FalloutCase(id=case_id, fulfillment_id=fulfillment_id, state=state)
        case.resolve()
        over.append((case_id, str(case.state), unit.actor, unit.now, resolution, 0, state))
        if fulfillment_id is not None:
            record(
                unit,
                case_id=case_id,
                fulfillment_id=fulfillment_id,
                name="resolve",
                before=state,
                after=case.state,
                cause=resolution,
            )
    gone = [task_id for tasks in leaving.values() for task_id in tasks]
    if gone:
        unit.raw.execute(_TASKS_LEAVE, [unit.now, resolution, gone], prepare=True)
    if over:
        closed = [row[0] for row in over]
        unit.raw.execute(_ALL_LEAVE, [unit.now, resolution, closed], prepare=True)
    _FEWER.run(unit.raw, fewer)
    if mute:
        unit.raw.execute(_SPEAKS_OF, [mute], prepare=True)
    return _RESOLVED.run(unit.raw, over)


def fingerprint(*, target: str, action: str, reason_code: str) -> str:
    """What has a cause in common has this in common; empty for what has none."""
    if not (target or action):
        return ""
    return hashlib.sha256(f"{target}\n{action}\n{reason_code}".encode()).hexdigest()[:32]


def cost(revenue: Revenue) -> tuple[str, Decimal | None, str]:
    """In words; and the largest sum, of what is paid once and of one period, with its currency."""
    parts: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for prices in revenue.values():
        for currency, both in prices.items():
            for amount, words in zip(both, ("once", "recurring"), strict=True):
                if Decimal(amount):
                    parts[currency, words] += Decimal(amount)
                    sums[currency] += Decimal(amount)
    told = ", ".join(
        f"{amounts.money(amount=amount, currency=currency)} {words}"
        for (currency, words), amount in parts.items()
    )
    if not sums:
        return told, None, ""
    largest = max(sums, key=lambda currency: sums[currency])
    return told, sums[largest], largest


def of_task(task_id: int) -> str:
    """The subject of what keeps one task; closed when the task gets on."""
    return f"{_OF_TASK}{task_id}"


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


def record(
    unit: Unit,
    *,
    case_id: int,
    fulfillment_id: int,
    name: str,
    before: str,
    after: str,
    cause: str,
    details: dict[str, Any] | None = None,
) -> None:
    """A row in the audit trail of its order: one for each transition of a case."""
    unit.record(
        fulfillment_id=fulfillment_id,
        entity="case",
        entity_id=str(case_id),
        name=name,
        before=before,
        after=after,
        cause=cause,
        details=details,
    )
