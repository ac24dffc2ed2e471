"""Pausing, resuming and editing target systems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.core.serializers import serialize
from django.db import transaction

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.engine.protection import holds
from fulfillment.engine.store import targets
from fulfillment.engine.store.database import clean, cursor
from fulfillment.engine.work import hints
from fulfillment.models import TargetSystem
from fulfillment.operations.in_flight import PATIENCE, Placed, await_calls
from fulfillment.operations.records import known_target, log, now_of, reason_of

_PAUSE = """
UPDATE fulfillment_targetcondition SET paused_at = %s, paused_by = %s, pause_reason = %s
WHERE target_id = %s AND paused_at IS NULL RETURNING true
"""
_RESUME = """
UPDATE fulfillment_targetcondition
SET paused_at = NULL, paused_by = '', pause_reason = '', ramp_from = %s
WHERE target_id = %s AND paused_at IS NOT NULL RETURNING true
"""


def pause_target(
    *, target: str, reason: str, actor: Actor, patience: timedelta = PATIENCE
) -> Placed:
    """Send nothing to the target and ask it nothing, until it is resumed.

    Pausing a paused target changes nothing. Raises ReasonMissing and NothingToHold.
    """
    reason = reason_of(reason)
    known_target(target)
    with transaction.atomic(), cursor() as raw:
        holds.close_gate(raw)
        now = now_of(raw)
        raw.execute(_PAUSE, [now, actor.name, reason, target])
        if raw.fetchone():
            log(
                kind="pause_target",
                subject=f"target:{target}",
                actor=actor.name,
                reason=reason,
                after={"paused": True},
                now=now,
            )
    still = await_calls(lambda _, task: task.target == target, since=now, patience=patience)
    return Placed(hold_id=None, in_flight=still)


def resume_target(*, target: str, reason: str, actor: Actor) -> bool:
    """Go on with the target, its limits growing over its ramp. False when it was not paused.

    Raises ReasonMissing and NothingToHold.
    """
    reason = reason_of(reason)
    known_target(target)
    with transaction.atomic(), cursor() as raw:
        holds.close_gate(raw)
        now = now_of(raw)
        raw.execute(_RESUME, [now, target])
        resumed = raw.fetchone() is not None
        if resumed:
            log(
                kind="resume_target",
                subject=f"target:{target}",
                actor=actor.name,
                reason=reason,
                before={"paused": True},
                now=now,
            )
    hints.publish(targets={target: 1}, wake_ups={})
    return resumed


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
