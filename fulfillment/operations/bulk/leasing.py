"""Workers take rows for a while; what a dead one has taken is taken again when that is over.

A lease only keeps two from doing the same work. That a row is done once is in its state, which is
written in the transaction that does it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from fulfillment.engine.store.database import array, cursor

_LASTS = timedelta(seconds=60)
_BATCH = 20
MOST_TRIES = 5
"""Workers that a row takes down before it counts as failed."""
_LEASE = """
UPDATE fulfillment_bulkrow r
SET leased_until = fulfillment_now() + %s, tries = r.tries + 1
FROM (
    SELECT id FROM fulfillment_bulkrow
    WHERE job_id = %s AND state = 'PENDING' AND {which}
    AND (leased_until IS NULL OR leased_until < fulfillment_now()) AND tries {tried}
    ORDER BY position LIMIT %s FOR UPDATE SKIP LOCKED
) chosen
WHERE r.id = chosen.id
RETURNING r.id, r.position, r.subject, r.version, r.tries
"""
_TO_FORESEE = "foreseen = '' AND position > %s"
_TO_DO = "position <= %s"
_GIVE_BACK = """
UPDATE fulfillment_bulkrow SET leased_until = NULL, tries = greatest(tries - 1, 0)
WHERE id = ANY(%s::bigint[]) AND state = 'PENDING'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A row that this worker has for now."""

    id: int
    position: int
    subject: str
    version: str
    tries: int


def lease_to_foresee(*, job_id: int) -> list[Leased]:
    """Rows that nobody has looked at yet."""
    return _lease(_TO_FORESEE, job_id, 0)


def lease_to_do(*, job_id: int, until: int) -> list[Leased]:
    """Rows whose turn it is: those up to this position."""
    return _lease(_TO_DO, job_id, until)


def give_back(rows: Collection[Leased]) -> None:
    """They were not begun: whoever comes next takes them at once."""
    if rows:
        with cursor() as raw:
            raw.execute(_GIVE_BACK, [array([row.id for row in rows])])


def _lease(which: str, job_id: int, position: int) -> list[Leased]:
    # What may have taken a worker down is taken alone, so that its neighbours go on.
    for tried, limit in (("= 0", _BATCH), ("> 0", 1)):
        with cursor() as raw:
            raw.execute(_LEASE.format(which=which, tried=tried), [_LASTS, job_id, position, limit])
            found: Sequence[tuple[int, int, str, str, int]] = raw.fetchall()
        if found:
            rows = [
                Leased(id=pk, position=at, subject=subject, version=version, tries=tries)
                for pk, at, subject, version, tries in found
            ]
            return sorted(rows, key=lambda row: row.position)
    return []
