"""Rules about the end of a run: everything is over, in good order, or in somebody's hands."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.evidence import Evidence, Violation

_OPEN_CASE = """
EXISTS (SELECT 1 FROM fulfillment_falloutcase k
        WHERE k.fulfillment_id = {} AND k.state <> 'RESOLVED' AND k.category <> 'LEAKAGE')
"""
# A person is asked, or a report is waited for, and the time for that is not over: no trouble.
_EXPECTED = """
(EXISTS (SELECT 1 FROM fulfillment_manualtask m
         WHERE m.fulfillment_id = {0} AND m.state = 'OPEN' AND m.due_at > fulfillment_now())
 OR EXISTS (SELECT 1 FROM fulfillment_task w
            WHERE w.fulfillment_id = {0} AND w.state = 'ACCEPTED' AND w.target_id = ''
              AND w.not_before > fulfillment_now()))
"""
_STUCK = f"""
SELECT o.reference, o.external_id, o.state, o.waiting_reason, p.state AS plan, p.blocked_reason,
       p.stuck_reason, (
           SELECT string_agg(t.key || ' ' || t.state, ', ' ORDER BY t.node)
           FROM fulfillment_task t WHERE t.plan_id = p.id
             AND t.state NOT IN ('SUCCEEDED', 'PENDING', 'SKIPPED_BY_POLICY')
       ) AS tasks
FROM oms_order o
LEFT JOIN fulfillment_plan p
    ON p.fulfillment_id = o.fulfillment_id AND p.state <> 'SUPERSEDED'
WHERE o.state NOT IN ('COMPLETED', 'PARTIALLY_COMPLETED', 'CANCELLED', 'REJECTED', 'FAILED')
  AND NOT {_OPEN_CASE.format("o.fulfillment_id")} AND NOT {_EXPECTED.format("o.fulfillment_id")}
ORDER BY o.id
"""
_NO_CASE = """
SELECT t.id AS task, t.key, t.state, t.blocked_reason, f.order_reference AS "order"
FROM fulfillment_task t JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id
WHERE t.state IN ('AWAITING_MANUAL', 'FAILED_FINAL')
  AND NOT EXISTS (SELECT 1 FROM fulfillment_falloutcase k
                  WHERE k.task_id = t.id AND k.category <> 'LEAKAGE')
  AND NOT EXISTS (SELECT 1 FROM fulfillment_casetask k WHERE k.task_id = t.id)
  AND (t.state = 'AWAITING_MANUAL' OR t.required)
  AND NOT EXISTS (SELECT 1 FROM fulfillment_manualtask m
                  WHERE m.task_id = t.id AND m.state = 'OPEN' AND m.due_at > fulfillment_now())
ORDER BY t.id
"""
_UNPROVEN = """
SELECT o.reference, o.state, p.state AS plan, t.key, t.state AS task
FROM oms_order o JOIN fulfillment_plan p
    ON p.fulfillment_id = o.fulfillment_id AND p.state <> 'SUPERSEDED'
JOIN fulfillment_task t ON t.plan_id = p.id AND t.required
WHERE o.state = 'COMPLETED'
  AND (p.state <> 'COMPLETED'
       OR t.state NOT IN ('SUCCEEDED', 'SKIPPED_BY_POLICY', 'WAIVED_BY_AUTHORIZED_USER'))
"""
_OPEN_ATTEMPTS = """
SELECT a.id, a.task_id, a.target_id, a.purpose, a.started_at, a.lease_expires_at, t.state
FROM fulfillment_attempt a JOIN fulfillment_task t ON t.id = a.task_id
WHERE a.finished_at IS NULL
"""
_COUNTERS = """
SELECT p.id AS plan, p.tasks_open, p.mandatory_open, p.moving, v.* FROM fulfillment_plan p
JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state NOT IN ('SUCCEEDED', 'SKIPPED_BY_POLICY',
               'WAIVED_BY_AUTHORIZED_USER', 'CANCELLED', 'FAILED_FINAL')) AS really_open,
           count(*) FILTER (WHERE required AND state NOT IN ('SUCCEEDED', 'SKIPPED_BY_POLICY',
               'WAIVED_BY_AUTHORIZED_USER')) AS really_mandatory,
           count(*) FILTER (WHERE state IN ('READY', 'DISPATCHED', 'ACCEPTED',
               'FAILED_RETRYABLE', 'OUTCOME_UNKNOWN')) AS really_moving
    FROM fulfillment_task t WHERE t.plan_id = p.id
) v ON true
WHERE p.state <> 'SUPERSEDED' AND (
   (p.tasks_open, p.moving) IS DISTINCT FROM (really_open::int, really_moving::int)
   -- What a decision has yet to create counts as open, and has no row.
   OR p.mandatory_open < really_mandatory
   OR (p.mandatory_open <> really_mandatory AND NOT EXISTS (
       SELECT 1 FROM fulfillment_plangraph g, jsonb_array_elements(g.document->'edges') e
       WHERE g.id = p.graph_id AND e->>'type' IN ('CHOICE', 'HUMAN'))))
"""
_UNSENT = """
SELECT id, event_type, fulfillment_id, occurred_at FROM fulfillment_outboxevent
WHERE published_at IS NULL ORDER BY id
"""
_UNDELIVERED = """
SELECT d.id, d.subscription_id, d.event_id, d.state, d.attempts, d.last_answer
FROM fulfillment_delivery d
WHERE d.state <> 'DELIVERED' AND NOT (d.state = 'DEAD' AND EXISTS (
    SELECT 1 FROM fulfillment_falloutcase k WHERE k.category = 'UNDELIVERED'
      AND (k.fulfillment_id = d.fulfillment_id OR k.fulfillment_id IS NULL)))
ORDER BY d.id
"""


def every_order_ends_or_has_a_case(evidence: Evidence) -> Iterator[Violation]:
    for row in evidence.rows(_STUCK):
        yield Violation(
            rule="stuck",
            text=f"{row['reference']} is {row['state']}, its plan {row['plan'] or 'missing'}, and "
            "no open case says why.",
            rows=[row],
        )
    for row in evidence.rows(_NO_CASE):
        yield Violation(
            rule="no-case",
            text=f"{row['key']} of {row['order']} is {row['state']}, and no case has ever said so.",
            rows=[row],
        )


def completed_means_done(evidence: Evidence) -> Iterator[Violation]:
    for row in evidence.rows(_UNPROVEN):
        yield Violation(
            rule="order-completes-on-evidence",
            text=f"{row['reference']} is COMPLETED, its plan {row['plan']} and its task "
            f"{row['key']} {row['task']}.",
            rows=[row],
        )


def nothing_is_left_open(evidence: Evidence) -> Iterator[Violation]:
    for row in evidence.rows(_OPEN_ATTEMPTS):
        yield Violation(
            rule="attempt-open",
            text=f"Attempt {row['id']} at {row['target_id']} has never ended.",
            rows=[row],
        )


def counters_are_right(evidence: Evidence) -> Iterator[Violation]:
    for row in evidence.rows(_COUNTERS):
        yield Violation(
            rule="counters", text=f"Plan {row['plan']} counts its tasks wrongly.", rows=[row]
        )


def every_event_is_sent(evidence: Evidence) -> Iterator[Violation]:
    unsent = evidence.rows(_UNSENT)
    if unsent:
        yield Violation(
            rule="outbox-unsent", text=f"{len(unsent)} events were never published.", rows=unsent
        )
    waiting = evidence.rows(_UNDELIVERED)
    if waiting:
        yield Violation(
            rule="delivery-open",
            text=f"{len(waiting)} deliveries are neither delivered nor dead with a case.",
            rows=waiting,
        )
