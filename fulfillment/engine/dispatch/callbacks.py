"""Inbound events: deduplicated in the inbox, correlated to one task or parked."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from adapters.contract import Outcome, OutcomeKind
from adapters.reports import ReportIn, outcome_of
from fulfillment.engine.dispatch.suggesting import suggest, suggestion
from fulfillment.engine.plans.settlement import apply
from fulfillment.engine.store import failpoints, graphs
from fulfillment.engine.store.database import DATABASE_TROUBLE, Row, clean, cursor
from fulfillment.engine.tasks.contradicting import conflicts
from fulfillment.engine.tasks.outcomes import NOT_SENT, Result
from fulfillment.engine.timing import clocks
from fulfillment.engine.work.cases import Fallout, open_case, resolve_cases
from fulfillment.engine.work.rows import plans_by_id, tasks_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ConcurrentChange, FulfillmentError, NotPossible
from fulfillment.models import PARKED, CaseCategory, Disposition, Purpose, Severity, Task
from fulfillment.states import TASK_SUCCESSFUL, TASK_TERMINAL

logger = logging.getLogger(__name__)

_COMMAND = """
SELECT c.id, c.task_id, c.fulfillment_id, t.plan_id, t.node, t.element
FROM fulfillment_command c
JOIN fulfillment_task t ON t.id = c.task_id
"""
_BY_KEY = f"{_COMMAND} WHERE c.idempotency_key = %s AND c.target_id = %s"
_NEWEST_OF = f"""
{_COMMAND} WHERE c.task_id = %s AND c.target_id = %s ORDER BY c.revision DESC LIMIT 1
"""
# Whoever comes second waits here for the first one's commit, and then finds its row.
_STORE = """
INSERT INTO fulfillment_inboundevent (
    source, event_id, idempotency_key, body, disposition, suggestions, received_at)
VALUES (%s, %s, %s, %s, 'UNMATCHED', '[]', %s)
ON CONFLICT (source, event_id) DO NOTHING RETURNING id
"""
# Locked: somebody may be matching it by hand.
_SEEN = """
SELECT id, disposition, idempotency_key FROM fulfillment_inboundevent
WHERE source = %s AND event_id = %s FOR UPDATE
"""
# Of two who match the same event, the second finds what the first has made of it.
_PARKED = """
SELECT source, event_id, idempotency_key, body, disposition FROM fulfillment_inboundevent
WHERE id = %s FOR UPDATE
"""
_DISPOSE = """
UPDATE fulfillment_inboundevent SET disposition = %s, task_id = %s, suggestions = %s WHERE id = %s
"""
# Whoever settles a task closes its case if it was in trouble.
_TROUBLED = """
UPDATE fulfillment_task SET blocked_reason = %s
WHERE id = %s AND blocked_reason = '' AND NOT state = ANY(%s::text[])
"""
# A send that the target has never seen may still be on its way; one that never left is not.
_SENDS = f"""
SELECT number FROM fulfillment_attempt
WHERE command_id = %s AND purpose = '{Purpose.SEND}'
  AND (outcome, code) <> ('{NOT_SENT.kind}', '{NOT_SENT.code}')
"""
_LATEST = f"""
SELECT c.id, (
    SELECT max(a.number) FROM fulfillment_attempt a
    WHERE a.command_id = c.id AND a.purpose = '{Purpose.SEND}')
FROM fulfillment_command c WHERE c.task_id = %s ORDER BY c.revision DESC LIMIT 1
"""
_NOBODYS_FAULT = (*DATABASE_TROUBLE, ConcurrentChange)


class EventIdReused(FulfillmentError):
    """The event id was that of a report on another command; its sender has to give it its own."""

    code = "callback.event_id_reused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a target system reported about one of our commands."""

    source: str
    """Name of the target system, as authenticated by its signature."""
    event_id: str
    idempotency_key: str
    outcome: Outcome
    body: Mapping[str, Any]
    """As it came, without NUL and lone surrogates: kept, and searched for suggestions."""
    attempt: int | None = None
    """Number of the attempt that it speaks of, where the target tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    disposition: Disposition
    duplicate: bool
    """The same event had been received before; nothing was done this time."""


@dataclass(frozen=True, slots=True)
class AboutCommand:
    """The one command that a report is about."""

    id: int
    task_id: int
    fulfillment_id: int
    plan_id: int
    node: int
    element: int


def receive(*, report: Report) -> Receipt:
    """Take one report in: its task moves at most once, however often and late it comes.

    A report is about the command with its key and its target, and about no other. The command
    is committed before its request is sent, so no genuine report can be faster than its key.
    What is UNMATCHED is parked; should the same event come again and its command be found, or
    what it failed with be mended, it is applied then. So is what somebody has set aside.

    Raises EventIdReused, and the database's own errors: nothing was received, the sender has to
    repeat it.
    """
    command = command_by_key(key=report.idempotency_key, target=report.source)
    fulfillment_ids = [] if command is None else [command.fulfillment_id]
    actor = f"target {report.source}"
    try:
        receipt = run_unit(
            lambda unit: _receive(unit, report, command),
            fulfillment_ids=fulfillment_ids,
            actor=actor,
        )
    except (EventIdReused, *_NOBODYS_FAULT):
        raise
    except Exception as error:
        # Refused, its sender would repeat it for ever or give it up; kept, it has an owner.
        logger.exception("report parked", extra={"source": report.source, "id": report.event_id})
        cause = f"{type(error).__name__}: {error}"
        receipt = run_unit(
            lambda unit: _park(unit, report, command, cause),
            fulfillment_ids=fulfillment_ids,
            actor=actor,
        )
    failpoints.reach("callback.committed_before_200")
    return receipt


def park(*, source: str, event_id: str, idempotency_key: str, body: Mapping[str, Any]) -> None:
    """Keep what can't be read as a report, for a person; once, however often it comes.

    All of it as PostgreSQL can store it. Raises the database's own errors: nothing was kept.
    """
    run_unit(
        lambda unit: _insert(unit, source, event_id, idempotency_key, body),
        fulfillment_ids=[],
        actor=f"target {source}",
    )


def command_by_key(*, key: str, target: str) -> AboutCommand | None:
    """The command of this target system with this key."""
    with cursor() as raw:
        raw.execute(_BY_KEY, [key, target], prepare=True)
        row = raw.fetchone()
    return None if row is None else AboutCommand(*row)


def newest_command_of(*, task_id: int, target: str) -> AboutCommand | None:
    """What the task has asked this target system for last; None where it never has."""
    with cursor() as raw:
        raw.execute(_NEWEST_OF, [task_id, target], prepare=True)
        row = raw.fetchone()
    return None if row is None else AboutCommand(*row)


def match(unit: Unit, *, event_id: int, command: AboutCommand) -> Disposition:
    """Take a parked report in as if it had come with the key of this command; once.

    Of two at the same time the second finds it matched. The fulfillment of `command` is locked by
    this unit. Raises NotPossible when it is not parked any more, when it is of another target
    system than the command, and when nobody can read it as a report.
    """
    source, name, key, body, disposition = _one(unit, _PARKED, [event_id])
    if disposition not in PARKED:
        raise NotPossible(
            f"Event {name} of {source} is {disposition} already: its task has had it."
        )
    if isinstance(body, str):
        body = json.loads(body)
    report = Report(source=source, event_id=name, idempotency_key=key, body=body, **_read(body))
    disposition = _apply(unit, report, command)
    _dispose(unit, event_id, disposition, command.task_id, [])
    task = unit.tasks.get(command.task_id)
    if task is not None and task.state in TASK_SUCCESSFUL:
        resolve_cases(
            unit, subjects=[_subject(command)], resolution="A parked report was matched with it."
        )
    return disposition


def _read(body: Mapping[str, Any]) -> dict[str, Any]:
    """Its outcome, and the attempt that it speaks of. Raises NotPossible."""
    try:
        told = ReportIn.model_validate(body)
    except ValidationError:
        raise NotPossible(
            "Nobody can read it as a report, so it settles nothing. Look at it, and say yourself "
            "what became of the task (task.reconcile)."
        ) from None
    return {"outcome": outcome_of(report=told), "attempt": told.attempt}


def _receive(unit: Unit, report: Report, command: AboutCommand | None) -> Receipt:
    event_id, before = _store(unit, report)
    is_parked = before in PARKED and command is not None
    if before is not None and not is_parked:
        return Receipt(disposition=before, duplicate=True)
    failpoints.reach("callback.stored_not_applied")
    if command is None:
        suggestions = suggest(
            unit.raw, target=report.source, key=report.idempotency_key, body=report.body
        )
        if suggestions:
            _dispose(unit, event_id, Disposition.UNMATCHED, None, suggestions)
        return Receipt(disposition=Disposition.UNMATCHED, duplicate=False)
    disposition = _apply(unit, report, command)
    _dispose(unit, event_id, disposition, command.task_id, [])
    task = unit.tasks.get(command.task_id)
    if is_parked and task is not None and task.state in TASK_SUCCESSFUL:
        resolve_cases(
            unit,
            subjects=[_subject(command)],
            resolution="The report came again and could be applied.",
        )
    return Receipt(disposition=disposition, duplicate=False)


def _store(unit: Unit, report: Report) -> tuple[int, Disposition | None]:
    """The event's row, and what had become of it before; None when it is new."""
    new = _insert(unit, report.source, report.event_id, report.idempotency_key, report.body)
    if new is not None:
        return new, None
    event_id, disposition, key = _one(unit, _SEEN, [report.source, report.event_id])
    if key != report.idempotency_key:
        raise EventIdReused(f"{report.event_id!r} of {report.source} was a report on {key}.")
    return int(event_id), Disposition(disposition)


def _insert(
    unit: Unit, source: str, event_id: str, key: str, body: Mapping[str, Any]
) -> int | None:
    """The id of its new row, as unmatched; None when the event is there already."""
    values = [source, event_id, key, json.dumps(body), unit.now]
    unit.raw.execute(_STORE, values, prepare=True)
    row = unit.raw.fetchone()
    return None if row is None else int(row[0])


def _dispose(
    unit: Unit,
    event_id: int,
    disposition: Disposition,
    task_id: int | None,
    suggestions: list[dict[str, Any]],
) -> None:
    unit.raw.execute(
        _DISPOSE, [str(disposition), task_id, json.dumps(suggestions), event_id], prepare=True
    )


def _apply(unit: Unit, report: Report, command: AboutCommand) -> Disposition:
    if report.outcome.kind is OutcomeKind.ACCEPTED:
        return _hear(unit, report, command)
    before, attempts = _one(
        unit, "SELECT state, attempts FROM fulfillment_task WHERE id = %s", [command.task_id]
    )
    result = Result(
        task_id=command.task_id,
        plan_id=command.plan_id,
        fulfillment_id=command.fulfillment_id,
        node=command.node,
        element=command.element,
        command_id=command.id,
        outcome=report.outcome,
        attempt_number=_attempt_number(unit, report, command, attempts),
    )
    (result,) = apply(unit, [result])
    return _disposition(unit.tasks[result.task_id], before, result)


def _hear(unit: Unit, report: Report, command: AboutCommand) -> Disposition:
    """A sign of life: of the send that counts, and newer than what was heard before it."""
    unit.adopt_tasks(tasks_by_id(unit.raw, [command.task_id]))
    task = unit.tasks[command.task_id]
    unit.adopt_plans(plans_by_id(unit.raw, [task.plan_id]))
    newest, last_send = _one(unit, _LATEST, [command.task_id])
    is_current = newest == command.id and report.attempt in (None, last_send)
    if is_current and clocks.heard(
        unit,
        task=task,
        node=graphs.routed(unit.plans[task.plan_id].graph_id, task.node, task.route),
        progress=report.outcome.progress,
        occurred_at=report.outcome.occurred_at,
    ):
        return Disposition.APPLIED
    return Disposition.REDUNDANT


def _attempt_number(unit: Unit, report: Report, command: AboutCommand, attempts: int) -> int | None:
    """Which attempt the report speaks of, as the settlement counts; None when it can't be told.

    The task's count goes on with every query: a report on the last *send* is still up to date.
    """
    is_failure = report.outcome.kind is OutcomeKind.FAILED
    if report.attempt is None and not is_failure:
        return None
    unit.raw.execute(_SENDS, [command.id], prepare=True)
    sends = {number for (number,) in unit.raw.fetchall()}
    if report.attempt not in sends:
        # A number that no send has says as much as none: a failure can mean the only send.
        return attempts if is_failure and len(sends) == 1 else None
    return attempts if report.attempt == max(sends) else report.attempt


def _disposition(task: Task, before: str, result: Result) -> Disposition:
    if result.overtaken is not None:
        contradicts = result.outcome.kind is OutcomeKind.SUCCEEDED
    elif before in TASK_TERMINAL:
        contradicts = conflicts(task=task, outcome=result.outcome)
    else:
        return Disposition.REDUNDANT if task.state == before else Disposition.APPLIED
    return Disposition.CONFLICTING if contradicts else Disposition.REDUNDANT


def _park(unit: Unit, report: Report, command: AboutCommand | None, cause: str) -> Receipt:
    """Keep a report that the engine failed with, and open a case for it."""
    event_id, before = _store(unit, report)
    if command is not None:
        cause = clean(cause, 1000)
        key, order = _one(
            unit,
            "SELECT t.key, f.order_reference FROM fulfillment_task t "
            "JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id WHERE t.id = %s",
            [command.task_id],
        )
        why = f"It is about this task, but could not be applied: {cause}"
        about = suggestion(task_id=command.task_id, task=key, order=order, why=why)
        _dispose(unit, event_id, Disposition.UNMATCHED, None, [about])
        unit.raw.execute(_TROUBLED, [why, command.task_id, sorted(TASK_TERMINAL)], prepare=True)
        open_case(
            unit,
            fallout=Fallout(
                subject=_subject(command),
                category=CaseCategory.POISON,
                reason_code="report_not_applied",
                title=f"A report of {report.source} on {key} could not be applied",
                explanation=f"{cause}\nThe report is kept in the inbox as unmatched, and its "
                "sender was told so. Correct what it failed with, then have the target system "
                "send it again under the same id, or settle the task by hand.",
                severity=Severity.HIGH,
                facts={"event": event_id, "event_id": report.event_id, "error": cause},
                fulfillment_id=command.fulfillment_id,
                plan_id=command.plan_id,
                task_id=command.task_id,
            ),
        )
    return Receipt(disposition=Disposition.UNMATCHED, duplicate=before is not None)


def _subject(command: AboutCommand) -> str:
    return f"task:{command.task_id}"


def _one(unit: Unit, statement: str, values: list[Any]) -> Row:
    unit.raw.execute(statement, values, prepare=True)
    row = unit.raw.fetchone()
    assert row is not None
    return row
