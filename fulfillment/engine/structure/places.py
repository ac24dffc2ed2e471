"""The tasks of a plan by their place, read as they are needed and a wave at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fulfillment.definitions.readiness import (
    Choices,
    Place,
    choosers_around,
    chosen_by,
    existence,
    guarding,
)
from fulfillment.engine.store import graphs
from fulfillment.engine.work.rows import tasks_at
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task
from fulfillment.states import TASK_SUCCESSFUL, TaskState


def load(unit: Unit, wanted: Mapping[int, Iterable[Place]]) -> None:
    """Read what the unit has not read yet, for any number of plans, in one statement."""
    missing = [
        (plan_id, node, element)
        for plan_id, places in wanted.items()
        for node, element in set(places) - unit.places.setdefault(plan_id, {}).keys()
    ]
    if not missing:
        return
    unit.adopt_tasks(tasks_at(unit.raw, missing))
    for plan_id, node, element in missing:
        unit.places[plan_id].setdefault((node, element), None)


def at(unit: Unit, *, plan: Plan, place: Place) -> Task | None:
    """The task at a place; None when it does not exist, or not yet."""
    known = unit.places.setdefault(plan.id, {})
    if place not in known:
        load(unit, {plan.id: [place]})
    return known[place]


def states(unit: Unit, *, plan: Plan, places: Iterable[Place]) -> dict[Place, TaskState]:
    """The states of those that exist among `places`."""
    found = {place: at(unit, plan=plan, place=place) for place in places}
    return {place: TaskState(task.state) for place, task in found.items() if task is not None}


def is_guarded(unit: Unit, *, plan: Plan, place: Place) -> bool:
    """Of a task without a way back: whether all that is required before it is done.

    What nobody has decided to be there, or not, counts as open (irreversible-guarded).
    """
    graph = graphs.by_id(plan.graph_id)
    before = guarding(graph=graph, place=place)
    if not before:
        return True
    load(unit, {plan.id: before})
    exist: Mapping[int, bool | None] = {}
    for one in before:
        task = at(unit, plan=plan, place=one)
        if task is not None:
            if task.state not in TASK_SUCCESSFUL:
                return False
            continue
        exist = exist or existence(
            graph=graph,
            element=place[1],
            choices=choices(unit, plan=plan, element=place[1]) if graph.choosers else {},
        )
        if exist[one[0]] is not False:
            return False
    return True


def choices(unit: Unit, *, plan: Plan, element: int) -> Choices:
    """What has been decided so far, as far as a task of this element can see."""
    graph = graphs.by_id(plan.graph_id)
    wanted = choosers_around(graph=graph, element=element)
    load(unit, {plan.id: wanted})
    found = {}
    for place in wanted:
        task = at(unit, plan=plan, place=place)
        if task is not None and task.state in TASK_SUCCESSFUL:  # Skipped, it has chosen nothing.
            kind = graph.nodes[task.node].kind
            found[place] = chosen_by(kind=kind, outputs=task.outputs or {})
    return found
