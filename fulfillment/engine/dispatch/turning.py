"""A turn of the drain: settle what has come in and claim what comes next, in one unit of work.

Nothing that this does could not be done by a settlement and a claim after it. But there is one
transaction instead of two, a slot is taken again with the answer that frees it, and what becomes
runnable at the same target is written once, as it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.db import transaction

from adapters.contract import Adapter
from fulfillment.engine.dispatch import candidates, claiming
from fulfillment.engine.dispatch.candidates import Candidate
from fulfillment.engine.dispatch.claiming import Claim, Room
from fulfillment.engine.plans import settlement
from fulfillment.engine.store.database import cursor
from fulfillment.engine.tasks.outcomes import Result
from fulfillment.engine.work import locking
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import TargetSystem


def can_turn(*, target: TargetSystem, adapter: Adapter) -> bool:
    """Whether an answer of this target may be settled together with the next claim.

    Not where nobody could tell afterwards which of a batch happened, and not where what has been
    accepted keeps its slot: how many there are is known only when it has been written. Handlers
    in this process leave no slot empty meanwhile, and come in large batches; it gains nothing.
    """
    return not adapter.in_process and is_safe(target=target)


def is_safe(*, target: TargetSystem) -> bool:
    """Whether it would be right, if not always worth it."""
    return (target.idempotent or target.status_query) and not target.accepted_holds_slot


def turn(
    *,
    target: TargetSystem,
    results: Sequence[Result],
    room: Room,
    worker: str,
    alone: bool,
    send: Callable[[list[Claim]], None],
) -> None:
    """Settle all `results` and claim what there is room for, or do nothing and raise.

    What has been claimed is handed to `send` as soon as that is committed, before anybody is
    told of what else there is to do; a slot is empty meanwhile. Questions, and what waits for a
    time, are left to a claim of its own, and so is what has to make way for others: that none is
    claimed does not mean that there is nothing.
    """
    with cursor() as raw:
        found = candidates.next_to_send(raw, target=target.pk, limit=room.all)

    claimed: list[Claim] = []

    def hand_over() -> None:
        nonlocal claimed
        if claimed:
            claims, claimed = claimed, []
            send(claims)

    def work(unit: Unit) -> None:
        nonlocal claimed
        claimed = []  # It may be run again.
        settlement.apply(unit, results)
        wanted = [
            *candidates.read_beside(unit, target=target.pk, task_ids=[row[1] for row in found]),
            *candidates.just_made_ready(unit, target=target.pk),
        ]
        wanted = sorted(wanted, key=_in_selection_order)[: room.all]
        _enter_together(unit, wanted)
        unit.let_go()
        settlement.note_answers(unit, target=target, results=results)
        unit.write_finished_attempts()
        if not wanted:
            return
        claimed = claiming.take(
            unit,
            target=target,
            wanted=wanted,
            room=room,
            worker=worker,
            alone=alone,
            only_if_nothing_else_is_due=True,
        )
        transaction.on_commit(hand_over, robust=True)

    run_unit(
        work,
        fulfillment_ids=(
            *(result.fulfillment_id for result in results),
            *(row[0] for row in found),
        ),
        actor=f"worker {worker}",
        drained=target.pk,
    )
    hand_over()  # Unless that has been done, as it has when this has really been committed.


def _in_selection_order(candidate: Candidate) -> tuple[int, int, int, int]:
    task = candidate.task
    return (-task.priority, task.rank, task.depth, task.id)


def _enter_together(unit: Unit, wanted: Sequence[Candidate]) -> None:
    """Locks that are let go and locks that are taken are waited for together, in their order."""
    needs = [one for candidate in wanted for one in (candidate.task.locks, candidate.plan_locks)]
    taken = {name for need in needs if need for name in need}
    if unit.letting_go and taken:
        locking.enter(unit.raw, names=unit.letting_go | taken)
