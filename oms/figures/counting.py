"""Counting what happened within a time, from what is never changed: the audit trail, the commands
and the log of operations. The same time counted again is the same figures (reference §28.1).

An order counts under the offering of its first line, and a plan under its workflows, so that the
lines of a report add up to its totals.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime
from typing import NamedTuple

import psycopg

from fulfillment.definitions.graph import Graph
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import Row, array
from fulfillment.errors import DefinitionInvalid
from oms.figures import durations
from oms.models import Measure

logger = logging.getLogger(__name__)

_LONGEST = 100
"""Characters of an action or an outcome; of a subject twice as many."""
COMPLETE = ("COMPLETED", "PARTIALLY_COMPLETED")
FIRST, AGAIN = "FIRST", "AGAIN"
REPAIRED, DECIDED, BY_HAND = "REPAIRED", "DECIDED", "BY_HAND"
CASEWORK = (
    *("assign_case", "await_customer", "close_case", "escalate_case", "close_incident"),
    *("claim", "release", "reassign", "take_evidence", "send_notification_again"),
)
"""Operations that say who looks at something, and change no order."""
_DECISION = "decide"

_IN_TIME = "x.occurred_at >= %(since)s AND x.occurred_at < %(until)s"
# The command that a task had when it moved: a later one, of another system perhaps, is no part of
# what had happened by then.
_ITS_COMMAND = """
CROSS JOIN LATERAL (
    SELECT c.target_id, c.action FROM fulfillment_command c
    WHERE c.task_id = x.entity_id::bigint AND c.created_at <= x.occurred_at
    ORDER BY c.revision DESC LIMIT 1
) c
"""
_TASKS = f"""
SELECT c.target_id, c.action, x.to_state, coalesce(x.details->>'code', ''),
       x.to_state = 'DISPATCHED' AND (x.details->>'attempt')::int > 1, count(*)
FROM fulfillment_transition x {_ITS_COMMAND}
WHERE {_IN_TIME} AND x.entity = 'task' AND x.from_state <> x.to_state
  AND x.to_state IN ('DISPATCHED', 'OUTCOME_UNKNOWN', 'SUCCEEDED', 'FAILED_FINAL', 'CANCELLED',
                     'SKIPPED_BY_POLICY', 'WAIVED_BY_AUTHORIZED_USER')
GROUP BY 1, 2, 3, 4, 5
"""
# Only what is no order's first plan undoes anything; which of its tasks do, says its graph.
_LATER_PLANS = f"""
SELECT p.graph_id, t.node, t.route, c.target_id, c.action, count(*)
FROM fulfillment_transition x
JOIN fulfillment_task t ON t.id = x.entity_id::bigint
JOIN fulfillment_plan p ON p.id = t.plan_id
{_ITS_COMMAND}
WHERE {_IN_TIME} AND x.entity = 'task' AND x.to_state = 'SUCCEEDED' AND x.from_state <> x.to_state
  AND (p.order_version > 1 OR p.version > 1)
GROUP BY 1, 2, 3, 4, 5
"""
_PLANS = f"""
SELECT p.graph_id, width_bucket(v.seconds, %(bounds)s::float[]) + 1, count(*)
FROM fulfillment_transition x
JOIN fulfillment_plan p ON p.id = x.entity_id::bigint
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM x.occurred_at - p.created_at)::float AS seconds
) v
WHERE {_IN_TIME} AND x.entity = 'plan' AND x.to_state = 'COMPLETED' AND x.from_state <> x.to_state
GROUP BY 1, 2
"""
_OFFERING = """coalesce((
    SELECT i.offering FROM oms_orderitem i WHERE i.order_id = o.id ORDER BY i.position LIMIT 1
), '')"""
_ORDERS = f"""
SELECT {_OFFERING}, x.to_state, width_bucket(v.seconds, %(bounds)s::float[]) + 1,
       EXISTS (SELECT FROM fulfillment_falloutcase f
               WHERE f.fulfillment_id = x.fulfillment_id AND f.opened_at <= x.occurred_at),
       EXISTS (SELECT FROM fulfillment_operation d
               WHERE d.order_reference = o.reference AND d.happened_at <= x.occurred_at
                 AND d.kind = '{_DECISION}'),
       EXISTS (SELECT FROM fulfillment_operation d
               WHERE d.order_reference = o.reference AND d.happened_at <= x.occurred_at
                 AND d.kind <> '{_DECISION}' AND d.kind <> ALL (%(casework)s::text[])),
       count(*)
FROM fulfillment_transition x
JOIN oms_order o ON o.reference = x.entity_id
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM x.occurred_at - o.submitted_at)::float AS seconds
) v
WHERE {_IN_TIME} AND x.entity = 'order' AND x.from_state <> x.to_state
  AND x.to_state IN ('COMPLETED', 'PARTIALLY_COMPLETED', 'CANCELLED', 'REJECTED', 'FAILED')
GROUP BY 1, 2, 3, 4, 5, 6
"""
_CASES = f"""
SELECT f.target, f.reason_code, f.category, count(*)
FROM fulfillment_transition x JOIN fulfillment_falloutcase f ON f.id = x.entity_id::bigint
WHERE {_IN_TIME} AND x.entity = 'case' AND x.from_state = ''
GROUP BY 1, 2, 3
"""
_CANCELLATIONS = f"""
SELECT {_OFFERING}, x.to_state, count(*)
FROM fulfillment_transition x
JOIN oms_cancellationrequest r ON r.id = x.entity_id::bigint
JOIN oms_order o ON o.id = r.order_id
WHERE {_IN_TIME} AND x.entity = 'cancellation' AND x.to_state IN ('DENIED', 'DONE')
GROUP BY 1, 2
"""
_OPERATIONS = """
SELECT d.kind, count(*) FROM fulfillment_operation d
WHERE d.happened_at >= %(since)s AND d.happened_at < %(until)s
  AND d.order_reference <> '' AND d.kind <> ALL (%(casework)s::text[])
GROUP BY 1
"""


class Cell(NamedTuple):
    """What is counted together; see `oms.models.Measure` for what its parts say."""

    measure: Measure
    subject: str
    action: str = ""
    outcome: str = ""
    bucket: int = durations.NONE


def count(raw: psycopg.Cursor[Row], *, since: datetime, until: datetime) -> Counter[Cell]:
    """What happened from `since` to before `until`, as far as it is committed."""
    values = {
        "since": since,
        "until": until,
        "bounds": array(list(durations.BOUNDS_SECONDS)),
        "casework": array(list(CASEWORK)),
    }

    def rows(statement: str) -> list[Row]:
        raw.execute(statement.encode(), values)
        return raw.fetchall()

    found: Counter[Cell] = Counter()

    def add(
        number: int,
        measure: Measure,
        subject: str,
        action: str = "",
        outcome: str = "",
        bucket: int = durations.NONE,
    ) -> None:
        cut = (subject[: 2 * _LONGEST], action[:_LONGEST], outcome[:_LONGEST])
        found[Cell(measure, *cut, bucket)] += number

    for target, action, state, code, is_again, number in rows(_TASKS):
        if state == "DISPATCHED":
            add(number, Measure.SENDS, target, action, AGAIN if is_again else FIRST)
        elif state == "OUTCOME_UNKNOWN":
            add(number, Measure.DOUBTS, target, action, code)
        else:
            add(number, Measure.TASKS, target, action, state)
    for graph_id, node, route, target, action, number in rows(_LATER_PLANS):
        if _is_undo(graph_id, node, route):
            add(number, Measure.UNDONE, target, action)
    for graph_id, bucket, number in rows(_PLANS):
        add(number, Measure.PLANS, _workflows(graph_id), bucket=bucket)
    for offering, state, bucket, has_case, is_decided, is_repaired, number in rows(_ORDERS):
        add(number, Measure.ORDERS, offering, "", state)
        if state in COMPLETE:
            add(number, Measure.CYCLES, offering, bucket=bucket)
        if has_case:
            add(number, Measure.ORDERS_WITH_CASE, offering, "", state)
        hands = [
            *([DECIDED] if is_decided else []),
            *([REPAIRED] if is_repaired else []),
            *([BY_HAND] if is_decided or is_repaired else []),
        ]
        for hand in hands:
            add(number, Measure.ORDERS_BY_HAND, offering, "", hand)
    for target, reason, category, number in rows(_CASES):
        add(number, Measure.CASES, target, reason, category)
    for offering, state, number in rows(_CANCELLATIONS):
        add(number, Measure.CANCELLATIONS, offering, "", state)
    for kind, number in rows(_OPERATIONS):
        add(number, Measure.OPERATIONS, kind)
    return found


def _workflows(graph_id: int) -> str:
    """The names of a plan's workflows, each once."""
    graph = _graph(graph_id)
    return " + ".join(sorted({one.name for one in graph.workflows})) if graph else ""


def _is_undo(graph_id: int, node: int, route: int) -> bool:
    graph = _graph(graph_id)
    return graph is not None and bool(graph.nodes[node].by(route).undoes)


def _graph(graph_id: int) -> Graph | None:
    """None: of a format that this release does not read; the rest is counted all the same."""
    try:
        return graphs.by_id(graph_id)
    except DefinitionInvalid:
        logger.exception("a plan can't be counted", extra={"graph": graph_id})
        return None
