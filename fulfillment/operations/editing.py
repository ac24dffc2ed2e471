"""Editing business calendars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.engine.store import calendars
from fulfillment.engine.store.database import clean, cursor
from fulfillment.models import BusinessCalendar
from fulfillment.operations.records import log, now_of


def edit_calendar(*, row: BusinessCalendar, actor: Actor, reason: str = "") -> dict[str, Any]:
    """Save a calendar's row, with a record of what has changed. Returns that: name -> new value.

    Works within a second. A save that changes nothing leaves no record. Raises CalendarInvalid,
    Denied.
    """
    return edit_calendars(rows=[row], actor=actor, reason=reason)[row.pk]


def edit_calendars(
    *, rows: Sequence[BusinessCalendar], actor: Actor, reason: str = ""
) -> dict[str, dict[str, Any]]:
    """The same for many at once: all of them, or none. What has changed, by their names."""
    rows = [calendars.checked(row) for row in rows]
    for row in rows:
        context = Context(subject=f"calendar:{row.pk}")
        authorize(actor=actor, action=Action.CALENDAR_EDIT, context=context)
    with transaction.atomic():
        return {row.pk: _edit(row, actor, reason) for row in rows}


def _edit(row: BusinessCalendar, actor: Actor, reason: str) -> dict[str, Any]:
    with cursor() as raw:
        now = now_of(raw)
        known = BusinessCalendar.objects.select_for_update().filter(pk=row.pk).first()
        before, after = _values_of(known), _values_of(row)
        changed = {name: value for name, value in after.items() if before.get(name) != value}
        if not changed:
            return {}
        row.updated_at = now
        row.save()
        log(
            kind="edit_calendar" if known else "add_calendar",
            subject=f"calendar:{row.pk}",
            actor=actor.name,
            reason=clean(reason.strip(), 2000),
            before={name: before[name] for name in changed if name in before},
            after=changed,
            now=now,
        )
    return changed


def _values_of(row: BusinessCalendar | None) -> dict[str, Any]:
    return {} if row is None else {"title": row.title, **row.spec}
