"""A time is up: what follows, by what has been sent of the task, and what its template says.

That no answer came says nothing about whether it happened. Only what was never sent, or is known
to have had no effect, is given up; everything else is resolved first (timeout-is-not-failure).
"""

from __future__ import annotations

from collections.abc import Iterable

from adapters.contract import Outcome, OutcomeKind
from fulfillment import sentences
from fulfillment.actions import Action
from fulfillment.definitions.clocks import WhenSent, WhenUnsent
from fulfillment.definitions.graph import Node
from fulfillment.engine.tasks.failing import fail_or_fall_back
from fulfillment.engine.tasks.reconciling import (
    code_of,
    describe,
    lose_track,
    lost_track_before,
    to_a_person,
)
from fulfillment.engine.timing import clocks, standing
from fulfillment.engine.work import cases
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Plan, Severity, Task
from fulfillment.states import PLAN_TERMINAL, TASK_SENDABLE, TASK_TIMED, TaskState


def ring(unit: Unit, *, task: Task, node: Node) -> None:
    """Act on the clock of a command that has run out, if under the locks one still has."""
    closing = task.state in TASK_TIMED and clocks.closing_is_due(task, now=unit.now)
    starting = clocks.starting_is_due(task, now=unit.now)
    if (closing or starting) and standing.holds_still(unit, task=task):
        closing = starting = False
    if closing:
        _close(unit, task, node)
    elif starting:
        _start(unit, task, node)
    elif task.state == TaskState.ACCEPTED and task.not_before <= unit.now:
        lose_track(unit, task, node, clocks.missed(task=task, node=node))


def gives_up(unit: Unit, *, task: Task, node: Node) -> bool:
    """Whether it is not sent again, now that nothing has happened for certain: its time is up."""
    if clocks.of(task=task, node=node).when_unsent is not WhenUnsent.CANCEL:
        return False
    if task.late_since is not None:
        return True
    return clocks.closing_is_due(task, now=unit.now) and not standing.holds_still(unit, task=task)


def give_up(unit: Unit, *, task: Task, node: Node, last: Outcome) -> None:
    """Its time is up, and by now nothing has happened for certain, as `last` says."""
    told = f" The last that was heard: {describe(last)}." if describe(last) else ""
    _cancel(unit, task, node, f"Its time is up, and nothing has happened.{told}")


def _close(unit: Unit, task: Task, node: Node) -> None:
    limits = clocks.of(task=task, node=node)
    due, task.late_since = task.close_by, task.close_by
    assert due is not None
    task.start_by = task.close_by = None
    unit.clocked_tasks.add(task.id)
    may_have_happened = task.state not in TASK_SENDABLE or lost_track_before(unit, task, node)
    if task.state == TaskState.ACCEPTED:
        lose_track(unit, task, node, clocks.TIMED_OUT)
    elif may_have_happened and limits.when_sent is WhenSent.ESCALATE:
        to_a_person(unit, task, node, "because its time was up", clocks.TIMED_OUT)
    elif task.state == TaskState.OUTCOME_UNKNOWN:
        return  # It is being asked for; what is found out then takes the time into account.
    elif may_have_happened or limits.when_unsent is WhenUnsent.ESCALATE:
        _tell(unit, task, node, f"should have ended by {sentences.moment(due)}")
    else:
        _cancel(unit, task, node, f"It had to end by {sentences.moment(due)}.")


def _start(unit: Unit, task: Task, node: Node) -> None:
    due = task.start_by
    assert due is not None
    task.start_by = None
    unit.clocked_tasks.add(task.id)
    late = f"should have been sent by {sentences.moment(due)}"
    if clocks.of(task=task, node=node).when_unsent is WhenUnsent.ESCALATE:
        _tell(unit, task, node, late)
    else:
        _cancel(unit, task, node, f"It {late}, and was not.")


def _cancel(unit: Unit, task: Task, node: Node, why: str) -> None:
    outcome = Outcome(
        kind=OutcomeKind.FAILED, code=code_of(clocks.TIMED_OUT), message=f"{why} It is given up."
    )
    fail_or_fall_back(unit, task, node, outcome, "its time is up and nothing has happened")


def _tell(unit: Unit, task: Task, node: Node, late: str) -> None:
    """It goes on being tried; a person may know what keeps it."""
    if not task.blocked_reason:
        task.blocked_reason = f"It {late}."
        unit.touched_tasks.add(task.id)
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.LATE,
        reason_code="timed_out",
        explanation=f"{node.title} {late}, and goes on being tried. Look at what keeps it: a hold, "
        f"a lock, or {task.target_id} itself.",
        facts={"last": task.blocked_reason, "sends": task.sends},
    )


def deadline_subject(*, fulfillment_id: int) -> str:
    """What a case about a plan's deadline is about; it outlives the plan's versions."""
    return f"deadline:{fulfillment_id}"


def ring_plans(unit: Unit, *, plan_ids: Iterable[int]) -> None:
    """Tell a person of the plans whose deadline has passed, if under the locks it still has."""
    plans = plans_by_id(unit.raw, plan_ids)
    unit.adopt_plans(plans)
    for plan in plans:
        due = plan.finish_by
        if due is None or due > unit.now or plan.stopped_at or plan.state in PLAN_TERMINAL:
            continue
        if standing.plan_holds_still(unit, plan=plan):
            continue
        plan.late_since, plan.finish_by = due, None
        unit.clocked_plans.add(plan.id)
        _tell_of_plan(unit, plan, sentences.moment(due))


def _tell_of_plan(unit: Unit, plan: Plan, due: str) -> None:
    reference = unit.fulfillments[plan.fulfillment_id].order_reference
    open_tasks = plan.tasks_open
    cases.open_case(
        unit,
        fallout=cases.Fallout(
            subject=deadline_subject(fulfillment_id=plan.fulfillment_id),
            category=CaseCategory.LATE,
            severity=Severity.MEDIUM,
            reason_code="deadline_passed",
            title=f"{reference} · its deadline has passed",
            explanation=f"It should have been done by {due}; {open_tasks} of {plan.tasks_total} "
            "tasks are still open. Look at what it waits for.",
            facts={"due": due, "tasks_open": open_tasks, "tasks_total": plan.tasks_total},
            repair_options=(Action.HOLD_RELEASE, Action.TARGET_RESUME, Action.TASK_WAIVE),
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.id,
            customer_impact="The order is late.",
        ),
    )


def done(unit: Unit, *, plan: Plan) -> None:
    """The plan is over, or has more time: it is late no more."""
    if plan.late_since is not None:
        cases.resolve_cases(
            unit,
            subjects=[deadline_subject(fulfillment_id=plan.fulfillment_id)],
            resolution="It is late no more.",
        )
