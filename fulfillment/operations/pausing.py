"""Pausing, resuming and editing target systems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.core.serializers import serialize
from django.db import transaction

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.definitions.durations import brief_duration
from fulfillment.engine.protection import holds
from fulfillment.engine.store import targets
from fulfillment.engine.store.database import clean, cursor
from fulfillment.engine.work import hints
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import AlreadySo
from fulfillment.models import HoldScope, TargetCondition, TargetSystem
from fulfillment.operations.catalog import perform, prepared
from fulfillment.operations.in_flight import BRIEFLY, PATIENCE, Placed, await_calls, on_the_wire
from fulfillment.operations.keeping_back import ready_in
from fulfillment.operations.looking import found_once
from fulfillment.operations.preparing import last_change
from fulfillment.operations.records import known_target, log, now_of
from fulfillment.operations.repair import Done, Found, Repair, Request, Why
from fulfillment.operations.subjects import target_context

_PAUSE = """
UPDATE fulfillment_targetcondition SET paused_at = %s, paused_by = %s, pause_reason = %s
WHERE target_id = %s AND paused_at IS NULL RETURNING true
"""
_RESUME = """
UPDATE fulfillment_targetcondition
SET paused_at = NULL, paused_by = '', pause_reason = '', ramp_from = %s
WHERE target_id = %s AND paused_at IS NOT NULL RETURNING true
"""


class PauseTarget(Repair):
    """Nothing is sent to it and nothing is asked of it until it is resumed; what it reports by
    itself is taken in."""

    action = Action.TARGET_PAUSE
    kind = "pause_target"
    about = "target"

    def find(self, *, name: str) -> Found:
        return target_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return _version(found)

    def is_offered(self, found: Found) -> bool:
        return _condition(found).paused_at is None

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        (target,) = found.context.targets
        # Before the gate: no claim is to wait while this counts.
        kept = ready_in(unit.raw, scope=HoldScope.TARGET, name=target)
        holds.close_gate(unit.raw)
        unit.now = now_of(unit.raw)
        unit.raw.execute(_PAUSE, [unit.now, why.actor.name, why.reason, target])
        if unit.raw.fetchone() is None:
            known = _condition(found)
            raise AlreadySo(
                f"{target} is paused since {known.paused_at:%Y-%m-%d %H:%M} UTC, by "
                f"{known.paused_by}: {known.pause_reason}"
            )
        return Done(
            told=f"{target} is paused; it keeps back {kept}.",
            after={"paused": True, "keeps_back": kept.document()},
            customer_impact="What it keeps back is done later." if kept.tasks else "None for now.",
            result={"target": target, "since": unit.now},
        )

    def afterwards(self, done: Done) -> Done:
        left = await_target(target=done.result["target"], since=done.result["since"])
        return replace(
            done,
            told=f"{done.told} {on_the_wire(left)}",
            result={"target": done.result["target"], "in_flight": left},
        )


class ResumeTarget(Repair):
    """What waits for it goes on, its limits growing over its ramp."""

    action = Action.TARGET_RESUME
    kind = "resume_target"
    about = "target"

    def find(self, *, name: str) -> Found:
        return target_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return _version(found)

    def is_offered(self, found: Found) -> bool:
        return _condition(found).paused_at is not None

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        (target,) = found.context.targets
        before = _condition(found)
        waiting = ready_in(unit.raw, scope=HoldScope.TARGET, name=target)
        holds.close_gate(unit.raw)
        unit.now = now_of(unit.raw)
        unit.raw.execute(_RESUME, [unit.now, target])
        if unit.raw.fetchone() is None:
            raise AlreadySo(f"{target} is not paused. {last_change(unit, found)}".strip())
        return Done(
            told=f"{target} goes on, with {waiting}; {_how_fast(before.target)}.",
            before={
                "paused": True,
                "paused_by": before.paused_by,
                "reason": before.pause_reason,
            },
            after={"paused": False, "goes_on": waiting.document()},
            customer_impact="What has waited for it goes on." if waiting.tasks else "None.",
            result={"target": target},
        )

    def afterwards(self, done: Done) -> Done:
        hints.publish(targets={done.result["target"]: 1}, wake_ups={})
        return done


@found_once
def target_found(*, name: str) -> Found:
    """A target system by its name. Raises NothingToHold."""
    known_target(name)
    subject = f"target:{name}"
    return Found(subject=subject, pk=0, context=target_context(subject=subject, target=name))


def await_target(*, target: str, since: datetime, patience: timedelta = BRIEFLY) -> int:
    """Until no call to it is under way that began before; how many are left after `patience`."""
    return await_calls(lambda _, task: task.target == target, since=since, patience=patience)


def pause_target(
    *, target: str, reason: str, actor: Actor, patience: timedelta = PATIENCE
) -> Placed:
    """Send nothing to the target and ask it nothing, until it is resumed.

    Pausing a paused target changes nothing. Raises as `catalog.perform` does, and NothingToHold.
    """
    request = Request(action=Action.TARGET_PAUSE, subject=f"target:{target}", reason=reason)
    try:
        since: datetime = prepared(actor=actor, request=request).commit().result["since"]
    except AlreadySo:
        with cursor() as raw:
            since = now_of(raw)
    return Placed(
        hold_id=None, in_flight=await_target(target=target, since=since, patience=patience)
    )


def resume_target(*, target: str, reason: str, actor: Actor) -> bool:
    """Go on with the target, its limits growing over its ramp. False when it was not paused.

    Raises as `catalog.perform` does, and NothingToHold.
    """
    request = Request(action=Action.TARGET_RESUME, subject=f"target:{target}", reason=reason)
    try:
        perform(actor=actor, request=request)
    except AlreadySo:
        return False
    return True


def _condition(found: Found) -> TargetCondition:
    (target,) = found.context.targets
    return TargetCondition.objects.select_related("target").get(pk=target)


def _how_fast(row: TargetSystem) -> str:
    if not row.ramp:
        return "it has no ramp, so everything goes at once"
    return f"its limits grow to their full size over {brief_duration(row.ramp)}"


def _version(found: Found) -> str:
    paused_at = _condition(found).paused_at
    return f"paused {paused_at.isoformat()}" if paused_at else "goes on"


def edit_target(*, row: TargetSystem, actor: Actor, reason: str = "") -> dict[str, Any]:
    """Save a target's row, with a record of what has changed. Returns that: name -> new value.

    The row has been checked (`targets.check`); only the name of a new one is looked at again, as
    somebody else may have added its like meanwhile. A save that changes nothing leaves no record.
    Raises TargetNamesTooAlike, TargetNameReserved and Denied.
    """
    return edit_targets(rows=[row], actor=actor, reason=reason)[row.pk]


def edit_targets(
    *, rows: Sequence[TargetSystem], actor: Actor, reason: str = ""
) -> dict[str, dict[str, Any]]:
    """The same for many at once: all of them, or none. What has changed, by their names."""
    known = dict(
        TargetSystem.objects.filter(pk__in=[row.pk for row in rows]).values_list("pk", "domain")
    )
    for row in rows:
        context = Context(
            subject=f"target:{row.pk}",
            targets=frozenset({row.pk}),
            domains=frozenset({row.domain, known.get(row.pk, row.domain)}),
        )
        authorize(actor=actor, action=Action.TARGET_EDIT, context=context)
        if len(context.domains) > 1:
            # What kind of system it is says who approves what is done by hand.
            authorize(actor=actor, action=Action.GRANT_EDIT, context=context)
    with transaction.atomic():
        return {row.pk: _edit(row, actor, reason) for row in rows}


def _edit(row: TargetSystem, actor: Actor, reason: str) -> dict[str, Any]:
    with cursor() as raw:
        now = now_of(raw)
        known = TargetSystem.objects.select_for_update().filter(pk=row.pk).first()
        if known is None:
            targets.check_name(row)
        before, after = _settings_of(known), _settings_of(row)
        changed = {name for name in after if name not in before or before[name] != after[name]}
        if not changed:
            return {}
        row.updated_at = now
        row.save()
        log(
            kind="edit_target" if known else "add_target",
            subject=f"target:{row.pk}",
            actor=actor.name,
            reason=clean(reason.strip(), 2000),
            before={name: before[name] for name in sorted(changed & before.keys())},
            after={name: after[name] for name in sorted(changed)},
            now=now,
        )
    return {name: after[name] for name in sorted(changed)}


def _settings_of(row: TargetSystem | None) -> dict[str, Any]:
    """The values of a target's row as JSON."""
    if row is None:
        return {}
    names = [field.name for field in row._meta.concrete_fields if field.name != "updated_at"]
    document: dict[str, Any] = json.loads(serialize("json", [row], fields=names))[0]["fields"]
    return document
