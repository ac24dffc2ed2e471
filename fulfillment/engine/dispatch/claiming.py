"""The claim: take commands of one target under a lease, as far as its protection allows.

Commands in doubt come first and are asked for; then runnable ones in selection order are sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings

from adapters.contract import Command
from fulfillment.engine.dispatch import candidates, sifting
from fulfillment.engine.dispatch.candidates import Candidate, sql_of
from fulfillment.engine.protection import admission, holds, locksmith
from fulfillment.engine.protection.admission import Look
from fulfillment.engine.protection.limits import Allowance
from fulfillment.engine.store.database import Row, clean, cursor
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.timing import clocks
from fulfillment.engine.work import cases, hints, locking
from fulfillment.engine.work.rows import fresh
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Attempt, Purpose, TargetSystem, Task
from fulfillment.states import (
    TASK_CLAIMABLE,
)

logger = logging.getLogger(__name__)

LEASE_MARGIN = timedelta(seconds=10)
"""Lease beyond the call's own deadline: room for the claim's commit and the settlement."""
_LOOKS = 3


# Without the ORM's view of its plan: that may be what can't be read.
_PUT_OFF = f"""
UPDATE fulfillment_task SET not_before = fulfillment_now() + %s, blocked_reason = %s,
    waits_for = CASE WHEN state = 'OUTCOME_UNKNOWN' THEN waits_for ELSE 'RETRY' END
WHERE id = %s AND state IN {sql_of(TASK_CLAIMABLE)} RETURNING key, plan_id
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
    slot: int | None
    """Which of its worker's; None where there is none to wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """For how many commands a worker has room, and in which of its slots."""

    calls: int
    """That begin at once."""
    slots: Sequence[int] = ()
    """Those that are free, one for each of these; none for handlers in this process."""
    soon: Sequence[int] = ()
    """Those with a call that will be over soon: one command may go behind it."""
    quick: bool = False
    """Whether one may also go behind each call that begins now."""

    @property
    def all(self) -> int:
        """Commands, with those that go behind others."""
        return self.calls + len(self.soon) + (len(self.slots) if self.quick else 0)


def claim(*, target: TargetSystem, room: Room, worker: str, alone: bool = True) -> list[Claim]:
    """As many commands as there is room for calls, DISPATCHED and committed before any is sent.

    `alone` says that this process makes no other call at the moment: only then may a command
    be claimed that is suspected of taking workers down. What another claim took between the
    look and the lock is left out; the caller looks again until nothing is claimable.
    """
    if not target.idempotent and not target.status_query:
        # Nobody could tell afterwards which of a batch happened: one at a time.
        room = replace(room, calls=1, slots=room.slots[:1])
    looks, before = 0, list[Row]()
    while looks < _LOOKS:
        with cursor() as raw:
            seen = admission.look_at(raw, target=target.pk)
            allowed = seen.allowance(limits=admission.limits_of(target), wanted=room.calls)
            found = candidates.look_for(raw, target=target.pk, seen=seen, allowed=allowed)
        if not found:
            _look_again(target, seen, allowed)
            return []
        claims = _take_or_split(target, found, room, worker, alone)
        if claims:
            return claims
        # Whoever makes way, or is put off, does so once, so this ends.
        made_way = _make_way(target, seen, task_ids=[row[1] for row in found])
        looks = 0 if made_way or found != before else looks + 1
        before = found
    return []


def _look_again(target: TargetSystem, seen: Look, allowed: Allowance) -> None:
    """When the first of what waits for a time is due, or its limits will let something through.

    Whoever looks then sees to the next: so each has its turn, also where a unit of work has put
    several off, and no scanner runs.
    """
    waiting = (seen.first_later_at, seen.first_question_at)
    ahead = [at for at in waiting if at is not None and at > seen.now]
    if allowed.again_at is not None and not allowed.calls:
        ahead.append(allowed.again_at)
    if ahead:
        hints.publish(targets={}, wake_ups={target.pk: min(ahead) - seen.now})


def _make_way(target: TargetSystem, seen: Look, *, task_ids: Sequence[int]) -> bool:
    """Whether some of these lined up for a lock, or some of the next are held: they, and all
    that would do the same behind them, are out of the way now."""
    lined_up = locking.have_lined_up(task_ids=task_ids)
    if not lined_up and not seen.narrower_holds:
        return False
    with cursor() as raw:
        heads = candidates.heads(raw, target=target.pk)
    if not heads:
        return lined_up
    if lined_up:
        locksmith.line_up(task_ids=heads)
        return True
    return holds.park_held(task_ids=heads) > 0


def _take_or_split(
    target: TargetSystem, found: Sequence[Row], room: Room, worker: str, alone: bool
) -> list[Claim]:
    """Claim in one unit; a task that can't be claimed waits, with a case for a person."""
    actor = f"worker {worker}"

    def take(batch: Sequence[Row]) -> list[Claim]:
        return run_unit(
            partial(
                _take,
                target=target,
                task_ids=[row[1] for row in batch],
                room=room,
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

    return in_halves(found, work=take, culprit=put_off)


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


def _take(
    unit: Unit, target: TargetSystem, task_ids: list[int], room: Room, worker: str, alone: bool
) -> list[Claim]:
    wanted = candidates.read(unit, target=target.pk, task_ids=task_ids)
    return take(unit, target=target, wanted=wanted, room=room, worker=worker, alone=alone)


def take(
    unit: Unit,
    *,
    target: TargetSystem,
    wanted: list[Candidate],
    room: Room,
    worker: str,
    alone: bool,
    only_if_nothing_else_is_due: bool = False,
) -> list[Claim]:
    """Of these candidates, in their order, what protection allows: DISPATCHED with this unit.

    With `only_if_nothing_else_is_due`, nothing while there are questions, or tasks whose time
    has come and that are not among the candidates for that.
    """
    began = time.monotonic()
    unit.adopt_tasks(candidate.task for candidate in wanted)
    smith = sifting.locksmith_for(unit, wanted)
    entry = admission.Admission(unit, target=target)
    if only_if_nothing_else_is_due and (entry.look.has_questions or entry.look.has_later_ones):
        return []
    wanted = sifting.without_expired(unit, sifting.without_shut(unit, wanted, entry.look.now))
    wanted = sifting.without_unguarded(unit, wanted)
    wanted = sifting.without_suspects(sifting.without_held(unit, entry.look, wanted), alone)
    wanted = sifting.without_locked(smith, wanted)
    allowed = entry.allowance(wanted=min(len(wanted), room.calls))
    taken = sifting.within(allowed, wanted)
    slots: list[int | None] = [*room.slots[: len(taken)]] or [None] * len(taken)
    behind = [*room.soon, *(room.slots[: len(taken)] if room.quick else ())]
    if behind and entry.may_line_up(wanted=len(wanted)):
        lined_up = sifting.behind([one for one in wanted if one not in taken], room=len(behind))
        taken += lined_up
        slots += behind[: len(lined_up)]
    for target_id in smith.write([candidate.task.id for candidate in taken]):
        unit.hint(target=target_id)
    entry.spend(calls=len(taken))
    return [
        _claimed(unit, target, candidate, worker, slot, entry.look.now, began)
        for candidate, slot in zip(taken, slots, strict=True)
    ]


def _close_cancellation(unit: Unit, task: Task) -> None:
    """From this commit on what it serves can't be cancelled (reference §14.2)."""
    unit.record(
        fulfillment_id=task.fulfillment_id,
        entity="task",
        entity_id=str(task.id),
        name="close_cancellation",
        before=str(task.state),
        after=str(task.state),
        cause="everything required before it is done, and it can't be taken back",
    )


def _claimed(
    unit: Unit,
    target: TargetSystem,
    candidate: Candidate,
    worker: str,
    slot: int | None,
    now: datetime,
    began: float,
) -> Claim:
    task = candidate.task
    node = candidate.node
    deadline = clocks.of(task=task, node=node).call
    lease = deadline + LEASE_MARGIN
    task.attempts += 1
    if candidate.is_question:
        purpose = Purpose.QUERY
        # Nobody else asks while this lease runs; a lost one lets the next claim ask.
        task.not_before = now + lease
        unit.touched_tasks.add(task.id)
    else:
        purpose = Purpose.SEND
        task.sends += 1
        clocks.sent(unit, task=task, node=node, at=now)
        if node.is_final and task.sends == 1:
            _close_cancellation(unit, task)
        unit.change_task(task, Task.dispatch, cause="claimed by a worker", attempt=task.attempts)
    unit.new_attempts.append(
        fresh(
            Attempt,
            id=candidate.attempt_id,
            command_id=candidate.command_id,
            task_id=task.id,
            fulfillment_id=task.fulfillment_id,
            target_id=target.pk,
            number=task.attempts,
            purpose=purpose,
            worker=worker[:100],
            slot=slot,
            started_at=now,
            lease_expires_at=now + lease,
        )
    )
    locked = unit.fulfillments[task.fulfillment_id]
    return Claim(
        attempt_id=candidate.attempt_id,
        task_id=task.id,
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
            payload=candidate.payload,
            order_reference=locked.order_reference,
            correlation_id=locked.correlation_id,
            attempt=task.attempts,
            deadline=deadline,
            callback_url=f"{settings.OMS_PUBLIC_URL}/api/v1/callbacks/{target.pk}",
            resume_from=None if candidate.is_question else task.progress,
        ),
        send_before=began + LEASE_MARGIN.total_seconds(),
        slot=slot,
    )
