"""Settlement: what an outcome does to its task, and what that makes runnable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from adapters.contract import OutcomeKind
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.readiness import Place, following, preceding
from fulfillment.engine.plans.completion import update_plan
from fulfillment.engine.plans.progress import after
from fulfillment.engine.plans.selection import select_or_defer
from fulfillment.engine.protection import admission
from fulfillment.engine.store import failpoints, graphs, targets
from fulfillment.engine.store.database import clean
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.structure import places
from fulfillment.engine.tasks import overtaking
from fulfillment.engine.tasks.outcomes import NOT_ASKED, NOT_SENT, Result, settle_task
from fulfillment.engine.tasks.reconciling import code_of
from fulfillment.engine.timing import standing
from fulfillment.engine.work import cases
from fulfillment.engine.work.rows import fresh, plans_by_id, tasks_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Attempt, TargetSystem
from fulfillment.states import PLAN_SELECTABLE, TASK_SUCCESSFUL, TASK_TERMINAL, PlanState

logger = logging.getLogger(__name__)

Filter = Callable[[Unit, Sequence[Result]], Sequence[Result]]


def settle(
    *,
    results: Sequence[Result],
    actor: str,
    drained: str = "",
    called: str = "",
    still_true: Filter = lambda _, results: results,
) -> None:
    """Settle a batch in one unit.

    A batch that fails is halved until the culprit stands alone and gets a case; its lease runs
    out, so its outcome is reconciled later, and its neighbours are settled now. `called` names
    the target whose answers to calls of ours these are. `still_true` leaves out, under the
    locks, what has changed since the results were concluded.
    """
    failures: list[Exception] = []

    def work(unit: Unit, batch: Sequence[Result]) -> None:
        apply(unit, still_true(unit, batch))
        unit.let_go()
        if called:
            note_answers(unit, target=targets.get(called), results=batch)

    def settle_together(batch: Sequence[Result]) -> list[None]:
        run_unit(
            lambda unit: work(unit, batch),
            fulfillment_ids=(result.fulfillment_id for result in batch),
            actor=actor,
            drained=drained,
        )
        return []

    def set_aside(result: Result, error: Exception) -> None:
        failures.append(error)
        run_unit(
            lambda unit: _set_aside(unit, result, error),
            fulfillment_ids=[result.fulfillment_id],
            actor=actor,
        )

    in_halves(results, work=settle_together, culprit=set_aside)
    if failures:
        raise failures[0]


def note_answers(unit: Unit, *, target: TargetSystem, results: Sequence[Result]) -> None:
    """Let the breaker see how these calls of ours went."""
    admission.note_answers(
        unit,
        target=target,
        # What we did not send or ask says nothing about the target.
        outcomes=[
            result.outcome
            for result in results
            if result.outcome is not NOT_SENT and result.outcome is not NOT_ASKED
        ],
    )


def apply(unit: Unit, results: Sequence[Result]) -> list[Result]:
    """Apply outcomes to their tasks, select what became runnable, update the plans.

    Returns them as they were understood: where the tasks are now, and which were overtaken.
    """
    unit.adopt_plans(plans_by_id(unit.raw, {result.plan_id for result in results}))
    results = _where_they_are(unit, results)
    places.load(unit, _needed(unit, results))
    if retired := {result.task_id for result in results} - unit.tasks.keys():
        unit.adopt_tasks(tasks_by_id(unit.raw, retired))  # Another stands in their place.
    wanted: dict[int, set[Place]] = {result.plan_id: set() for result in results}
    overcome: list[str] = []
    commands = overtaking.look_up(unit, results)
    understood: list[Result] = []
    for result in results:
        if (given_up := overtaking.overtaken(unit, result, commands)) is not None:
            result = replace(result, overtaken=given_up)
        understood.append(result)
        task = unit.tasks[result.task_id]
        plan = unit.plans[task.plan_id]
        before = task.state
        _finish_attempt(unit, result)
        in_trouble = bool(task.blocked_reason)
        node = graphs.routed(plan.graph_id, task.node, task.route)
        settle_task(unit, task=task, node=node, result=result)
        if task.state in TASK_TERMINAL and before not in TASK_TERMINAL:
            if task.state in TASK_SUCCESSFUL and (in_trouble or task.attempts > 1):
                overcome.append(cases.of_task(task.id))
            if plan.state in PLAN_SELECTABLE:
                wanted[task.plan_id] |= after(unit, plan=plan, task=task)
    failpoints.reach("settlement.before_successors")
    go_on(unit, wanted=wanted)
    cases.resolve_cases(unit, subjects=overcome, resolution="The task has succeeded since.")
    failpoints.reach("settlement.inside")
    return understood


def _where_they_are(unit: Unit, results: Sequence[Result]) -> list[Result]:
    """A task that was under way when its plan was replaced belongs to the plan that took over.

    One that had failed stayed behind, and what is told of it is about the one that began anew.
    """
    astray = {
        result.task_id
        for result in results
        if unit.plans[result.plan_id].state == PlanState.SUPERSEDED
    }
    if not astray:
        return list(results)
    tasks = {task.id: task for task in tasks_by_id(unit.raw, astray)}
    anew = overtaking.begun_anew(unit, tasks.values())
    tasks |= anew
    unit.adopt_plans(plans_by_id(unit.raw, {task.plan_id for task in tasks.values()}))
    return [
        replace(
            result,
            task_id=tasks[result.task_id].pk,
            plan_id=tasks[result.task_id].plan_id,
            node=tasks[result.task_id].node,
            element=tasks[result.task_id].element,
            attempt_number=None if result.task_id in anew else result.attempt_number,
        )
        if result.task_id in tasks
        else result
        for result in results
    ]


def go_on(unit: Unit, *, wanted: Mapping[int, Iterable[Place]]) -> None:
    """Select in these plans, and bring their own states up to date."""
    select_or_defer(unit, wanted=wanted, cause="everything it depends on is there")
    for plan_id in wanted:
        plan = unit.plans[plan_id]
        if plan.stopped_at is not None:
            standing.go_on(unit, plan=plan)  # Whoever was waited for may be so no more.
        update_plan(unit, plan=plan)
    cases.resolve_cases(
        unit,
        subjects=map(cases.of_plan, unit.unstuck),
        resolution="The plan has moved since.",
    )


def _needed(unit: Unit, results: Sequence[Result]) -> dict[int, set[Place]]:
    """The tasks themselves; of those that succeed also what follows, and what that waits for."""
    needed: dict[int, set[Place]] = {}
    for result in results:
        graph = _graph(unit, result.plan_id)
        place = (result.node, result.element)
        mine = needed.setdefault(result.plan_id, set())
        mine.add(place)
        if result.outcome.kind is OutcomeKind.SUCCEEDED:
            for successor in following(graph=graph, place=place):
                mine.add(successor)
                mine.update(preceding(graph=graph, place=successor))
            if graph.nodes[result.node].milestones:
                carriers = graphs.milestone_carriers(unit.plans[result.plan_id].graph_id)
                for milestone in graph.nodes[result.node].milestones:
                    mine.update((carrier, 0) for carrier in carriers[milestone.name])
    return needed


def _graph(unit: Unit, plan_id: int) -> Graph:
    return graphs.by_id(unit.plans[plan_id].graph_id)


def _finish_attempt(unit: Unit, result: Result) -> None:
    if result.attempt_id is not None:
        unit.finished_attempts.append(
            fresh(
                Attempt,
                id=result.attempt_id,
                finished_at=unit.now,
                outcome=result.outcome.kind,
                code=code_of(result.outcome),
                message=clean(result.outcome.message, 2000),
            )
        )


def _set_aside(unit: Unit, result: Result, error: Exception) -> None:
    cases.open_case(
        unit,
        fallout=cases.poison(
            subject=cases.of_task(result.task_id),
            what=f"The outcome of task {result.task_id} can't be settled",
            error=error,
            fulfillment_id=result.fulfillment_id,
            plan_id=result.plan_id,
            task_id=result.task_id,
        ),
    )
