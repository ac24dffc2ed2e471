"""Target systems as a file: the rows that `manage.py targets load` writes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, StrictBool, StrictInt

from fulfillment.definitions.durations import Duration
from fulfillment.definitions.loading import read_text, shaped
from fulfillment.definitions.schema import Closed, DashedName, Name, Text
from fulfillment.definitions.source import read_source
from fulfillment.errors import DefinitionInvalid


class TargetSpec(Closed):
    """One target system; the fields are those of its row (docs/adapters.md)."""

    title: Text
    queue: DashedName
    adapter: Name
    settings: dict[str, JsonValue] = {}
    idempotent: StrictBool
    status_query: StrictBool
    asynchronous: StrictBool = False
    sender_slots: Annotated[StrictInt, Field(ge=1, le=1000)] = 16
    reconcile_after: Duration = timedelta(seconds=2)
    maximum_queries: Annotated[StrictInt, Field(ge=1, le=1000)] = 20


class TargetFile(Closed):
    targets: Annotated[dict[DashedName, TargetSpec], Field(min_length=1, max_length=1000)]


def load_targets(*, path: Path) -> TargetFile:
    """Raises DefinitionInvalid with every fault, its file, line and path."""
    source = read_source(text=read_text(path=path), file=str(path))
    found, faults = shaped(model=TargetFile, source=source, file=str(path))
    if found is None or faults:
        raise DefinitionInvalid(sorted(faults, key=lambda fault: fault.line or 0))
    return found
