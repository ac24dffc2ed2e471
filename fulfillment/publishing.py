"""Publishing: template files become immutable rows; nothing reads the files afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.definitions.calendars import window_fault
from fulfillment.definitions.clocks import WhenSent
from fulfillment.definitions.loading import Template
from fulfillment.definitions.locking import Use, resources_of
from fulfillment.definitions.schema import WorkflowDefinition, definition_document
from fulfillment.definitions.steps import CommandSpec, ManualSpec
from fulfillment.definitions.validation import validate
from fulfillment.engine.store import calendars
from fulfillment.engine.store.database import cursor
from fulfillment.errors import DefinitionInvalid, Fault, PublishedVersionDiffers
from fulfillment.models import Resource, TargetSystem, WorkflowSelector, WorkflowVersion
from fulfillment.neighbours import neighbour_faults
from fulfillment.published import library_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    workflow: WorkflowVersion
    is_new: bool
    """False when the same content had been published before: nothing was written."""


def publish(*, definition: WorkflowDefinition, published_by: str) -> Publication:
    """Publish one version, for new orders from the next one on.

    Publishing the same content again does nothing. Raises PublishedVersionDiffers when this
    name and version has other content, DefinitionInvalid with every fault, also of targets
    that no row describes.
    """
    faults = _faults(definition, [definition])
    if faults:
        raise DefinitionInvalid(faults)
    return _stored(definition, published_by)


def publish_files(*, templates: Sequence[Template], actor: Actor) -> list[Publication]:
    """The same for files that may use each other: all of them, or none.

    The faults of every file have their lines. Raises Denied as well.
    """
    together = [one.definition for one in templates if one.definition is not None]
    for definition in together:
        authorize(
            actor=actor,
            action=Action.WORKFLOW_PUBLISH,
            context=Context(
                subject=f"workflow:{definition.name}",
                products=frozenset(offering for offering, _ in definition.selectors),
            ),
        )
    faults: list[Fault] = []
    for template in templates:
        found = list(template.faults)
        if template.definition is not None:
            found += template.located(_faults(template.definition, together))
        faults += sorted(found, key=lambda fault: fault.line or 0)
    if faults:
        raise DefinitionInvalid(faults)
    with transaction.atomic():
        # In one order, so that two who publish the same files don't wait for each other.
        ordered = sorted(together, key=lambda one: (one.name, one.version))
        return [_stored(definition, actor.name) for definition in ordered]


def _faults(definition: WorkflowDefinition, together: Sequence[WorkflowDefinition]) -> list[Fault]:
    """Every fault, also by what there is here: targets, calendars, and other workflows."""
    return [
        *validate(
            definition,
            dict.fromkeys(TargetSystem.objects.values_list("pk", flat=True)),
            library_after(together),
        ),
        *_window_faults(definition),
        *_calendar_faults(definition),
        *_lock_faults(definition, together),
        *_resending_faults(definition),
        *neighbour_faults(definition=definition, together=together),
    ]


def _stored(definition: WorkflowDefinition, published_by: str) -> Publication:
    with transaction.atomic(), cursor() as raw:
        # Two publishers of one name queue up here; the second sees what the first has written.
        raw.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0)), fulfillment_now()",
            [f"workflow:{definition.name}"],
        )
        row = raw.fetchone()
        assert row is not None
        known = WorkflowVersion.objects.filter(
            name=definition.name, version=definition.version
        ).first()
        if known is not None:
            # Read anew: what an older release wrote down leaves out what has a default since.
            there = WorkflowDefinition.from_document(known.document)
            if there.content_hash != definition.content_hash:
                raise PublishedVersionDiffers(
                    f"{definition.name} v{definition.version} is published with other content, "
                    "and what is published never changes. Raise `version:` in the file and "
                    "publish that."
                )
            return Publication(workflow=known, is_new=False)
        document = definition_document(definition)
        workflow = WorkflowVersion.objects.create(
            name=definition.name,
            version=definition.version,
            title=definition.title,
            content_hash=definition.content_hash,
            document=document,
            written=json.dumps(document),
            published_at=row[1],
            published_by=published_by,
        )
        for resource, use in resources_of(definition).items():
            Resource.objects.get_or_create(
                name=resource, defaults={"kept_by": use.kept_by, "capacity": use.units}
            )
        WorkflowSelector.objects.bulk_create(
            WorkflowSelector(workflow=workflow, offering=offering, action=action)
            for offering, action in definition.selectors
        )
    return Publication(workflow=workflow, is_new=True)


def _lock_faults(
    definition: WorkflowDefinition, together: Sequence[WorkflowDefinition]
) -> list[Fault]:
    """Resources that are kept in two ways, or never have as much room as is asked for."""
    wanted = resources_of(definition)
    rows = {row.name: row for row in Resource.objects.filter(pk__in=wanted)}
    known = {name: row.kept_by for name, row in rows.items()}
    for other in together:
        if other is not definition:
            known = {**{name: use.kept_by for name, use in resources_of(other).items()}, **known}
    words = {"PLAN": "for the whole order", "TASK": "for a task"}
    both_ways = [
        Fault(
            code="definition.locked_in_both_ways",
            path=_where_locked(use),
            message=f"Other workflows lock {name} {words[known[name]]}, this one "
            f"{words[use.kept_by]}. Two orders could wait for each other for ever: lock it in the "
            "same way, or call it differently.",
        )
        for name, use in wanted.items()
        if known.get(name, use.kept_by) != use.kept_by
    ]
    too_many = [
        Fault(
            code="definition.locks_beyond_capacity",
            path=_where_locked(use),
            message=f"It asks for {use.units} units of {name}, and there are {rows[name].capacity} "
            "of it, so it would wait for ever. Ask for fewer, or make room first: "
            f"`manage.py resources capacity {name} {use.units}`.",
        )
        for name, use in wanted.items()
        if name in rows and use.units > rows[name].capacity
    ]
    return both_ways + too_many


def _where_locked(use: Use) -> str:
    return "locks" if use.kept_by == "PLAN" else "tasks"


def _resending_faults(definition: WorkflowDefinition) -> list[Fault]:
    """Commands that would be sent again unasked to a target that would do them twice."""
    twice = set(TargetSystem.objects.filter(idempotent=False).values_list("pk", flat=True))
    return [
        Fault(
            code="definition.not_idempotent",
            path=f"tasks.{name}.timeouts.when_sent",
            message=f"{target} does not deduplicate by key: sent again unasked, it might do it "
            "twice. Write `resolve`, or `escalate`.",
        )
        for name, task in definition.tasks.items()
        if isinstance(task, CommandSpec) and task.timeouts.when_sent is WhenSent.RETRY
        for target in dict.fromkeys([task.target, *(other.target for other in task.fallback)])
        if target in twice
    ]


def _window_faults(definition: WorkflowDefinition) -> list[Fault]:
    """Windows that never open, by the calendars as they are now."""
    windows = {
        f"tasks.{name}.window": task.window.window()
        for name, task in definition.tasks.items()
        if isinstance(task, CommandSpec) and task.window is not None
    }
    if not windows:
        return []
    known, now = calendars.every(), _now()
    found = (
        window_fault(window=window, calendars=known, now=now, path=path)
        for path, window in windows.items()
    )
    return [fault for fault in found if fault is not None]


def _calendar_faults(definition: WorkflowDefinition) -> list[Fault]:
    """Calendars that people's time is to be counted by, and that nobody has loaded."""
    named = {
        f"tasks.{name}.manual.calendar": task.manual.calendar
        for name, task in definition.tasks.items()
        if isinstance(task, ManualSpec) and task.manual.calendar is not None
    }
    if not named:
        return []
    known = calendars.every()
    return [
        Fault(
            code="definition.unknown_calendar",
            path=path,
            message=f"There is no calendar {name!r} (there are: {', '.join(known) or 'none'}). "
            "Load it with `manage.py calendars load`, or name another.",
        )
        for path, name in named.items()
        if name not in known
    ]


def _now() -> datetime:
    """By the clock that the engine sends by."""
    with cursor() as raw:
        raw.execute("SELECT fulfillment_now()", prepare=True)
        row = raw.fetchone()
    assert row is not None
    now: datetime = row[0]
    return now
