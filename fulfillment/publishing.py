"""Publishing: template files become immutable rows; nothing reads the files afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from fulfillment.definitions.calendars import window_fault
from fulfillment.definitions.schema import WorkflowDefinition, definition_document
from fulfillment.definitions.steps import CommandSpec
from fulfillment.definitions.validation import validate
from fulfillment.engine import calendars
from fulfillment.engine.database import cursor
from fulfillment.errors import DefinitionInvalid, Fault, PublishedVersionDiffers
from fulfillment.models import TargetSystem, WorkflowSelector, WorkflowVersion
from fulfillment.published import definitions_in, library_of


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
    faults = validate(
        definition,
        dict.fromkeys(TargetSystem.objects.values_list("pk", flat=True)),
        definitions_in(library_of([definition])),
    )
    faults += _window_faults(definition)
    if faults:
        raise DefinitionInvalid(faults)
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
        WorkflowSelector.objects.bulk_create(
            WorkflowSelector(workflow=workflow, offering=offering, action=action)
            for offering, action in definition.selectors
        )
    return Publication(workflow=workflow, is_new=True)


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


def _now() -> datetime:
    """By the clock that the engine sends by."""
    with cursor() as raw:
        raw.execute("SELECT fulfillment_now()", prepare=True)
        row = raw.fetchone()
    assert row is not None
    now: datetime = row[0]
    return now
