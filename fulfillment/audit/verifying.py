"""Verifying history: chains, states, logs and seals, over the whole database or for some orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from django.db import connection, transaction

from fulfillment.audit.chains import verify_chains
from fulfillment.audit.findings import Finding, Progress
from fulfillment.audit.seals import verify_seals
from fulfillment.engine.store.database import cursor

# Orders in which something has happened since: what is not sealed yet, and what was sealed since.
_MOVED_SINCE = """
SELECT row_id FROM fulfillment_sealedrow WHERE kind = 'chain' AND of_id >= (
    SELECT min(number) FROM fulfillment_auditseal WHERE sealed_at >= %s)
UNION
SELECT fulfillment_id FROM fulfillment_transition WHERE id > coalesce((
    SELECT (marks->>'chain')::bigint FROM fulfillment_auditseal ORDER BY number DESC LIMIT 1), 0)
"""


def verify(
    *,
    fulfillment_ids: Sequence[int] | None = None,
    since: datetime | None = None,
    expected: tuple[int, str] | None = None,
    progress: Progress = lambda _: None,
) -> Iterator[Finding]:
    """Everything that is not as it was written, the first row of each place.

    Of all orders, of those named, or of those that have moved since a moment. Streams: however
    much there is, it holds some thousand rows at once. What happens meanwhile is not looked at.
    """
    with snapshot():
        if fulfillment_ids is None and since is not None:
            with cursor() as raw:
                raw.execute(_MOVED_SINCE, [since])
                moved = sorted(row[0] for row in raw.fetchall())
            yield from verify_chains(fulfillment_ids=moved, progress=progress)
        else:
            yield from verify_chains(fulfillment_ids=fulfillment_ids, progress=progress)
        yield from verify_seals(
            fulfillment_ids=fulfillment_ids, since=since, expected=expected, progress=progress
        )


@contextmanager
def snapshot() -> Iterator[None]:
    """All of it as it is at one moment."""
    is_outermost = not connection.in_atomic_block
    with transaction.atomic(), cursor() as raw:
        if is_outermost:
            raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # Between two findings their reader may take its time.
            raw.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield
