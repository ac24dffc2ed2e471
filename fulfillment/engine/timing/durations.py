"""How long tasks usually take: measured by beat from what has ended lately, and remembered."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta

from fulfillment.definitions.estimates import Usual
from fulfillment.definitions.graph import Node
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import DATABASE_TROUBLE, cursor

logger = logging.getLogger(__name__)

_LOOK_BACK = 50_000
"""Transitions that one measurement reads: those that were written last."""
_REMEMBERED_SECONDS = 60.0
# By the primary key from its end, so that it costs the same however much has happened.
_MEASURE = """
SELECT p.graph_id, t.node, count(*),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY v.seconds),
       percentile_cont(0.9) WITHIN GROUP (ORDER BY v.seconds)
FROM (
    SELECT entity_id::bigint AS task_id, occurred_at FROM fulfillment_transition
    WHERE id > (SELECT max(id) - %s FROM fulfillment_transition)
      AND entity = 'task' AND to_state = 'SUCCEEDED' AND from_state <> 'SUCCEEDED'
) ended
JOIN fulfillment_task t ON t.id = ended.task_id AND t.began_at IS NOT NULL
JOIN fulfillment_plan p ON p.id = t.plan_id
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM ended.occurred_at - t.began_at)::float AS seconds
) v
WHERE v.seconds >= 0
GROUP BY p.graph_id, t.node
"""
# What was measured before counts as well, the less the more there is now.
_REMEMBER = """
INSERT INTO fulfillment_measuredduration AS d
    (workflow, task, median_seconds, p90_seconds, samples, measured_at)
SELECT *, fulfillment_now() FROM unnest(%s::text[], %s::text[], %s::float[], %s::float[], %s::int[])
ON CONFLICT (workflow, task) DO UPDATE SET
    median_seconds = d.median_seconds
        + (excluded.median_seconds - d.median_seconds) * excluded.samples / (excluded.samples + 20),
    p90_seconds = d.p90_seconds
        + (excluded.p90_seconds - d.p90_seconds) * excluded.samples / (excluded.samples + 20),
    samples = excluded.samples, measured_at = excluded.measured_at
"""
_KNOWN = "SELECT workflow, task, median_seconds, p90_seconds FROM fulfillment_measuredduration"

_known: Mapping[tuple[str, str], timedelta] = {}
_read_at = float("-inf")


def measure() -> int:
    """Renew the durations from what has ended lately. Returns how many tasks were measured."""
    with cursor() as raw:
        raw.execute(_MEASURE, [_LOOK_BACK], prepare=True)
        found: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
        for graph_id, node, samples, median, p90 in raw.fetchall():
            try:
                one = graphs.by_id(graph_id).nodes[node]
            except DATABASE_TROUBLE:
                raise
            except Exception:
                logger.exception("a task can't be measured", extra={"graph": graph_id})
                continue
            found.setdefault((one.workflow, one.task), []).append((samples, median, p90))
        rows = [
            (workflow, task, *_together(parts)) for (workflow, task), parts in sorted(found.items())
        ]
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            raw.execute(_REMEMBER, columns, prepare=True)
    forget()
    return len(rows)


def usual() -> Usual:
    """What such a task usually takes, by its median; what was never measured takes no time."""
    known = _durations()

    def of(node: Node) -> timedelta:
        return known.get((node.workflow, node.task), timedelta(0))

    return of


def forget() -> None:
    """For whoever has measured, and for a process that turns to another database."""
    global _read_at
    _read_at = float("-inf")


def _durations() -> Mapping[tuple[str, str], timedelta]:
    """Read once a minute: they change by little."""
    global _known, _read_at
    if time.monotonic() - _read_at > _REMEMBERED_SECONDS:
        with cursor() as raw:
            raw.execute(_KNOWN, prepare=True)
            _known = {
                (workflow, task): timedelta(seconds=median)
                for workflow, task, median, _ in raw.fetchall()
            }
        _read_at = time.monotonic()
    return _known


def _together(parts: list[tuple[int, float, float]]) -> tuple[float, float, int]:
    """The same task in graphs of several shapes, each by its weight."""
    total = sum(samples for samples, _, _ in parts)
    return (
        sum(samples * median for samples, median, _ in parts) / total,
        sum(samples * p90 for samples, _, p90 in parts) / total,
        total,
    )
