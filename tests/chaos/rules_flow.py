"""Rules about the language: decisions, lists, people, and what is reported."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.chaos.evidence import Evidence, Row, Violation
from tests.chaos.graphs import SUCCESSFUL, Plan, choice, plans

_SPREAD = "SELECT * FROM fulfillment_fanout"
# What an amendment has done again is looked at by rules_undo.
_DONE_AT = """
SELECT c.target_id AS target, c.idempotency_key AS key, t.fulfillment_id, t.key AS name,
       t.element, t.id AS task
FROM fulfillment_command c JOIN fulfillment_task t ON t.id = c.task_id
JOIN fulfillment_plan p ON p.id = t.plan_id
WHERE t.round = 0 AND NOT EXISTS (
    SELECT 1 FROM fulfillment_plan n
    WHERE n.fulfillment_id = p.fulfillment_id AND n.order_version > p.order_version)
-- By hand it may be undone and done again; that each is done once, another rule says.
AND NOT (p.state = 'SUPERSEDED' AND EXISTS (
    SELECT 1 FROM fulfillment_task u
    WHERE u.fulfillment_id = t.fulfillment_id
      AND u.key = 'undo.v' || (p.version + 1) || '/' || t.key))
"""
_SENT_THOUGH_SKIPPED = """
SELECT t.id, t.key, t.state, a.started_at FROM fulfillment_task t
JOIN fulfillment_attempt a ON a.task_id = t.id AND a.purpose = 'SEND'
WHERE t.state = 'SKIPPED_BY_POLICY'
"""
# A task that is tried again by hand may fail twice; nothing succeeds twice.
_ENDED_TWICE = """
SELECT entity_id AS task, count(*) AS times FROM fulfillment_transition
WHERE entity = 'task' AND from_state <> to_state
  AND to_state IN ('SUCCEEDED', 'SKIPPED_BY_POLICY', 'WAIVED_BY_AUTHORIZED_USER')
GROUP BY fulfillment_id, entity_id HAVING count(*) > 1
"""
_DECISIONS = """
SELECT m.id, m.state, m.outcome, m.outcomes, m.decided_by, t.id AS task, t.key,
       t.state AS task_state, t.outputs->>'outcome' AS told, f.order_reference AS "order",
       (SELECT count(*) FROM fulfillment_operation o
        WHERE o.kind = 'decide' AND o.subject = 'manual:' || m.id) AS operations,
       (SELECT count(*) FROM fulfillment_transition n
        WHERE n.fulfillment_id = m.fulfillment_id AND n.entity = 'task'
          AND n.entity_id = t.id::text AND n.cause = m.decided_by || ' decided: ' || m.outcome
       ) AS transitions
FROM fulfillment_manualtask m JOIN fulfillment_task t ON t.id = m.task_id
JOIN fulfillment_fulfillment f ON f.id = m.fulfillment_id
"""
_SIGNALS = "SELECT id, source, event_id, name, subject, payload, applied FROM fulfillment_signal"
_TOLD = """
SELECT DISTINCT entity_id::bigint AS task FROM fulfillment_transition
WHERE entity = 'task' AND to_state = 'SUCCEEDED' AND cause = 'it has been reported'
"""


def decisions_create_their_branches(evidence: Evidence) -> Iterator[Violation]:
    """What exists is what was decided, exactly; and what is mandatory is counted that way."""
    for plan in plans(evidence):
        at_first = plan.graph.existence(element=0, tasks=plan.tasks)
        yield from _misplaced(plan, 0, at_first)
        for row in evidence.rows(f"{_SPREAD} WHERE plan_id = %s", plan.row["id"]):
            for element in range(1, row["started"] + 1):
                within = plan.graph.existence(element=element, tasks=plan.tasks)
                yield from _misplaced(plan, element, within, group=row["node"])
        yield from _unlawful_choices(plan)
        yield from _miscounted(plan, at_first)
    for row in evidence.rows(_SENT_THOUGH_SKIPPED):
        yield Violation(
            rule="skipped-sent", text=f"{row['key']} was left out and sent.", rows=[row]
        )
    for row in evidence.rows(_ENDED_TWICE):
        yield Violation(
            rule="ended-twice",
            text=f"Task {row['task']} succeeded {row['times']} times.",
            rows=[row],
        )


def _misplaced(
    plan: Plan, element: int, existence: Sequence[bool | None], *, group: int | None = None
) -> Iterator[Violation]:
    for node, exists in zip(plan.graph.nodes, existence, strict=True):
        task = plan.tasks.get((node["index"], element))
        if node.get("group") != group or (task is not None) == (exists is True):
            continue
        place = f"{node['key']} (element {element}) of {plan.row['order']}"
        if task is None:
            yield Violation(
                rule="branch-missing",
                text=f"{place} was chosen, and is not there.",
                rows=[plan.row],
            )
        else:
            text = f"{place} is there, and was not chosen."
            yield Violation(rule="branch-unchosen", text=text, rows=[task])


def _unlawful_choices(plan: Plan) -> Iterator[Violation]:
    for (index, _), task in plan.tasks.items():
        decision = plan.graph.nodes[index].get("decision")
        if decision is None or task["state"] != "SUCCEEDED":
            continue
        chosen = choice(plan.graph.nodes[index], task)
        rules = [set(rule["create"]) for rule in decision["rules"]]
        lawful = set(chosen) in rules if rules else set(chosen) <= set(decision["among"])
        if not lawful:
            yield Violation(
                rule="decision",
                text=f"{task['key']} of {plan.row['order']} has chosen {chosen}, which none of "
                "its rules does.",
                rows=[task],
            )


def _miscounted(plan: Plan, existence: Sequence[bool | None]) -> Iterator[Violation]:
    wanted = sum(
        node["required"]
        and exists is not False
        and plan.tasks.get((node["index"], 0), {}).get("state") not in SUCCESSFUL
        for node, exists in zip(plan.graph.nodes, existence, strict=True)
    )
    if wanted != plan.row["mandatory_open"]:
        yield Violation(
            rule="counters",
            text=f"Plan {plan.row['id']} has {wanted} mandatory tasks open and counts "
            f"{plan.row['mandatory_open']}.",
            rows=[plan.row],
        )


def lists_are_worked_through_once(evidence: Evidence) -> Iterator[Violation]:
    """One effect per element and task; as many at once, and as many failures, as declared."""
    by_plan = {plan.row["id"]: plan for plan in plans(evidence)}
    for row in evidence.rows(_SPREAD):
        plan = by_plan.get(row["plan_id"])
        if plan is None:
            continue  # The engine moves it over with its plan.
        for fault in _faults(plan, row):
            yield Violation(
                rule="fan-out",
                text=f"{plan.graph.nodes[row['node']]['key']} of {plan.row['order']} {fault}",
                rows=[{name: row[name] for name in row if name != "elements"}],
            )
    commands = {(row["target"], row["key"]): row for row in evidence.rows(_DONE_AT)}
    done: dict[tuple[int, str, int], list[Row]] = defaultdict(list)
    for execution in evidence.executions:
        command = commands.get((execution.target, execution.key))
        if command is not None:
            place = command["fulfillment_id"], command["name"], command["element"]
            done[place].append({**command, "executed_at": execution.executed_at})
    for (_, name, _), rows in done.items():
        if len(rows) > 1:
            yield Violation(
                rule="one-effect-per-place", text=f"{name} was done {len(rows)} times.", rows=rows
            )


def _faults(plan: Plan, row: Row) -> Iterator[str]:
    declared = plan.graph.nodes[row["node"]]["fan_out"]
    states: dict[int, dict[int, str]] = defaultdict(dict)
    for (index, element), task in plan.tasks.items():
        if plan.graph.group(index) == row["node"]:
            states[element][index] = task["state"]
    failed = {
        element
        for element, tasks in states.items()
        if any(
            state == "FAILED_FINAL" and plan.graph.nodes[index]["needed"]
            for index, state in tasks.items()
        )
    }
    ended = {e for e, tasks in states.items() if tasks.get(declared["last"]) in SUCCESSFUL}
    if set(states) != set(range(1, row["started"] + 1)) or row["started"] > row["total"]:
        yield f"has tasks for {len(states)} elements; {row['started']} were started."
    if len(ended) != row["done"] or failed != set(row["failed"]):
        yield f"counts {row['done']} done and {len(row['failed'])} failed; they are {len(ended)} "
        f"and {len(failed)}."
    if row["started"] - row["done"] - len(row["failed"]) > declared["at_once"]:
        yield f"has more than {declared['at_once']} elements under way."
    gather = plan.tasks.get((declared["gather"], 0))
    if gather is None or gather["state"] not in ("SUCCEEDED", "FAILED_FINAL"):
        return
    tolerable = len(failed) <= row["tolerated"]
    if gather["state"] == "FAILED_FINAL":
        if tolerable:
            yield f"has failed with {len(failed)} elements; {row['tolerated']} may fail."
        return
    if not tolerable or len(ended) + len(failed) != row["total"]:
        yield f"has succeeded with {len(ended)} of {row['total']} elements."
    outputs = [plan.tasks[declared["last"], element]["outputs"] or {} for element in sorted(ended)]
    names = plan.graph.nodes[declared["last"]]["outputs"]
    gathered = {name: [one.get(name) for one in outputs] for name in names}
    if {name: (gather["outputs"] or {}).get(name) for name in names} != gathered:
        yield "has gathered other values than its elements returned."


def people_decide_once(evidence: Evidence) -> Iterator[Violation]:
    """A decision stands as it was acknowledged, and ends its task that way, once."""
    rows = {row["id"]: row for row in evidence.rows(_DECISIONS)}
    for row in rows.values():
        proceeds = row["outcomes"].get(row["outcome"]) == "proceed"
        wanted = "SUCCEEDED" if proceeds else "FAILED_FINAL"
        by_hand = int(row["decided_by"] != "deadline")
        if row["state"] == "DECIDED" and (
            (row["task_state"], row["told"]) != (wanted, row["outcome"])
            or (row["transitions"], row["operations"]) != (1, by_hand)
        ):
            yield Violation(
                rule="decided-once",
                text=f"{row['key']} of {row['order']} was decided with {row['outcome']}; it is "
                f"{row['task_state']}, by {row['transitions']} transitions.",
                rows=[row],
            )
        if row["state"] == "OPEN" and row["task_state"] != "AWAITING_MANUAL":
            yield Violation(
                rule="decided-once",
                text=f"{row['key']} of {row['order']} is {row['task_state']}, and a person is "
                "still asked.",
                rows=[row],
            )
    told = [entry for entry in evidence.people if "decided" in entry]
    for number, times in Counter(entry["decided"] for entry in told).items():
        if times > 1:
            yield Violation(rule="decided-once", text=f"{number} was decided {times} times.")
    for entry in told:
        found = rows.get(entry["decided"])
        if found is None or (found["state"], found["outcome"]) != ("DECIDED", entry["outcome"]):
            yield Violation(
                rule="lost",
                text=f"The decision {entry} was acknowledged and does not stand.",
                rows=[] if found is None else [found],
            )


def reports_are_kept_and_told_once(evidence: Evidence) -> Iterator[Violation]:
    """What was acknowledged is there; who was told of a report has the values of one."""
    signals = evidence.rows(_SIGNALS)
    kept = Counter((row["event_id"], row["name"]) for row in signals)
    for entry in evidence.people:
        if "event_id" in entry and kept[entry["event_id"], entry["name"]] != 1:
            yield Violation(rule="lost", text=f"The report {entry} was acknowledged and is gone.")
    by_subject = _by_subject(signals)
    told = {row["task"] for row in evidence.rows(_TOLD)}
    for plan in plans(evidence):
        for (index, _), task in plan.tasks.items():
            if task["id"] in told and task["outputs"] not in [
                _returned(plan.graph.nodes[index], row) for row in by_subject[task["awaits"]]
            ]:
                yield Violation(
                    rule="report-invented",
                    text=f"{task['key']} of {plan.row['order']} was told what nobody reported.",
                    rows=[task, *by_subject[task["awaits"]]],
                )


def no_report_is_left_untold(evidence: Evidence) -> Iterator[Violation]:
    """At the end everybody who waits has been told of everything that there is."""
    signals = evidence.rows(_SIGNALS)
    for row in signals:
        if not row["applied"]:
            yield Violation(rule="report-not-applied", text="A report was never told.", rows=[row])
    by_subject = _by_subject(signals)
    for plan in plans(evidence):
        for (index, _), task in plan.tasks.items():
            node = plan.graph.nodes[index]
            if task["awaits"] and task["state"] in ("ACCEPTED", "AWAITING_MANUAL"):
                fitting = [
                    row
                    for row in by_subject[task["awaits"]]
                    if all(value is not None for value in _returned(node, row).values())
                ]
                if fitting:
                    yield Violation(
                        rule="report-not-applied",
                        text=f"{task['key']} of {plan.row['order']} waits for what was reported.",
                        rows=[task, *fitting],
                    )


def _by_subject(signals: list[dict[str, Any]]) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in signals:
        found[f"{row['name']} {row['subject']}"].append(row)
    return found


def _returned(node: Mapping[str, Any], signal: Row) -> dict[str, Any]:
    """What a report means to a task: the outputs that it declares."""
    return {name: signal["payload"].get(name) for name in node["outputs"]}
