"""Releasing holds: by hand, and when their time is over."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, engine
from fulfillment.authority.context import Context
from fulfillment.engine.plans import awaiting
from fulfillment.engine.protection import holds
from fulfillment.engine.store.database import DATABASE_TROUBLE, cursor
from fulfillment.engine.timing import standing
from fulfillment.engine.work import hints
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    AlreadySo,
    GateBusy,
    HoldOfEngine,
    HoldUnknown,
    NothingToHold,
    SubjectUnknown,
)
from fulfillment.models import ClockPolicy, Hold, HoldScope
from fulfillment.operations.catalog import perform
from fulfillment.operations.holding import held_found, record_hold
from fulfillment.operations.keeping_back import held_by
from fulfillment.operations.looking import found_once
from fulfillment.operations.repair import Done, Found, Repair, Request, Why
from fulfillment.operations.subjects import number_of

logger = logging.getLogger(__name__)
_PLACED = "PLACED"


class ReleaseHold(Repair):
    """What it has kept back goes on, unless another hold keeps it too."""

    action = Action.HOLD_RELEASE
    kind = "release_hold"
    about = "hold"

    def find(self, *, name: str) -> Found:
        return hold_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        hold = Hold.objects.get(pk=found.pk)
        return f"released by {hold.released_by}" if hold.released_at else "placed"

    def is_offered(self, found: Found) -> bool:
        return found.state == _PLACED

    def beforehand(self, found: Found) -> None:
        hold = Hold.objects.get(pk=found.pk)
        if _stops_clocks(hold) and not found.fulfillment_ids:
            standing.note_all(hold=hold)

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        hold = Hold.objects.get(pk=found.pk)
        if hold.scope == HoldScope.CHANGE:
            raise HoldOfEngine(
                f"Nobody releases hold {hold.pk} by hand. {hold.reason} That is decided as soon "
                "as what is under way has ended, and then it goes on by itself."
            )
        if _stops_clocks(hold) and found.fulfillment_ids:
            standing.note(unit, hold=hold)
        kept = held_by(unit.raw, hold_id=hold.pk)
        holds.close_gate(unit.raw)
        changed = Hold.objects.filter(pk=hold.pk, released_at=None).update(
            released_at=unit.now, released_by=why.actor.name, release_reason=why.reason
        )
        if not changed:
            hold.refresh_from_db()
            raise AlreadySo(
                f"Hold {hold.pk} was released at {hold.released_at:%Y-%m-%d %H:%M} UTC by "
                f"{hold.released_by}: {hold.release_reason}"
            )
        record_hold(
            unit, found=found, hold=hold, kind=self.kind, why=why, states=("PLACED", "RELEASED")
        )
        for fulfillment_id in found.fulfillment_ids:
            # What it was placed for, until there was a new quote, can be decided now.
            awaiting.resume_all(
                unit,
                fulfillment_id=fulfillment_id,
                awaits=awaiting.COMMERCE,
                hold_id=hold.pk,
                cause=f"hold {hold.pk} was released: {why.reason}",
            )
        return Done(
            told=f"Hold {hold.pk} on {hold.subject} is released; it has kept back {kept}.",
            before={"hold": hold.pk, "placed_by": hold.placed_by, "reason": hold.reason},
            after={"released": True, "goes_on": kept.document()},
            customer_impact="What it has kept back goes on." if kept.tasks else "None.",
            result={"hold": hold.pk, "target": _target_of(hold), "stops": _stops_clocks(hold)},
        )

    def afterwards(self, done: Done) -> Done:
        if done.result["stops"]:
            standing.set_all_going()
        targets = {*holds.unpark(), done.result["target"]} - {""}
        hints.publish(targets=dict.fromkeys(targets, 1), wake_ups={})
        return done


@found_once
def hold_found(*, name: str) -> Found:
    """A hold by its number. Raises HoldUnknown."""
    try:
        hold = Hold.objects.filter(pk=number_of(name, about="hold")).first()
    except SubjectUnknown:
        hold = None
    if hold is None:
        raise HoldUnknown(f"There is no hold {name[:100]}; the list of holds has their numbers.")
    subject = f"hold:{hold.pk}"
    held = _held(hold)
    return Found(
        subject=subject,
        pk=hold.pk,
        context=replace(held.context, subject=subject) if held else Context(subject=subject),
        # What the engine itself has placed nobody releases.
        state=_PLACED if hold.released_at is None and hold.scope != HoldScope.CHANGE else "",
        fulfillment_ids=held.fulfillment_ids if held else (),
        logged_as=hold.subject,
    )


def release_hold(*, hold_id: int, reason: str, actor: Actor) -> bool:
    """Let what the hold kept back go on. False when it had been released already.

    Raises as `catalog.perform` does, HoldUnknown, and HoldOfEngine.
    """
    request = Request(action=Action.HOLD_RELEASE, subject=f"hold:{hold_id}", reason=reason)
    try:
        perform(actor=actor, request=request)
    except AlreadySo:
        return False
    return True


def fulfillment_of(*, hold: Hold) -> int | None:
    """The fulfillment whose audit trail tells of the hold; None for what is wider than one."""
    held = _held(hold)
    return next(iter(held.fulfillment_ids), None) if held else None


def release_ended_holds() -> int:
    """Release the holds whose time is over; the scanner's part. Returns how many."""
    with cursor() as raw:
        ended = holds.ended(raw)
    released = 0
    for hold_id in ended:
        try:
            released += release_hold(
                hold_id=hold_id, reason="Its time is over.", actor=engine("scanner")
            )
        except GateBusy:
            # The scan that comes after this must not wait for it; the next one tries again.
            logger.warning("a hold whose time is over is not released yet", extra={"hold": hold_id})
            break
        except DATABASE_TROUBLE:
            raise
        except Exception:
            # Neither the others nor the scan are to wait for it.
            logger.exception("a hold can't be released", extra={"hold": hold_id})
    return released


def _held(hold: Hold) -> Found | None:
    """What it holds; None when that is not there any more."""
    scope, name = HoldScope(hold.scope), hold.subject.partition(":")[2]
    if scope is HoldScope.CHANGE:
        scope = HoldScope.PLAN
    try:
        return held_found(scope=scope, name=name)
    except NothingToHold:
        return None


def _stops_clocks(hold: Hold) -> bool:
    return hold.clock_policy == ClockPolicy.STOP and hold.released_at is None


def _target_of(hold: Hold) -> str:
    scope, _, name = hold.subject.partition(":")
    return name if scope == "target" else ""
