"""Candidates: which commands of a target system come next, in the order of selection.

First they are looked for without a lock, by their indexes; then read again under the locks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from fulfillment.definitions.graph import Node
from fulfillment.engine.protection import locksmith
from fulfillment.engine.protection.admission import Look
from fulfillment.engine.protection.limits import Allowance
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import Row, array
from fulfillment.engine.work.rows import TASK_COLUMNS, task_from_row
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Task
from fulfillment.states import (
    CAUSE_LATER,
    PLAN_SELECTABLE,
    TASK_CLAIMABLE,
    TASK_SENDABLE,
    TaskState,
)

_LOOK_AHEAD = 500
"""Tasks that are called up, or made to stand aside, together."""


def sql_of(states: frozenset[Any]) -> str:
    """The states as they stand in the text of a statement."""
    return "(" + ", ".join(f"'{state}'" for state in sorted(states)) + ")"


# The states stand in the text, not in parameters: the partial index serves no other query. The
# plan's state is asked row by row in index order; as a join it would invite a hash and a sort.
# Tasks of a superseded plan must not use up the limit, or those behind them are never seen.
_IN_DOUBT = """
SELECT t.fulfillment_id, t.id FROM fulfillment_task t
WHERE t.target_id = %s AND t.state = 'OUTCOME_UNKNOWN' AND t.not_before <= %s
ORDER BY t.not_before LIMIT %s
"""
_RUNNABLE = f"""
SELECT t.fulfillment_id, t.id FROM fulfillment_task t
WHERE t.target_id = %s AND t.state IN {sql_of(TASK_SENDABLE)} AND t.held_by_id IS NULL
  AND t.waits_for_lock = '' AND t.waits_for NOT IN {sql_of(CAUSE_LATER)}
  AND t.not_before <= (SELECT fulfillment_now())
  AND (SELECT p.state FROM fulfillment_plan p WHERE p.id = t.plan_id) IN {sql_of(PLAN_SELECTABLE)}
ORDER BY t.priority DESC, t.rank, t.depth, t.id LIMIT %s
"""
# What waits for a window or its next attempt is not in the way of the others; this puts it there.
# Never waits for a row: without the fulfillment's lock that could be a deadlock.
_CALL_UP = f"""
UPDATE fulfillment_task SET waits_for = 'TARGET' WHERE id IN (
    SELECT t.id FROM fulfillment_task t
    WHERE t.target_id = %s AND t.state IN {sql_of(TASK_SENDABLE)} AND t.held_by_id IS NULL
      AND t.waits_for_lock = '' AND t.waits_for IN {sql_of(CAUSE_LATER)} AND t.not_before <= %s
    ORDER BY t.not_before LIMIT {_LOOK_AHEAD} FOR NO KEY UPDATE SKIP LOCKED
)
"""
# Each row with a number for its attempt, given after the sort; one that is not used is a gap.
_CLAIM = f"""
SELECT {", ".join(f"t.{column}" for column in TASK_COLUMNS)},
       p.graph_id, CASE WHEN NOT p.is_locked THEN p.locks END,
       nextval('fulfillment_attempt_id_seq'), c.id, c.idempotency_key, c.action, c.payload
FROM fulfillment_task t
JOIN LATERAL (
    SELECT p.state, p.graph_id, p.locks, p.is_locked
    FROM fulfillment_plan p WHERE p.id = t.plan_id LIMIT 1
) p ON true
JOIN LATERAL (
    SELECT * FROM fulfillment_command c WHERE c.task_id = t.id ORDER BY c.revision DESC LIMIT 1
) c ON true
WHERE t.id = ANY(%s::bigint[]) AND t.target_id = %s
  AND t.state IN {sql_of(TASK_CLAIMABLE)} AND t.not_before <= %s
  AND (t.state = 'OUTCOME_UNKNOWN'
       OR t.held_by_id IS NULL AND t.waits_for_lock = '' AND p.state IN {sql_of(PLAN_SELECTABLE)})
ORDER BY t.state <> 'OUTCOME_UNKNOWN', t.priority DESC, t.rank, t.depth, t.id
"""
_NUMBERS = """
SELECT nextval('fulfillment_attempt_id_seq'), nextval('fulfillment_command_id_seq')
FROM generate_series(1, %s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A task that may be claimed, with what its call needs."""

    task: Task
    graph_id: int
    plan_locks: Mapping[str, int]
    """What its plan has still to lock before anything of it is sent."""
    attempt_id: int
    command_id: int
    idempotency_key: str
    action: str
    payload: Mapping[str, Any]

    @property
    def node(self) -> Node:
        return graphs.routed(self.graph_id, self.task.node, self.task.route)

    @property
    def is_question(self) -> bool:
        return bool(self.task.state == TaskState.OUTCOME_UNKNOWN)


def look_for(raw: psycopg.Cursor[Row], *, target: str, seen: Look, allowed: Allowance) -> list[Row]:
    """(fulfillment id, task id): questions that are due, then what may be sent."""
    found: list[Row] = []
    if allowed.queries and seen.has_questions:
        raw.execute(_IN_DOUBT, [target, seen.now, allowed.queries], prepare=True)
        found += raw.fetchall()
    free = allowed.calls - len(found)
    if free > 0 and not seen.held:
        if seen.has_later_ones:
            raw.execute(_CALL_UP, [target, seen.now], prepare=True)
        found += next_to_send(raw, target=target, limit=free)
    return found


def next_to_send(raw: psycopg.Cursor[Row], *, target: str, limit: int) -> list[Row]:
    """(fulfillment id, task id) of what may be sent, as far as its rows say so."""
    raw.execute(_RUNNABLE, [target, limit], prepare=True)
    return raw.fetchall()


def heads(raw: psycopg.Cursor[Row], *, target: str) -> list[int]:
    """The tasks at the head of what may be sent, many more than one claim takes."""
    return [row[1] for row in next_to_send(raw, target=target, limit=_LOOK_AHEAD)]


def read(unit: Unit, *, target: str, task_ids: Sequence[int]) -> list[Candidate]:
    """Those that are still claimable under the locks, in the order of selection.

    Meanwhile one may have gone on to another target: that one's command is not sent here.
    """
    unit.raw.execute(_CLAIM, [array(task_ids), target, unit.now], prepare=True)
    width = len(TASK_COLUMNS)
    candidates = []
    for row in unit.raw.fetchall():
        graph_id, plan_locks, attempt_id, command_id, key, action, payload = row[width:]
        candidates.append(
            Candidate(
                task=task_from_row(row[:width]),
                graph_id=graph_id,
                plan_locks=locksmith.parsed(plan_locks),
                attempt_id=attempt_id,
                command_id=command_id,
                idempotency_key=key,
                action=action,
                payload=graphs.parsed(payload),
            )
        )
    return candidates


def read_beside(unit: Unit, *, target: str, task_ids: Sequence[int]) -> list[Candidate]:
    """The same in a unit that has changed other things already, and not written them yet."""
    if not task_ids:
        return []
    found = []
    for candidate in read(unit, target=target, task_ids=task_ids):
        plan = unit.plans.get(candidate.task.plan_id)
        if plan is not None and plan.state not in PLAN_SELECTABLE:
            continue
        known = unit.tasks.get(candidate.task.id)
        if known is None:
            found.append(candidate)
        elif known.id not in unit.touched_tasks:
            found.append(replace(candidate, task=known))
    return found


def just_made_ready(unit: Unit, *, target: str) -> list[Candidate]:
    """What this unit has made runnable at the target; nothing of it is in the database yet."""
    commands = [
        command
        for command in unit.new_commands
        if command.target_id == target and _may_go(unit, unit.tasks[command.task_id])
    ]
    if not commands:
        return []
    unit.raw.execute(_NUMBERS, [len(commands)], prepare=True)
    found = []
    for command, (attempt_id, command_id) in zip(commands, unit.raw.fetchall(), strict=True):
        command.id = command_id
        task = unit.tasks[command.task_id]
        plan = unit.plans[task.plan_id]
        found.append(
            Candidate(
                task=task,
                graph_id=plan.graph_id,
                plan_locks={} if plan.is_locked else plan.locks or {},
                attempt_id=attempt_id,
                command_id=command_id,
                idempotency_key=command.idempotency_key,
                action=command.action,
                payload=command.payload,
            )
        )
    return found


def _may_go(unit: Unit, task: Task) -> bool:
    return (
        task.state in TASK_SENDABLE
        and task.not_before <= unit.now
        and task.held_by_id is None
        and not task.waits_for_lock
        and unit.plans[task.plan_id].state in PLAN_SELECTABLE
    )
