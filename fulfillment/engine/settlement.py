"""Settlement: what an outcome does to its task, and what that makes runnable."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from adapters.contract import Outcome, OutcomeKind
from fulfillment.definitions.graph import Graph, Node
from fulfillment.definitions.outputs import output_faults
from fulfillment.engine import failpoints, graphs
from fulfillment.engine.completion import reach_milestones, update_plan
from fulfillment.engine.database import clean
from fulfillment.engine.halving import in_halves
from fulfillment.engine.reconciling import (
    code_of,
    describe,
    lose_track,
    lost_track_before,
    never_happened,
    to_a_person,
    unanswered,
)
from fulfillment.engine.retry import backoff, may_retry
from fulfillment.engine.rows import plans_by_id, tasks_by_node
from fulfillment.engine.selection import select_or_defer
from fulfillment.engine.unit import Unit, run_unit
from fulfillment.models import Attempt, Purpose, Task
from fulfillment.states import (
    PLAN_SELECTABLE,
    PLAN_TERMINAL,
    TASK_SUCCESSFUL,
    TASK_TERMINAL,
    TaskState,
)

logger = logging.getLogger(__name__)

NOT_SENT = Outcome(
    kind=OutcomeKind.FAILED,
    code="not_sent",
    message="The lease was about to end before the call began; nothing was sent.",
    retryable=True,
)
NOT_ASKED = replace(NOT_SENT, kind=OutcomeKind.UNKNOWN, code="not_asked", retryable=False)
"""Told by identity: no code that a target sends can pass for one of ours."""

_IN_DOUBT = frozenset({TaskState.DISPATCHED, TaskState.ACCEPTED, TaskState.OUTCOME_UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One outcome, and the task that it belongs to."""

    task_id: int
    plan_id: int
    fulfillment_id: int
    node: int
    outcome: Outcome
    attempt_id: int | None = None
    """None for what came from outside rather than from a call of ours."""
    attempt_number: int | None = None
    purpose: Purpose = Purpose.SEND


Filter = Callable[[Unit, Sequence[Result]], Sequence[Result]]


def settle(
    *,
    results: Sequence[Result],
    actor: str,
    drained: str = "",
    still_true: Filter = lambda _, results: results,
) -> None:
    """Settle a batch in one unit.

    A batch that fails is halved until the culprit stands alone; the culprit's lease runs out,
    so its outcome is reconciled later, and its neighbours are settled now. `still_true` leaves
    out, under the locks, what has changed since the results were concluded.
    """
    failures: list[Exception] = []

    def settle_together(batch: Sequence[Result]) -> list[None]:
        run_unit(
            lambda unit: apply(unit, still_true(unit, batch)),
            fulfillment_ids=(result.fulfillment_id for result in batch),
            actor=actor,
            drained=drained,
        )
        return []

    in_halves(results, work=settle_together, culprit=lambda _, error: failures.append(error))
    if failures:
        raise failures[0]


def apply(unit: Unit, results: Sequence[Result]) -> None:
    """Apply outcomes to their tasks, select what became runnable, update the plans."""
    unit.adopt_plans(plans_by_id(unit.raw, {result.plan_id for result in results}))
    wanted: set[tuple[int, int]] = set()
    for result in results:
        graph = _graph(unit, result.plan_id)
        wanted.add((result.plan_id, result.node))
        if result.outcome.kind is OutcomeKind.SUCCEEDED:
            for successor in graph.successors[result.node]:
                wanted.add((result.plan_id, successor))
                wanted.update((result.plan_id, p) for p in graph.predecessors[successor])
            if graph.nodes[result.node].milestones:
                carriers = graphs.milestone_carriers(unit.plans[result.plan_id].graph_id)
                for milestone in graph.nodes[result.node].milestones:
                    wanted.update((result.plan_id, n) for n in carriers[milestone.name])
    tasks = tasks_by_node(unit.raw, wanted)
    unit.adopt_tasks(tasks)
    by_plan: dict[int, dict[int, Task]] = {}
    for task in tasks:
        by_plan.setdefault(task.plan_id, {})[task.node] = task

    succeeded: dict[int, set[int]] = {}
    for result in results:
        task = unit.tasks[result.task_id]
        before = task.state
        _finish_attempt(unit, result)
        _settle_one(unit, task, _graph(unit, task.plan_id).nodes[task.node], result)
        if task.state in TASK_SUCCESSFUL and before not in TASK_SUCCESSFUL:
            succeeded.setdefault(task.plan_id, set()).add(task.node)
            reach_milestones(
                unit,
                plan=unit.plans[task.plan_id],
                node=task.node,
                tasks=by_plan[task.plan_id],
            )
    failpoints.reach("settlement.before_successors")
    for plan_id, nodes in succeeded.items():
        if unit.plans[plan_id].state not in PLAN_SELECTABLE:
            continue  # superseded-silent: what it has on the wire is settled, nothing follows
        graph = _graph(unit, plan_id)
        select_or_defer(
            unit,
            plan=unit.plans[plan_id],
            candidates={successor for node in nodes for successor in graph.successors[node]},
            tasks=by_plan[plan_id],
            cause="everything it depends on is there",
        )
    for plan_id in by_plan:
        update_plan(unit, plan=unit.plans[plan_id])
    failpoints.reach("settlement.inside")


def _graph(unit: Unit, plan_id: int) -> Graph:
    return graphs.by_id(unit.plans[plan_id].graph_id)


def _finish_attempt(unit: Unit, result: Result) -> None:
    if result.attempt_id is not None:
        unit.finished_attempts.append(
            Attempt(
                id=result.attempt_id,
                finished_at=unit.now,
                outcome=result.outcome.kind,
                code=code_of(result.outcome),
                message=clean(result.outcome.message, 2000),
            )
        )


def _settle_one(unit: Unit, task: Task, node: Node, result: Result) -> None:
    outcome = result.outcome
    if task.state in TASK_TERMINAL or task.state == TaskState.PENDING:
        _compare_with_what_is_settled(unit, task, outcome)
        return
    if result.attempt_number not in (None, task.attempts) and not outcome.is_definitive:
        return  # A newer attempt owns the task: only a definitive outcome overrules it.
    if result.purpose is Purpose.QUERY:
        if task.state != TaskState.OUTCOME_UNKNOWN and not outcome.is_definitive:
            return  # Settled while we asked; a vague answer adds nothing.
        if outcome.kind is OutcomeKind.NOT_FOUND:
            never_happened(unit, task, node)
            return
        if outcome.kind is OutcomeKind.UNKNOWN:
            unanswered(unit, task, outcome)
            return
    match outcome.kind:
        case OutcomeKind.SUCCEEDED:
            _succeed(unit, task, node, outcome)
        case OutcomeKind.ACCEPTED:
            _accept(unit, task, node, outcome)
        case OutcomeKind.REJECTED:
            _fail(unit, task, outcome, "the target system refused it")
        case OutcomeKind.FAILED:
            if result.attempt_number is not None or task.sends <= 1:
                _had_no_effect(unit, task, node, outcome)
            elif task.state != TaskState.DISPATCHED:
                # A report does not say which send it speaks of; the last may have its effect.
                # While that one is on the wire, its own answer will tell.
                lose_track(unit, task, node, outcome)
        case OutcomeKind.UNKNOWN | OutcomeKind.NOT_FOUND:
            lose_track(unit, task, node, outcome)


def _succeed(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    outputs = {name: outcome.outputs[name] for name in node.outputs if name in outcome.outputs}
    faults = output_faults(declared=node.outputs, returned=outputs)
    task.reference = clean(outcome.reference, 200) or task.reference
    if faults or not _storable(outputs):
        task.blocked_reason = (
            f"{node.target} confirmed {node.action}, but what it returned can't be used: "
            + (" ".join(fault.message for fault in faults) or "It holds text that is not valid.")
            + " Find the values in the target system and enter them."
        )
        unit.change_task(task, Task.await_manual, cause="confirmed with outputs that don't fit")
        return
    task.outputs = outputs
    task.blocked_reason = ""
    task.unanswered_queries = 0
    unit.change_task(task, Task.succeed, cause="the target system confirmed it")


def _accept(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    task.reference = clean(outcome.reference, 200) or task.reference
    task.unanswered_queries = 0
    if task.state in (TaskState.DISPATCHED, TaskState.OUTCOME_UNKNOWN):
        task.not_before = unit.now + timedelta(seconds=node.callback_timeout_seconds)
        unit.change_task(task, Task.accept, cause="the target system will report")


def _had_no_effect(unit: Unit, task: Task, node: Node, outcome: Outcome) -> None:
    if task.state == TaskState.AWAITING_MANUAL:
        _tell(unit, task, f"Since then {task.target_id} has reported: {describe(outcome)}.")
    if task.state not in _IN_DOUBT:
        return
    policy = graphs.retry_policy(node)
    if outcome is NOT_SENT:
        task.sends -= 1
    if outcome.retryable and may_retry(policy=policy, sends=task.sends, code=outcome.code):
        delay = backoff(
            policy=policy,
            sends=max(1, task.sends),
            key=f"{task.pk}",
            retry_after=outcome.retry_after,
        )
        task.not_before = unit.now + delay
        task.blocked_reason = describe(outcome)
        unit.change_task(
            task,
            Task.retry_later,
            cause="no effect; another attempt follows",
            code=code_of(outcome),
        )
        unit.wake_up(target=task.target_id, at=task.not_before)
    elif lost_track_before(unit, task):
        # That this send had no effect says nothing about the one whose answer was lost.
        to_a_person(unit, task, "because an earlier answer was lost", outcome)
    else:
        cause = "attempts are used up" if outcome.retryable else "another attempt makes no sense"
        _fail(unit, task, outcome, cause)


def _fail(unit: Unit, task: Task, outcome: Outcome, cause: str) -> None:
    task.blocked_reason = describe(outcome)
    unit.change_task(task, Task.fail, cause=cause, code=code_of(outcome))


def _compare_with_what_is_settled(unit: Unit, task: Task, outcome: Outcome) -> None:
    """A second definitive outcome that contradicts the first changes nothing but is kept."""
    if not conflicts(task=task, outcome=outcome):
        return
    if unit.plans[task.plan_id].state not in PLAN_TERMINAL:
        told = "has confirmed it" if outcome.kind is OutcomeKind.SUCCEEDED else "has refused it"
        _tell(unit, task, f"Since then {task.target_id} {told}: look it up before you go on.")
    unit.record(
        fulfillment_id=task.fulfillment_id,
        entity="task",
        entity_id=str(task.pk),
        name="conflicting_outcome",
        before=str(task.state),
        after=str(task.state),
        cause="a definitive outcome contradicts how the task was settled",
        details={"outcome": str(outcome.kind), "code": code_of(outcome)},
    )
    logger.error("conflicting outcome", extra={"task": task.pk})


def _tell(unit: Unit, task: Task, news: str) -> None:
    """What a person has to know before deciding, beside what stands there already; once."""
    if news not in task.blocked_reason:
        task.blocked_reason = f"{task.blocked_reason}\n{news}".strip()
        unit.touched_tasks.add(task.pk)


def conflicts(*, task: Task, outcome: Outcome) -> bool:
    """True when a settled task and a definitive outcome can't both be right."""
    if task.state not in TASK_TERMINAL or not outcome.is_definitive:
        return False
    return (task.state in TASK_SUCCESSFUL) != (outcome.kind is OutcomeKind.SUCCEEDED)


def _storable(value: Any) -> bool:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, TypeError, RecursionError):
        return False
    # A NUL stands there escaped; an escaped backslash before "u0000" is none.
    return "\\u0000" not in text.replace("\\\\", "")
