"""What a unit of work writes, as set-based statements. Only the unit itself calls it."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from fulfillment.engine.store.database import Row, Table, Update, arrays
from fulfillment.errors import ConcurrentChange
from fulfillment.models import Attempt, Command, FanOut, ManualTask, Plan, Signal, Task

_PLANS = Table(
    "fulfillment_plan",
    id="bigint",
    fulfillment_id="bigint",
    order_version="int",
    version="int",
    state="text",
    graph_id="bigint",
    context="jsonb",
    tasks_total="int",
    tasks_open="int",
    mandatory_total="int",
    mandatory_open="int",
    moving="int",
    locks="jsonb",
    is_locked="boolean",
    selection_due_at="timestamptz",
    blocked_reason="text",
    due_at="timestamptz",
    look_at="timestamptz",
    at_risk_since="timestamptz",
    estimated_at="timestamptz",
    stalls_after="interval",
    last_progress_at="timestamptz",
    patient_until="timestamptz",
    stuck_at="timestamptz",
    stuck_reason="text",
    created_at="timestamptz",
    finished_at="timestamptz",
)
_TASKS = Table(
    "fulfillment_task",
    id="bigint",
    plan_id="bigint",
    fulfillment_id="bigint",
    node="int",
    element="int",
    key="text",
    state="text",
    target_id="text",
    route="smallint",
    awaits="text",
    waits_for="text",
    priority="smallint",
    rank="bigint",
    depth="int",
    required="boolean",
    not_before="timestamptz",
    attempts="int",
    sends="int",
    unanswered_queries="int",
    lost_leases="int",
    locks="jsonb",
    outputs="jsonb",
    reference="text",
    blocked_reason="text",
    began_at="timestamptz",
    changed_at="timestamptz",
)
_COMMAND = {
    "task_id": "bigint",
    "fulfillment_id": "bigint",
    "revision": "int",
    "target_id": "text",
    "action": "text",
    "idempotency_key": "text",
    "payload": "jsonb",
    "created_at": "timestamptz",
}
_COMMANDS = Table("fulfillment_command", **_COMMAND)
# What is claimed in the unit that writes it has its number already.
_NUMBERED_COMMANDS = Table("fulfillment_command", id="bigint", **_COMMAND)
_ATTEMPTS = Table(
    "fulfillment_attempt",
    id="bigint",
    command_id="bigint",
    task_id="bigint",
    fulfillment_id="bigint",
    target_id="text",
    number="int",
    purpose="text",
    worker="text",
    slot="smallint",
    started_at="timestamptz",
    lease_expires_at="timestamptz",
    outcome="text",
    code="text",
    message="text",
)
_OUTBOX = Table(
    "fulfillment_outboxevent",
    fulfillment_id="bigint",
    event_type="text",
    plan_id="bigint",
    task_id="bigint",
    causation_id="text",
    payload="jsonb",
    occurred_at="timestamptz",
)
_TRANSITIONS = Table(
    "fulfillment_transition",
    fulfillment_id="bigint",
    sequence="int",
    entity="text",
    entity_id="text",
    name="text",
    from_state="text",
    to_state="text",
    actor="text",
    cause="text",
    details="jsonb",
    occurred_at="timestamptz",
    hash="text",
)
_CHANGED_TASKS = Update(
    "fulfillment_task",
    guard="state",
    state="text",
    target_id="text",
    route="smallint",
    awaits="text",
    waits_for="text",
    not_before="timestamptz",
    attempts="int",
    sends="int",
    unanswered_queries="int",
    lost_leases="int",
    locks="jsonb",
    outputs="jsonb",
    reference="text",
    blocked_reason="text",
    began_at="timestamptz",
    changed_at="timestamptz",
)
_CHANGED_PLANS = Update(
    "fulfillment_plan",
    guard="state",
    state="text",
    tasks_total="int",
    tasks_open="int",
    mandatory_total="int",
    mandatory_open="int",
    moving="int",
    locks="jsonb",
    selection_due_at="timestamptz",
    blocked_reason="text",
    look_at="timestamptz",
    at_risk_since="timestamptz",
    estimated_at="timestamptz",
    last_progress_at="timestamptz",
    patient_until="timestamptz",
    stuck_at="timestamptz",
    stuck_reason="text",
    finished_at="timestamptz",
)
_TASK_CLOCKS = Update(
    "fulfillment_task",
    start_by="timestamptz",
    close_by="timestamptz",
    late_since="timestamptz",
    stopped_at="timestamptz",
    stopped_by_id="bigint",
    report_by="timestamptz",
    heard_at="timestamptz",
    progress="jsonb",
    limits="jsonb",
)
_CORRECTED = Update("fulfillment_task", correction="jsonb")
_PLAN_CLOCKS = Update(
    "fulfillment_plan",
    due_at="timestamptz",
    finish_by="timestamptz",
    late_since="timestamptz",
    stopped_at="timestamptz",
    stopped_by_id="bigint",
    giving_up="text",
    giving_up_what="jsonb",
    rest_due_at="timestamptz",
)
# A finished attempt is never finished again: whoever comes second changes nothing. Said in this
# way, because IS NULL would invite the indexes of open attempts, where the ids can't be looked up.
_FINISHED_ATTEMPTS = """
UPDATE fulfillment_attempt t
SET finished_at = v.finished_at, outcome = v.outcome, code = v.code, message = v.message
FROM unnest(%s::bigint[], %s::timestamptz[], %s::text[], %s::text[], %s::text[])
     AS v(id, finished_at, outcome, code, message)
WHERE t.id = v.id AND coalesce(t.finished_at, 'infinity') = 'infinity'
"""
_MANUAL = Table(
    "fulfillment_manualtask",
    id="bigint",
    task_id="bigint",
    fulfillment_id="bigint",
    state="text",
    origin="text",
    trouble="text",
    queue="text",
    role="text",
    title="text",
    instructions="text",
    outcomes="json",
    fields="json",
    context="jsonb",
    due_at="timestamptz",
    calendar="text",
    otherwise="text",
    outcome="text",
    decided_by="text",
    reason="text",
    opened_at="timestamptz",
)
_CHANGED_MANUAL = Update(
    "fulfillment_manualtask",
    state="text",
    trouble="text",
    queue="text",
    role="text",
    title="text",
    instructions="text",
    outcomes="json",
    fields="json",
    context="jsonb",
    due_at="timestamptz",
    claimed_by="text",
    claimed_at="timestamptz",
    awaits="text",
    question="text",
    stopped_at="timestamptz",
    hold_id="bigint",
    escalations="smallint",
    escalated_at="timestamptz",
    outcome="text",
    decided_by="text",
    reason="text",
    decided_at="timestamptz",
)
_FAN_OUTS = Table(
    "fulfillment_fanout",
    plan_id="bigint",
    fulfillment_id="bigint",
    node="int",
    elements="jsonb",
    total="int",
    at_once="int",
    tolerated="int",
    started="int",
    done="int",
    failed="jsonb",
)
_CHANGED_FAN_OUTS = Update("fulfillment_fanout", started="int", done="int", failed="jsonb")
_SIGNALS = Table(
    "fulfillment_signal",
    source="text",
    event_id="text",
    name="text",
    subject="text",
    payload="jsonb",
    occurred_at="timestamptz",
    received_at="timestamptz",
    applied="boolean",
    will_not_come="boolean",
)
_HEADS = Update("fulfillment_fulfillment", audit_sequence="int", audit_head="text")


Changes = Sequence[tuple[psycopg.Cursor[Row], int]]
"""Guarded updates, and how many rows each has to change."""


def write_new(
    raw: psycopg.Cursor[Row],
    *,
    plans: Sequence[Plan],
    tasks: Sequence[Task],
    manual: Sequence[ManualTask],
) -> None:
    _PLANS.store(raw, plans)
    _TASKS.store(raw, tasks)
    _MANUAL.store(raw, manual)


def write_flow(
    raw: psycopg.Cursor[Row],
    *,
    fan_outs: Sequence[FanOut],
    manual: Sequence[ManualTask],
    signals: Sequence[Signal],
) -> None:
    """How far fan-outs are, what people did, and what other orders may wait for."""
    _FAN_OUTS.store(raw, [one for one in fan_outs if one.pk is None])
    if known := [one for one in fan_outs if one.pk is not None]:
        _CHANGED_FAN_OUTS.store(raw, known)
    if manual:
        _CHANGED_MANUAL.store(raw, manual)
    _SIGNALS.store(raw, signals)


def write_changed(
    raw: psycopg.Cursor[Row],
    *,
    tasks: Sequence[tuple[Task, str]],
    plans: Sequence[tuple[Plan, str]],
) -> Changes:
    """Each row comes with the state it was read in; a row in another state is an error."""
    sent = []
    for update, changed in ((_CHANGED_TASKS, tasks), (_CHANGED_PLANS, plans)):
        if changed:
            rows, expected = zip(*changed, strict=True)
            sent.append((update.store(raw, rows, expected=expected), len(rows)))
    return sent


def check(changes: Changes) -> None:
    """After the pipeline that sent them. Raises ConcurrentChange."""
    if any(cursor.rowcount != rows for cursor, rows in changes):
        raise ConcurrentChange("A task or plan was changed by somebody who did not hold its lock.")


def write_clocks(raw: psycopg.Cursor[Row], *, tasks: Sequence[Task], plans: Sequence[Plan]) -> None:
    """After the rows themselves: they may be new."""
    if tasks:
        _TASK_CLOCKS.store(raw, tasks)
    if plans:
        _PLAN_CLOCKS.store(raw, plans)


def write_corrections(raw: psycopg.Cursor[Row], *, tasks: Sequence[Task]) -> None:
    """What tasks are sent by hand in place of what their workflow makes."""
    if tasks:
        _CORRECTED.store(raw, tasks)


def write_log(
    raw: psycopg.Cursor[Row],
    *,
    commands: Sequence[Command],
    attempts: Sequence[Attempt],
    finished: Sequence[Attempt],
    outbox: Sequence[Row],
    transitions: Sequence[Row],
    heads: Sequence[Row],
) -> None:
    _COMMANDS.store(raw, [command for command in commands if command.id is None])
    _NUMBERED_COMMANDS.store(raw, [command for command in commands if command.id is not None])
    _ATTEMPTS.store(raw, attempts)
    write_finished(raw, finished=finished)
    _OUTBOX.insert(raw, outbox)
    _TRANSITIONS.insert(raw, transitions)
    _HEADS.run(raw, heads)


def write_finished(raw: psycopg.Cursor[Row], *, finished: Sequence[Attempt]) -> None:
    """Attempts that have ended; each once."""
    if finished:
        rows = [(one.id, one.finished_at, one.outcome, one.code, one.message) for one in finished]
        raw.execute(_FINISHED_ATTEMPTS, arrays(rows), prepare=True)
