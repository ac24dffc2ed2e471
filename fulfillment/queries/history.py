"""What the engine knows of an order's history: which rows are entries, and how each is told.

`timeline` reads them a page at a time; the order desk has sources of its own beside these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fulfillment.models import (
    Attempt,
    Command,
    Delivery,
    DeliveryState,
    Disposition,
    InboundEvent,
    Operation,
    OutboxEvent,
    Task,
    Transition,
)
from fulfillment.queries.timeline import GOOD_OUTCOMES, TROUBLE_STATES, Entry, Source


def _keys(tasks: Collection[int]) -> dict[int, str]:
    return dict(Task.objects.filter(pk__in=tasks).values_list("pk", "key"))


def _transitions(pks: Collection[int]) -> Iterator[Entry]:
    rows = list(Transition.objects.filter(pk__in=pks))
    names = _keys([int(row.entity_id) for row in rows if row.entity == "task"])
    for row in rows:
        is_task = row.entity == "task"
        code = row.details.get("code") if isinstance(row.details, dict) else None
        yield Entry(
            at=row.occurred_at,
            kind=_KIND_OF.get(row.entity, "care"),
            table="transition",
            pk=row.pk,
            what=row.entity,
            task_id=int(row.entity_id) if is_task else None,
            task=names.get(int(row.entity_id), row.entity_id) if is_task else "",
            about="" if is_task else f"{row.entity}:{row.entity_id}",
            entity=row.entity,
            before=row.from_state,
            after=row.to_state,
            text=f"{row.cause} ({code})" if code else row.cause,
            who=row.actor,
            details=row.details,
            is_trouble=row.to_state in TROUBLE_STATES
            or (row.entity == "case" and row.to_state == "OPEN"),
        )


def _commands(pks: Collection[int]) -> Iterator[Entry]:
    for row in Command.objects.filter(pk__in=pks).select_related("task").defer("task__outputs"):
        again = f", revision {row.revision}" if row.revision > 1 else ""
        yield Entry(
            at=row.created_at,
            kind="command",
            table="command",
            pk=row.pk,
            what=f"command to {row.target_id}",
            task_id=row.task_id,
            task=row.task.key,
            text=f"{row.action}{again}",
            ids=(("idempotency key", row.idempotency_key),),
        )


def _exchanged(pks: Collection[int]) -> list[Attempt]:
    rows = Attempt.objects.filter(pk__in=pks).select_related("task", "command")
    return list(rows.defer("task__outputs", "command__payload"))


def _attempts(pks: Collection[int]) -> Iterator[Entry]:
    for row in _exchanged(pks):
        asked = "asked what became of it" if row.purpose == "QUERY" else "sent"
        open_still = "" if row.finished_at else "; nothing has come back yet"
        yield Entry(
            at=row.started_at,
            kind="attempt",
            table="attempt",
            pk=row.pk,
            what=f"attempt {row.number} at {row.command.target_id}",
            task_id=row.task_id,
            task=row.task.key,
            text=f"{asked}: {row.command.action}{open_still}",
            who=row.worker,
            ids=(("idempotency key", row.command.idempotency_key),),
        )


def _results(pks: Collection[int]) -> Iterator[Entry]:
    for row in _exchanged(pks):
        if row.finished_at is None:
            continue
        yield Entry(
            at=row.finished_at,
            kind="result",
            table="attempt",
            pk=row.pk,
            what=f"result of attempt {row.number} at {row.command.target_id}",
            task_id=row.task_id,
            task=row.task.key,
            entity="outcome",
            after=row.outcome,
            text=f"{row.code} {row.message}".strip(),
            who=row.command.target_id,
            ids=(("idempotency key", row.command.idempotency_key),),
            is_trouble=row.outcome not in GOOD_OUTCOMES,
        )


def _inbound(pks: Collection[int]) -> Iterator[Entry]:
    for row in InboundEvent.objects.filter(pk__in=pks).select_related("task").defer("body"):
        yield Entry(
            at=row.received_at,
            kind="event",
            table="event",
            pk=row.pk,
            what=f"report from {row.source}",
            task_id=row.task_id,
            task=row.task.key if row.task else "",
            entity="inbound",
            after=row.disposition,
            who=row.source,
            ids=(("event id", row.event_id), ("idempotency key", row.idempotency_key)),
            is_trouble=row.disposition in (Disposition.CONFLICTING, Disposition.UNMATCHED),
        )


def _outgoing(pks: Collection[int]) -> Iterator[Entry]:
    rows = list(OutboxEvent.objects.filter(pk__in=pks).defer("payload"))
    names = _keys([row.task_id for row in rows if row.task_id])
    for row in rows:
        yield Entry(
            at=row.occurred_at,
            kind="outbox",
            table="outbox",
            pk=row.pk,
            what="event for subscribers",
            task_id=row.task_id if row.task_id in names else None,
            task=names.get(row.task_id or 0, ""),
            text=row.event_type if row.published_at else f"{row.event_type}; not published yet",
            ids=(("caused by", row.causation_id),) if row.causation_id else (),
        )


def _deliveries(pks: Collection[int]) -> Iterator[Entry]:
    rows = Delivery.objects.filter(pk__in=pks).select_related("event", "subscription")
    for row in rows.defer("event__payload"):
        tries = "once" if row.attempts == 1 else f"{row.attempts} times"
        yield Entry(
            at=row.finished_at or row.event.occurred_at,
            kind="delivery",
            table="delivery",
            pk=row.pk,
            what=f"delivery to {row.subscription.name}",
            entity="delivery",
            after=row.state,
            text=f"{row.event.event_type}, tried {tries}. {row.last_answer}".strip(),
            is_trouble=row.state == DeliveryState.DEAD,
        )


def _operations(pks: Collection[int]) -> Iterator[Entry]:
    rows = list(Operation.objects.filter(pk__in=pks))
    numbers = [int(n) for n in (row.subject.removeprefix("task:") for row in rows) if n.isdigit()]
    names = _keys(numbers)
    for row in rows:
        kind, _, name = row.subject.partition(":")
        task_id = int(name) if kind == "task" and name.isdigit() else None
        told = {
            "evidence": row.evidence,
            "authority": row.authority,
            "for the customer": row.customer_impact,
            "for revenue": row.financial_impact,
        }
        yield Entry(
            at=row.happened_at,
            kind="operation",
            table="operation",
            pk=row.pk,
            what=f"by hand: {row.kind.replace('_', ' ')}",
            task_id=task_id if task_id in names else None,
            task=names.get(task_id or 0, ""),
            about="" if task_id in names else row.subject,
            text=row.reason,
            who=row.actor,
            details={name: text for name, text in told.items() if text},
        )


_KIND_OF = {
    "order": "order",
    "amendment": "order",
    "cancellation": "order",
    "plan": "plan",
    "task": "task",
}
_OF_TASK = "entity = 'task' AND entity_id = ANY(%(names)s::text[])"
_OF_CASE = """
entity = 'case' AND entity_id IN (
    SELECT joined.case_id::text FROM fulfillment_falloutcase filed
    JOIN fulfillment_casetask joined ON joined.case_id = filed.id
    WHERE filed.fulfillment_id = %(fulfillment)s AND joined.task_id = ANY(%(tasks)s::bigint[]))
"""
_OF_MANUAL = """
entity = 'manual' AND entity_id IN (
    SELECT id::text FROM fulfillment_manualtask WHERE task_id = ANY(%(tasks)s::bigint[]))
"""
# Through the plan, whose index leads to the tasks and these to what is theirs.
_TASKS = """
fulfillment_plan p JOIN fulfillment_task t ON t.plan_id = p.id
"""
_MINE = "WHERE p.fulfillment_id = %(fulfillment)s"
_ATTEMPTS = f"""
{_TASKS} JOIN fulfillment_command c ON c.task_id = t.id
JOIN fulfillment_attempt a ON a.command_id = c.id {_MINE}
"""


def _moves(kind: str, words: str, which: str, of_tasks: str = "false") -> Source:
    return Source(
        kind=kind,
        words=words,
        table="transition",
        rank=3,
        at="occurred_at",
        pk="id",
        rows=f"fulfillment_transition WHERE fulfillment_id = %(fulfillment)s AND {which}",
        trouble="to_state = ANY(%(trouble_states)s::text[]) "
        "OR (entity = 'case' AND to_state = 'OPEN')",
        of_tasks=of_tasks,
        of_key=_OF_TASK if kind == "task" else "false",
        load=_transitions,
    )


SOURCES = (
    _moves("order", "Order", "entity IN ('order', 'amendment', 'cancellation')"),
    _moves("plan", "Plan", "entity = 'plan'"),
    _moves("task", "Task", "entity = 'task'", _OF_TASK),
    Source(
        kind="command",
        words="Command",
        table="command",
        rank=5,
        at="c.created_at",
        pk="c.id",
        rows=f"{_TASKS} JOIN fulfillment_command c ON c.task_id = t.id {_MINE}",
        of_tasks="t.id = ANY(%(tasks)s::bigint[])",
        of_key="c.id = ANY(%(commands)s::bigint[])",
        load=_commands,
    ),
    Source(
        kind="attempt",
        words="Attempt",
        table="attempt",
        rank=6,
        at="a.started_at",
        pk="a.id",
        rows=_ATTEMPTS,
        of_tasks="t.id = ANY(%(tasks)s::bigint[])",
        of_key="c.id = ANY(%(commands)s::bigint[])",
        load=_attempts,
    ),
    Source(
        kind="result",
        words="Result",
        table="attempt",
        rank=2,
        at="a.finished_at",
        pk="a.id",
        rows=f"{_ATTEMPTS} AND a.finished_at IS NOT NULL",
        trouble="a.outcome <> ALL(%(good_outcomes)s::text[])",
        of_tasks="t.id = ANY(%(tasks)s::bigint[])",
        of_key="c.id = ANY(%(commands)s::bigint[])",
        load=_results,
    ),
    Source(
        kind="event",
        words="Report from outside",
        table="event",
        rank=1,
        at="e.received_at",
        pk="e.id",
        rows=f"{_TASKS} JOIN fulfillment_inboundevent e ON e.task_id = t.id {_MINE}",
        trouble="e.disposition IN ('CONFLICTING', 'UNMATCHED')",
        of_tasks="t.id = ANY(%(tasks)s::bigint[])",
        of_key="e.idempotency_key = %(key)s OR e.event_id = %(key)s",
        load=_inbound,
    ),
    Source(
        kind="outbox",
        words="Event sent out",
        table="outbox",
        rank=7,
        at="occurred_at",
        pk="id",
        rows="fulfillment_outboxevent WHERE fulfillment_id = %(fulfillment)s",
        of_tasks="task_id = ANY(%(tasks)s::bigint[])",
        of_key="causation_id = ANY(%(causes)s::text[])",
        load=_outgoing,
    ),
    Source(
        kind="delivery",
        words="Delivery",
        table="delivery",
        rank=9,
        at="coalesce(d.finished_at, e.occurred_at)",
        pk="d.id",
        rows="fulfillment_outboxevent e JOIN fulfillment_delivery d ON d.event_id = e.id "
        "WHERE e.fulfillment_id = %(fulfillment)s",
        trouble="d.state = 'DEAD'",
        of_tasks="e.task_id = ANY(%(tasks)s::bigint[])",
        of_key="e.causation_id = ANY(%(causes)s::text[])",
        load=_deliveries,
    ),
    Source(
        kind="operation",
        words="Done by people",
        table="operation",
        rank=0,
        at="happened_at",
        pk="id",
        rows="fulfillment_operation WHERE order_reference = %(reference)s",
        of_tasks="subject = ANY(%(subjects)s::text[])",
        of_key="subject = ANY(%(subjects)s::text[])",
        load=_operations,
    ),
    _moves(
        "care",
        "Cases, holds, decisions",
        "entity NOT IN ('order', 'amendment', 'cancellation', 'plan', 'task')",
        f"({_OF_CASE}) OR ({_OF_MANUAL})",
    ),
)
"""What the engine knows, in the order in which the filter offers it."""
