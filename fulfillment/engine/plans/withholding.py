"""A plan that is to be given up or changed sends nothing new until what is under way has ended."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from fulfillment.engine.protection import holds
from fulfillment.engine.store.database import allocate
from fulfillment.engine.work import hints
from fulfillment.engine.work.unit import Unit
from fulfillment.models import ClockPolicy, Hold, HoldScope, Plan

_RELEASE = """
UPDATE fulfillment_hold SET released_at = %s, released_by = %s, release_reason = %s
WHERE subject = %s AND released_at IS NULL RETURNING id
"""


def await_rest(unit: Unit, *, plan: Plan, reason: str) -> None:
    """Nothing new of the plan is sent from the commit on; when something that was under way has
    ended, the order desk is asked to decide (`OrderPort.decide`).

    Does nothing where that is so already. No gate has to be closed as for other holds: every
    claim of this plan waits for the fulfillment, which this unit has locked.
    """
    if plan.rest_due_at is not None:
        return
    plan.rest_due_at = unit.now
    unit.clocked_plans.add(plan.pk)
    unit.rests = True
    (hold_id,) = allocate(unit.raw, "fulfillment_hold", 1)
    hold = Hold(
        pk=hold_id,
        scope=HoldScope.CHANGE,
        subject=_subject(plan),
        reason=reason,
        clock_policy=ClockPolicy.RUN,
        placed_by=unit.actor[:150],
        placed_at=unit.now,
    )
    hold.save(force_insert=True)
    _record(unit, plan, hold_id, "place_hold", ("", "PLACED"), reason)


def give_up(unit: Unit, *, plan: Plan, reason: str, only: Sequence[str] = ()) -> None:
    """As soon as nothing of it is under way it is undone, and ends as FAILED.

    `only` are the names of the tasks that are; none: all.
    """
    if plan.giving_up:
        return
    plan.giving_up = reason
    plan.undo_only = list(only) or None
    unit.clocked_plans.add(plan.pk)
    await_rest(unit, plan=plan, reason=reason)


def let_go_on(unit: Unit, *, plan: Plan, reason: str) -> None:
    """What `await_rest` has kept back goes on, under this plan or under its successor."""
    plan.rest_due_at = None
    plan.giving_up, plan.undo_only = "", None
    unit.clocked_plans.add(plan.pk)
    unit.raw.execute(_RELEASE, [unit.now, unit.actor[:150], reason, _subject(plan)], prepare=True)
    for (hold_id,) in unit.raw.fetchall():
        _record(unit, plan, hold_id, "release_hold", ("PLACED", "RELEASED"), reason)
        # If this process dies before it, the scanner finds the same tasks.
        transaction.on_commit(_set_going, robust=True)


def _set_going() -> None:
    hints.publish(targets=dict.fromkeys(holds.unpark(), 1), wake_ups={})


def _subject(plan: Plan) -> str:
    return holds.subject_of(scope=HoldScope.CHANGE, name=str(plan.pk))


def _record(
    unit: Unit, plan: Plan, hold_id: int, name: str, states: tuple[str, str], reason: str
) -> None:
    unit.record(
        fulfillment_id=plan.fulfillment_id,
        entity="hold",
        entity_id=str(hold_id),
        name=name,
        before=states[0],
        after=states[1],
        cause=reason,
        details={"subject": _subject(plan)},
    )
