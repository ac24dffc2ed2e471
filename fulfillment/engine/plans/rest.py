"""Plans that are to be given up or changed: looked at when something of them has ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from fulfillment.engine.plans import undoing, withholding
from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import DATABASE_TROUBLE, Row, cursor
from fulfillment.engine.work import cases
from fulfillment.engine.work.port import registered
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.unit import Unit, run_unit
from fulfillment.models import CaseCategory, Severity
from fulfillment.states import PLAN_GOING_ON, PlanState

logger = logging.getLogger(__name__)

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
) RETURNING id, fulfillment_id, giving_up <> ''
"""
_ACTOR = "engine"


def look() -> int:
    """Decide about the plans that may rest by now. Returns how many were looked at."""
    looked = 0
    while True:
        with cursor() as raw:
            raw.execute(_DUE, [_LOOK_AGAIN, _BATCH], prepare=True)
            rows = raw.fetchall()
        # Whoever has asked for it comes before what the engine would do by itself.
        if rows:
            failpoints.reach("rest.put_off")
            registered().decide(fulfillment_ids=[row[1] for row in rows])
        _undo([row for row in rows if row[2]])
        looked += len(rows)
        if len(rows) < _BATCH:
            return looked


def _undo(rows: Sequence[Row]) -> None:
    for plan_id, fulfillment_id, _ in rows:
        try:
            run_unit(
                partial(_undo_one, plan_id=plan_id),
                fulfillment_ids=[fulfillment_id],
                actor=_ACTOR,
            )
        except DATABASE_TROUBLE:
            raise
        except Exception:
            logger.exception("a plan can't be undone", extra={"plan": plan_id})


def _undo_one(unit: Unit, plan_id: int) -> None:
    unit.adopt_plans(plans_by_id(unit.raw, [plan_id]))
    plan = unit.plans[plan_id]
    if plan.state not in PLAN_GOING_ON or not plan.giving_up:
        return
    only = plan.undo_only or ()
    assessment = undoing.assess(unit, plan=plan, wanted=None, only=only)
    if assessment.refusals:
        reasons = " ".join(refusal.message for refusal in assessment.refusals)
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
        withholding.let_go_on(unit, plan=plan, reason=f"It can't be undone: {reasons}")
        return
    if not assessment.is_at_rest:
        return
    failpoints.reach("rest.before_undo")
    undoing.carry_out(
        unit,
        plan=plan,
        wanted=None,
        assessment=assessment,
        reason=plan.giving_up,
        ends_as=PlanState.FAILED,
        only=only,
    )
