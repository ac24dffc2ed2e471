"""Business calendars as a file: the rows that `manage.py calendars load` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from fulfillment.definitions.calendar_specs import CalendarSpec
from fulfillment.definitions.closed import Closed, DashedName
from fulfillment.definitions.loading import read_text, shaped
from fulfillment.definitions.source import read_source
from fulfillment.errors import DefinitionInvalid


class CalendarFile(Closed):
    calendars: Annotated[dict[DashedName, CalendarSpec], Field(min_length=1, max_length=1000)]


def load_calendars(*, path: Path) -> CalendarFile:
    """Raises DefinitionInvalid with every fault, its file, line and path."""
    source = read_source(text=read_text(path=path), file=str(path))
    found, faults = shaped(model=CalendarFile, source=source, file=str(path))
    if found is None or faults:
        raise DefinitionInvalid(sorted(faults, key=lambda fault: fault.line or 0))
    return found
