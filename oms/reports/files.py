"""A table as a file of comma-separated values, made row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

from fulfillment.definitions.spreadsheets import harmless
from oms.reports.tables import Table, Value


class _Line:
    """What a csv writer writes to: it gets the line back."""

    def write(self, line: str) -> str:
        return line


def lines(table: Table) -> Iterator[str]:
    """A row of column names, then one per row; numbers as they are, times in UTC as ISO 8601."""
    writer = csv.writer(_Line())
    yield writer.writerow([column.name for column in table.columns])
    for row in table.rows:
        yield writer.writerow([cell(value) for value in row.values])


def cell(value: Value) -> str:
    """A value as spreadsheets read it; a text that they would take for a formula is quoted."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, str):
        return harmless(value)
    return repr(value) if isinstance(value, float) else str(value)
