"""Milestones of a plan: reached with the last task that carries them, or never to come.

The customer is told of what is reached; other orders may wait for what is shared, so they learn
also that it will not come.
"""

from __future__ import annotations

from collections.abc import Iterable

from fulfillment.definitions.node_parts import Milestone
from fulfillment.definitions.readiness import Place, existence
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import places
from fulfillment.engine.work.port import Notice, PlanChange
from fulfillment.engine.work.subjects import of_order
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Signal
from fulfillment.states import TASK_SUCCESSFUL, TaskState

_DONE = TASK_SUCCESSFUL - {TaskState.SKIPPED_BY_POLICY}
_IS_SHARED = "SELECT 1 FROM fulfillment_signal WHERE source = 'engine' AND event_id = %s"
_IS_KNOWN = "SELECT 1 FROM fulfillment_signal WHERE subject = %s AND name = %s LIMIT 1"
_SOURCE = "engine"


def settle(unit: Unit, *, plan: Plan, nodes: Iterable[int]) -> None:
    """Tell of the milestones of nodes that have succeeded, are left out, or will never exist.

    A milestone that several tasks carry (the same task for each item) is reached with the last
    of them that exists, if one of them was done: skipping is no progress that a customer could
    be told of.
    """
    graph = graphs.by_id(plan.graph_id)
    carriers = graphs.milestone_carriers(plan.graph_id)
    found = {one.name: one for node in nodes for one in graph.nodes[node].milestones}
    for milestone in found.values():
        wanted = [(carrier, 0) for carrier in carriers[milestone.name]]
        places.load(unit, {plan.id: wanted})
        if not all(_is_over(unit, plan, place) for place in wanted):
            continue
        if any(_is_done(unit, plan, place) for place in wanted):
            _reached(unit, plan, milestone)
        elif milestone.shared:
            _never(unit, plan, milestone)


def close(unit: Unit, *, plan: Plan, successor: Plan | None = None) -> None:
    """What a plan that is over has not reached will not come: its task has failed, say.

    Unless another plan takes its place, and has it as well.
    """
    graph = graphs.by_id(plan.graph_id)
    kept = graphs.milestone_carriers(successor.graph_id) if successor is not None else {}
    for name, carriers in graphs.milestone_carriers(plan.graph_id).items():
        if name in kept:
            continue
        (shared, *_) = [
            one for node in carriers for one in graph.nodes[node].milestones if one.name == name
        ]
        if shared.shared:
            _never(unit, plan, shared)


def _is_over(unit: Unit, plan: Plan, place: Place) -> bool:
    task = places.at(unit, plan=plan, place=place)
    if task is not None:
        return task.state in TASK_SUCCESSFUL
    graph = graphs.by_id(plan.graph_id)
    decided = places.choices(unit, plan=plan, element=0)
    return existence(graph=graph, element=0, choices=decided)[place[0]] is False


def _is_done(unit: Unit, plan: Plan, place: Place) -> bool:
    task = places.at(unit, plan=plan, place=place)
    return task is not None and task.state in _DONE


def _reached(unit: Unit, plan: Plan, milestone: Milestone) -> None:
    unit.notices.append(
        Notice(
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.id,
            graph_id=plan.graph_id,
            change=PlanChange.MILESTONE_REACHED,
            milestone=milestone.name,
            title=milestone.title,
        )
    )
    event_id = f"{plan.id}/{milestone.name}"
    if not milestone.shared or any(one.event_id == event_id for one in unit.signals):
        return
    unit.raw.execute(_IS_SHARED, [event_id], prepare=True)
    # Once, also when it is reached anew.
    if unit.raw.fetchone() is None:
        unit.signals.append(_signal(unit, plan, milestone, event_id))


def _never(unit: Unit, plan: Plan, milestone: Milestone) -> None:
    signal = _signal(unit, plan, milestone, f"{plan.id}/{milestone.name}/never")
    if any((one.name, one.subject) == (signal.name, signal.subject) for one in unit.signals):
        return
    unit.raw.execute(_IS_KNOWN, [signal.subject, signal.name], prepare=True)
    if unit.raw.fetchone() is not None:
        return  # Reached, perhaps under the plan before, or reported by somebody.
    graph = graphs.by_id(plan.graph_id)
    carriers = graphs.milestone_carriers(plan.graph_id)[milestone.name]
    titles = sorted({graph.nodes[carrier].title for carrier in carriers})
    order = unit.fulfillments[plan.fulfillment_id].order_reference
    signal.will_not_come = True
    signal.payload = {
        "reason": f"Order {order} goes on without it; left out or failed: {', '.join(titles)}."
    }
    unit.signals.append(signal)


def _signal(unit: Unit, plan: Plan, milestone: Milestone, event_id: str) -> Signal:
    locked = unit.fulfillments[plan.fulfillment_id]
    return Signal(
        source=_SOURCE,
        event_id=event_id,
        name=milestone.name,
        subject=of_order(business_key=locked.business_key or locked.order_reference),
        payload={},
        occurred_at=unit.now,
        received_at=unit.now,
        applied=False,
        will_not_come=False,
    )
