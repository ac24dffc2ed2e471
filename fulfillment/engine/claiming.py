"""The claim: take runnable commands of one target, in selection order, under a lease."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings

from adapters.contract import Command
from fulfillment.engine import graphs
from fulfillment.engine.database import Row, allocate, clean, cursor
from fulfillment.engine.halving import in_halves
from fulfillment.engine.rows import TASK_COLUMNS, plans_by_id, task_from_row
from fulfillment.engine.unit import Unit, run_unit
from fulfillment.models import Attempt, Purpose, TargetSystem, Task
from fulfillment.states import PLAN_SELECTABLE, TASK_CLAIMABLE, TaskState

logger = logging.getLogger(__name__)

LEASE_MARGIN = timedelta(seconds=10)
"""Lease beyond the call's own deadline: room for the claim's commit and the settlement."""

_CLAIMABLE = "(" + ", ".join(f"'{state}'" for state in sorted(TASK_CLAIMABLE)) + ")"
_SELECTABLE = "(" + ", ".join(f"'{state}'" for state in sorted(PLAN_SELECTABLE)) + ")"
# The states stand in the text, not in parameters: the partial index serves no other query. The
# plan's state is asked row by row in index order; as a join it would invite a hash and a sort.
# Tasks of a superseded plan must not use up the limit, or those behind them are never seen.
_CANDIDATES = f"""
SELECT t.fulfillment_id, t.id FROM fulfillment_task t
WHERE t.target_id = %s AND t.state IN {_CLAIMABLE} AND t.held_by_id IS NULL
  AND t.not_before <= fulfillment_now()
  AND (SELECT p.state FROM fulfillment_plan p WHERE p.id = t.plan_id) IN {_SELECTABLE}
ORDER BY t.priority DESC, t.depth, t.id LIMIT %s
"""
_CLAIM = f"""
SELECT {", ".join(f"t.{column}" for column in TASK_COLUMNS)},
       c.id, c.idempotency_key, c.action, c.payload
FROM fulfillment_task t
JOIN LATERAL (
    SELECT * FROM fulfillment_command c WHERE c.task_id = t.id ORDER BY c.revision DESC LIMIT 1
) c ON true
WHERE t.id = ANY(%s::bigint[]) AND t.state IN {_CLAIMABLE} AND t.not_before <= %s
ORDER BY t.priority DESC, t.depth, t.id
"""


# Without the ORM's view of its plan: that may be what can't be read.
_PUT_OFF = f"""
UPDATE fulfillment_task SET not_before = fulfillment_now() + %s, blocked_reason = %s
WHERE id = %s AND state IN {_CLAIMABLE}
"""
_PAUSE_AFTER_FAILURE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to make one call for one command, until the lease ends."""

    attempt_id: int
    task_id: int
    plan_id: int
    fulfillment_id: int
    node: int
    purpose: Purpose
    command: Command
    send_before: float
    """Monotonic seconds; a call that has not begun by then must not begin."""


def claim(*, target: TargetSystem, limit: int, worker: str) -> list[Claim]:
    """At most `limit` commands, DISPATCHED and committed before anything is sent.

    What another claim took between the look and the lock is left out; the caller looks again
    until nothing is claimable.
    """
    if not target.idempotent and not target.status_query:
        # Nobody could tell afterwards which of a batch happened: one at a time.
        limit = 1
    for _ in range(3):
        with cursor() as raw:
            raw.execute(_CANDIDATES, [target.pk, limit], prepare=True)
            candidates = raw.fetchall()
        if not candidates:
            return []
        claims = _take_or_split(target, candidates, worker)
        if claims:
            return claims
    return []


def _take_or_split(target: TargetSystem, candidates: Sequence[Row], worker: str) -> list[Claim]:
    """Claim in one unit; a task that can't be claimed waits, with the reason."""
    actor = f"worker {worker}"

    def take(batch: Sequence[Row]) -> list[Claim]:
        return run_unit(
            partial(_take, target=target, task_ids=[row[1] for row in batch], worker=worker),
            fulfillment_ids=(row[0] for row in batch),
            actor=actor,
            drained=target.pk,
        )

    def put_off(candidate: Row, error: Exception) -> None:
        fulfillment_id, task_id = candidate
        logger.error(
            "task can't be claimed; it is tried again later",
            exc_info=error,
            extra={"task": task_id},
        )
        reason = clean(f"It can't be sent at the moment: {type(error).__name__}: {error}", 500)
        run_unit(
            partial(_put_off, task_id=task_id, reason=reason),
            fulfillment_ids=[fulfillment_id],
            actor=actor,
        )

    return in_halves(candidates, work=take, culprit=put_off)


def _put_off(unit: Unit, task_id: int, reason: str) -> None:
    unit.raw.execute(_PUT_OFF, [_PAUSE_AFTER_FAILURE, reason, task_id], prepare=True)


def _take(unit: Unit, target: TargetSystem, task_ids: list[int], worker: str) -> list[Claim]:
    began = time.monotonic()
    unit.raw.execute(_CLAIM, [task_ids, unit.now], prepare=True)
    rows = unit.raw.fetchall()
    width = len(TASK_COLUMNS)
    tasks = [task_from_row(row[:width]) for row in rows]
    unit.adopt_tasks(tasks)
    unit.adopt_plans(plans_by_id(unit.raw, {task.plan_id for task in tasks}))
    taken = [
        (task, row[width:])
        for task, row in zip(tasks, rows, strict=True)
        if unit.plans[task.plan_id].state in PLAN_SELECTABLE
    ]
    attempt_ids = allocate(unit.raw, "fulfillment_attempt", len(taken))
    return [
        _claimed(unit, target, task, command, next(attempt_ids), worker, began)
        for task, command in taken
    ]


def _claimed(
    unit: Unit,
    target: TargetSystem,
    task: Task,
    command: tuple[Any, ...],
    attempt_id: int,
    worker: str,
    began: float,
) -> Claim:
    command_id, key, action, payload = command
    node = graphs.by_id(unit.plans[task.plan_id].graph_id).nodes[task.node]
    deadline = timedelta(seconds=node.call_timeout_seconds)
    lease = deadline + LEASE_MARGIN
    task.attempts += 1
    if task.state == TaskState.OUTCOME_UNKNOWN:
        purpose = Purpose.QUERY
        # Nobody else asks while this lease runs; a lost one lets the next claim ask.
        task.not_before = unit.now + lease
        unit.touched_tasks.add(task.pk)
    else:
        purpose = Purpose.SEND
        task.sends += 1
        unit.change_task(task, Task.dispatch, cause="claimed by a worker", attempt=task.attempts)
    unit.new_attempts.append(
        Attempt(
            id=attempt_id,
            command_id=command_id,
            task_id=task.pk,
            fulfillment_id=task.fulfillment_id,
            target_id=target.pk,
            number=task.attempts,
            purpose=purpose,
            worker=worker[:100],
            started_at=unit.now,
            lease_expires_at=unit.now + lease,
        )
    )
    locked = unit.fulfillments[task.fulfillment_id]
    return Claim(
        attempt_id=attempt_id,
        task_id=task.pk,
        plan_id=task.plan_id,
        fulfillment_id=task.fulfillment_id,
        node=task.node,
        purpose=purpose,
        command=Command(
            command_id=command_id,
            idempotency_key=key,
            target=target.pk,
            action=action,
            payload=graphs.parsed(payload),
            order_reference=locked.order_reference,
            correlation_id=locked.correlation_id,
            attempt=task.attempts,
            deadline=deadline,
            callback_url=f"{settings.OMS_PUBLIC_URL}/api/v1/callbacks/{target.pk}",
        ),
        send_before=began + LEASE_MARGIN.total_seconds(),
    )
