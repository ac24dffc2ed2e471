"""Reading jobs: their rows page by page, and all of them for a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from fulfillment.definitions.spreadsheets import harmless
from fulfillment.models import Approval, ApprovalState, BulkJob, BulkRow
from fulfillment.operations.bulk.places import subject_of

COLUMNS = (
    *("position", "subject", "state", "foreseen", "foretold", "told", "code"),
    *("operation", "done_at", "known_at"),
)


def rows_of(*, job: BulkJob, state: str = "", after: int = 0, limit: int = 100) -> list[BulkRow]:
    """Rows in their order, from behind position `after`."""
    rows = job.rows.filter(position__gt=after)
    if state:
        rows = rows.filter(state=state)
    return list(rows.order_by("position", "pk")[:limit])


def exported(*, job: BulkJob) -> Iterator[str]:
    """All rows as lines of CSV, with a line of headings; read as they are written."""
    buffer = io.StringIO()
    lines = csv.writer(buffer)

    def line(values: tuple[object, ...]) -> str:
        buffer.seek(0)
        buffer.truncate()
        lines.writerow([harmless(one) if isinstance(one, str) else one for one in values])
        return buffer.getvalue()

    yield line(COLUMNS)
    columns = tuple("operation_id" if name == "operation" else name for name in COLUMNS)
    rows = job.rows.order_by("position", "pk").values_list(*columns)
    for row in rows.iterator(chunk_size=2000):
        yield line(tuple("" if value is None else value for value in row))


def open_approval(job: BulkJob) -> Approval | None:
    """What was asked for and nobody has decided yet."""
    return Approval.objects.filter(
        subject=subject_of(job.pk), state=ApprovalState.REQUESTED
    ).first()
