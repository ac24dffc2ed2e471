"""Plans that are to be given up or changed: looked at when something of them has ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial

from fulfillment.definitions.concern import ChangeKind
from fulfillment.definitions.pruning import without_items, without_what_follows
from fulfillment.engine.plans import migrating, undoing, withholding
from fulfillment.engine.plans.concern import Wanted
from fulfillment.engine.plans.withholding import What
from fulfillment.engine.store import failpoints, graphs
from fulfillment.engine.store.database import DATABASE_TROUBLE, Row, cursor
from fulfillment.engine.work import cases
from fulfillment.engine.work.port import registered
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Plan, Severity, Task
from fulfillment.states import PLAN_GOING_ON, PlanState, TaskState

logger = logging.getLogger(__name__)

_LEASE = timedelta(seconds=10)
"""Of whoever looks: as long as nobody else does, unless something ends meanwhile."""
_LOOK_AGAIN = timedelta(minutes=1)
"""At what is still under way; whatever of it ends is looked at then."""
_BATCH = 100
# Put off before anything is done: who dies over it, or can't do it, does not keep the others.
_DUE = """
UPDATE fulfillment_plan SET rest_due_at = fulfillment_now() + %s WHERE id IN (
    SELECT id FROM fulfillment_plan
    WHERE rest_due_at <= (SELECT fulfillment_now())
      AND state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED')
    ORDER BY rest_due_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
) RETURNING id, fulfillment_id, giving_up <> '', rest_due_at
"""
# Unless something has ended since: that is to be looked at.
_LOOKED_AT = """
UPDATE fulfillment_plan p SET rest_due_at = fulfillment_now() + %s
FROM unnest(%s::bigint[], %s::timestamptz[]) AS v(id, leased_until)
WHERE p.id = v.id AND p.rest_due_at = v.leased_until
"""
_ACTOR = "engine"
_NOTHING = ("",)
"""No task is called so: of those that are given up none is undone."""
_ASKED = "Somebody has asked to cancel or to change it, and that is decided first."


def look() -> int:
    """Decide about the plans that may rest by now. Returns how many were looked at."""
    looked = 0
    while True:
        with cursor() as raw:
            raw.execute(_DUE, [_LEASE, _BATCH], prepare=True)
            rows = raw.fetchall()
        if rows:
            failpoints.reach("rest.put_off")
            # Whoever has asked for it comes before what the engine would do by itself.
            registered().decide(fulfillment_ids=[row[1] for row in rows])
            _undo([row for row in rows if row[2]])
            with cursor() as raw:
                leases = [row[0] for row in rows], [row[3] for row in rows]
                raw.execute(_LOOKED_AT, [_LOOK_AGAIN, *leases], prepare=True)
        looked += len(rows)
        if len(rows) < _BATCH:
            return looked


def _undo(rows: Sequence[Row]) -> None:
    for plan_id, fulfillment_id, *_ in rows:
        try:
            run_unit(
                partial(_undo_one, plan_id=plan_id),
                fulfillment_ids=[fulfillment_id],
                actor=_ACTOR,
            )
        except DATABASE_TROUBLE:
            raise
        except Exception as error:
            logger.exception("a plan can't be undone", extra={"plan": plan_id})
            run_unit(
                partial(_file, plan_id=plan_id, fulfillment_id=fulfillment_id, error=error),
                fulfillment_ids=[fulfillment_id],
                actor=_ACTOR,
            )


def _file(unit: Unit, plan_id: int, fulfillment_id: int, error: Exception) -> None:
    """Nothing of it is sent, and nobody else would see why."""
    cases.open_case(
        unit,
        fallout=cases.poison(
            subject=cases.of_plan(plan_id),
            what=f"What was done under plan {plan_id} can't be undone",
            error=error,
            fulfillment_id=fulfillment_id,
            plan_id=plan_id,
        ),
    )


def _undo_one(unit: Unit, plan_id: int) -> None:
    unit.adopt_plans(plans_by_id(unit.raw, [plan_id]))
    plan = unit.plans[plan_id]
    if plan.state not in PLAN_GOING_ON or not plan.giving_up:
        return
    what = withholding.what_of(plan)
    if not what.is_whole:
        what = _with_what_else_failed(unit, plan, what)
    wanted = None if what.is_whole else _without(plan, what)
    only = _NOTHING if what.failed else what.only
    assessment = undoing.assess(unit, plan=plan, wanted=wanted, only=only)
    if assessment.refusals:
        _can_not_be_undone(unit, plan, " ".join(one.message for one in assessment.refusals))
    elif assessment.is_at_rest:
        failpoints.reach("rest.before_undo")
        reason = plan.giving_up
        withholding.forget(unit, plan=plan)
        successor = undoing.carry_out(
            unit,
            plan=plan,
            wanted=wanted,
            assessment=assessment,
            reason=reason,
            ends_as=PlanState.FAILED,
            only=only,
        )
        if wanted is not None:
            _take_over(unit, successor)


def _take_over(unit: Unit, plan: Plan) -> None:
    """What the plan before still had to wait for, this one waits for."""
    for task, more in _failed(unit, plan):
        reason = f"{task.key} has failed for good: {task.blocked_reason}"
        withholding.give_up(unit, plan=plan, reason=reason, what=more)
    if registered().awaits_rest(fulfillment_id=plan.fulfillment_id):
        withholding.await_rest(unit, plan=plan, reason=_ASKED)


def _with_what_else_failed(unit: Unit, plan: Plan, what: What) -> What:
    """Something else may have failed for good while this was waited for."""
    for _, more in _failed(unit, plan):
        what = what.with_also(more)
    return what


def _failed(unit: Unit, plan: Plan) -> Iterator[tuple[Task, What]]:
    """Tasks that have failed for good, and what is given up for them."""
    for task in migrating.tasks_of(unit, plan=plan):
        if task.required and task.state == TaskState.FAILED_FINAL:
            more = withholding.what_follows(plan, task=task)
            if more is not None:
                yield task, more


def _without(plan: Plan, what: What) -> Wanted | None:
    """The order without what is given up; None when nothing would be left of it."""
    before, context = graphs.by_id(plan.graph_id), graphs.context_of(plan)
    items = dict(context["items"])
    if what.failed:
        failed = [node.index for node in before.nodes if node.key in what.failed]
        graph = without_what_follows(before, failed=failed, of_item=bool(what.items))
        given_up = {at for node in failed for at in before.nodes[node].items}
    else:
        graph = without_items(before, items=what.items)
        given_up = set(what.items)
        items = {at: item for at, item in items.items() if int(at) not in given_up}
    if not any(node.required for node in graph.nodes):
        return None
    return Wanted(
        graph=graph,
        context={
            **context,
            "items": items,
            "given_up": sorted(given_up.union(context.get("given_up", ()))),
        },
        order_version=plan.order_version,
        changed={0: [ChangeKind.ITEMS]},
    )


def _can_not_be_undone(unit: Unit, plan: Plan, reasons: str) -> None:
    cases.open_case(
        unit,
        fallout=cases.Fallout(
            subject=cases.of_plan(plan.pk),
            category=CaseCategory.REFUSED,
            severity=Severity.HIGH,
            reason_code="cannot_be_undone",
            title="What has failed can't be undone",
            explanation=f"{plan.giving_up} It was to be undone, and can't be: {reasons} "
            "Repair what has failed, or settle it with the customer.",
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.pk,
        ),
    )
    withholding.forget(unit, plan=plan)
    if not registered().awaits_rest(fulfillment_id=plan.fulfillment_id):
        withholding.let_go_on(unit, plan=plan, reason=f"It can't be undone: {reasons}")
