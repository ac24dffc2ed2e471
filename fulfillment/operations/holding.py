"""Placing and releasing holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fulfillment.authority.actors import Actor, engine
from fulfillment.engine.protection import holds
from fulfillment.engine.store.database import DATABASE_TROUBLE, allocate, cursor
from fulfillment.engine.timing import standing
from fulfillment.engine.work import hints
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    GateBusy,
    HoldOfEngine,
    HoldUnknown,
    HoldWouldBeOver,
    NothingToHold,
)
from fulfillment.models import ClockPolicy, Fulfillment, Hold, HoldScope, Plan, Purpose, Task
from fulfillment.operations.in_flight import PATIENCE, Placed, await_calls
from fulfillment.operations.records import known_target, log, now_of, reason_of

logger = logging.getLogger(__name__)


def place_hold(
    *,
    scope: HoldScope,
    name: str,
    reason: str,
    actor: Actor,
    until: datetime | None = None,
    clock_policy: ClockPolicy = ClockPolicy.RUN,
    patience: timedelta = PATIENCE,
) -> Placed:
    """Let nothing in this scope be sent until the hold is released or `until` has come.

    `name` as in `holds.subject_of`. Queries about what was sent before go on. Raises
    ReasonMissing, HoldWouldBeOver, and NothingToHold when there is no such order, plan, task,
    item or target.
    """
    wanted = wanted_hold(
        scope=scope,
        name=name,
        reason=reason,
        actor=actor,
        until=until,
        clock_policy=clock_policy,
    )
    hold = run_unit(wanted.place, fulfillment_ids=wanted.fulfillment_ids, actor=actor.name)
    return Placed(hold_id=hold.pk, in_flight=await_in_flight(hold=hold, patience=patience))


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedHold:
    """A hold that may be placed, for callers that do more in the same unit of work."""

    hold: Hold
    fulfillment_id: int | None

    @property
    def fulfillment_ids(self) -> list[int]:
        """What the unit has to lock."""
        return [] if self.fulfillment_id is None else [self.fulfillment_id]

    def place(self, unit: Unit) -> Hold:
        """Raises HoldWouldBeOver. The hold is in force when the unit has committed."""
        holds.close_gate(unit.raw)
        hold = self.hold
        placed = Hold.objects.filter(pk=hold.pk).first()
        if placed is not None:
            return placed  # By the run before, whose commit came through without a reply.
        # Read again: claims may have committed while this waited at the gate.
        hold.placed_at = now_of(unit.raw)
        if hold.until is not None and hold.until <= hold.placed_at:
            raise HoldWouldBeOver(
                f"It would end at {hold.until:%Y-%m-%d %H:%M} UTC, which has passed. Give a later "
                "time, or none: then it ends when it is released."
            )
        hold.save(force_insert=True)
        _record(
            unit,
            kind="place_hold",
            subject=hold.subject,
            reason=hold.reason,
            after={"hold": hold.pk, "until": hold.until.isoformat() if hold.until else None},
            fulfillment_id=self.fulfillment_id,
            entity_id=str(hold.pk),
            states=("", "PLACED"),
        )
        return hold


def wanted_hold(
    *,
    scope: HoldScope,
    name: str,
    reason: str,
    actor: Actor,
    until: datetime | None = None,
    clock_policy: ClockPolicy = ClockPolicy.RUN,
) -> WantedHold:
    """Look whether such a hold can be placed. Raises ReasonMissing and NothingToHold."""
    reason = reason_of(reason)
    if scope is HoldScope.CHANGE:
        raise NothingToHold("Such a hold is the engine's own; hold the order, or its plan.")
    fulfillment_id = _fulfillment_of(scope, name)
    with cursor() as raw:
        (hold_id,) = allocate(raw, "fulfillment_hold", 1)
    hold = Hold(
        pk=hold_id,
        scope=scope,
        subject=holds.subject_of(scope=scope, name=name),
        reason=reason,
        clock_policy=clock_policy,
        until=until,
        placed_by=actor.name,
    )
    return WantedHold(hold=hold, fulfillment_id=fulfillment_id)


def await_in_flight(*, hold: Hold, patience: timedelta) -> int:
    """Until no call is under way that began before the hold; how many are left after `patience`."""
    return await_calls(
        lambda purpose, task: purpose != Purpose.QUERY and hold.subject in holds.subjects_of(task),
        since=hold.placed_at,
        patience=patience,
    )


def release_hold(*, hold_id: int, reason: str, actor: Actor) -> bool:
    """Let what the hold kept back go on. False when it had been released already.

    Raises ReasonMissing, HoldUnknown, and HoldOfEngine.
    """
    reason = reason_of(reason)
    hold = Hold.objects.filter(pk=hold_id).first()
    if hold is None:
        raise HoldUnknown(f"There is no hold {hold_id}; the list of holds has their numbers.")
    if hold.scope == HoldScope.CHANGE:
        raise HoldOfEngine(
            f"Nobody releases hold {hold_id} by hand. {hold.reason} That is decided as soon as "
            "what is under way has ended, and then it goes on by itself."
        )
    fulfillment_id = fulfillment_of(hold=hold)
    stops = hold.clock_policy == ClockPolicy.STOP and hold.released_at is None
    if stops and fulfillment_id is None:
        standing.note_all(hold=hold)

    def work(unit: Unit) -> bool:
        if stops and fulfillment_id is not None:
            standing.note(unit, hold=hold)
        holds.close_gate(unit.raw)
        changed = Hold.objects.filter(pk=hold_id, released_at=None).update(
            released_at=unit.now, released_by=actor.name, release_reason=reason
        )
        if changed:
            _record(
                unit,
                kind="release_hold",
                subject=hold.subject,
                reason=reason,
                before={"hold": hold_id, "placed_by": hold.placed_by, "reason": hold.reason},
                fulfillment_id=fulfillment_id,
                entity_id=str(hold_id),
                states=("PLACED", "RELEASED"),
            )
        return bool(changed)

    released = run_unit(work, fulfillment_ids=_ids(fulfillment_id), actor=actor.name)
    if stops:
        standing.set_all_going()
    targets = holds.unpark()
    if hold.scope == HoldScope.TARGET:
        targets.add(hold.subject.partition(":")[2])
    hints.publish(targets=dict.fromkeys(targets, 1), wake_ups={})
    return released


def fulfillment_of(*, hold: Hold) -> int | None:
    """The fulfillment whose audit trail tells of the hold; None for what is wider than one."""
    try:
        return _fulfillment_of(HoldScope(hold.scope), hold.subject.partition(":")[2])
    except NothingToHold:
        return None


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


def _fulfillment_of(scope: HoldScope, name: str) -> int | None:
    """The order whose audit trail tells of it; None for what is wider than one order."""
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 19 else 0
    if str(number) != name:
        number = 0  # The claim would not find a plan or a task by another spelling.
    found: int | None = None
    match scope:
        case HoldScope.CUSTOMER:
            if not name:
                raise NothingToHold("Name the customer.")
            return None
        case HoldScope.TARGET:
            known_target(name)
            return None
        case HoldScope.ACTION:
            target, _, action = name.partition("/")
            known_target(target)
            if not action:
                raise NothingToHold("Name the action as <target>/<action>.")
            return None
        case HoldScope.ORDER:
            orders = Fulfillment.objects.filter(order_reference=name)
            found = orders.values_list("pk", flat=True).first()
        case HoldScope.ITEM:
            reference, _, position = name.partition("/")
            plans = Plan.objects.filter(
                fulfillment__order_reference=reference, context__items__has_key=position
            )
            found = plans.values_list("fulfillment_id", flat=True).first()
        case HoldScope.PLAN | HoldScope.CHANGE:
            found = Plan.objects.filter(pk=number).values_list("fulfillment_id", flat=True).first()
        case HoldScope.TASK:
            found = Task.objects.filter(pk=number).values_list("fulfillment_id", flat=True).first()
    if found is None:
        raise NothingToHold(
            f"There is no {scope.lower()} {name!r}. An order is named by its reference, an item "
            "as <reference>/<position>, a plan or a task by its number."
        )
    return found


def _ids(fulfillment_id: int | None) -> list[int]:
    return [] if fulfillment_id is None else [fulfillment_id]


def _record(
    unit: Unit,
    *,
    kind: str,
    subject: str,
    reason: str,
    fulfillment_id: int | None,
    entity_id: str,
    states: tuple[str, str],
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    log(
        kind=kind,
        subject=subject,
        actor=unit.actor,
        reason=reason,
        before=before,
        after=after,
        now=unit.now,
    )
    if fulfillment_id is not None:
        unit.record(
            fulfillment_id=fulfillment_id,
            entity="hold",
            entity_id=entity_id,
            name=kind,
            before=states[0],
            after=states[1],
            cause=reason,
            details={"subject": subject},
        )
