"""Events that leave the system: their names, and which of them are worth a row (§22.2).

What happens to orders is always written. What happens to tasks and plans is written only when
an active subscription wants to hear it, which is looked up in the transaction itself: without
subscribers the hot path pays for one look at a small table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from fulfillment.engine.store.database import Row
from fulfillment.models import FalloutCase, ManualTask, Plan, Task
from fulfillment.states import PlanState, TaskState

TASK_EVENTS: Mapping[str, str] = {
    TaskState.SUCCEEDED: "FulfillmentTaskSucceeded",
    TaskState.FAILED_FINAL: "FulfillmentTaskFailed",
    TaskState.OUTCOME_UNKNOWN: "FulfillmentTaskOutcomeUnknown",
    TaskState.AWAITING_MANUAL: "FulfillmentTaskAwaitingManual",
    TaskState.WAIVED_BY_AUTHORIZED_USER: "FulfillmentTaskWaived",
}
PLAN_EVENTS: Mapping[str, str] = {
    PlanState.RUNNING: "FulfillmentPlanRunning",
    PlanState.BLOCKED: "FulfillmentPlanBlocked",
    PlanState.COMPENSATING: "FulfillmentPlanCompensating",
    PlanState.COMPLETED: "FulfillmentPlanCompleted",
    PlanState.FAILED: "FulfillmentPlanFailed",
    PlanState.CANCELLED: "FulfillmentPlanCancelled",
    PlanState.SUPERSEDED: "FulfillmentPlanSuperseded",
}
MANUAL_OPENED = "ManualTaskOpened"
MANUAL_DECIDED = "ManualTaskDecided"
MANUAL_WITHDRAWN = "ManualTaskWithdrawn"
MANUAL_ESCALATED = "ManualTaskEscalated"
MANUAL_AWAITING = "ManualTaskAwaitingAnswer"
MANUAL_RESUMED = "ManualTaskResumed"
NEEDS_REQUOTE = "OrderNeedsRequote"
IN_JEOPARDY = "FulfillmentPlanInJeopardy"
OUT_OF_JEOPARDY = "FulfillmentPlanOutOfJeopardy"
CASE_ESCALATED = "FalloutCaseEscalated"
_ON_DEMAND = frozenset(
    {
        *TASK_EVENTS.values(),
        *PLAN_EVENTS.values(),
        MANUAL_OPENED,
        MANUAL_DECIDED,
        MANUAL_WITHDRAWN,
        MANUAL_ESCALATED,
        MANUAL_AWAITING,
        MANUAL_RESUMED,
        IN_JEOPARDY,
        OUT_OF_JEOPARDY,
        CASE_ESCALATED,
    }
)
_WANTED = "SELECT event_types FROM fulfillment_subscription WHERE active"
_COMMANDS = """
SELECT DISTINCT ON (task_id) task_id, id FROM fulfillment_command
WHERE task_id = ANY(%s::bigint[]) ORDER BY task_id, revision DESC
"""


@dataclass(slots=True, kw_only=True)
class Event:
    """One event as the unit of work notes it; what is wanted of them becomes outbox rows."""

    fulfillment_id: int
    event_type: str
    payload: Mapping[str, Any]
    occurred_at: datetime
    plan_id: int | None = None
    task_id: int | None = None
    causation_id: str = ""

    def row(self) -> Row:
        return (
            self.fulfillment_id,
            self.event_type,
            self.plan_id,
            self.task_id,
            self.causation_id,
            json.dumps(self.payload),
            self.occurred_at,
        )


def of_task(task: Task) -> dict[str, Any]:
    """What an event says of a task; `result_ref` is the target's name for what it did.

    What no target system does (a decision, a wait, a person's task, a fan-out) has no target.
    """
    return {
        "task": task.key,
        "result_ref": task.reference,
        "state": str(task.state),
        "target": task.target_id or None,
        "attempts": task.attempts,
        "reason": task.blocked_reason,
    }


def of_manual(manual: ManualTask, task: Task) -> dict[str, Any]:
    """What an event says of a manual task; the decision is null until it is made."""
    return {
        "task": task.key,
        "manual_task": manual.id,
        "title": manual.title,
        "queue": manual.queue,
        "role": manual.role,
        "origin": str(manual.origin),
        "state": str(manual.state),
        "claimed_by": manual.claimed_by or None,
        "outcomes": list(manual.outcomes),
        "due_at": manual.due_at.isoformat() if manual.due_at else None,
        "outcome": manual.outcome or None,
        "decided_by": manual.decided_by or None,
        "reason": manual.reason or None,
    }


def of_case(case: FalloutCase) -> dict[str, Any]:
    """What an event says of a case; nobody has it where `assigned_to` is null."""
    return {
        "case": case.pk,
        "title": case.title,
        "category": case.category,
        "severity": case.severity,
        "reason_code": case.reason_code,
        "queue": case.owner_queue,
        "assigned_to": case.assigned_to or None,
        "level": case.escalation_level,
        "due_at": case.sla_due_at.isoformat(),
    }


def of_plan(plan: Plan) -> dict[str, Any]:
    return {"state": str(plan.state), "reason": plan.blocked_reason}


def wanted(raw: psycopg.Cursor[Row], events: Sequence[Event]) -> tuple[list[Event], bool]:
    """The events to be written, in their order, and whether any subscriber waits for one."""
    if not events:
        return [], False
    raw.execute(_WANTED, prepare=True)
    # What is no list was written past the admin; it must not break the unit.
    found = [json.loads(row[0]) for row in raw.fetchall()]
    subscribed = [types for types in found if isinstance(types, list)]
    every = [] in subscribed
    names = {name for types in subscribed for name in types}
    heard = [event for event in events if every or event.event_type in names]
    if heard:
        _find_causes(raw, events)
    kept = [
        event
        for event in events
        if event.event_type not in _ON_DEMAND or every or event.event_type in names
    ]
    return kept, bool(heard)


def _find_causes(raw: psycopg.Cursor[Row], events: Sequence[Event]) -> None:
    """A task's event is caused by its command, what follows in its order by the same one."""
    latest: dict[int, int] = {}
    causes: list[tuple[Event, int]] = []
    for event in events:
        if event.task_id is not None:
            latest[event.fulfillment_id] = event.task_id
        if not event.causation_id and event.fulfillment_id in latest:
            causes.append((event, latest[event.fulfillment_id]))
    if not causes:
        return
    raw.execute(_COMMANDS, [sorted({task_id for _, task_id in causes})], prepare=True)
    commands: dict[int, int] = dict(raw.fetchall())
    for event, task_id in causes:
        if task_id in commands:
            event.causation_id = f"cmd-{commands[task_id]}"
