"""Rules about the audit trail: it tells every change, once, and can't have been rewritten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC

from tests.chaos.evidence import Evidence, Violation

# The state machines as docs/states.md describes them, written down a second time on purpose.
_OPEN = {
    "READY",
    "DISPATCHED",
    "ACCEPTED",
    "FAILED_RETRYABLE",
    "OUTCOME_UNKNOWN",
    "AWAITING_MANUAL",
}
_CANCELLABLE = {"SUBMITTED", "VALIDATING", "READY_FOR_FULFILLMENT", "IN_PROGRESS"}
_LEGAL: Mapping[str, Mapping[str, set[str]]] = {
    "task": {
        "PENDING": {"READY", "FAILED_RETRYABLE", "FAILED_FINAL"},
        "READY": {"PENDING", "OUTCOME_UNKNOWN", "AWAITING_MANUAL", "FAILED_FINAL"},
        "DISPATCHED": {"READY", "FAILED_RETRYABLE"},
        "ACCEPTED": {"DISPATCHED", "OUTCOME_UNKNOWN", "PENDING"},
        "SUCCEEDED": _OPEN | {"PENDING"},
        "OUTCOME_UNKNOWN": {"DISPATCHED", "ACCEPTED", "AWAITING_MANUAL"},
        "FAILED_RETRYABLE": {"DISPATCHED", "ACCEPTED", "OUTCOME_UNKNOWN"},
        "FAILED_FINAL": _OPEN | {"PENDING"},
        "CANCELLED": {"PENDING", "READY", "FAILED_RETRYABLE", "ACCEPTED", "AWAITING_MANUAL"},
        "AWAITING_MANUAL": _OPEN | {"PENDING"},
        "SKIPPED_BY_POLICY": {"PENDING"},
    },
    "plan": {
        "CREATED": {""},
        "READY": {"CREATED"},
        "RUNNING": {"READY", "BLOCKED"},
        "BLOCKED": {"RUNNING"},
        "COMPLETED": {"RUNNING", "BLOCKED"},
        "COMPENSATING": {"RUNNING"},
        "CANCELLED": {"RUNNING", "BLOCKED", "COMPENSATING"},
        "FAILED": {"RUNNING", "BLOCKED", "COMPENSATING"},
        "SUPERSEDED": {"CREATED", "READY", "RUNNING", "BLOCKED"},
    },
    "order": {
        "SUBMITTED": {""},
        "VALIDATING": {"SUBMITTED"},
        "READY_FOR_FULFILLMENT": {"VALIDATING"},
        "REJECTED": {"VALIDATING"},
        "IN_PROGRESS": {"READY_FOR_FULFILLMENT", "ASSESSING_CANCELLATION"},
        "COMPLETED": {"IN_PROGRESS"},
        "PARTIALLY_COMPLETED": {"IN_PROGRESS"},
        "FAILED": {"IN_PROGRESS"},
        "ASSESSING_CANCELLATION": _CANCELLABLE,
        "CANCELLING": {"ASSESSING_CANCELLATION"},
        "CANCELLED": {"CANCELLING"},
    },
    "cancellation": {
        "ASSESSING": {""},
        "DENIED": {"ASSESSING"},
        "UNDOING": {"ASSESSING"},
        "DONE": {"UNDOING"},
    },
    "amendment": {
        "ASSESSING": {""},
        "APPLIED": {"ASSESSING"},
        "WAITING_FOR_COMPLETION": {"ASSESSING"},
        "CHANGE_ORDERED": {"WAITING_FOR_COMPLETION"},
        "DENIED": {"ASSESSING", "WAITING_FOR_COMPLETION"},
        "SUPERSEDED": {"ASSESSING", "WAITING_FOR_COMPLETION"},
    },
}
_NOT_DONE = {"PENDING", "READY", "ACCEPTED", "FAILED_RETRYABLE", "AWAITING_MANUAL", "FAILED_FINAL"}
_SETTLED_BY_HAND = (_NOT_DONE - {"PENDING"}) | {"OUTCOME_UNKNOWN"}
# Of tasks, by the name of the transition: what only a person does.
_BY_HAND: Mapping[str, set[str]] = {
    "waive": _NOT_DONE,
    "leave_out": _NOT_DONE,
    "confirm": _SETTLED_BY_HAND,
    "send_anew": _SETTLED_BY_HAND,
    "look_again": {"AWAITING_MANUAL"},
}
_BELONGS = (
    ("fulfillment_task", "plan_id", "fulfillment_plan"),
    ("fulfillment_command", "task_id", "fulfillment_task"),
    ("fulfillment_attempt", "command_id", "fulfillment_command"),
    ("fulfillment_transition", "fulfillment_id", "fulfillment_fulfillment"),
    ("fulfillment_outboxevent", "fulfillment_id", "fulfillment_fulfillment"),
)
_GAPS = """
SELECT * FROM (
    SELECT fulfillment_id, sequence, entity, entity_id, name, from_state, to_state,
           lag(to_state) OVER chain AS before
    FROM fulfillment_transition
    WINDOW chain AS (PARTITION BY fulfillment_id, entity, entity_id ORDER BY sequence)
) v WHERE before IS DISTINCT FROM from_state AND NOT (before IS NULL AND (
    from_state = '' OR (entity = 'task' AND from_state = 'PENDING')))
"""
_LAST = """
WITH last AS (
    SELECT DISTINCT ON (entity, entity_id) entity, entity_id, to_state
    FROM fulfillment_transition ORDER BY entity, entity_id, sequence DESC
), now AS (
    SELECT 'task' AS entity, id::text AS entity_id, state FROM fulfillment_task
    UNION ALL SELECT 'plan', id::text, state FROM fulfillment_plan
    UNION ALL SELECT 'order', reference, state FROM oms_order
    UNION ALL SELECT 'cancellation', id::text, state FROM oms_cancellationrequest
    UNION ALL SELECT 'amendment', id::text, state FROM oms_amendmentrequest
    UNION ALL SELECT 'case', id::text, state FROM fulfillment_falloutcase
        WHERE fulfillment_id IS NOT NULL
)
SELECT now.entity, now.entity_id, now.state, last.to_state AS audited
FROM now LEFT JOIN last USING (entity, entity_id)
WHERE now.state IS DISTINCT FROM last.to_state
  AND NOT (now.entity = 'task' AND now.state = 'PENDING' AND last.to_state IS NULL)
"""
_ORPHANS = """
SELECT a.id, a.task_id, a.number, a.started_at FROM fulfillment_attempt a
WHERE a.purpose = 'SEND' AND (
    SELECT count(*) FROM fulfillment_transition t
    WHERE t.fulfillment_id = a.fulfillment_id AND t.entity = 'task'
      AND t.entity_id = a.task_id::text AND t.to_state = 'DISPATCHED'
) <> (SELECT count(*) FROM fulfillment_attempt b WHERE b.task_id = a.task_id AND b.purpose = 'SEND')
"""


def nothing_hangs_in_the_air(evidence: Evidence) -> Iterator[Violation]:
    """What the database itself does not check: every row belongs to one that is there."""
    for table, column, whole in _BELONGS:
        for row in evidence.rows(
            f"SELECT id, {column} FROM {table} part WHERE NOT EXISTS "
            f"(SELECT 1 FROM {whole} whole WHERE whole.id = part.{column}) LIMIT 10"
        ):
            yield Violation(
                rule="orphan",
                text=f"Row {row['id']} of {table} belongs to nothing.",
                rows=[row],
            )


def every_change_is_audited_once(evidence: Evidence) -> Iterator[Violation]:
    """Each row begins where the last one of its subject ended, and the last one is the present."""
    for row in evidence.rows(_GAPS):
        yield Violation(
            rule="audit-gap",
            text=f"{row['entity']} {row['entity_id']} went from {row['from_state'] or 'nothing'} "
            f"to {row['to_state']}, but stood at {row['before'] or 'nothing'} before.",
            rows=[row],
        )
    for row in evidence.rows(_LAST):
        yield Violation(
            rule="audit-missing",
            text=f"{row['entity']} {row['entity_id']} is {row['state']}; the last that the audit "
            f"trail tells is {row['audited'] or 'nothing'}.",
            rows=[row],
        )
    for row in evidence.rows(_ORPHANS):
        yield Violation(
            rule="dispatched-twice",
            text=f"Task {row['task_id']} was claimed for sending more or less often than the "
            "audit trail tells.",
            rows=[row],
        )


def every_change_is_legal(evidence: Evidence) -> Iterator[Violation]:
    for row in evidence.rows(
        "SELECT entity, name, from_state, to_state, count(*) AS times, "
        "min(entity_id) AS example "
        "FROM fulfillment_transition WHERE from_state <> to_state "
        "GROUP BY entity, name, from_state, to_state"
    ):
        if row["entity"] == "task" and row["from_state"] in _BY_HAND.get(row["name"], ()):
            continue
        rules = _LEGAL.get(row["entity"])
        if rules is not None and row["from_state"] not in rules.get(row["to_state"], set()):
            yield Violation(
                rule="illegal-transition",
                text=f"A {row['entity']} went from {row['from_state']} to {row['to_state']}.",
                rows=[row],
            )


def the_chain_holds(evidence: Evidence) -> Iterator[Violation]:
    """The hashes, computed anew: SHA-256 over a JSON list of the hash before and the values."""
    heads = {
        row["id"]: row
        for row in evidence.rows(
            "SELECT id, order_reference, audit_sequence, audit_head FROM fulfillment_fulfillment"
        )
    }
    place: dict[int, tuple[int, str]] = {}
    broken: set[int] = set()
    with evidence.engine.cursor(name="chain") as rows:
        rows.itersize = 5000
        rows.execute("SELECT * FROM fulfillment_transition ORDER BY fulfillment_id, sequence")
        for row in rows:
            number = row["fulfillment_id"]
            sequence, previous = place.get(number, (0, ""))
            values = (
                previous,
                row["sequence"],
                *(row[name] for name in ("entity", "entity_id", "name", "from_state", "to_state")),
                *(row[name] for name in ("actor", "cause", "details")),
                row["occurred_at"].astimezone(UTC).isoformat(timespec="microseconds"),
            )
            expected = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
            fits = row["sequence"] == sequence + 1 and row["hash"] == expected
            if not fits and number not in broken:
                broken.add(number)
                yield Violation(
                    rule="chain-broken",
                    text=f"The audit trail of {heads[number]['order_reference']} does not hold "
                    f"at row {row['sequence']}.",
                    rows=[row],
                )
            place[number] = (row["sequence"], row["hash"])
    for number, head in heads.items():
        if place.get(number, (0, "")) != (head["audit_sequence"], head["audit_head"]):
            yield Violation(
                rule="chain-broken",
                text=f"The audit trail of {head['order_reference']} does not end in its head.",
                rows=[head],
            )
