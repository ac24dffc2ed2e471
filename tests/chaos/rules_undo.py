"""Rules about what is given up: undone once, in the reverse order, and nothing of it left over.

The target systems' own books are what counts; which effect belongs to which task, and which undo
to which effect, is told by the commands and the stored graphs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from tests.chaos.evidence import Evidence, Row, Violation

# `way` is the node as its task went about it: as planned, or by one of its fallbacks.
_COMMANDED = """
SELECT t.id AS task, t.key, t.state, t.element, t.node, t.round, t.plan_id, t.fulfillment_id,
       p.version, p.state AS plan, p.graph_id, coalesce(n.node->>'undoes', '') AS undoes,
       jsonb_typeof(CASE WHEN t.route = 0 THEN n.node->'compensation'
           ELSE n.node->'fallbacks'->(t.route - 1)->'compensation' END) = 'object' AS undoable
FROM fulfillment_task t
JOIN fulfillment_plan p ON p.id = t.plan_id
JOIN fulfillment_plangraph g ON g.id = p.graph_id
CROSS JOIN LATERAL (SELECT g.document #> ARRAY['nodes', t.node::text] AS node) n
WHERE n.node->>'kind' = 'COMMAND'
ORDER BY t.id
"""
_KEYS = (
    "SELECT target_id AS target, idempotency_key AS key, task_id AS task FROM fulfillment_command"
)
_ORDERS = """
SELECT o.fulfillment_id, o.reference, o.state, o.version, p.id AS plan_id, p.state AS plan,
       p.version AS plan_version, p.order_version
FROM oms_order o LEFT JOIN fulfillment_plan p
    ON p.fulfillment_id = o.fulfillment_id AND p.state <> 'SUPERSEDED'
ORDER BY o.id, p.id
"""
_GIVEN_UP = ("CANCELLED", "FAILED")
"""States of plans, and of orders, of which nothing may be left."""
_DECIDED = """
SELECT p.id AS plan, min(t.occurred_at) AS at FROM fulfillment_plan p
JOIN fulfillment_transition t ON t.fulfillment_id = p.fulfillment_id AND t.entity = 'plan'
 AND t.entity_id = p.id::text AND t.to_state IN ('SUPERSEDED', 'CANCELLED', 'FAILED')
GROUP BY p.id
"""
# What is in doubt is sent again under the same key, and nothing else is.
_SENT_WHILE_IT_RESTS = """
SELECT h.id AS hold, h.subject, a.id AS attempt, a.task_id, a.started_at, h.placed_at
FROM fulfillment_hold h
JOIN fulfillment_plan p ON h.subject = 'change:' || p.id
JOIN fulfillment_attempt a ON a.fulfillment_id = p.fulfillment_id AND a.purpose = 'SEND'
 AND a.started_at > h.placed_at AND a.started_at < coalesce(h.released_at, 'infinity')
WHERE h.scope = 'CHANGE' AND NOT EXISTS (
    SELECT 1 FROM fulfillment_attempt b WHERE b.command_id = a.command_id
    AND b.purpose = 'SEND' AND b.started_at < h.placed_at)
"""
_HELD_FOR_EVER = """
SELECT h.id AS hold, h.subject, h.reason, p.state FROM fulfillment_hold h
JOIN fulfillment_plan p ON h.subject = 'change:' || p.id
WHERE h.scope = 'CHANGE' AND h.released_at IS NULL
  AND p.state IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED')
"""


@dataclass
class Books:
    """Effects by what they were done for, each with its place in the target systems' ledger."""

    evidence: Evidence

    @cached_property
    def tasks(self) -> Mapping[int, Row]:
        return {row["task"]: row for row in self.evidence.rows(_COMMANDED)}

    @cached_property
    def effects(self) -> Mapping[int, Sequence[int]]:
        """Task -> positions of what was done for it."""
        commands = {(row["target"], row["key"]): row["task"] for row in self.evidence.rows(_KEYS)}
        found: dict[int, list[int]] = defaultdict(list)
        for position, execution in enumerate(self.evidence.executions):
            task = commands.get((execution.target, execution.key))
            if task is not None:
                found[task].append(position)
        return found

    @cached_property
    def undos(self) -> Mapping[tuple[int, str], Sequence[Row]]:
        """Fulfillment and key of the undo -> its tasks."""
        found: dict[tuple[int, str], list[Row]] = defaultdict(list)
        for row in self.tasks.values():
            if row["undoes"]:
                found[row["fulfillment_id"], row["key"]].append(row)
        return found

    def undo_of(self, task: Row) -> Sequence[Row]:
        """What undoes a task that its plan's successor has left behind."""
        key = f"undo.v{task['version'] + 1}/{task['key']}"
        return self.undos.get((task["fulfillment_id"], key), ())


def what_is_given_up_is_undone_once(evidence: Evidence) -> Iterator[Violation]:
    """Of each place at most one effect stands at any time, and no undo without one."""
    books = Books(evidence)
    for (fulfillment, key), moves in _by_place(books).items():
        standing = 0
        for position, step, task in sorted(moves, key=lambda move: move[0]):
            standing += step
            if standing not in (0, 1):
                what = "was done again before it was undone" if step > 0 else "was undone twice"
                yield Violation(
                    rule="undone-once",
                    text=f"{key} of fulfillment {fulfillment} {what}.",
                    rows=[task, _told(evidence, position)],
                )
                break


def _by_place(books: Books) -> Mapping[tuple[int, str], Sequence[tuple[int, int, Row]]]:
    """Place -> (position in the ledger, +1 or -1, task), of what can be undone."""
    found: dict[tuple[int, str], list[tuple[int, int, Row]]] = defaultdict(list)
    for number, positions in books.effects.items():
        task = books.tasks.get(number)
        if task is None or task["round"] or not (task["undoable"] or task["undoes"]):
            continue  # What had expired was obtained anew, and came to its end by itself.
        place = task["fulfillment_id"], task["undoes"] or task["key"]
        step = -1 if task["undoes"] else 1
        found[place] += [(position, step, task) for position in positions]
    return found


def what_depends_is_undone_before(evidence: Evidence) -> Iterator[Violation]:
    """In the reverse order: by the graph by which it was done, and the books of the targets."""
    books = Books(evidence)
    by_plan: dict[int, list[tuple[Row, int]]] = defaultdict(list)
    for task in books.tasks.values():
        done = [at for undo in books.undo_of(task) for at in books.effects.get(undo["task"], ())]
        if done and not task["undoes"]:
            by_plan[task["plan_id"]].append((task, done[0]))
    graphs: dict[int, Mapping[int, set[int]]] = {}
    for tasks in by_plan.values():
        graph_id = tasks[0][0]["graph_id"]
        if graph_id not in graphs:
            graphs[graph_id] = _behind(evidence, graph_id)
        for first, first_at in tasks:
            for later, later_at in tasks:
                if later["node"] not in graphs[graph_id][first["node"]] or later_at < first_at:
                    continue
                if first["element"] and later["element"] not in (0, first["element"]):
                    continue  # Elements of one list know nothing of each other.
                yield Violation(
                    rule="undone-too-early",
                    text=f"{first['key']} was undone before {later['key']}, which depends on it.",
                    rows=[first, later],
                )


def _behind(evidence: Evidence, graph_id: int) -> Mapping[int, set[int]]:
    """Node -> all that depend on it, however far."""
    (row,) = evidence.rows("SELECT document FROM fulfillment_plangraph WHERE id = %s", graph_id)
    found: dict[int, set[int]] = {node["index"]: set() for node in row["document"]["nodes"]}
    next_to: dict[int, list[int]] = defaultdict(list)
    for edge in row["document"]["edges"]:
        next_to[edge["source"]].append(edge["target"])
    for node in reversed(row["document"]["nodes"]):  # In topological order.
        for one in next_to[node["index"]]:
            found[node["index"]] |= {one, *found[one]}
    return found


def nothing_happens_after_it_is_given_up(evidence: Evidence) -> Iterator[Violation]:
    """No effect of a task after its plan was given up, by the clocks of both; and while what is
    under way is waited for, nothing new is sent."""
    books = Books(evidence)
    decided = {row["plan"]: row["at"] for row in evidence.rows(_DECIDED)}
    for number, positions in books.effects.items():
        task = books.tasks.get(number)
        if task is None or task["plan_id"] not in decided:
            continue
        for position in positions:
            at = datetime.fromisoformat(evidence.executions[position].executed_at)
            late = (at - decided[task["plan_id"]]).total_seconds()
            if late > evidence.hold_slack_seconds:
                yield Violation(
                    rule="effect-after-decision",
                    text=f"{task['key']} was done {late:.1f} s after its plan was given up.",
                    rows=[task, _told(evidence, position)],
                )
    for row in evidence.rows(_SENT_WHILE_IT_RESTS):
        yield Violation(
            rule="sent-under-hold",
            text=f"Task {row['task_id']} was sent while its order waited to be changed.",
            rows=[row],
        )


def nothing_is_left_over(evidence: Evidence) -> Iterator[Violation]:
    """Once everything is over: of what was given up nothing stands, of what was not all of it."""
    books = Books(evidence)
    orders = {row["fulfillment_id"]: row for row in evidence.rows(_ORDERS)}
    over = {"COMPLETED", "PARTIALLY_COMPLETED", *_GIVEN_UP}
    waived = {
        (row["fulfillment_id"], row["undoes"])
        for row in books.tasks.values()
        if row["undoes"] and row["state"] == "WAIVED_BY_AUTHORIZED_USER"
    }
    wanted = {
        (row["fulfillment_id"], row["key"])
        for row in books.tasks.values()
        if row["plan"] == "COMPLETED" and row["state"] == "SUCCEEDED" and not row["undoes"]
    }
    for place, moves in _by_place(books).items():
        order = orders[place[0]]
        if order["state"] not in over or place in waived:
            continue
        standing = sum(step for _, step, _ in moves)
        task = max(moves, key=lambda move: move[0])[2]
        if place in wanted and standing != 1:
            yield Violation(
                rule="undone-though-kept",
                text=f"{place[1]} of {order['reference']} is part of what it completed, and was "
                "undone.",
                rows=[order, task],
            )
        elif place not in wanted and standing > 0 and not _stays(books, task):
            yield Violation(
                rule="not-undone" if order["state"] in _GIVEN_UP else "left-over",
                text=f"{place[1]} of {order['reference']}, which is {order['state']}, was done and "
                "never undone.",
                rows=[order, task],
            )


def _stays(books: Books, task: Row) -> bool:
    """Of what failed, and was gone on without, the rest stays as it is: nobody has given it up."""
    return task["plan"] not in (*_GIVEN_UP, "SUPERSEDED") and not books.undo_of(task)


def orphans(violations: Sequence[Violation]) -> int:
    """Effects of orders that were given up, without their undo."""
    return sum(violation.rule == "not-undone" for violation in violations)


def orders_end_as_their_plans(evidence: Evidence) -> Iterator[Violation]:
    """One plan at a time, the newest; and an order is what its plan is."""
    orders: dict[int, list[Row]] = defaultdict(list)
    for row in evidence.rows(_ORDERS):
        orders[row["fulfillment_id"]].append(row)
    newest = {
        row["fulfillment_id"]: row["version"]
        for row in evidence.rows(
            "SELECT fulfillment_id, max(version) AS version FROM fulfillment_plan "
            "GROUP BY fulfillment_id"
        )
    }
    for fulfillment, rows in orders.items():
        row = rows[0]
        if len(rows) > 1 or row["plan_version"] != newest.get(fulfillment):
            yield Violation(
                rule="one-active-plan",
                text=f"{row['reference']} goes by {len(rows)} plans, or not by the newest.",
                rows=rows,
            )
        elif row["plan"] in _ENDS and row["state"] not in _ENDS[row["plan"]]:
            yield Violation(
                rule="order-and-plan",
                text=f"{row['reference']} is {row['state']}, and its plan is {row['plan']}.",
                rows=rows,
            )
        elif row["plan"] is not None and row["order_version"] != row["version"]:
            yield Violation(
                rule="order-and-plan",
                text=f"{row['reference']} has version {row['version']}, and its plan is for "
                f"version {row['order_version']}.",
                rows=rows,
            )


_ENDS: Mapping[str, frozenset[str]] = {
    "COMPLETED": frozenset({"COMPLETED", "PARTIALLY_COMPLETED"}),
    "CANCELLED": frozenset({"CANCELLED"}),
    # Who cancels what fails anyhow has it cancelled.
    "FAILED": frozenset({"FAILED", "CANCELLED"}),
    "COMPENSATING": frozenset({"CANCELLING", "IN_PROGRESS"}),
}


def requests_stand(evidence: Evidence) -> Iterator[Violation]:
    """What was acknowledged is there, and says of its order what is so."""
    if not evidence.has_table("oms_cancellationrequest"):
        return
    cancelled = _numbered(evidence, "oms_cancellationrequest")
    amended = _numbered(evidence, "oms_amendmentrequest")
    for entry in evidence.people:
        for kind, rows in (("cancelled", cancelled), ("amended", amended)):
            if kind in entry and (entry[kind], entry["number"]) not in rows:
                yield Violation(
                    rule="lost", text=f"The request {entry} was acknowledged and is not there."
                )
            elif kind in entry:
                row = rows[entry[kind], entry["number"]]
                if entry["state"] not in _BEFORE[row["state"]]:
                    yield Violation(
                        rule="request-turned",
                        text=f"{entry} was acknowledged, and now it is {row['state']}.",
                        rows=[row],
                    )
    for (reference, _), row in cancelled.items():
        if row["order_state"] not in _MEANS.get(row["state"], (row["order_state"],)):
            yield Violation(
                rule="request-and-order",
                text=f"{reference} is {row['order_state']}, and its cancellation {row['state']}.",
                rows=[row],
            )
    asked = {reference for (reference, _), row in cancelled.items() if row["state"] in _MEANS}
    for row in evidence.rows(
        "SELECT reference, state FROM oms_order "
        "WHERE state IN ('ASSESSING_CANCELLATION', 'CANCELLING', 'CANCELLED')"
    ):
        if row["reference"] not in asked:
            yield Violation(
                rule="request-and-order",
                text=f"{row['reference']} is {row['state']}, and nobody has asked for it.",
                rows=[row],
            )
    yield from _versions(amended)


_MEANS: Mapping[str, Sequence[str]] = {
    "ASSESSING": ("ASSESSING_CANCELLATION",),
    "UNDOING": ("CANCELLING",),
    "DONE": ("CANCELLED",),
}
_BEFORE: Mapping[str, Sequence[str]] = {
    "ASSESSING": ("ASSESSING",),
    "UNDOING": ("ASSESSING", "UNDOING"),
    "DONE": ("ASSESSING", "UNDOING", "DONE"),
    "DENIED": ("ASSESSING", "DENIED", "WAITING_FOR_COMPLETION"),
    "APPLIED": ("ASSESSING", "APPLIED"),
    "SUPERSEDED": ("ASSESSING", "WAITING_FOR_COMPLETION", "SUPERSEDED"),
    "WAITING_FOR_COMPLETION": ("ASSESSING", "WAITING_FOR_COMPLETION"),
    "CHANGE_ORDERED": ("ASSESSING", "WAITING_FOR_COMPLETION", "CHANGE_ORDERED"),
}
"""State of a request -> what its client may have been told before."""


def _versions(amended: Mapping[tuple[str, int], Row]) -> Iterator[Violation]:
    applied: dict[str, list[Row]] = defaultdict(list)
    for (reference, _), row in sorted(amended.items()):
        if row["state"] == "APPLIED":
            applied[reference].append(row)
    for reference, rows in applied.items():
        versions = [row["version"] for row in rows]
        if versions != sorted(set(versions)) or versions[-1] != rows[0]["order_version"]:
            yield Violation(
                rule="newest-wins",
                text=f"{reference} has version {rows[0]['order_version']} after the amendments "
                f"{versions}.",
                rows=rows,
            )


def _numbered(evidence: Evidence, table: str) -> Mapping[tuple[str, int], dict[str, Any]]:
    return {
        (row["reference"], row["number"]): row
        for row in evidence.rows(
            f"SELECT r.number, r.state, o.reference, o.state AS order_state, "
            f"o.version AS order_version, to_jsonb(r)->'version' AS version "
            f"FROM {table} r JOIN oms_order o ON o.id = r.order_id"
        )
    }


def every_request_is_decided(evidence: Evidence) -> Iterator[Violation]:
    """At the end nobody waits for a decision, and nothing is held back for one."""
    for kind in ("cancellation", "amendment"):
        for row in evidence.rows(
            f"SELECT o.reference, o.state AS order_state, r.number, r.state "
            f"FROM oms_{kind}request r JOIN oms_order o ON o.id = r.order_id "
            f"WHERE r.state = 'ASSESSING' AND NOT EXISTS ("
            f"SELECT 1 FROM fulfillment_falloutcase k "
            f"WHERE k.fulfillment_id = o.fulfillment_id AND k.state <> 'RESOLVED')"
        ):
            yield Violation(
                rule="undecided",
                text=f"The {kind} {row['number']} of {row['reference']} was never decided.",
                rows=[row],
            )
    for row in evidence.rows(_HELD_FOR_EVER):
        yield Violation(
            rule="held-for-ever",
            text=f"A plan is {row['state']}, and {row['subject']} is held.",
            rows=[row],
        )


def _told(evidence: Evidence, position: int) -> dict[str, str]:
    execution = evidence.executions[position]
    return {
        "target": execution.target,
        "action": execution.action,
        "key": execution.key,
        "executed_at": execution.executed_at,
    }
