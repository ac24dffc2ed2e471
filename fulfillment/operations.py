"""What operators may do to the running engine: each with a name, a reason and a record of it.

The admin, the API and `manage.py` come through here. When placing a hold or a pause returns,
nothing more is sent in its scope, and what was on the wire before has been heard of or has
passed the end of its lease.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.serializers import serialize
from django.db import transaction

from fulfillment.engine import cases, hints, holds
from fulfillment.engine.database import Row, allocate, clean, cursor
from fulfillment.engine.unit import Unit, run_unit
from fulfillment.errors import (
    CaseUnknown,
    GateBusy,
    HoldUnknown,
    HoldWouldBeOver,
    NothingToHold,
    ReasonMissing,
)
from fulfillment.models import (
    ClockPolicy,
    FalloutCase,
    Fulfillment,
    Hold,
    HoldScope,
    Operation,
    Plan,
    Purpose,
    TargetSystem,
    Task,
)

logger = logging.getLogger(__name__)

IN_FLIGHT_PATIENCE = timedelta(seconds=30)
"""How long placing waits at the most for calls that were on the wire before."""
_LOOK_SECONDS = 0.02

_IN_FLIGHT = """
SELECT a.purpose, t.id, t.plan_id, t.node, t.target_id, f.order_reference, f.customer, p.graph_id
FROM fulfillment_attempt a
JOIN fulfillment_task t ON t.id = a.task_id
JOIN fulfillment_plan p ON p.id = t.plan_id
JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id
WHERE a.finished_at IS NULL AND a.lease_expires_at > fulfillment_now() AND a.started_at <= %s
"""
_PAUSE = """
UPDATE fulfillment_targetcondition SET paused_at = %s, paused_by = %s, pause_reason = %s
WHERE target_id = %s AND paused_at IS NULL RETURNING true
"""
_RESUME = """
UPDATE fulfillment_targetcondition
SET paused_at = NULL, paused_by = '', pause_reason = '', ramp_from = %s
WHERE target_id = %s AND paused_at IS NOT NULL RETURNING true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A hold or a pause that is in force."""

    hold_id: int | None
    """None for a pause."""
    in_flight: int
    """Calls that began before and had not ended when the patience was over."""


def place_hold(
    *,
    scope: HoldScope,
    name: str,
    reason: str,
    actor: str,
    until: datetime | None = None,
    clock_policy: ClockPolicy = ClockPolicy.RUN,
    patience: timedelta = IN_FLIGHT_PATIENCE,
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
    hold = run_unit(wanted.place, fulfillment_ids=wanted.fulfillment_ids, actor=actor)
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
        hold.placed_at = _now(unit.raw)
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
    actor: str,
    until: datetime | None = None,
    clock_policy: ClockPolicy = ClockPolicy.RUN,
) -> WantedHold:
    """Look whether such a hold can be placed. Raises ReasonMissing and NothingToHold."""
    reason = _reason(reason)
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
        placed_by=actor[:150],
    )
    return WantedHold(hold=hold, fulfillment_id=fulfillment_id)


def await_in_flight(*, hold: Hold, patience: timedelta) -> int:
    """Until no call is under way that began before the hold; how many are left after `patience`."""
    return _await_in_flight(
        lambda purpose, task: purpose != Purpose.QUERY and hold.subject in holds.subjects_of(task),
        since=hold.placed_at,
        patience=patience,
    )


def release_hold(*, hold_id: int, reason: str, actor: str) -> bool:
    """Let what the hold kept back go on. False when it had been released already.

    Raises ReasonMissing, and HoldUnknown.
    """
    reason = _reason(reason)
    hold = Hold.objects.filter(pk=hold_id).first()
    if hold is None:
        raise HoldUnknown(f"There is no hold {hold_id}; the list of holds has their numbers.")
    fulfillment_id = fulfillment_of(hold=hold)

    def work(unit: Unit) -> bool:
        holds.close_gate(unit.raw)
        changed = Hold.objects.filter(pk=hold_id, released_at=None).update(
            released_at=unit.now, released_by=actor[:150], release_reason=reason
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

    released = run_unit(work, fulfillment_ids=_ids(fulfillment_id), actor=actor)
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
            released += release_hold(hold_id=hold_id, reason="Its time is over.", actor="scanner")
        except GateBusy:
            # The scan that comes after this must not wait for it; the next one tries again.
            logger.warning("a hold whose time is over is not released yet", extra={"hold": hold_id})
            break
    return released


def pause_target(
    *, target: str, reason: str, actor: str, patience: timedelta = IN_FLIGHT_PATIENCE
) -> Placed:
    """Send nothing to the target and ask it nothing, until it is resumed.

    Pausing a paused target changes nothing. Raises ReasonMissing and NothingToHold.
    """
    reason = _reason(reason)
    _known_target(target)
    with transaction.atomic(), cursor() as raw:
        holds.close_gate(raw)
        now = _now(raw)
        raw.execute(_PAUSE, [now, actor[:150], reason, target])
        if raw.fetchone():
            _log(
                kind="pause_target",
                subject=f"target:{target}",
                actor=actor,
                reason=reason,
                after={"paused": True},
                now=now,
            )
    still = _await_in_flight(lambda _, task: task.target == target, since=now, patience=patience)
    return Placed(hold_id=None, in_flight=still)


def resume_target(*, target: str, reason: str, actor: str) -> bool:
    """Go on with the target, its limits growing over its ramp. False when it was not paused.

    Raises ReasonMissing and NothingToHold.
    """
    reason = _reason(reason)
    _known_target(target)
    with transaction.atomic(), cursor() as raw:
        holds.close_gate(raw)
        now = _now(raw)
        raw.execute(_RESUME, [now, target])
        resumed = raw.fetchone() is not None
        if resumed:
            _log(
                kind="resume_target",
                subject=f"target:{target}",
                actor=actor,
                reason=reason,
                before={"paused": True},
                now=now,
            )
    hints.publish(targets={target: 1}, wake_ups={})
    return resumed


def edit_target(*, row: TargetSystem, actor: str, reason: str = "") -> dict[str, Any]:
    """Save a target's row, with a record of what has changed. Returns that: name -> new value.

    The row has been checked (`targets.check`). A save that changes nothing leaves no record.
    """
    with transaction.atomic(), cursor() as raw:
        now = _now(raw)
        known = TargetSystem.objects.select_for_update().filter(pk=row.pk).first()
        before, after = _settings_of(known), _settings_of(row)
        changed = {name for name in after if name not in before or before[name] != after[name]}
        if not changed:
            return {}
        row.updated_at = now
        row.save()
        _log(
            kind="edit_target" if known else "add_target",
            subject=f"target:{row.pk}",
            actor=actor,
            reason=clean(reason.strip(), 2000),
            before={name: before[name] for name in sorted(changed & before.keys())},
            after={name: after[name] for name in sorted(changed)},
            now=now,
        )
    return {name: after[name] for name in sorted(changed)}


def close_case(*, case_id: int, resolution: str, actor: str) -> bool:
    """Close a fallout case by hand. False when it is closed already.

    What it is about stays as it is: an order that goes on being stuck gets a new case. Raises
    ReasonMissing without a resolution, and CaseUnknown.
    """
    resolution = _reason(resolution)
    case = FalloutCase.objects.filter(pk=case_id).first()
    if case is None:
        raise CaseUnknown(f"There is no case {case_id}; `manage.py cases list` shows those open.")

    def work(unit: Unit) -> bool:
        closed = cases.resolve_case(unit, case_id=case_id, resolution=resolution)
        if closed:
            _log(
                kind="close_case",
                subject=f"case:{case_id}",
                actor=actor,
                reason=resolution,
                before={"state": "OPEN", "title": case.title},
                after={"state": "RESOLVED"},
                now=unit.now,
            )
        return closed

    return run_unit(work, fulfillment_ids=_ids(case.fulfillment_id), actor=actor)


def _settings_of(row: TargetSystem | None) -> dict[str, Any]:
    """The values of a target's row as JSON."""
    if row is None:
        return {}
    names = [field.name for field in row._meta.concrete_fields if field.name != "updated_at"]
    document: dict[str, Any] = json.loads(serialize("json", [row], fields=names))[0]["fields"]
    return document


def _reason(reason: str) -> str:
    text = clean(reason.strip(), 2000)
    if not text:
        raise ReasonMissing("Say why; whoever looks at it next has to know.")
    return text


def _ids(fulfillment_id: int | None) -> list[int]:
    return [] if fulfillment_id is None else [fulfillment_id]


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
            _known_target(name)
            return None
        case HoldScope.ACTION:
            target, _, action = name.partition("/")
            _known_target(target)
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
        case HoldScope.PLAN:
            found = Plan.objects.filter(pk=number).values_list("fulfillment_id", flat=True).first()
        case HoldScope.TASK:
            found = Task.objects.filter(pk=number).values_list("fulfillment_id", flat=True).first()
    if found is None:
        raise NothingToHold(
            f"There is no {scope.lower()} {name!r}. An order is named by its reference, an item "
            "as <reference>/<position>, a plan or a task by its number."
        )
    return found


def _known_target(name: str) -> None:
    if not TargetSystem.objects.filter(pk=name).exists():
        raise NothingToHold(
            f"There is no target system {name!r}; `manage.py targets list` names them."
        )


def _await_in_flight(
    concerned: Callable[[str, holds.Held], bool], *, since: datetime, patience: timedelta
) -> int:
    """Until no call that began before is under way; how many are left when the patience ends.

    Looking again and again is meant: it is rare and short, and an event for it would cost every
    settlement.
    """
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        with cursor() as raw:
            raw.execute(_IN_FLIGHT, [since])
            left = sum(
                concerned(
                    purpose,
                    holds.Held(
                        task_id=task_id,
                        plan_id=plan_id,
                        node=node,
                        target=target,
                        order_reference=reference,
                        customer=customer,
                        graph_id=graph_id,
                    ),
                )
                for (
                    purpose,
                    task_id,
                    plan_id,
                    node,
                    target,
                    reference,
                    customer,
                    graph_id,
                ) in raw.fetchall()
            )
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(_LOOK_SECONDS)


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
    _log(
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


def _log(
    *,
    kind: str,
    subject: str,
    actor: str,
    reason: str,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    Operation.objects.create(
        kind=kind,
        subject=subject[:300],
        actor=actor[:150],
        reason=reason,
        before=before or {},
        after=after or {},
        happened_at=now,
    )


def _now(raw: Any) -> datetime:
    raw.execute("SELECT fulfillment_now()")
    row: Row = raw.fetchone()
    moment: datetime = row[0]
    return moment
