"""Rules about effects and reports: nothing lost, nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.evidence import Evidence, Execution, Violation

_COMMANDS = """
SELECT c.idempotency_key AS key, c.target_id AS target, t.id AS task, t.key AS name,
       t.state, f.order_reference AS "order",
       EXISTS (SELECT 1 FROM fulfillment_falloutcase k
               LEFT JOIN fulfillment_casetask j ON j.case_id = k.id AND j.left_at IS NULL
               WHERE t.id IN (k.task_id, j.task_id) AND k.fulfillment_id = t.fulfillment_id
                 AND k.state <> 'RESOLVED'
                 AND k.category IN ('UNCERTAIN', 'CONFLICT', 'DATA', 'POISON')) AS in_doubt
FROM fulfillment_command c
JOIN fulfillment_task t ON t.id = c.task_id
JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id
"""


def one_effect_per_key(evidence: Evidence) -> Iterator[Violation]:
    """No key has two effects; no effect is without its command; no task has two."""
    done: dict[tuple[str, str], list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        done[execution.target, execution.key].append(execution)
    commands = {(row["target"], row["key"]): row for row in evidence.rows(_COMMANDS)}
    for (target, key), effects in done.items():
        if len(effects) > 1:
            yield Violation(
                rule="one-effect-per-key",
                text=f"{target} did {key[:16]}… {len(effects)} times.",
                rows=[_row(effect) for effect in effects],
            )
    unknown = [e for identity, effects in done.items() if identity not in commands for e in effects]
    questions = _feasibility_keys(evidence) if unknown else frozenset()
    for execution in unknown:
        if execution.key not in questions:
            yield Violation(
                rule="one-effect-per-key",
                text=f"{execution.target} did something that no command asked for.",
                rows=[_row(execution)],
            )
    per_task = Counter(commands[identity]["task"] for identity in done if identity in commands)
    for task, keys in per_task.items():
        if keys > 1:
            yield Violation(
                rule="one-effect-per-key",
                text=f"Task {task} had its effect under {keys} different keys.",
                rows=[row for identity, row in commands.items() if row["task"] == task],
            )


def succeeded_has_its_effect(evidence: Evidence) -> Iterator[Violation]:
    """A succeeded task has its effect, and a task that is over without success has none."""
    done = {(execution.target, execution.key) for execution in evidence.executions}
    tasks = defaultdict(list)
    for row in evidence.rows(_COMMANDS):
        tasks[row["task"]].append(row)
    for rows in tasks.values():
        effects = [row for row in rows if (row["target"], row["key"]) in done]
        state = rows[0]["state"]
        if state == "SUCCEEDED" and not effects:
            yield Violation(
                rule="success-on-evidence",
                text=f"{rows[0]['name']} of {rows[0]['order']} succeeded without an effect.",
                rows=rows,
            )
        elif effects and state != "SUCCEEDED" and not rows[0]["in_doubt"]:
            yield Violation(
                rule="effect-without-success",
                text=f"{rows[0]['name']} of {rows[0]['order']} had its effect and is {state}, "
                "and no case says that this is in doubt.",
                rows=effects,
            )


def nothing_is_lost(evidence: Evidence) -> Iterator[Violation]:
    """Every order that the client was promised is there, once, under the promised name."""
    orders = evidence.rows("SELECT external_id, reference, state FROM oms_order")
    by_reference = {row["reference"]: row for row in orders}
    by_external = Counter(row["external_id"] for row in orders)
    for promised in {entry.reference: entry for entry in evidence.acknowledged}.values():
        found = by_reference.get(promised.reference)
        if found is None or found["external_id"] != promised.external_id:
            yield Violation(
                rule="lost",
                text=f"{promised.reference} ({promised.external_id}) was acknowledged and is not "
                "there.",
                rows=[] if found is None else [found],
            )
    for external_id in {entry.external_id for entry in evidence.acknowledged}:
        references = (
            {e.reference for e in evidence.acknowledged if e.external_id == external_id}
            if by_external[external_id] > 1
            else set()
        )
        if by_external[external_id] > 1:
            yield Violation(
                rule="order-twice",
                text=f"{external_id} became {by_external[external_id]} orders.",
                rows=[{"acknowledged": sorted(references)}],
            )


def every_report_is_applied_once(evidence: Evidence) -> Iterator[Violation]:
    """What the engine has said 2xx to stands in the inbox once, dealt with or unmatched."""
    events = {
        (row["source"], row["event_id"]): row
        for row in evidence.rows(
            "SELECT source, event_id, idempotency_key, disposition, task_id, received_at "
            "FROM fulfillment_inboundevent"
        )
    }
    for callback in evidence.callbacks:
        event = events.get((callback.target, callback.event_id))
        if callback.heard and event is None:
            yield Violation(
                rule="report-lost",
                text=f"{callback.target} was told that its report {callback.event_id} is taken; "
                "it is not in the inbox.",
            )
        if callback.refused:
            yield Violation(
                rule="report-refused",
                text=f"A genuine report of {callback.target} was refused: {callback.last_answer}.",
                rows=[] if event is None else [event],
            )
    dealt_with = {"APPLIED", "REDUNDANT", "CONFLICTING", "UNMATCHED"}
    for event in events.values():
        if event["disposition"] not in dealt_with:
            yield Violation(
                rule="report-not-applied",
                text=f"The report {event['event_id']} is stored and not dealt with.",
                rows=[event],
            )
    commands = {
        (row["target"], row["key"]) for row in evidence.rows(_COMMANDS) if not row["in_doubt"]
    }
    for event in events.values():
        known = (event["source"], event["idempotency_key"]) in commands
        if event["disposition"] == "UNMATCHED" and known:
            yield Violation(
                rule="report-unmatched",
                text=f"The report {event['event_id']} names a command and is parked as unmatched.",
                rows=[event],
            )
    yield from _moved_once(evidence)


def _moved_once(evidence: Evidence) -> Iterator[Violation]:
    for row in evidence.rows(
        """
        SELECT * FROM (
            SELECT e.task_id, count(*) AS applied, (
                SELECT count(*) FROM fulfillment_transition t
                WHERE t.fulfillment_id = k.fulfillment_id AND t.entity = 'task'
                  AND t.entity_id = k.id::text AND t.from_state <> t.to_state
                  AND t.occurred_at >= min(e.received_at)
            ) AS moves
            FROM fulfillment_inboundevent e JOIN fulfillment_task k ON k.id = e.task_id
            WHERE e.disposition = 'APPLIED' GROUP BY e.task_id, k.id, k.fulfillment_id
        ) v WHERE moves < applied
        """
    ):
        yield Violation(
            rule="report-not-applied",
            text=f"Task {row['task_id']} has {row['applied']} applied reports and moved "
            f"{row['moves']} times since the first.",
            rows=[row],
        )


def _feasibility_keys(evidence: Evidence) -> frozenset[str]:
    """Whether an order can be done is asked before it has commands; a question is no effect."""
    return frozenset(
        hashlib.sha256(
            json.dumps([row["reference"], version, "feasibility", number]).encode()
        ).hexdigest()
        for row in evidence.rows(
            "SELECT o.reference, o.version, count(i.id) AS items FROM oms_order o "
            "JOIN oms_orderitem i ON i.order_id = o.id GROUP BY o.id"
        )
        for version in range(1, row["version"] + 1)  # An amendment is not asked about again.
        for number in range(4 * row["items"])
    )


def _row(execution: Execution) -> dict[str, str]:
    return {
        "target": execution.target,
        "action": execution.action,
        "key": execution.key,
        "order": execution.order,
        "executed_at": execution.executed_at,
    }
