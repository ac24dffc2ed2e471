"""What one outcome does to its task; the rule book behind the settlement (docs/states.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from adapters.contract import Outcome, OutcomeKind
from fulfillment.definitions.graph import Node
from fulfillment.definitions.outputs import output_faults
from fulfillment.engine.store import targets, windows
from fulfillment.engine.store.database import clean, storable
from fulfillment.engine.store.retry import backoff, may_retry
from fulfillment.engine.tasks import contradicting, timing_out, waits
from fulfillment.engine.tasks.contradicting import Overtaken
from fulfillment.engine.tasks.failing import fail_or_fall_back
from fulfillment.engine.tasks.reconciling import (
    code_of,
    describe,
    lose_track,
    lost_track_before,
    never_happened,
    to_a_person,
    unanswered,
)
from fulfillment.engine.tasks.stopped import Stopped
from fulfillment.engine.timing import clocks
from fulfillment.engine.timing.clocks import TIME_IS_UP
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Purpose, Task
from fulfillment.states import TASK_TERMINAL, Cause, TaskState

NOT_SENT = Outcome(
    kind=OutcomeKind.FAILED,
    code="not_sent",
    message="The lease was about to end before the call began; nothing was sent.",
    retryable=True,
)
NOT_ASKED = replace(NOT_SENT, kind=OutcomeKind.UNKNOWN, code="not_asked", retryable=False)
LEASE_LOST = Outcome(
    kind=OutcomeKind.UNKNOWN,
    code="lease_lost",
    message="The worker that made the call went away before it told the outcome.",
)
"""Told by identity: no code that a target sends can pass for one of ours."""

_IN_DOUBT = frozenset({TaskState.DISPATCHED, TaskState.ACCEPTED, TaskState.OUTCOME_UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One outcome, and the task that it belongs to."""

    task_id: int
    plan_id: int
    fulfillment_id: int
    node: int
    element: int = 0
    outcome: Outcome
    attempt_id: int | None = None
    """None for what came from outside rather than from a call of ours."""
    attempt_number: int | None = None
    purpose: Purpose = Purpose.SEND
    command_id: int | None = None
    """None where it is about no command: a wait, or a report that is overdue."""
    overtaken: Overtaken | None = None
    """That command, when another has taken its place; the settlement finds out."""


def not_begun(purpose: Purpose) -> Outcome:
    """Of a call that was claimed and not made. Of a question nothing follows from that."""
    return NOT_SENT if purpose is Purpose.SEND else NOT_ASKED


def settle_task(unit: Unit, *, task: Task, node: Node, result: Result) -> None:
    """Move the task as far as this outcome allows; the caller has locked and read everything."""
    outcome = result.outcome
    if result.overtaken is not None:
        # A refusal was known before; an ACCEPTED may be the answer to the call of a report that
        # was quicker. Should it come to anything, that is reported.
        if outcome.kind is OutcomeKind.SUCCEEDED:
            contradicting.done_after_all(
                unit, task=task, node=node, command=result.overtaken, outcome=outcome
            )
        return
    if node.wait is not None:
        _end_wait(unit, task, node, outcome)
        return
    if outcome is TIME_IS_UP:
        timing_out.ring(unit, task=task, node=node)
        return
    if outcome is not NOT_SENT:
        clocks.was_sent(unit, task=task)
    if task.state in TASK_TERMINAL:
        contradicting.compare_with_what_is_settled(unit, task=task, node=node, outcome=outcome)
        return
    if task.state == TaskState.PENDING and outcome.kind is not OutcomeKind.SUCCEEDED:
        return  # Sent back, it begins anew in any case.
    lost_before = task.lost_leases
    if outcome is LEASE_LOST:
        task.lost_leases += 1
    elif result.attempt_id is not None and result.purpose is Purpose.SEND:
        task.lost_leases = 0
    if task.lost_leases != lost_before:
        unit.touched_tasks.add(task.id)  # Also when nothing else follows from it.
    if result.attempt_number not in (None, task.attempts) and not outcome.is_definitive:
        return  # A newer attempt owns the task: only a definitive outcome overrules it.
    if result.purpose is Purpose.QUERY:
        if task.state != TaskState.OUTCOME_UNKNOWN and not outcome.is_definitive:
            return  # Settled while we asked; a vague answer adds nothing.
        if outcome.kind is OutcomeKind.NOT_FOUND:
            if timing_out.gives_up(unit, task=task, node=node):
                timing_out.give_up(unit, task=task, node=node, last=outcome)
            else:
                never_happened(unit, task, node)
            return
        if outcome is LEASE_LOST and _costs_too_many_workers(task):
            _quarantine(unit, task, node, outcome)
            return
        if outcome.kind is OutcomeKind.UNKNOWN:
            unanswered(unit, task, node, outcome)
            return
    match outcome.kind:
        case OutcomeKind.SUCCEEDED:
            _succeed(unit, task, node, outcome)
        case OutcomeKind.ACCEPTED:
            _accept(unit, task, node, outcome)
        case OutcomeKind.REJECTED:
            fail_or_fall_back(unit, task, node, outcome, "the target system refused it")
        case OutcomeKind.FAILED:
            if result.attempt_number is not None:
                asked = result.purpose is Purpose.QUERY
                _had_no_effect(unit, task, node, outcome, asked=asked)
            elif task.state != TaskState.DISPATCHED:
                # A report does not say which send it speaks of; the last may have its effect.
                # While that one is on the wire, its own answer will tell.
                lose_track(unit, task, node, outcome)
        case OutcomeKind.UNKNOWN | OutcomeKind.NOT_FOUND:
            if outcome is LEASE_LOST and _costs_too_many_workers(task):
                _quarantine(unit, task, node, outcome)
            else:
                lose_track(unit, task, node, outcome)


def _end_wait(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    if outcome is TIME_IS_UP:
        if task.state == TaskState.ACCEPTED and task.not_before <= unit.now:
            waits.fall_due(unit, task=task, node=node)
    elif outcome.kind is OutcomeKind.REJECTED:
        if task.state == TaskState.ACCEPTED:
            waits.will_not_come(unit, task=task, node=node, reason=outcome.message)
    elif task.state in (TaskState.ACCEPTED, TaskState.AWAITING_MANUAL):
        waits.report(unit, task=task, node=node, payload=dict(outcome.outputs))


def _succeed(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    outputs = {name: outcome.outputs[name] for name in node.outputs if name in outcome.outputs}
    faults = output_faults(declared=node.outputs, returned=outputs)
    task.reference = clean(outcome.reference, 200) or task.reference
    if faults or not storable(outputs):
        task.blocked_reason = (
            f"{node.target} confirmed {node.action}, but what it returned can't be used: "
            + (" ".join(fault.message for fault in faults) or "It holds text that is not valid.")
            + " Find the values in the target system and enter them."
        )
        unit.change_task(
            task,
            Task.await_manual,
            cause="confirmed with outputs that don't fit",
            why=Stopped.OUTPUTS,
        )
        open_for_task(
            unit,
            task=task,
            node=node,
            category=CaseCategory.DATA,
            reason_code="outputs_unusable",
            explanation=task.blocked_reason,
        )
        return
    task.outputs = outputs
    task.blocked_reason = ""
    task.unanswered_queries = 0
    unit.change_task(task, Task.succeed, cause="the target system confirmed it")


def _accept(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    task.reference = clean(outcome.reference, 200) or task.reference
    task.unanswered_queries = 0
    if task.state in (TaskState.DISPATCHED, TaskState.OUTCOME_UNKNOWN):
        clocks.accepted(unit, task=task, node=node)
        unit.change_task(task, Task.accept, cause="the target system will report")
    if outcome.progress is not None:
        clocks.heard(
            unit, task=task, node=node, progress=outcome.progress, occurred_at=outcome.occurred_at
        )


def _had_no_effect(
    unit: Unit, task: Task, node: Node, outcome: Outcome, *, asked: bool = False
) -> None:
    if task.state == TaskState.AWAITING_MANUAL:
        news = f"Since then {task.target_id} has reported: {describe(outcome)}."
        contradicting.tell(unit, task=task, news=news)
    if task.state not in _IN_DOUBT:
        return
    policy = targets.retry_policy(node)
    if outcome is NOT_SENT:
        task.sends -= 1
    over = timing_out.gives_up(unit, task=task, node=node)
    again = not over and may_retry(
        policy=policy, sends=task.sends, code=outcome.code, retryable=outcome.retryable
    )
    if again and policy.reconcile_first and not asked and _can_be_asked(task):
        # This target's word alone is not enough: it is asked before anything is sent again.
        lose_track(unit, task, node, outcome)
    elif again:
        delay = backoff(
            policy=policy,
            sends=max(1, task.sends),
            key=f"{task.id}",
            retry_after=outcome.retry_after,
        )
        task.not_before = windows.opening(node=node, at=unit.now + delay)
        task.blocked_reason = describe(outcome)
        is_shut = task.not_before > unit.now + delay
        if is_shut:
            opens = f"{task.not_before:%Y-%m-%d %H:%M:%S} UTC"
            task.blocked_reason += f" Its window is shut then, and opens at {opens}."
        unit.change_task(
            task,
            Task.retry_later,
            cause="no effect; another attempt follows",
            code=code_of(outcome),
        )
        if is_shut:
            task.waits_for = Cause.WINDOW
        unit.wake_up(target=task.target_id, at=task.not_before)
        if policy.escalate_after is not None and task.sends >= policy.escalate_after:
            _escalate(unit, task, node, outcome)
    elif lost_track_before(unit, task, node):
        # That this send had no effect says nothing about the one whose answer was lost.
        to_a_person(unit, task, node, "because an earlier answer was lost", outcome)
    elif over:
        timing_out.give_up(unit, task=task, node=node, last=outcome)
    else:
        cause = "attempts are used up" if outcome.retryable else "another attempt makes no sense"
        fail_or_fall_back(unit, task, node, outcome, cause)


def _can_be_asked(task: Task) -> bool:
    return targets.get(task.target_id).status_query


def _escalate(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    """It goes on being tried; a person may know why it fails."""
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.RETRYING,
        reason_code=code_of(outcome) or str(outcome.kind),
        explanation=f"It has been sent {task.sends} times without effect and goes on being tried, "
        f"next at {task.not_before:%Y-%m-%d %H:%M:%S} UTC: {describe(outcome)}",
    )


def _costs_too_many_workers(task: Task) -> bool:
    return task.lost_leases >= targets.get(task.target_id).lost_leases_limit


def _quarantine(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    task.blocked_reason = (
        f"{task.lost_leases} workers in a row have gone away while they had it in hand, so it is "
        f"kept from the next one. Whether {task.target_id} did it is not known. Look into the "
        "workers' logs, and look it up in the target system before anything is sent again."
    )
    unit.change_task(
        task,
        Task.await_manual,
        cause="it has cost too many workers",
        code=code_of(outcome),
        why=Stopped.QUARANTINED,
    )
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.POISON,
        reason_code="quarantined",
        explanation=task.blocked_reason,
    )
