"""How long the engine took to get over each strike, from the audit trail.

The recovery of a strike is the time from its end until every task that was runnable, on the
wire or in doubt at that moment has moved on: nobody is left behind. Waits that are planned
(a retry's pause, a report that may still come) are not counted; what was held back by a hold or
a pause starts to count when that ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import quantiles
from typing import Any

import psycopg

_MOVED = """
WITH moves AS (
    SELECT t.entity_id, t.to_state, t.occurred_at,
           lead(t.occurred_at) OVER (
               PARTITION BY t.entity_id ORDER BY t.fulfillment_id, t.sequence) AS next_at
    FROM fulfillment_transition t WHERE t.entity = 'task'
)
SELECT v.ended_at, coalesce(max(extract(epoch FROM m.next_at - v.ended_at)), 0)::float8 AS seconds
FROM unnest(%s::timestamptz[]) AS v(ended_at)
LEFT JOIN moves m ON m.occurred_at <= v.ended_at AND m.next_at > v.ended_at
 AND m.to_state IN ('READY', 'DISPATCHED', 'OUTCOME_UNKNOWN')
GROUP BY v.ended_at ORDER BY v.ended_at
"""


def recoveries(
    engine: psycopg.Connection[dict[str, Any]], *, ended_at: Sequence[float]
) -> list[float]:
    """Seconds per strike; `ended_at` in Unix time, by the clock that the database has as well."""
    if not ended_at:
        return []
    moments = [datetime.fromtimestamp(at, UTC) for at in ended_at]
    return [row["seconds"] for row in engine.execute(_MOVED, [moments]).fetchall()]


def percentile(values: Sequence[float], share: int) -> float:
    """The `share`-th percentile; 0 without values."""
    if len(values) < 2:
        return max(values, default=0.0)
    return quantiles(values, n=100, method="inclusive")[share - 1]
