"""The plan's own state, computed from its tasks and never set by hand (reference §16)."""

from __future__ import annotations

from fulfillment.definitions.readiness import Place, hopeless
from fulfillment.engine.plans import withholding
from fulfillment.engine.plans.withholding import What
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import milestones, places
from fulfillment.engine.structure.scope import scope_of
from fulfillment.engine.tasks import timing_out
from fulfillment.engine.timing import jeopardy
from fulfillment.engine.work import cases, patience
from fulfillment.engine.work.port import Notice, PlanChange
from fulfillment.engine.work.rows import tasks_by_plan
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ValueUnavailable
from fulfillment.models import Plan, Task
from fulfillment.states import (
    PLAN_GOING_ON,
    PLAN_SELECTABLE,
    TASK_SUCCESSFUL,
    PlanState,
    TaskState,
)

_NAMED = 20
"""Tasks that the reason of a blocked plan names; a fan-out may have thousands."""


def update_plan(unit: Unit, *, plan: Plan) -> None:
    """Complete, block or unblock the plan after its tasks changed in this unit."""
    if plan.state not in PLAN_SELECTABLE:
        return
    _give_up(unit, plan)
    if plan.moving > 0 or plan.selection_due_at is not None:
        _unblock(unit, plan)
        return
    if plan.mandatory_open == 0 and plan.tasks_open > 0:
        _skip_unreachable(unit, plan)
    if plan.tasks_open == 0 and plan.mandatory_open == 0:
        if plan.state == PlanState.COMPENSATING:
            end(
                unit,
                plan=plan,
                ends_as=PlanState(graphs.context_of(plan)["undo"]["ends_as"]),
                cause="everything that had to be undone has been",
            )
        elif plan.rest_due_at is None:
            _complete(unit, plan)
        # Else whoever wants it given up or changed has asked in time, and decides first.
    else:
        _block(unit, plan)


def _unblock(unit: Unit, plan: Plan) -> None:
    """What is being undone has no state for it: the reason alone says so."""
    is_undone = plan.state == PlanState.COMPENSATING and bool(plan.blocked_reason)
    if plan.state != PlanState.BLOCKED and not is_undone:
        return
    plan.blocked_reason = ""
    plan.patient_until = plan.last_progress_at + plan.stalls_after
    unit.touched_plans.add(plan.id)
    if not is_undone:
        unit.change_plan(plan, Plan.unblock, cause="a task moves again")


def end(unit: Unit, *, plan: Plan, ends_as: PlanState, cause: str) -> None:
    """It ends without having fulfilled its order: CANCELLED or FAILED."""
    plan.finished_at = unit.now
    plan.blocked_reason = ""
    plan.selection_due_at = plan.look_at = None
    plan.moving = 0
    milestones.close(unit, plan=plan)
    is_cancelled = ends_as == PlanState.CANCELLED
    unit.change_plan(plan, Plan.cancel if is_cancelled else Plan.fail, cause=cause)
    timing_out.done(unit, plan=plan)
    jeopardy.over(unit, plan=plan)
    cases.resolve_cases(
        unit,
        subjects=[cases.of_plan(plan.id), *map(cases.of_task, _with_cases(unit, plan))],
        resolution=f"Its plan has ended as {ends_as}.",
    )
    unit.notices.append(
        Notice(
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.id,
            graph_id=plan.graph_id,
            change=PlanChange.CANCELLED if is_cancelled else PlanChange.FAILED,
        )
    )


def _with_cases(unit: Unit, plan: Plan) -> list[int]:
    return [task.id for task in _tasks(unit, plan) if task.state not in TASK_SUCCESSFUL]


def _give_up(unit: Unit, plan: Plan) -> None:
    """Where its workflow says so: a task has failed for good, or somebody has decided it."""
    reason, only = unit.given_up.pop(plan.id, ("", ()))
    what = What(only=only)
    for task in unit.failed.pop(plan.id, ()):
        declared = withholding.what_follows(plan, task=task)
        if declared is not None and not reason:
            reason = f"{task.key} has failed for good: {task.blocked_reason}"
            what = declared
    if reason and plan.state in PLAN_GOING_ON:
        withholding.give_up(unit, plan=plan, reason=reason, what=what)


def _complete(unit: Unit, plan: Plan) -> None:
    plan.finished_at = unit.now
    plan.blocked_reason = ""
    milestones.close(unit, plan=plan)
    unit.change_plan(plan, Plan.complete, cause="every mandatory task is terminal successful")
    timing_out.done(unit, plan=plan)
    jeopardy.over(unit, plan=plan)
    unit.notices.append(
        Notice(
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.id,
            graph_id=plan.graph_id,
            change=PlanChange.COMPLETED,
            given_up=tuple(graphs.context_of(plan).get("given_up", ())),
        )
    )


def _skip_unreachable(unit: Unit, plan: Plan) -> None:
    """Optional tasks that wait for something that will never come don't hold up the order.

    What waits for a task that a person has in hand may still come.
    """
    tasks = {(task.node, task.element): task for task in _tasks(unit, plan)}

    def holds(place: Place, condition: str) -> bool:
        try:
            return scope_of(unit, plan=plan, task=tasks[place]).holds(condition)
        except ValueUnavailable:
            return False

    unreachable = hopeless(
        graph=graphs.by_id(plan.graph_id),
        states={place: TaskState(task.state) for place, task in tasks.items()},
        choices=lambda element: places.choices(unit, plan=plan, element=element),
        holds=holds,
    )
    for place, task in tasks.items():
        if task.state == TaskState.PENDING and place in unreachable:
            unit.change_task(
                task, Task.skip, cause="optional, and a task that it depends on did not succeed"
            )


def _block(unit: Unit, plan: Plan) -> None:
    tasks = _tasks(unit, plan)
    reasons = [
        f"{task.key}: {task.blocked_reason}"
        for task in tasks
        if task.blocked_reason and task.state in (TaskState.AWAITING_MANUAL, TaskState.FAILED_FINAL)
    ]
    more = [f"… and {len(reasons) - _NAMED} more."] if len(reasons) > _NAMED else []
    plan.blocked_reason = "\n".join([*reasons[:_NAMED], *more]) or "No task can run."
    in_time = patience.of_decisions(unit, tasks=tasks)
    plan.patient_until = in_time or unit.now
    unit.touched_plans.add(plan.id)
    if plan.state == PlanState.RUNNING:
        cause = "people have to decide" if in_time else "nothing can move without outside help"
        unit.change_plan(plan, Plan.block, cause=cause)


def _tasks(unit: Unit, plan: Plan) -> list[Task]:
    """Every task of the plan as this unit sees it, in the graph's order."""
    unit.adopt_tasks(
        task for task in tasks_by_plan(unit.raw, [plan.id]) if task.id not in unit.tasks
    )
    tasks = [task for task in unit.tasks.values() if task.plan_id == plan.id]
    return sorted(tasks, key=lambda task: (task.node, task.element))
