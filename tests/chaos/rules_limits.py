"""Rules about what may be sent, and when: holds, pauses, dependencies, plans, limits."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from tests.chaos.evidence import Evidence, Violation

_RATE_SLACK_CALLS = 1e-6

# A hold that ends by itself and one that is released end the same way. The subjects are those of
# the texts by which operators place holds (docs/operating.md).
_UNDER_HOLD = """
SELECT h.id AS hold, h.subject, h.placed_at, h.released_at, a.id AS attempt, a.task_id,
       a.started_at
FROM fulfillment_hold h
JOIN fulfillment_attempt a ON a.purpose = 'SEND'
 AND a.started_at > h.placed_at + make_interval(secs => %s)
 AND a.started_at + make_interval(secs => %s) < least(
        coalesce(h.released_at, 'infinity'), coalesce(h.until, 'infinity'))
JOIN fulfillment_task t ON t.id = a.task_id
JOIN fulfillment_plan p ON p.id = t.plan_id
JOIN fulfillment_plangraph g ON g.id = p.graph_id
JOIN fulfillment_fulfillment f ON f.id = a.fulfillment_id
WHERE h.subject IN (
        'order:' || f.order_reference, 'plan:' || p.id, 'task:' || t.id,
        'target:' || t.target_id, 'customer:' || f.customer,
        'action:' || t.target_id || '/' || (g.document #>> ARRAY['nodes', t.node::text, 'action']))
   OR (h.scope = 'ITEM' AND split_part(h.subject, '/', 1) = 'item:' || f.order_reference
       AND (g.document #> ARRAY['nodes', t.node::text, 'items'])
           @> to_jsonb(split_part(h.subject, '/', 2)::int))
ORDER BY h.id, a.id
"""
_PAUSES = """
SELECT id, kind, subject, happened_at FROM fulfillment_operation
WHERE kind IN ('pause_target', 'resume_target') ORDER BY id
"""
_OVER = """
SELECT p.id AS plan, t.to_state, a.id AS attempt, a.task_id, a.started_at, t.occurred_at
FROM fulfillment_transition t
JOIN fulfillment_plan p ON t.entity = 'plan' AND t.entity_id = p.id::text
JOIN fulfillment_task k ON k.plan_id = p.id
JOIN fulfillment_attempt a ON a.task_id = k.id AND a.purpose = 'SEND'
WHERE t.to_state IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED')
  AND a.started_at > t.occurred_at
"""
# By the place in the audit chain, which has no clock: the first dispatch of a task comes after
# the success of everything that its graph says it needs, within its own element of a fan-out.
# Whether a conditional dependency exists is the order's business; the property tests look at it.
# What was sent under an earlier plan went by that one's graph.
_EARLY = """
WITH dispatched AS (
    SELECT fulfillment_id, entity_id, min(sequence) AS at FROM fulfillment_transition
    WHERE entity = 'task' AND to_state = 'DISPATCHED' GROUP BY fulfillment_id, entity_id
), done AS (
    SELECT fulfillment_id, entity_id, min(sequence) AS at FROM fulfillment_transition
    WHERE entity = 'task' AND to_state IN
        ('SUCCEEDED', 'SKIPPED_BY_POLICY', 'WAIVED_BY_AUTHORIZED_USER')
    GROUP BY fulfillment_id, entity_id
), created AS (
    SELECT fulfillment_id, entity_id, sequence AS at FROM fulfillment_transition
    WHERE entity = 'plan' AND from_state = ''
), edges AS (
    SELECT g.id AS graph_id, (e->>'source')::int AS source, (e->>'target')::int AS target
    FROM fulfillment_plangraph g, jsonb_array_elements(g.document->'edges') e
    WHERE coalesce(e->>'when', '') = ''
)
SELECT t.id AS task, t.key, b.key AS needs, d.at AS dispatched, x.at AS done
FROM fulfillment_task t
JOIN fulfillment_plan p ON p.id = t.plan_id
JOIN edges ON edges.graph_id = p.graph_id AND edges.target = t.node
JOIN fulfillment_task b ON b.plan_id = p.id AND b.node = edges.source
  AND b.element IN (0, t.element)
JOIN dispatched d ON d.fulfillment_id = t.fulfillment_id AND d.entity_id = t.id::text
JOIN created c ON c.fulfillment_id = t.fulfillment_id AND c.entity_id = p.id::text
LEFT JOIN done x ON x.fulfillment_id = t.fulfillment_id AND x.entity_id = b.id::text
WHERE d.at > c.at AND (x.at IS NULL OR x.at > d.at)
"""
_LIMITED = """
SELECT name, concurrency_limit, rate_per_second, rate_burst, accepted_holds_slot
FROM fulfillment_targetsystem
WHERE concurrency_limit IS NOT NULL OR rate_per_second IS NOT NULL
"""
# Of one slot of a worker each call begins when the one before has ended, however early it was
# claimed.
_CALLS = """
SELECT a.*, CASE WHEN slot IS NULL THEN claimed_at ELSE greatest(claimed_at, max(ended_at) OVER (
           PARTITION BY worker, slot ORDER BY claimed_at, id
           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) END AS started_at
FROM (
    SELECT id, task_id, purpose, worker, slot, started_at AS claimed_at,
           least(coalesce(finished_at, 'infinity'), lease_expires_at) AS ended_at
    FROM fulfillment_attempt WHERE target_id = %s
) a ORDER BY claimed_at, id
"""
_ACCEPTED = """
SELECT t.id, t.occurred_at AS started_at, coalesce((
    SELECT min(n.occurred_at) FROM fulfillment_transition n
    WHERE n.fulfillment_id = t.fulfillment_id AND n.entity = 'task'
      AND n.entity_id = t.entity_id AND n.sequence > t.sequence), 'infinity') AS ended_at
FROM fulfillment_transition t JOIN fulfillment_task k
  ON t.entity = 'task' AND t.entity_id = k.id::text
WHERE t.to_state = 'ACCEPTED' AND k.target_id = %s
"""


def nothing_is_sent_under_a_hold(evidence: Evidence) -> Iterator[Violation]:
    slack = evidence.hold_slack_seconds
    for row in evidence.rows(_UNDER_HOLD, slack, slack):
        yield Violation(
            rule="sent-under-hold",
            text=f"Task {row['task_id']} was sent while {row['subject']} was held.",
            rows=[row],
        )
    since: dict[str, datetime] = {}
    for row in evidence.rows(_PAUSES):
        if row["kind"] == "pause_target":
            since.setdefault(row["subject"], row["happened_at"])
            continue
        paused_at = since.pop(row["subject"], None)
        if paused_at is not None:
            yield from _sent_between(evidence, row["subject"], paused_at, row["happened_at"])
    for subject, paused_at in since.items():
        yield from _sent_between(evidence, subject, paused_at, None)


def _sent_between(
    evidence: Evidence, subject: str, begin: datetime, end: datetime | None
) -> Iterator[Violation]:
    slack = evidence.hold_slack_seconds
    rows = evidence.rows(
        "SELECT id, task_id, purpose, started_at FROM fulfillment_attempt "
        "WHERE target_id = %s AND started_at > %s + make_interval(secs => %s) "
        "AND started_at + make_interval(secs => %s) < coalesce(%s, 'infinity'::timestamptz)",
        *(subject.removeprefix("target:"), begin, slack, slack, end),
    )
    if rows:
        yield Violation(
            rule="called-while-paused", text=f"{subject} was called while it was paused.", rows=rows
        )


def nothing_is_sent_for_a_plan_that_is_over(evidence: Evidence) -> Iterator[Violation]:
    for row in evidence.rows(_OVER):
        yield Violation(
            rule="superseded-silent",
            text=f"Task {row['task_id']} was sent after its plan was {row['to_state']}.",
            rows=[row],
        )


def nothing_is_sent_before_what_it_needs(evidence: Evidence) -> Iterator[Violation]:
    for row in evidence.rows(_EARLY):
        yield Violation(
            rule="dependency-unmet",
            text=f"{row['key']} (task {row['task']}) was sent before {row['needs']} had succeeded.",
            rows=[row],
        )


def limits_are_kept(evidence: Evidence) -> Iterator[Violation]:
    """Calls under way and calls per second, per target system, as its row says now."""
    for target in evidence.rows(_LIMITED):
        calls = evidence.rows(_CALLS, target["name"])
        if target["concurrency_limit"] is not None:
            held = evidence.rows(_ACCEPTED, target["name"]) if target["accepted_holds_slot"] else []
            yield from _overrun(target["name"], target["concurrency_limit"], [*calls, *held])
        if target["rate_per_second"] is not None:
            yield from _too_fast(target, calls)


def _overrun(name: str, limit: int, calls: Sequence[dict[str, Any]]) -> Iterator[Violation]:
    """At the beginning of each call: how many are under way with it."""
    ends: list[tuple[datetime, int]] = []
    worst, rows = limit, []
    by_id: dict[int, dict[str, Any]] = {}
    for number, call in enumerate(sorted(calls, key=lambda call: call["started_at"])):
        while ends and ends[0][0] <= call["started_at"]:
            del by_id[heapq.heappop(ends)[1]]
        heapq.heappush(ends, (call["ended_at"], number))
        by_id[number] = call
        if len(ends) > worst:
            worst, rows = len(ends), list(by_id.values())
    if worst > limit:
        yield Violation(
            rule="concurrency-limit",
            text=f"{name} had {worst} calls under way; its limit is {limit}.",
            rows=rows,
        )


def _too_fast(target: dict[str, Any], calls: Sequence[dict[str, Any]]) -> Iterator[Violation]:
    """A token bucket that the calls empty: never more than rate times seconds, plus the burst."""
    rate, burst = target["rate_per_second"], target["rate_burst"]
    tokens, before = float(burst), None
    for call in calls:
        if before is not None:
            passed = (call["claimed_at"] - before["claimed_at"]).total_seconds()
            tokens = min(float(burst), tokens + passed * rate)
        tokens -= 1
        if tokens < -_RATE_SLACK_CALLS:
            around = [
                c for c in calls if abs((c["claimed_at"] - call["claimed_at"]).total_seconds()) < 1
            ]
            yield Violation(
                rule="rate-limit",
                text=f"{target['name']} was called more often than {rate:g} times per second "
                f"(burst {burst}).",
                rows=around,
            )
            return
        before = call


def summarised(evidence: Evidence) -> dict[str, int]:
    """How much there was to check."""
    counts = defaultdict(int)
    for name, table in (
        ("orders", "oms_order"),
        ("tasks", "fulfillment_task"),
        ("attempts", "fulfillment_attempt"),
        ("transitions", "fulfillment_transition"),
        ("cases", "fulfillment_falloutcase"),
    ):
        counts[name] = evidence.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]
    counts["effects"] = len(evidence.executions)
    counts["acknowledged"] = len(evidence.acknowledged)
    return dict(counts)
