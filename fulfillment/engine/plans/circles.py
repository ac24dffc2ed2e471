"""Orders that wait for each other in a circle are found, and the circle is broken.

Locks alone form none (`definitions.locking`). A milestone of another order may be part of one:
A waits for a milestone of B, which can't come before B gets what A keeps, or before a milestone
of A. Only waits that began lately are looked at, since the last of them closes a circle; now and
then all of them are, for a lock that a task lines up for long after it became runnable.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import psycopg

from fulfillment.definitions.graph import Graph
from fulfillment.engine.plans import settlement
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import DATABASE_TROUBLE, Row, cursor
from fulfillment.engine.tasks.outcomes import TIME_IS_UP, Result
from fulfillment.engine.work import cases
from fulfillment.engine.work.rows import tasks_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Severity
from fulfillment.states import TaskState

logger = logging.getLogger(__name__)

LATELY = timedelta(minutes=10)
_MOST = 20
"""Orders in one circle; whoever waits in a longer one has a deadline, as every wait."""
# Orders that others have begun to wait for, and that themselves wait for one in some way. What is
# waited for is told apart first: a hundred thousand may wait for one order.
_BEGUN = """
WITH awaited AS MATERIALIZED (
    SELECT DISTINCT substr(t.awaits, strpos(t.awaits, ' order:') + 7) AS name
    FROM fulfillment_task t WHERE t.waits_for = 'OTHER_ORDER' AND t.changed_at > %s
), wanted AS MATERIALIZED (
    SELECT DISTINCT t.waits_for_lock AS name
    FROM fulfillment_task t WHERE t.waits_for = 'LOCK' AND t.changed_at > %s
), waited_for AS (
    SELECT f.id FROM awaited a
    JOIN fulfillment_fulfillment f ON f.business_key = a.name AND f.business_key <> ''
    UNION
    SELECT l.fulfillment_id FROM wanted w
    JOIN fulfillment_resourcelock l ON l.name = w.name AND l.task_id IS NULL
    WHERE NOT EXISTS (
        SELECT 1 FROM fulfillment_resource r
        WHERE r.name = split_part(w.name, ':', 1) AND r.capacity > 1)
)
SELECT f.id FROM waited_for f
WHERE f.id > %s AND EXISTS (
    SELECT 1 FROM fulfillment_plan p JOIN fulfillment_task w ON w.plan_id = p.id
    WHERE p.fulfillment_id = f.id AND w.waits_for IN ('OTHER_ORDER', 'LOCK'))
ORDER BY f.id LIMIT %s
"""
_EDGES = """
SELECT t.fulfillment_id, t.id, t.plan_id, p.graph_id, t.node, t.priority,
       split_part(t.awaits, ' ', 1), f.id
FROM fulfillment_plan p
JOIN fulfillment_task t ON t.plan_id = p.id AND t.waits_for = 'OTHER_ORDER'
    AND t.state = 'ACCEPTED'
JOIN fulfillment_fulfillment f ON f.business_key = substr(t.awaits, strpos(t.awaits, ' order:') + 7)
    AND f.business_key <> '' AND f.id <> t.fulfillment_id
WHERE p.fulfillment_id = ANY(%s::bigint[])
UNION ALL
SELECT t.fulfillment_id, t.id, t.plan_id, p.graph_id, t.node, t.priority, '', l.fulfillment_id
FROM fulfillment_plan p
JOIN fulfillment_task t ON t.plan_id = p.id AND t.waits_for = 'LOCK'
JOIN fulfillment_resourcelock l ON l.name = t.waits_for_lock AND l.task_id IS NULL
    AND l.fulfillment_id <> t.fulfillment_id
WHERE p.fulfillment_id = ANY(%s::bigint[])
  AND NOT EXISTS (
      SELECT 1 FROM fulfillment_resource r
      WHERE r.name = split_part(l.name, ':', 1) AND r.capacity > 1)
"""
_LIMIT = 1000
_ACTOR = "circle detector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One order waits for another."""

    fulfillment_id: int
    task_id: int
    plan_id: int
    graph_id: int
    node: int
    priority: int
    milestone: str
    """Empty when it waits for a lock that the other keeps to its end."""
    to: int


def break_circles(*, lately: timedelta | None = LATELY) -> int:
    """Find circles that a wait of lately has closed (None: any), and break each. How many."""
    with cursor() as raw:
        raw.execute("SELECT fulfillment_now()", prepare=True)
        ((now,),) = raw.fetchall()
        since = "-infinity" if lately is None else now - lately
        found: set[frozenset[int]] = set()
        last = 0
        while starts := _starts(raw, since, last):
            circles = (_circle(raw, start) for start in starts)
            found |= {
                frozenset(one.fulfillment_id for one in circle) for circle in circles if circle
            }
            last = starts[-1]
    return sum(_break_or_leave(members) for members in sorted(found, key=sorted))


def _break_or_leave(members: Collection[int]) -> int:
    """One that can't be broken is no reason to leave the others as they are."""
    try:
        return run_unit(partial(_break, members=members), fulfillment_ids=members, actor=_ACTOR)
    except DATABASE_TROUBLE:
        raise
    except Exception:
        logger.exception("a circle can't be broken", extra={"orders": sorted(members)})
        return 0


def _starts(raw: psycopg.Cursor[Row], since: datetime | str, last: int) -> list[int]:
    raw.execute(_BEGUN, [since, since, last, _LIMIT], prepare=True)
    return [row[0] for row in raw.fetchall()]


def _edges(raw: psycopg.Cursor[Row], fulfillment_ids: Collection[int]) -> list[Edge]:
    wanted = list(fulfillment_ids)
    raw.execute(_EDGES, [wanted, wanted], prepare=True)
    return [
        Edge(
            fulfillment_id=fulfillment_id,
            task_id=task_id,
            plan_id=plan_id,
            graph_id=graph_id,
            node=node,
            priority=priority,
            milestone=milestone,
            to=to,
        )
        for fulfillment_id, task_id, plan_id, graph_id, node, priority, milestone, to in (
            raw.fetchall()
        )
    ]


def _circle(
    raw: psycopg.Cursor[Row], start: int, *, among: Collection[int] | None = None
) -> list[Edge] | None:
    """The edges of a circle through `start`, in their order, if there is one (of these orders)."""
    edges: dict[int, list[Edge]] = {}
    ahead = [start]
    while ahead and len(edges) < _MOST:
        # Of the elements of one list one is enough.
        found = {(e.fulfillment_id, e.node, e.milestone, e.to): e for e in _edges(raw, ahead)}
        edges |= {one: [] for one in ahead}
        for edge in found.values():
            edges[edge.fulfillment_id].append(edge)
        wanted = {edge.to for edge in found.values()} - edges.keys()
        ahead = sorted(wanted if among is None else wanted.intersection(among))
    return next((way for first in edges[start] if (way := _back_to(first, edges))), None)


def _back_to(first: Edge, edges: Mapping[int, Sequence[Edge]]) -> list[Edge] | None:
    """The shortest way back to a wait, each of them kept waiting by the one that follows.

    An order may be on it more than once, with different waits.
    """
    before: dict[Edge, Edge | None] = {first: None}
    ahead = deque([first])
    while ahead:
        edge = ahead.popleft()
        for following in edges.get(edge.to, ()):
            if not _keeps_waiting(edge, following):
                continue
            if following == first:
                return _way_to(edge, before)
            if following not in before:
                before[following] = edge
                ahead.append(following)
    return None


def _way_to(last: Edge, before: Mapping[Edge, Edge | None]) -> list[Edge]:
    way = []
    at: Edge | None = last
    while at is not None:
        way.append(at)
        at = before[at]
    return way[::-1]


def _keeps_waiting(edge: Edge, following: Edge) -> bool:
    """Whether what `edge` waits for can't come before `following`'s own wait has ended.

    A lock that an order keeps to its end goes with its last task; a milestone waits for the
    tasks before the one that reaches it.
    """
    if not edge.milestone:
        return True
    graph = graphs.by_id(following.graph_id)
    carriers = graphs.milestone_carriers(following.graph_id).get(edge.milestone, frozenset())
    return following.node in carriers or bool(carriers & _after(graph, following.node))


def _after(graph: Graph, node: int) -> set[int]:
    found: set[int] = set()
    ahead = [node]
    while ahead:
        for one in graph.successors[ahead.pop()]:
            if one not in found:
                found.add(one)
                ahead.append(one)
    return found


def _break(unit: Unit, members: Collection[int]) -> int:
    """Under the locks of all of them: if it is still a circle, one wait ends as if in vain."""
    circle = _circle(unit.raw, min(members), among=members)
    if circle is None:
        return 0
    victim = _victim(circle)
    (task,) = tasks_by_id(unit.raw, [victim.task_id])
    unit.adopt_tasks([task])
    if task.state != TaskState.ACCEPTED:
        return 0
    on_the_way = dict.fromkeys(edge.fulfillment_id for edge in circle)
    names = [unit.fulfillments[one].order_reference for one in on_the_way]
    own = unit.fulfillments[victim.fulfillment_id].order_reference
    explanation = (
        f"These orders waited for each other: {', '.join(names)}. So {own} no longer waits for "
        f"the milestone {victim.milestone}: {task.key} has ended as if it had not come in time. "
        "Look whether the order is right without it."
    )
    unit.record(
        fulfillment_id=victim.fulfillment_id,
        entity="task",
        entity_id=str(task.id),
        name="break_circle",
        before=str(task.state),
        after=str(task.state),
        cause="orders waited for each other",
        details={"orders": names, "milestone": victim.milestone},
    )
    task.not_before = unit.now
    unit.touched_tasks.add(task.id)
    settlement.apply(
        unit,
        [
            Result(
                task_id=task.id,
                plan_id=victim.plan_id,
                fulfillment_id=victim.fulfillment_id,
                node=task.node,
                element=task.element,
                outcome=TIME_IS_UP,
            )
        ],
    )
    cases.open_case(
        unit,
        fallout=cases.Fallout(
            subject=f"circle:{victim.task_id}",
            category=CaseCategory.STUCK,
            severity=Severity.HIGH,
            reason_code="waited_in_a_circle",
            title=f"{own} · orders waited for each other",
            explanation=explanation,
            facts={"orders": names, "milestone": victim.milestone},
            fulfillment_id=victim.fulfillment_id,
            plan_id=victim.plan_id,
            task_id=victim.task_id,
        ),
    )
    logger.warning("a circle of waiting orders was broken", extra={"task": victim.task_id})
    return 1


def _victim(circle: Sequence[Edge]) -> Edge:
    """Of the waits for milestones that of the least important order, the youngest of those."""
    waits = [edge for edge in circle if edge.milestone]
    return min(waits, key=lambda edge: (edge.priority, -edge.fulfillment_id))
