"""Settlement: what an outcome does to its task, and what that makes runnable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from adapters.contract import OutcomeKind
from fulfillment.definitions.graph import Graph
from fulfillment.engine import admission, cases, failpoints, graphs, targets
from fulfillment.engine.completion import reach_milestones, update_plan
from fulfillment.engine.database import clean
from fulfillment.engine.halving import in_halves
from fulfillment.engine.outcomes import NOT_ASKED, NOT_SENT, Result, settle_task
from fulfillment.engine.reconciling import code_of
from fulfillment.engine.rows import plans_by_id, tasks_by_node
from fulfillment.engine.selection import select_or_defer
from fulfillment.engine.unit import Unit, run_unit
from fulfillment.models import Attempt, Task
from fulfillment.states import PLAN_SELECTABLE, TASK_SUCCESSFUL

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
        if called:
            admission.note_answers(
                unit,
                target=targets.get(called),
                # What we did not send or ask says nothing about the target.
                outcomes=[
                    result.outcome
                    for result in batch
                    if result.outcome is not NOT_SENT and result.outcome is not NOT_ASKED
                ],
            )

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
    overcome: list[str] = []
    for result in results:
        task = unit.tasks[result.task_id]
        before = task.state
        _finish_attempt(unit, result)
        in_trouble = bool(task.blocked_reason)
        node = _graph(unit, task.plan_id).nodes[task.node]
        settle_task(unit, task=task, node=node, result=result)
        if task.state in TASK_SUCCESSFUL and before not in TASK_SUCCESSFUL:
            if in_trouble or task.attempts > 1:
                overcome.append(cases.of_task(task.pk))
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
    cases.resolve_cases(unit, subjects=overcome, resolution="The task has succeeded since.")
    cases.resolve_cases(
        unit,
        subjects=map(cases.of_plan, unit.unstuck),
        resolution="The plan has moved since.",
    )
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
