"""When nobody knows whether it happened: ask, send the same key again, or hand it to a person.

What a target system can do about an unknown outcome decides (docs/states.md has the table).
"""

from __future__ import annotations

from datetime import datetime

from adapters.contract import Outcome
from fulfillment.definitions.clocks import WhenSent
from fulfillment.definitions.graph import Node
from fulfillment.engine.store import targets, windows
from fulfillment.engine.store.database import clean
from fulfillment.engine.store.retry import backoff, query_delay
from fulfillment.engine.tasks.stopped import Stopped
from fulfillment.engine.timing import clocks
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Task
from fulfillment.states import TaskState

NEVER_ARRIVED_LIMIT = 10
"""Attempts and queries per allowed attempt before a command that never arrives is given up."""
_LOST_TRACK = """
SELECT max(occurred_at), (SELECT max(created_at) FROM fulfillment_command WHERE task_id = %s)
FROM fulfillment_transition
WHERE fulfillment_id = %s AND entity = 'task' AND entity_id = %s AND name = 'lose_track'
"""
_CALLS = """
SELECT count(*) FROM fulfillment_attempt WHERE command_id = (
    SELECT id FROM fulfillment_command WHERE task_id = %s ORDER BY revision DESC LIMIT 1)
"""


def lost_track_before(unit: Unit, task: Task, node: Node) -> bool:
    """Whether a send's outcome is still unknown; a target that was asked has told it.

    Of the commands before its newest one all is known, or there would be no newer one.
    """
    unasked = clocks.of(task=task, node=node).when_sent is WhenSent.RETRY
    if not unasked and targets.get(task.target_id).status_query:
        return False
    lost_at, asked_at = _lost_track(unit, task)
    return lost_at is not None and asked_at is not None and lost_at >= asked_at


def has_lost_track(unit: Unit, task: Task) -> bool:
    """Whether a send of it may still arrive: asking tells what is so far, not what is to come."""
    return _lost_track(unit, task)[0] is not None


def _lost_track(unit: Unit, task: Task) -> tuple[datetime | None, datetime | None]:
    """When the outcome of a send was last lost, and when the newest command was written."""
    values = [task.id, task.fulfillment_id, str(task.id)]
    unit.raw.execute(_LOST_TRACK, values, prepare=True)
    row = unit.raw.fetchone()
    assert row is not None
    return row[0], row[1]


def lose_track(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    """A send whose outcome nobody knows: what follows is up to what its target can do."""
    if task.state not in (TaskState.DISPATCHED, TaskState.ACCEPTED):
        return
    target = targets.get(task.target_id)
    task.blocked_reason = describe(outcome)
    task.unanswered_queries = 0
    unit.change_task(
        task, Task.lose_track, cause="whether it happened is not known", code=code_of(outcome)
    )
    when_sent = clocks.of(task=task, node=node).when_sent
    if not clocks.is_timeout(outcome):
        when_sent = WhenSent.RESOLVE
    may_send = target.idempotent and task.sends < targets.retry_policy(node).maximum_attempts
    if when_sent is WhenSent.ESCALATE:
        to_a_person(unit, task, node, "because its time was up", outcome)
    elif when_sent is WhenSent.RETRY and may_send:
        _send_again(unit, task, node, "its time was up, and the target deduplicates by key")
    elif target.status_query:
        task.not_before = unit.now + target.reconcile_after
        unit.wake_up(target=target.pk, at=task.not_before)
    elif may_send:
        _send_again(unit, task, node, "the target deduplicates by key and has no status query")
    elif target.idempotent:
        to_a_person(unit, task, node, "and every attempt is used up", outcome)
    else:
        to_a_person(unit, task, node, "and it can neither deduplicate nor be asked", outcome)


def never_happened(unit: Unit, task: Task, node: Node) -> None:
    """The target, asked, has never seen the key: it may be sent again."""
    # A send that never arrived says nothing about the target's willingness, so it does not
    # count towards the policy's attempts; it must not go on for ever either.
    task.sends -= 1
    calls = _calls(unit, task)
    if calls < NEVER_ARRIVED_LIMIT * targets.retry_policy(node).maximum_attempts:
        _send_again(unit, task, node, "the target system has never seen the key")
    else:
        task.blocked_reason = (
            f"{task.target_id} says after {calls} attempts and queries that it has never "
            "seen the command. Check the way to the target system, then run the task again."
        )
        unit.change_task(task, Task.fail, cause="never arrived; attempts are used up")
        if task.required:
            open_for_task(
                unit,
                task=task,
                node=node,
                category=CaseCategory.REFUSED,
                reason_code="never_arrived",
                explanation=task.blocked_reason,
            )


def _calls(unit: Unit, task: Task) -> int:
    """Sends and queries of its newest command."""
    unit.raw.execute(_CALLS, [task.id], prepare=True)
    row = unit.raw.fetchone()
    return int(row[0]) if row else 0


def _send_again(unit: Unit, task: Task, node: Node, cause: str) -> None:
    delay = backoff(policy=targets.retry_policy(node), sends=max(1, task.sends), key=f"{task.id}")
    task.not_before = windows.opening(node=node, at=unit.now + delay)
    task.unanswered_queries = 0
    unit.change_task(task, Task.send_again, cause=cause)
    unit.wake_up(target=task.target_id, at=task.not_before)


def unanswered(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    """The target, asked, gave no answer: it is asked again later, but not for ever."""
    target = targets.get(task.target_id)
    task.unanswered_queries += 1
    if not target.status_query or task.unanswered_queries >= target.maximum_queries:
        to_a_person(
            unit, task, node, f"after {task.unanswered_queries} unanswered queries", outcome
        )
        return
    task.not_before = unit.now + query_delay(
        reconcile_after=target.reconcile_after, unanswered=task.unanswered_queries
    )
    unit.touched_tasks.add(task.id)
    unit.wake_up(target=target.pk, at=task.not_before)


def to_a_person(unit: Unit, task: Task, node: Node, why: str, outcome: Outcome) -> None:
    """Nobody but a person can find out; `why` completes "it is not known"."""
    task.blocked_reason = (
        f"Whether {task.target_id} did it is not known, {why} ({describe(outcome)}). Look it up "
        "in the target system before anything is sent again."
    )
    unit.change_task(
        task,
        Task.await_manual,
        cause="only a person can tell",
        code=code_of(outcome),
        why=Stopped.UNKNOWN,
    )
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.UNCERTAIN,
        reason_code=code_of(outcome) or "outcome_unknown",
        explanation=task.blocked_reason,
    )


def describe(outcome: Outcome) -> str:
    """One line for the operator: the code, then the sentence."""
    return clean(": ".join(part for part in (outcome.code, outcome.message) if part), 500)


def code_of(outcome: Outcome) -> str:
    """The outcome's code as it may stand in the audit trail."""
    return clean(outcome.code, 100)
