"""Inbound events: deduplicated in the inbox, correlated to one task or parked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.contract import Outcome
from fulfillment.engine.database import cursor
from fulfillment.engine.outcomes import Result, conflicts
from fulfillment.engine.settlement import apply
from fulfillment.engine.unit import Unit, run_unit
from fulfillment.models import Disposition, InboundEvent, Task
from fulfillment.states import TASK_TERMINAL

_BY_KEY = """
SELECT c.task_id, c.fulfillment_id, t.plan_id, t.node FROM fulfillment_command c
JOIN fulfillment_task t ON t.id = c.task_id
WHERE c.idempotency_key = %s AND c.target_id = %s
"""
_SEEN = "SELECT disposition FROM fulfillment_inboundevent WHERE source = %s AND event_id = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a target system reported about one of our commands."""

    source: str
    """Name of the target system, as authenticated by its signature."""
    event_id: str
    idempotency_key: str
    outcome: Outcome
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    disposition: Disposition
    duplicate: bool
    """The same event had been received before; nothing was done this time."""


def receive(*, report: Report) -> Receipt:
    """Take one report in: its task moves at most once, however often and late it comes.

    The command row is committed before its request is sent, so no genuine report can be
    faster than its key.
    """
    with cursor() as raw:
        raw.execute(_BY_KEY, [report.idempotency_key, report.source], prepare=True)
        found = raw.fetchone()
    return run_unit(
        lambda unit: _receive(unit, report, found),
        fulfillment_ids=[] if found is None else [found[1]],
        actor=f"target {report.source}",
    )


def _receive(unit: Unit, report: Report, found: tuple[Any, ...] | None) -> Receipt:
    # An event without a task has no fulfillment to lock: its own id serialises its twins.
    unit.raw.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
        [f"inbox:{report.source}:{report.event_id}"],
    )
    unit.raw.execute(_SEEN, [report.source, report.event_id], prepare=True)
    seen = unit.raw.fetchone()
    if seen is not None:
        return Receipt(disposition=Disposition(seen[0]), duplicate=True)
    event = InboundEvent(
        source=report.source,
        event_id=report.event_id,
        idempotency_key=report.idempotency_key,
        body=report.body,
        disposition=Disposition.UNMATCHED,
        task_id=None,
        suggestions=[],
        received_at=unit.now,
    )
    unit.inbound.append(event)
    if found is None:
        return Receipt(disposition=Disposition.UNMATCHED, duplicate=False)
    task_id, fulfillment_id, plan_id, node = found
    event.task_id = task_id
    result = Result(
        task_id=task_id,
        plan_id=plan_id,
        fulfillment_id=fulfillment_id,
        node=node,
        outcome=report.outcome,
    )
    before = _state_of(unit, task_id)
    apply(unit, [result])
    event.disposition = _disposition(unit.tasks[task_id], before, report.outcome)
    return Receipt(disposition=Disposition(event.disposition), duplicate=False)


def _state_of(unit: Unit, task_id: int) -> str:
    unit.raw.execute("SELECT state FROM fulfillment_task WHERE id = %s", [task_id], prepare=True)
    row = unit.raw.fetchone()
    assert row is not None
    return str(row[0])


def _disposition(task: Task, before: str, outcome: Outcome) -> Disposition:
    if before in TASK_TERMINAL:
        return (
            Disposition.CONFLICTING
            if conflicts(task=task, outcome=outcome)
            else Disposition.REDUNDANT
        )
    return Disposition.REDUNDANT if task.state == before else Disposition.APPLIED
