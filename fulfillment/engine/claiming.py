"""The claim: take commands of one target under a lease, as far as its protection allows.

Commands in doubt come first and are asked for; then runnable ones in selection order are sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg
from django.conf import settings

from adapters.contract import Command
from fulfillment.definitions.graph import Node
from fulfillment.definitions.readiness import Place
from fulfillment.engine import (
    admission,
    cases,
    expiring,
    graphs,
    hints,
    holds,
    settlement,
    windows,
)
from fulfillment.engine.admission import Look
from fulfillment.engine.database import Row, clean, cursor
from fulfillment.engine.halving import in_halves
from fulfillment.engine.limits import Allowance
from fulfillment.engine.rows import TASK_COLUMNS, plans_by_id, task_from_row
from fulfillment.engine.unit import Unit, run_unit
from fulfillment.models import Attempt, Purpose, TargetSystem, Task
from fulfillment.states import PLAN_SELECTABLE, TASK_CLAIMABLE, TASK_SENDABLE, TaskState

logger = logging.getLogger(__name__)

LEASE_MARGIN = timedelta(seconds=10)
"""Lease beyond the call's own deadline: room for the claim's commit and the settlement."""
SUSPECT_AFTER = 2
"""Lost leases in a row after which a command is claimed alone: if it takes its worker down
again, it takes nobody else's call with it, and is known to be the one."""
_LOOKS = 3
_LOOK_AHEAD = 500


def _sql(states: frozenset[Any]) -> str:
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
WHERE t.target_id = %s AND t.state IN {_sql(TASK_SENDABLE)} AND t.held_by_id IS NULL
  AND t.not_before <= %s
  AND (SELECT p.state FROM fulfillment_plan p WHERE p.id = t.plan_id) IN {_sql(PLAN_SELECTABLE)}
ORDER BY t.priority DESC, t.depth, t.id LIMIT %s
"""
# Each row with a number for its attempt, given after the sort; one that is not used is a gap.
_CLAIM = f"""
SELECT {", ".join(f"t.{column}" for column in TASK_COLUMNS)},
       p.graph_id, nextval('fulfillment_attempt_id_seq'), c.id, c.idempotency_key, c.action,
       c.payload
FROM fulfillment_task t
JOIN LATERAL (
    SELECT p.state, p.graph_id FROM fulfillment_plan p WHERE p.id = t.plan_id LIMIT 1
) p ON true
JOIN LATERAL (
    SELECT * FROM fulfillment_command c WHERE c.task_id = t.id ORDER BY c.revision DESC LIMIT 1
) c ON true
WHERE t.id = ANY(%s::bigint[]) AND t.target_id = %s
  AND t.state IN {_sql(TASK_CLAIMABLE)} AND t.not_before <= %s
  AND (t.state = 'OUTCOME_UNKNOWN'
       OR t.held_by_id IS NULL AND p.state IN {_sql(PLAN_SELECTABLE)})
ORDER BY t.state <> 'OUTCOME_UNKNOWN', t.priority DESC, t.depth, t.id
"""
# Without the ORM's view of its plan: that may be what can't be read.
_PUT_OFF = f"""
UPDATE fulfillment_task SET not_before = fulfillment_now() + %s, blocked_reason = %s
WHERE id = %s AND state IN {_sql(TASK_CLAIMABLE)} RETURNING key, plan_id
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
    element: int
    purpose: Purpose
    command: Command
    send_before: float
    """Monotonic seconds; a call that has not begun by then must not begin."""


def claim(*, target: TargetSystem, limit: int, worker: str, alone: bool = True) -> list[Claim]:
    """At most `limit` commands, DISPATCHED and committed before anything is sent.

    `alone` says that this process makes no other call at the moment: only then may a command
    be claimed that is suspected of taking workers down. What another claim took between the
    look and the lock is left out; the caller looks again until nothing is claimable.
    """
    if not target.idempotent and not target.status_query:
        # Nobody could tell afterwards which of a batch happened: one at a time.
        limit = 1
    looks = 0
    while looks < _LOOKS:
        with cursor() as raw:
            seen = admission.look_at(raw, target=target.pk)
            allowed = seen.allowance(limits=admission.limits_of(target), wanted=limit)
            candidates = _candidates(raw, target, seen, allowed)
        if not candidates:
            _look_again(target, seen, allowed)
            return []
        claims = _take_or_split(target, candidates, worker, alone)
        if claims:
            return claims
        looks += 1
        if seen.narrower_holds and _park_held(target, seen):
            looks = 0
    return []


def _candidates(
    raw: psycopg.Cursor[Row], target: TargetSystem, seen: Look, allowed: Allowance
) -> list[Row]:
    found: list[Row] = []
    if allowed.queries and seen.has_questions:
        raw.execute(_IN_DOUBT, [target.pk, seen.now, allowed.queries], prepare=True)
        found += raw.fetchall()
    free = allowed.calls - len(found)
    if free > 0 and not seen.held:
        raw.execute(_RUNNABLE, [target.pk, seen.now, free], prepare=True)
        found += raw.fetchall()
    return found


def _look_again(target: TargetSystem, seen: Look, allowed: Allowance) -> None:
    """When its limits will let something through, if they are what keeps it back."""
    if allowed.again_at is None or allowed.calls:
        return
    hints.publish(targets={}, wake_ups={target.pk: allowed.again_at - seen.now})


def _park_held(target: TargetSystem, seen: Look) -> bool:
    """Whether some of the next candidates were held, and are out of the way now."""
    with cursor() as raw:
        raw.execute(_RUNNABLE, [target.pk, seen.now, _LOOK_AHEAD], prepare=True)
        heads = [row[1] for row in raw.fetchall()]
    return bool(heads) and holds.park_held(task_ids=heads) > 0


def _take_or_split(
    target: TargetSystem, candidates: Sequence[Row], worker: str, alone: bool
) -> list[Claim]:
    """Claim in one unit; a task that can't be claimed waits, with a case for a person."""
    actor = f"worker {worker}"

    def take(batch: Sequence[Row]) -> list[Claim]:
        return run_unit(
            partial(
                _take,
                target=target,
                task_ids=[row[1] for row in batch],
                worker=worker,
                alone=alone,
            ),
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
        run_unit(
            partial(_put_off, task_id=task_id, fulfillment_id=fulfillment_id, error=error),
            fulfillment_ids=[fulfillment_id],
            actor=actor,
        )

    return in_halves(candidates, work=take, culprit=put_off)


def _put_off(unit: Unit, task_id: int, fulfillment_id: int, error: Exception) -> None:
    reason = clean(f"It can't be sent at the moment: {type(error).__name__}: {error}", 500)
    unit.raw.execute(_PUT_OFF, [_PAUSE_AFTER_FAILURE, reason, task_id], prepare=True)
    row = unit.raw.fetchone()
    if row is None:
        return  # Somebody else has got further with it.
    key, plan_id = row
    cases.open_case(
        unit,
        fallout=cases.poison(
            subject=cases.of_task(task_id),
            what=f"{key} can't be sent",
            error=error,
            fulfillment_id=fulfillment_id,
            plan_id=plan_id,
            task_id=task_id,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A task that may be claimed, with what its call needs."""

    task: Task
    graph_id: int
    attempt_id: int
    command_id: int
    idempotency_key: str
    action: str
    payload: str

    @property
    def node(self) -> Node:
        return graphs.routed(self.graph_id, self.task.node, self.task.route)

    @property
    def is_question(self) -> bool:
        return bool(self.task.state == TaskState.OUTCOME_UNKNOWN)


def _take(
    unit: Unit, target: TargetSystem, task_ids: list[int], worker: str, alone: bool
) -> list[Claim]:
    began = time.monotonic()
    wanted = _wanted(unit, target, task_ids)
    unit.adopt_tasks(candidate.task for candidate in wanted)
    entry = admission.Admission(unit, target=target)
    wanted = _without_expired(unit, _without_shut(unit, wanted, entry.look.now))
    wanted = _without_suspects(_without_held(unit, entry.look, wanted), alone)
    taken = _within(entry.allowance(wanted=len(wanted)), wanted)
    entry.spend(calls=len(taken))
    return [_claimed(unit, target, candidate, worker, entry.look.now, began) for candidate in taken]


def _wanted(unit: Unit, target: TargetSystem, task_ids: list[int]) -> list[_Candidate]:
    """Those that are still claimable under the locks, in the order of selection.

    Meanwhile one may have gone on to another target: that one's command is not sent here.
    """
    unit.raw.execute(_CLAIM, [task_ids, target.pk, unit.now], prepare=True)
    width = len(TASK_COLUMNS)
    candidates = []
    for row in unit.raw.fetchall():
        graph_id, attempt_id, command_id, key, action, payload = row[width:]
        candidates.append(
            _Candidate(
                task=task_from_row(row[:width]),
                graph_id=graph_id,
                attempt_id=attempt_id,
                command_id=command_id,
                idempotency_key=key,
                action=action,
                payload=payload,
            )
        )
    return candidates


def _without_shut(unit: Unit, wanted: list[_Candidate], now: datetime) -> list[_Candidate]:
    """Outside its window a command waits for it to open; that may have changed meanwhile."""
    shut = [
        candidate
        for candidate in wanted
        if not candidate.is_question and windows.is_shut(node=candidate.node, at=now)
    ]
    for candidate in shut:
        candidate.task.not_before = windows.opening(node=candidate.node, at=now)
        unit.touched_tasks.add(candidate.task.pk)
    return [candidate for candidate in wanted if candidate not in shut]


def _without_expired(unit: Unit, wanted: list[_Candidate]) -> list[_Candidate]:
    """What would be sent with a value that has expired since goes back, or to a person."""
    using = [
        candidate
        for candidate in wanted
        if not candidate.is_question
        and candidate.task.node in graphs.by_id(candidate.graph_id).expiring
    ]
    if not using:
        return wanted
    unit.adopt_plans(plans_by_id(unit.raw, {candidate.task.plan_id for candidate in using}))
    again: dict[int, set[Place]] = {}
    for candidate in using:
        plan = unit.plans[candidate.task.plan_id]
        found = expiring.set_aside(unit, plan=plan, task=candidate.task)
        if found is not None:
            again.setdefault(plan.pk, set()).update(found)
    settlement.go_on(unit, wanted=again)
    return [candidate for candidate in wanted if candidate.task.state in TASK_CLAIMABLE]


def _without_held(unit: Unit, seen: Look, wanted: Sequence[_Candidate]) -> list[_Candidate]:
    """Holds keep commands from being sent; nothing but a pause keeps them from being asked for.

    `seen` behind the gate: no hold has been placed since.
    """
    if seen.held:
        return [candidate for candidate in wanted if candidate.is_question]
    held = holds.holding(
        unit.raw,
        tasks=[
            holds.Held(
                task_id=candidate.task.pk,
                plan_id=candidate.task.plan_id,
                node=candidate.task.node,
                target=candidate.task.target_id,
                order_reference=unit.fulfillments[candidate.task.fulfillment_id].order_reference,
                customer=unit.fulfillments[candidate.task.fulfillment_id].customer,
                graph_id=candidate.graph_id,
            )
            for candidate in wanted
            if seen.narrower_holds and not candidate.is_question
        ],
    )
    holds.park(unit.raw, holds=held)
    return [candidate for candidate in wanted if candidate.task.pk not in held]


def _without_suspects(wanted: Sequence[_Candidate], alone: bool) -> list[_Candidate]:
    """A command that has lost several workers goes alone, or not yet.

    What is to be asked makes room for it: while there is always a question, it would never be
    alone, and nothing behind it would be sent.
    """
    sends = [candidate for candidate in wanted if not candidate.is_question]
    for position, candidate in enumerate(sends):
        if candidate.task.lost_leases >= SUSPECT_AFTER:
            if position == 0:
                return sends[:1] if alone else []
            return list(wanted[: wanted.index(candidate)])
    return list(wanted)


def _within(allowed: Allowance, wanted: Sequence[_Candidate]) -> list[_Candidate]:
    taken: list[_Candidate] = []
    queries = 0
    for candidate in wanted:
        if len(taken) == allowed.calls:
            break
        if candidate.is_question:
            if queries == allowed.queries:
                continue
            queries += 1
        taken.append(candidate)
    return taken


def _claimed(
    unit: Unit,
    target: TargetSystem,
    candidate: _Candidate,
    worker: str,
    now: datetime,
    began: float,
) -> Claim:
    task = candidate.task
    node = candidate.node
    deadline = timedelta(seconds=node.call_timeout_seconds)
    lease = deadline + LEASE_MARGIN
    task.attempts += 1
    if candidate.is_question:
        purpose = Purpose.QUERY
        # Nobody else asks while this lease runs; a lost one lets the next claim ask.
        task.not_before = now + lease
        unit.touched_tasks.add(task.pk)
    else:
        purpose = Purpose.SEND
        task.sends += 1
        unit.change_task(task, Task.dispatch, cause="claimed by a worker", attempt=task.attempts)
    unit.new_attempts.append(
        Attempt(
            id=candidate.attempt_id,
            command_id=candidate.command_id,
            task_id=task.pk,
            fulfillment_id=task.fulfillment_id,
            target_id=target.pk,
            number=task.attempts,
            purpose=purpose,
            worker=worker[:100],
            started_at=now,
            lease_expires_at=now + lease,
        )
    )
    locked = unit.fulfillments[task.fulfillment_id]
    return Claim(
        attempt_id=candidate.attempt_id,
        task_id=task.pk,
        plan_id=task.plan_id,
        fulfillment_id=task.fulfillment_id,
        node=task.node,
        element=task.element,
        purpose=purpose,
        command=Command(
            command_id=candidate.command_id,
            idempotency_key=candidate.idempotency_key,
            target=target.pk,
            action=candidate.action,
            payload=graphs.parsed(candidate.payload),
            order_reference=locked.order_reference,
            correlation_id=locked.correlation_id,
            attempt=task.attempts,
            deadline=deadline,
            callback_url=f"{settings.OMS_PUBLIC_URL}/api/v1/callbacks/{target.pk}",
        ),
        send_before=began + LEASE_MARGIN.total_seconds(),
    )
