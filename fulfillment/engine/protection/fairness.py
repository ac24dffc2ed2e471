"""Fair shares across customers: a rank for every order, stored, and looked at by every claim.

A rank is a point in time, in milliseconds. The first order of a customer has the time at which
it came; each further one stands a step behind the one before, as if the customer had sent them
at an even pace. So of a thousand orders at once nearly all stand behind the single order that
somebody else sends later; and as time goes on they come to stand before everybody who is new,
so nobody waits for ever. (Start-time fair queueing, with the clock for its virtual time.)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import psycopg

from fulfillment.engine.store.database import Row

STEP_MS = 1_000
"""Between two orders of one customer."""
STEP_WITHIN_MS = 20
"""Between the items of one order, and the elements of one list: a wide order lets others by."""
FARTHEST_MS = 3_600_000
"""Nobody stands farther behind those who come new: whoever sends more than one order a second for
hours would otherwise pay for that long after."""
ABREAST = 32
"""Orders of one batch that stand at one rank. All at one would go stage by stage, so that the last
stage's targets have nothing to do until the end; one by one they would make small batches."""
_LATEST = """
SELECT c.name, (
    SELECT f.rank FROM fulfillment_fulfillment f WHERE f.customer = c.name
    ORDER BY f.rank DESC LIMIT 1
) FROM unnest(%s::text[]) AS c(name)
"""


def ranks(raw: psycopg.Cursor[Row], *, customers: Sequence[str], now: datetime) -> list[int]:
    """One per order, for orders of these customers in this order, that come now, in one batch.

    Nothing is locked: two batches at once may share ranks, and no harm is done. Who has no
    customer stands where it came.
    """
    at = int(now.timestamp() * 1000)
    named = sorted({customer for customer in customers if customer})
    latest: dict[str, int] = {}
    if named:
        raw.execute(_LATEST, [named], prepare=True)
        latest = {name: rank for name, rank in raw.fetchall() if rank is not None}
    found = []
    for position, customer in enumerate(customers):
        rank = at + position // ABREAST
        if customer in latest:
            rank = min(max(rank, latest[customer] + STEP_MS), at + FARTHEST_MS)
        if customer:
            latest[customer] = rank
        found.append(rank)
    return found


def within(*, element: int, item: int | None) -> int:
    """How far behind its order's rank a task stands."""
    return STEP_WITHIN_MS * (element or (item or 1) - 1)
