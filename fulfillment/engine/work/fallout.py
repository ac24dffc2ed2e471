"""What a case about a task says: the evidence, what it costs, and what may be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from fulfillment.actions import Action
from fulfillment.definitions.graph import Node
from fulfillment.engine.store import graphs, routing
from fulfillment.engine.work import asking, cases
from fulfillment.engine.work.unit import InTrouble, Unit
from fulfillment.models import CaseCategory, Plan, Severity, Task
from fulfillment.states import TaskState

_EVIDENCE = """
SELECT id, number, purpose, worker, started_at, finished_at, outcome, code, message
FROM fulfillment_attempt WHERE command_id = (
    SELECT id FROM fulfillment_command WHERE task_id = %s ORDER BY revision DESC LIMIT 1
) ORDER BY number DESC LIMIT 20
"""
_KEY = """
SELECT idempotency_key FROM fulfillment_command WHERE task_id = %s ORDER BY revision DESC LIMIT 1
"""
_REPAIRS: Mapping[CaseCategory, tuple[Action, ...]] = {
    CaseCategory.REFUSED: (
        Action.TASK_RETRY,
        Action.TASK_CORRECT,
        Action.TASK_WAIVE,
        Action.TASK_SKIP,
        Action.ORDER_CANCEL,
    ),
    CaseCategory.UNCERTAIN: (Action.TASK_RECONCILE, Action.TASK_RETRY, Action.TASK_WAIVE),
    CaseCategory.CONFLICT: (Action.TASK_RECONCILE, Action.PLAN_COMPENSATE),
    CaseCategory.DATA: (
        Action.TASK_REFERENCE,
        Action.TASK_CORRECT,
        Action.TASK_RETRY,
        Action.TASK_WAIVE,
    ),
    CaseCategory.RETRYING: (Action.TARGET_PAUSE, Action.TASK_RETRY, Action.TASK_CORRECT),
    CaseCategory.STUCK: (Action.TASK_RETRY, Action.HOLD_RELEASE, Action.TASK_WAIVE),
    CaseCategory.LATE: (Action.HOLD_RELEASE, Action.TARGET_RESUME, Action.TASK_WAIVE),
    CaseCategory.POISON: (Action.TASK_RETRY, Action.TASK_WAIVE),
}
_TITLES: Mapping[CaseCategory, str] = {
    CaseCategory.REFUSED: "{title}: {target} does not do it",
    CaseCategory.UNCERTAIN: "{title}: nobody knows whether {target} did it",
    CaseCategory.CONFLICT: "{title}: {target} contradicts itself",
    CaseCategory.DATA: "{title}: a value is missing or can't be used",
    CaseCategory.RETRYING: "{title}: {target} has failed again and again",
    CaseCategory.STUCK: "{title}: nothing moves",
    CaseCategory.LATE: "{title}: it is late",
    CaseCategory.POISON: "{title}: quarantined, it takes workers down",
}


def open_for_task(
    unit: Unit,
    *,
    task: Task,
    node: Node,
    category: CaseCategory,
    reason_code: str,
    explanation: str,
    facts: Mapping[str, Any] | None = None,
    title: str = "",
    stays: bool = False,
) -> None:
    """Open the task's case, or bring the open one up to date.

    `title` takes the place of the usual one. A case that `stays` is not closed when the task gets
    on: a person has to look.
    """
    plan = unit.plans[task.plan_id]
    locked = unit.fulfillments[task.fulfillment_id]
    if task.state == TaskState.AWAITING_MANUAL:
        unit.troubles[task.id] = InTrouble(
            trouble=asking.trouble_of(node=node, category=category, reason_code=reason_code),
            title=title or _title(node, category),
            explanation=explanation,
            route=routing.route(
                category=category,
                target=node.target,
                action=node.action or f"{node.workflow}/{node.task}",
                reason_code=reason_code,
                severity=_severity(node, category),
            ),
        )
    subject = cases.of_task(task.id)
    if stays:
        subject = f"conflict:{subject}"
    cases.open_case(
        unit,
        fallout=cases.Fallout(
            subject=subject,
            category=category,
            severity=_severity(node, category),
            target=node.target,
            action=node.action or f"{node.workflow}/{node.task}",
            reason_code=reason_code,
            title=f"{locked.order_reference} · " + (title or _title(node, category)),
            explanation=explanation,
            facts={
                "target": node.target,
                "action": node.action,
                "task": task.key,
                "state": str(task.state),
                "sends": task.sends,
                "attempts": task.attempts,
                "idempotency_key": _key(unit, task),
                "reference": task.reference,
                "evidence": _evidence(unit, task),
                **(facts or {}),
            },
            repair_options=_REPAIRS[category],
            fulfillment_id=task.fulfillment_id,
            plan_id=task.plan_id,
            task_id=task.id,
            customer_impact=customer_impact(node),
            revenue=revenue(plan, node),
        ),
    )


def _title(node: Node, category: CaseCategory) -> str:
    if not node.target and category is CaseCategory.REFUSED:
        return f"{node.title}: it has failed for good"
    return _TITLES[category].format(title=node.title, target=node.target)


def _severity(node: Node, category: CaseCategory) -> Severity:
    if node.irreversible or category in (CaseCategory.CONFLICT, CaseCategory.POISON):
        return Severity.HIGH
    return Severity.MEDIUM if node.required else Severity.LOW


def _key(unit: Unit, task: Task) -> str:
    unit.raw.execute(_KEY, [task.id], prepare=True)
    row = unit.raw.fetchone()
    return str(row[0]) if row else ""


def _evidence(unit: Unit, task: Task) -> list[dict[str, Any]]:
    """The latest attempts, newest first, with what this unit is about to write."""
    unit.raw.execute(_EVIDENCE, [task.id], prepare=True)
    finishing = {attempt.id: attempt for attempt in unit.finished_attempts}
    found = []
    for attempt_id, number, purpose, worker, started_at, *ended in unit.raw.fetchall():
        finished_at, outcome, code, message = ended
        if (news := finishing.get(attempt_id)) is not None:
            finished_at, outcome, code, message = (
                news.finished_at,
                news.outcome,
                news.code,
                news.message,
            )
        found.append(
            {
                "number": number,
                "purpose": purpose,
                "worker": worker,
                "started_at": started_at.isoformat(),
                "finished_at": finished_at and finished_at.isoformat(),
                "outcome": str(outcome),
                "code": code,
                "message": message[:500],
            }
        )
    return found


def customer_impact(node: Node) -> str:
    """What it means to the customer that this task is not done."""
    if not node.required:
        return "None for the customer: the order completes without it."
    if node.milestones:
        titles = ", ".join(f"“{milestone.title}”" for milestone in node.milestones)
        return f"The customer waits for {titles}; the order can't complete."
    return "The order can't complete without it."


def revenue(plan: Plan, node: Node) -> cases.Revenue:
    """What the items that it serves are sold for: money that waits."""
    if not node.required:
        return {}
    items = graphs.context_of(plan).get("items", {})
    found: dict[str, dict[str, list[str]]] = {}
    for position in node.items:
        item = items.get(str(position), {})
        price = item.get("price") or {}
        amounts = [_amount(price, item, kind) for kind in ("one_off", "recurring")]
        if any(amounts):
            found[str(position)] = {price.get("currency") or "": [f"{one:f}" for one in amounts]}
    return found


def revenue_impact(plan: Plan, node: Node) -> str:
    """The same in words; empty when no money waits."""
    words, _, _ = cases.cost(revenue(plan, node))
    return words


def _amount(price: Mapping[str, Any], item: Mapping[str, Any], kind: str) -> Decimal:
    try:
        return Decimal(price.get(kind) or 0) * int(item.get("quantity") or 1)
    except (InvalidOperation, TypeError, ValueError):
        return Decimal()
