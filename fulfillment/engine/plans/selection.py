"""Selection: which tasks of a plan became runnable, and what begins with them.

One code path for the fast path (right after a settlement), the scanner and a new plan. It goes
in waves: what the engine does itself (decisions, fan-outs, times that are past) ends at once,
and what stands behind it is looked at in the next wave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.conf import settings

from fulfillment.definitions.readiness import (
    Place,
    guarding,
    in_selection_order,
    preceding,
    runnable,
)
from fulfillment.engine.plans.progress import beyond
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import places
from fulfillment.engine.structure.scope import scope_of
from fulfillment.engine.tasks import beginning
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ValueUnavailable
from fulfillment.models import Plan, Task
from fulfillment.states import PLAN_SELECTABLE, TASK_TERMINAL, TaskState


def select(unit: Unit, *, wanted: Mapping[int, Iterable[Place]], cause: str) -> None:
    """Begin what is runnable among these places of these plans, and what follows from it."""
    wave = {plan_id: set(found) for plan_id, found in wanted.items() if found}
    while wave:
        _load(unit, wave)
        following: dict[int, set[Place]] = {}
        for plan_id, found in wave.items():
            plan = unit.plans[plan_id]
            if plan.state not in PLAN_SELECTABLE:
                continue  # superseded-silent: what it has on the wire is settled, no more
            graph = graphs.by_id(plan.graph_id)
            for place in in_selection_order(graph=graph, places=found):
                task = places.at(unit, plan=plan, place=place)
                if task is None or task.state != TaskState.PENDING:
                    continue
                if _is_runnable(unit, plan, task):
                    begun = beginning.begin(unit, plan=plan, task=task, cause=cause)
                    begun |= {place} if task.state in TASK_TERMINAL else set()
                    following.setdefault(plan_id, set()).update(
                        beyond(unit, plan=plan, found=begun)
                    )
        wave = {plan_id: found for plan_id, found in following.items() if found}
        cause = "everything it depends on is there"


def select_or_defer(unit: Unit, *, wanted: Mapping[int, Iterable[Place]], cause: str) -> None:
    """Select at once on the fast path; otherwise leave a note for the scanner."""
    wanted = {plan_id: list(found) for plan_id, found in wanted.items()}
    if settings.OMS_FAST_PATH:
        select(unit, wanted=wanted, cause=cause)
        return
    for plan_id, found in wanted.items():
        plan = unit.plans[plan_id]
        if found and plan.state in PLAN_SELECTABLE:
            plan.selection_due_at = unit.now
            unit.touched_plans.add(plan_id)


def _load(unit: Unit, wave: Mapping[int, set[Place]]) -> None:
    needed: dict[int, set[Place]] = {}
    for plan_id, found in wave.items():
        graph = graphs.by_id(unit.plans[plan_id].graph_id)
        needed[plan_id] = found | {
            place
            for one in found
            for place in (
                *preceding(graph=graph, place=one),
                *guarding(graph=graph, place=one),
            )
        }
    places.load(unit, needed)


def _is_runnable(unit: Unit, plan: Plan, task: Task) -> bool:
    graph = graphs.by_id(plan.graph_id)
    place = (task.node, task.element)
    node = graph.nodes[task.node]
    try:
        return places.is_guarded(unit, plan=plan, place=place) and runnable(
            graph=graph,
            place=place,
            states=places.states(unit, plan=plan, places=preceding(graph=graph, place=place)),
            choices=places.choices(unit, plan=plan, element=task.element)
            if node.deferred and graph.choosers
            else {},
            holds=lambda text: scope_of(unit, plan=plan, task=task).holds(text),
        )
    except ValueUnavailable as error:
        beginning.cannot_begin(unit, task=task, node=node, error=error)
        return False
