"""Outputs that expire: what a task uses must be of use when it begins, and when it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fulfillment.definitions.graph import Edge
from fulfillment.definitions.outputs import instant
from fulfillment.definitions.readiness import Place, place_beside
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import places
from fulfillment.engine.structure.instantiation import instantiate
from fulfillment.engine.structure.scope import scope_of
from fulfillment.engine.tasks.reconciling import has_lost_track
from fulfillment.engine.tasks.stopped import Stopped
from fulfillment.engine.work.fallout import open_for_task
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Plan, Task
from fulfillment.states import TASK_SUCCESSFUL, TaskState

REOBTAINED_AT_MOST = 5
"""Times that one task is asked anew; a value that is always out of date would go on for ever."""
_ROUNDS = """
SELECT coalesce(max(round), 0) FROM fulfillment_task
WHERE plan_id = %s AND node = %s AND element = %s
"""
_RETIRE = "UPDATE fulfillment_task SET round = %s WHERE id = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """A value that a task uses, and that is of no use any more."""

    edge: Edge
    source: Task
    until: datetime | None
    """None while the source is being asked anew, for another task."""


def set_aside(unit: Unit, *, plan: Plan, task: Task) -> set[Place] | None:
    """Keep a task that may begin, or be sent, from doing so with what has expired.

    None when nothing has. Otherwise it waits for fresh values, or for a person with a case;
    returned are the places of the tasks that are to be asked anew.
    """
    found = _expired(unit, plan, task)
    if not found:
        return None
    too_often = [use for use in found if use.until and not _may_be_renewed(unit, use)]
    if too_often or (task.attempts and has_lost_track(unit, task)):
        _give_to_a_person(unit, plan, task, too_often or found)
        return set()
    told = ", ".join(map(_told, found))
    if task.state != TaskState.PENDING:
        unit.change_task(task, Task.send_back, cause=f"not sent: {told}")
    again = {}
    for use in found:
        if use.until is not None and use.source.round == 0:
            cause = f"{task.key} needs it: {told}"
            again[use.source.pk] = _renew(unit, plan, use, _rounds(unit, use) + 1, cause)
    return set(again.values())


def _expired(unit: Unit, plan: Plan, task: Task) -> list[_Use]:
    graph = graphs.by_id(plan.graph_id)
    found = []
    for edge in graph.expiring.get(task.node, ()):
        assert edge.output is not None
        place = place_beside(graph=graph, node=edge.source, element=task.element)
        source = places.at(unit, plan=plan, place=place)
        if source is None or not _is_used(unit, plan, task, edge):
            continue
        if source.state not in TASK_SUCCESSFUL:
            found.append(_Use(edge=edge, source=source, until=None))
            continue
        outputs = source.outputs or {}
        ends = graph.nodes[edge.source].outputs[edge.output].valid_until
        until = None if outputs.get(edge.output) is None else instant(outputs.get(ends))
        if until is not None and until <= unit.now:
            found.append(_Use(edge=edge, source=source, until=until))
    return found


def _is_used(unit: Unit, plan: Plan, task: Task, edge: Edge) -> bool:
    return not edge.when or scope_of(unit, plan=plan, task=task).holds(edge.when)


def _may_be_renewed(unit: Unit, use: _Use) -> bool:
    return (
        use.edge.expired == "reobtain"
        and use.source.state == TaskState.SUCCEEDED
        and _rounds(unit, use) < REOBTAINED_AT_MOST
    )


def _rounds(unit: Unit, use: _Use) -> int:
    """How often it has been asked anew."""
    task = use.source
    unit.raw.execute(_ROUNDS, [task.plan_id, task.node, task.element], prepare=True)
    row = unit.raw.fetchone()
    return int(row[0]) if row else 0


def _renew(unit: Unit, plan: Plan, use: _Use, round_: int, cause: str) -> Place:
    """Another task at the same place; the one before keeps its row, its commands and its state."""
    old = use.source
    place = (old.node, old.element)
    unit.raw.execute(_RETIRE, [round_, old.pk], prepare=True)
    old.round = round_
    unit.record(
        fulfillment_id=old.fulfillment_id,
        entity="task",
        entity_id=str(old.pk),
        name="expire",
        before=str(old.state),
        after=str(old.state),
        cause=cause,
    )
    (fresh,) = instantiate(unit, plan=plan, nodes=[old.node], element=old.element)
    plan.mandatory_open += fresh.required
    return place


def _give_to_a_person(unit: Unit, plan: Plan, task: Task, found: Sequence[_Use]) -> None:
    node = graphs.routed(plan.graph_id, task.node, task.route)
    told = ", ".join(map(_told, found))
    again = f" It has been obtained anew {REOBTAINED_AT_MOST} times." if _often(unit, found) else ""
    task.blocked_reason = f"{task.key} must not go on with what has expired: {told}.{again}"
    unit.change_task(task, Task.await_manual, cause=f"expired: {told}", why=Stopped.EXPIRED)
    open_for_task(
        unit,
        task=task,
        node=node,
        category=CaseCategory.DATA,
        reason_code="output_expired",
        explanation=f"{task.blocked_reason} Obtain it anew in its target system and enter it, "
        "or waive the task.",
        facts={
            "expired": [
                {
                    "task": use.source.key,
                    "output": use.edge.output,
                    "until": use.until and use.until.isoformat(),
                }
                for use in found
            ]
        },
    )


def _often(unit: Unit, found: Sequence[_Use]) -> bool:
    return any(_rounds(unit, use) >= REOBTAINED_AT_MOST for use in found)


def _told(use: _Use) -> str:
    name = f"{use.edge.output} of {use.source.key}"
    if use.until is None:
        return f"{name} is being obtained anew"
    return f"{name} could be used until {use.until:%Y-%m-%d %H:%M:%S} UTC"
