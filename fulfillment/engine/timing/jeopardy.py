"""Jeopardy: a plan that will be done later than was promised is told of before that comes true.

Nothing is computed while orders run. A plan with a promise has a moment, `look_at`, before which
it can't be in jeopardy: the promise, less what was still to be done when it was last looked at.
What has been done since only makes that moment later. So the look finds the few plans whose
moment has passed, in an index, and computes for those.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from fulfillment.definitions.estimates import critical_path, finish
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import Row, cursor
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.structure import places, priorities
from fulfillment.engine.timing import clocks, durations, outlook, standing
from fulfillment.engine.work import cases, events
from fulfillment.engine.work.rows import plans_by_id, tasks_by_plan
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Plan, Severity, Task
from fulfillment.states import PLAN_GOING_ON

logger = logging.getLogger(__name__)

LOOK_AGAIN = timedelta(minutes=1)
"""At the earliest: what is in jeopardy is estimated anew that often."""
AT_THE_LATEST = timedelta(hours=1)
"""However late it is."""
_DUE = """
SELECT id, fulfillment_id FROM fulfillment_plan
WHERE look_at <= (SELECT fulfillment_now()) ORDER BY look_at LIMIT %s
"""
_BATCH = 100
_ACTOR = "jeopardy"


def first_look(*, graph_id: int, due_at: datetime | None, now: datetime) -> datetime | None:
    """When a new plan is to be looked at, by how long such plans usually take."""
    if due_at is None:
        return None
    graph = graphs.by_id(graph_id)
    if any(node.wait is not None and node.wait.kind == "until" for node in graph.nodes):
        return now  # The times that it waits for are the order's own.
    return max(now, due_at - critical_path(graph=graph, usual=durations.usual()))


def look() -> int:
    """Estimate the plans whose moment has come; raise or clear jeopardy. Returns how many."""
    looked = 0
    while True:
        with cursor() as raw:
            raw.execute(_DUE, [_BATCH], prepare=True)
            due = raw.fetchall()
        if due:
            in_halves(due, work=_look_together, culprit=_leave)
            looked += len(due)
        if len(due) < _BATCH:
            return looked


def _look_together(batch: Sequence[Row]) -> list[None]:
    run_unit(
        partial(_look, plan_ids=[row[0] for row in batch]),
        fulfillment_ids=(row[1] for row in batch),
        actor=_ACTOR,
    )
    return []


def _leave(row: Row, error: Exception) -> None:
    logger.error("a plan can't be estimated", exc_info=error, extra={"plan": row[0]})
    run_unit(partial(_put_off, plan_id=row[0]), fulfillment_ids=[row[1]], actor=_ACTOR)


def _put_off(unit: Unit, plan_id: int) -> None:
    for plan in plans_by_id(unit.raw, [plan_id]):
        unit.adopt_plans([plan])
        plan.look_at = unit.now + timedelta(hours=1)
        unit.touched_plans.add(plan.id)


def _look(unit: Unit, plan_ids: Sequence[int]) -> None:
    unit.adopt_plans(plans_by_id(unit.raw, plan_ids))
    unit.adopt_tasks(tasks_by_plan(unit.raw, plan_ids))
    for plan_id in plan_ids:
        plan = unit.plans[plan_id]
        tasks = [task for task in unit.tasks.values() if task.plan_id == plan_id]
        _estimate(unit, plan, tasks)


def _estimate(unit: Unit, plan: Plan, tasks: Sequence[Task]) -> None:
    unit.touched_plans.add(plan.id)
    if plan.state not in PLAN_GOING_ON or plan.due_at is None:
        plan.look_at = None
        return
    graph = graphs.by_id(plan.graph_id)
    choices = places.choices(unit, plan=plan, element=0)
    done = finish(
        graph=graph,
        standing=outlook.standings(graph=graph, tasks=tasks, choices=choices),
        usual=durations.usual(),
        now=unit.now,
    )
    plan.estimated_at = done
    promised = standing.promised(unit, plan=plan)
    assert promised is not None
    slack = promised - done
    if slack >= timedelta(0):
        plan.look_at = unit.now + max(slack, LOOK_AGAIN)
        if plan.at_risk_since is not None:
            _clear(unit, plan, promised, done)
        return
    plan.look_at = unit.now + min(max(LOOK_AGAIN, -slack / 10), AT_THE_LATEST)
    _open_case(unit, plan, promised, done)
    if plan.at_risk_since is None:
        plan.at_risk_since = unit.now
        _raise(unit, plan, promised, done)


def _raise(unit: Unit, plan: Plan, promised: datetime, done: datetime) -> None:
    unit.record(
        fulfillment_id=plan.fulfillment_id,
        entity="plan",
        entity_id=str(plan.id),
        name="in_jeopardy",
        before=str(plan.state),
        after=str(plan.state),
        cause="it will be done later than was promised",
        details={"promised": promised.isoformat(), "estimated": done.isoformat()},
    )
    _tell(unit, plan, events.IN_JEOPARDY, promised, done)
    priorities.renew(unit, plan=plan)
    clocks.renew(unit, plan=plan)


def _open_case(unit: Unit, plan: Plan, promised: datetime, done: datetime) -> None:
    """Or bring it up to date: the estimate moves, and what will be late is late one day."""
    reference = unit.fulfillments[plan.fulfillment_id].order_reference
    is_late = unit.now > promised
    late = "is late already" if is_late else "will be late"
    cases.open_case(
        unit,
        fallout=cases.Fallout(
            subject=_subject(plan),
            category=CaseCategory.JEOPARDY,
            severity=Severity.HIGH if is_late else Severity.MEDIUM,
            reason_code="late" if is_late else "will_be_late",
            title=f"{reference} · {late}",
            explanation=f"{reference} was promised for {promised:%Y-%m-%d %H:%M} UTC and "
            f"{late}: by how long such tasks usually take it will be done at "
            f"{done:%Y-%m-%d %H:%M} UTC. What it waits for stands on its page; "
            f"`manage.py why {reference}` says it, too.",
            facts={"promised": promised.isoformat(), "estimated": done.isoformat()},
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.id,
            customer_impact="The customer gets it later than was promised.",
        ),
    )


def over(unit: Unit, *, plan: Plan) -> None:
    """The plan is done, in time or not: nobody need hurry any more."""
    plan.look_at = None
    if plan.at_risk_since is not None:
        cases.resolve_cases(unit, subjects=[_subject(plan)], resolution="It is done.")


def pass_on(unit: Unit, *, plan: Plan, successor: Plan) -> None:
    """The next version is as late as this one, unless nothing is promised of it any more."""
    if successor.due_at is not None:
        successor.at_risk_since, successor.estimated_at = plan.at_risk_since, plan.estimated_at
    elif plan.at_risk_since is not None:
        cases.resolve_cases(
            unit, subjects=[_subject(plan)], resolution="No time is promised for it any more."
        )


def _clear(unit: Unit, plan: Plan, promised: datetime, done: datetime) -> None:
    plan.at_risk_since = None
    _tell(unit, plan, events.OUT_OF_JEOPARDY, promised, done)
    cases.resolve_cases(
        unit, subjects=[_subject(plan)], resolution="It will be done in time after all."
    )
    priorities.renew(unit, plan=plan)
    clocks.renew(unit, plan=plan)


def _tell(unit: Unit, plan: Plan, event_type: str, promised: datetime, done: datetime) -> None:
    unit.emit(
        fulfillment_id=plan.fulfillment_id,
        event_type=event_type,
        payload={
            "plan": plan.id,
            "promised_at": promised.isoformat(),
            "estimated_at": done.isoformat(),
        },
        plan_id=plan.id,
    )


def _subject(plan: Plan) -> str:
    # Of the order's, as a later version of its plan goes on being late.
    return f"jeopardy:{plan.fulfillment_id}"
