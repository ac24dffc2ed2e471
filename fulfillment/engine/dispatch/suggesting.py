"""Which tasks an unmatched report may be about: help for a person, never acted upon.

Every statement reads a bounded number of rows by an index, whatever a report says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import psycopg

from fulfillment.engine.store.database import Row

AT_MOST = 5
_LOOK_BACK = 1000
_KEY_START = re.compile(r"[0-9a-f]{8,64}")
_NAMES_AT_MOST = 20
_LONGEST_NAME = 64
BY_ACTION = "{action} is under way there."
_NO_NAMES = frozenset({"event_id", "idempotency_key", "status", "outputs", "error"})

_TASK = "t.id, t.key, f.order_reference"
BY_KEY = f"""
SELECT {_TASK}, c.target_id, c.idempotency_key FROM fulfillment_command c
JOIN fulfillment_task t ON t.id = c.task_id
JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id
WHERE c.idempotency_key >= %(start)s AND c.idempotency_key < %(end)s
  AND (c.target_id = %(target)s OR c.idempotency_key = %(start)s)
ORDER BY c.idempotency_key LIMIT {AT_MOST}
"""
# Each LIMIT keeps the planner from reading all tasks when its statistics are old.
BY_ORDER = f"""
SELECT {_TASK}, t.same_reference
FROM fulfillment_fulfillment f
CROSS JOIN LATERAL (
    SELECT id FROM fulfillment_plan WHERE fulfillment_id = f.id
    ORDER BY order_version DESC, version DESC LIMIT 3
) p
CROSS JOIN LATERAL (
    SELECT id, key, reference = %(reference)s AND reference <> '' AS same_reference,
           state IN ('DISPATCHED', 'ACCEPTED', 'OUTCOME_UNKNOWN') AS under_way
    FROM fulfillment_task
    WHERE plan_id = p.id AND target_id = %(target)s AND attempts > 0
    ORDER BY same_reference DESC, under_way DESC, id DESC LIMIT {AT_MOST}
) t
WHERE f.order_reference = ANY(%(names)s::text[])
ORDER BY t.same_reference DESC, t.under_way DESC, t.id DESC LIMIT {AT_MOST}
"""
# The newest of what has been accepted, what is asked about, and what is on the wire.
AMONG_OPEN = f"""
WITH open AS (
    (SELECT id FROM fulfillment_task
     WHERE target_id = %(target)s AND state = 'ACCEPTED'
     ORDER BY not_before DESC LIMIT {_LOOK_BACK})
    UNION
    (SELECT id FROM fulfillment_task
     WHERE target_id = %(target)s AND state = 'OUTCOME_UNKNOWN'
     ORDER BY not_before DESC LIMIT {_LOOK_BACK})
    UNION
    (SELECT task_id FROM fulfillment_attempt
     WHERE target_id = %(target)s AND finished_at IS NULL
     ORDER BY lease_expires_at DESC LIMIT {_LOOK_BACK})
)
SELECT {_TASK}, t.reference = %(reference)s AND t.reference <> '' AS same_reference,
       f.correlation_id = ANY(%(names)s::text[]) AS same_correlation
FROM open JOIN fulfillment_task t USING (id)
JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id
JOIN LATERAL (
    SELECT action FROM fulfillment_command WHERE task_id = t.id ORDER BY revision DESC LIMIT 1
) c ON true
WHERE t.target_id = %(target)s AND t.state IN ('DISPATCHED', 'ACCEPTED', 'OUTCOME_UNKNOWN')
  AND ((t.reference = %(reference)s AND t.reference <> '')
       OR f.correlation_id = ANY(%(names)s::text[]) OR c.action = %(action)s)
ORDER BY same_reference DESC, same_correlation DESC, t.changed_at DESC LIMIT {AT_MOST}
"""


def suggest(
    raw: psycopg.Cursor[Row], *, target: str, key: str, body: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """At most five, the most likely first: {"task_id", "task", "order", "why"}.

    Looked for are: a key that was cut short, written differently or sent to another target; the
    target's own `reference`; an order's reference or correlation id in any member of `body`;
    an `action` that is under way.
    """
    given = {
        "target": target,
        "reference": _text(body.get("reference")),
        "action": _text(body.get("action")),
        "names": _names(body),
    }
    found = _by_key(raw, target, key)
    if given["reference"] or given["names"]:
        found += _by_order(raw, given)
    if given["reference"] or given["names"] or given["action"]:
        found += _among_open(raw, given)
    once: dict[int, dict[str, Any]] = {}
    for one in found:
        once.setdefault(one["task_id"], one)
    return list(once.values())[:AT_MOST]


def suggestion(*, task_id: int, task: str, order: str, why: str) -> dict[str, Any]:
    """As `InboundEvent.suggestions` keeps it."""
    return {"task_id": task_id, "task": task, "order": order, "why": why}


def _by_key(raw: psycopg.Cursor[Row], target: str, key: str) -> list[dict[str, Any]]:
    match = _KEY_START.match(key.strip().lower())
    if match is None:
        return []
    start = match[0]
    # "g" follows every hexadecimal digit, in every collation.
    raw.execute(BY_KEY, {"start": start, "end": start + "g", "target": target})
    return [
        suggestion(
            task_id=task_id,
            task=task,
            order=order,
            why=f"Its key is that of a command to {sent_to}."
            if sent_to != target
            else f"Its key begins with the same {len(start)} characters.",
        )
        for task_id, task, order, sent_to, _ in raw.fetchall()
    ]


def _by_order(raw: psycopg.Cursor[Row], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    raw.execute(BY_ORDER, given)
    return [
        suggestion(
            task_id=task_id,
            task=task,
            order=order,
            why="It names this order"
            + (" and carries the task's reference." if same_reference else "."),
        )
        for task_id, task, order, same_reference in raw.fetchall()
    ]


def _among_open(raw: psycopg.Cursor[Row], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    raw.execute(AMONG_OPEN, given)
    return [
        suggestion(
            task_id=task_id,
            task=task,
            order=order,
            why="It carries the same reference."
            if same_reference
            else "It names this order's correlation id."
            if same_correlation
            else BY_ACTION.format(action=given["action"]),
        )
        for task_id, task, order, same_reference, same_correlation in raw.fetchall()
    ]


def _names(body: Mapping[str, Any]) -> list[str]:
    """What may name an order: the short texts among the body's members."""
    texts = (_text(value) for name, value in body.items() if name not in _NO_NAMES)
    names = dict.fromkeys(text for text in texts if text and len(text) <= _LONGEST_NAME)
    return list(names)[:_NAMES_AT_MOST]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
