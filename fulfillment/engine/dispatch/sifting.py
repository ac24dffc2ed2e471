"""What keeps a candidate from being sent after all, each decided under the locks of its claim.

Windows, expired values, holds, suspicion, locks, and what the target system takes at the moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fulfillment.definitions.readiness import Place
from fulfillment.engine.dispatch.candidates import Candidate
from fulfillment.engine.plans import settlement
from fulfillment.engine.protection import holds, locksmith
from fulfillment.engine.protection.admission import Look
from fulfillment.engine.protection.limits import Allowance
from fulfillment.engine.store import graphs, windows
from fulfillment.engine.structure import places
from fulfillment.engine.tasks import expiring
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Task
from fulfillment.states import TASK_CLAIMABLE, Cause

SUSPECT_AFTER = 2
"""Lost leases in a row after which a command is claimed alone: if it takes its worker down
again, it takes nobody else's call with it, and is known to be the one."""


def locksmith_for(unit: Unit, wanted: Sequence[Candidate]) -> locksmith.Locksmith:
    """What is in doubt keeps its locks, and needs none to be asked for."""
    return locksmith.Locksmith(
        raw=unit.raw,
        needs={
            candidate.task.id: locksmith.Need(
                task_id=candidate.task.id,
                plan_id=candidate.task.plan_id,
                fulfillment_id=candidate.task.fulfillment_id,
                own=candidate.task.locks or {},
                of_plan=candidate.plan_locks,
            )
            for candidate in wanted
            if (candidate.task.locks or candidate.plan_locks) and not candidate.is_question
        },
        now=unit.now,
    )


def without_shut(unit: Unit, wanted: list[Candidate], now: datetime) -> list[Candidate]:
    """Outside its window a command waits for it to open; that may have changed meanwhile."""
    shut = [
        candidate
        for candidate in wanted
        if not candidate.is_question and windows.is_shut(node=candidate.node, at=now)
    ]
    for candidate in shut:
        candidate.task.not_before = windows.opening(node=candidate.node, at=now)
        candidate.task.waits_for = Cause.WINDOW
        unit.touched_tasks.add(candidate.task.id)
    return [candidate for candidate in wanted if candidate not in shut]


def without_expired(unit: Unit, wanted: list[Candidate]) -> list[Candidate]:
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
            again.setdefault(plan.id, set()).update(found)
    settlement.go_on(unit, wanted=again)
    return [candidate for candidate in wanted if candidate.task.state in TASK_CLAIMABLE]


def without_unguarded(unit: Unit, wanted: list[Candidate]) -> list[Candidate]:
    """What can't be taken back is sent only when everything required before it is done; from
    then on its order can't be cancelled any more, and that is recorded (irreversible-guarded)."""
    final = [one for one in wanted if not one.is_question and one.node.is_final]
    if not final:
        return wanted
    unit.adopt_plans(plans_by_id(unit.raw, {one.task.plan_id for one in final}))
    for candidate in final:
        task = candidate.task
        plan = unit.plans[task.plan_id]
        if not places.is_guarded(unit, plan=plan, place=(task.node, task.element)):
            unit.change_task(
                task, Task.send_back, cause="not everything that is required before it is done"
            )
    return [candidate for candidate in wanted if candidate.task.state in TASK_CLAIMABLE]


def without_held(unit: Unit, seen: Look, wanted: Sequence[Candidate]) -> list[Candidate]:
    """Holds keep commands from being sent; nothing but a pause keeps them from being asked for.

    `seen` behind the gate: no hold has been placed since.
    """
    if seen.held:
        return [candidate for candidate in wanted if candidate.is_question]
    held = holds.holding(
        unit.raw,
        tasks=[
            holds.Held.of(
                candidate.task,
                order_reference=unit.fulfillments[candidate.task.fulfillment_id].order_reference,
                customer=unit.fulfillments[candidate.task.fulfillment_id].customer,
                graph_id=candidate.graph_id,
            )
            for candidate in wanted
            if seen.narrower_holds and not candidate.is_question
        ],
    )
    holds.park(unit.raw, holds=held)
    return [candidate for candidate in wanted if candidate.task.id not in held]


def without_suspects(wanted: Sequence[Candidate], alone: bool) -> list[Candidate]:
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


def within(allowed: Allowance, wanted: Sequence[Candidate]) -> list[Candidate]:
    taken: list[Candidate] = []
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


def behind(wanted: Sequence[Candidate], *, room: int) -> list[Candidate]:
    """What may go behind a call: no question, and nothing that has taken a worker down."""
    quiet = [one for one in wanted if not one.is_question and not one.task.lost_leases]
    return quiet[:room]


def without_locked(smith: locksmith.Locksmith, wanted: Sequence[Candidate]) -> list[Candidate]:
    """What has to wait for a lock will line up for it, out of the way of everybody else."""
    given = set(smith.give([candidate.task.id for candidate in wanted]))
    return [candidate for candidate in wanted if candidate.task.id in given]
