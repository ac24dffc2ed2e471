"""What is stuck has a case, whatever else is open about its order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fulfillment import operations, stuck
from fulfillment.engine.work import cases
from fulfillment.engine.work.running import run_unit
from fulfillment.models import CaseCategory, FalloutCase, HoldScope
from fulfillment.queries.why import why
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def test_a_dead_letter_does_not_hide_a_stuck_order(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    operations.pause_target(target="alpha", reason="a test", actor=by("a test"))
    run_unit(
        lambda unit: cases.open_case(
            unit,
            fallout=cases.Fallout(
                subject="undelivered:shop:" + order.reference,
                category=CaseCategory.UNDELIVERED,
                reason_code="event.undelivered",
                title="a webhook",
                explanation="x",
                fulfillment_id=order.fulfillment_id,
            ),
        ),
        fulfillment_ids=[order.fulfillment_id],
        actor="a test",
    )
    clock(24 * 3600)
    stuck.detect_stuck()
    assert FalloutCase.objects.filter(category=CaseCategory.STUCK).count() == 1


@pytest.mark.parametrize(
    ("subject", "category"),
    [("jeopardy:1", CaseCategory.JEOPARDY), ("circle:1", CaseCategory.STUCK)],
)
def test_a_promise_in_jeopardy_does_not_hide_a_stuck_order(
    systems: ScriptedSystems, clock: Clock, subject: str, category: CaseCategory
) -> None:
    """Nor does a circle that was broken: neither says why nothing moves now."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    operations.pause_target(target="alpha", reason="a test", actor=by("a test"))
    run_unit(
        lambda unit: cases.open_case(
            unit,
            fallout=cases.Fallout(
                subject=subject,
                category=category,
                reason_code="will_be_late",
                title="it will be late",
                explanation="x",
                fulfillment_id=order.fulfillment_id,
            ),
        ),
        fulfillment_ids=[order.fulfillment_id],
        actor="a test",
    )
    clock(24 * 3600)
    stuck.detect_stuck()
    case = FalloutCase.objects.get(subject=cases.of_plan(desk.plan_of(order).pk))
    assert case.explanation.startswith(why(fulfillment_id=order.fulfillment_id).sentence)


def test_the_case_follows_when_something_else_keeps_the_order(
    systems: ScriptedSystems, clock: Clock
) -> None:
    """No task has moved meanwhile; the case says what `why` says all the same."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    clock(24 * 3600)
    stuck.detect_stuck()
    (before,) = FalloutCase.objects.all()
    assert before.reason_code == "not_sent"
    operations.pause_target(target="alpha", reason="They move house.", actor=by("anna"))
    clock(stuck.LOOK_FOR_CASE.total_seconds() + 1)
    stuck.detect_stuck()
    (after,) = FalloutCase.objects.all()
    assert (after.pk, after.reason_code) == (before.pk, "target_paused")
    assert after.explanation.startswith(why(fulfillment_id=order.fulfillment_id).sentence)
    assert after.facts["cause"] == "PAUSED"
    operations.resume_target(target="alpha", reason="They are back.", actor=by("anna"))
    operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="The customer called.", actor=by("anna")
    )
    assert desk.claim() == []
    clock(stuck.LOOK_FOR_CASE.total_seconds() + 1)
    stuck.detect_stuck()
    (held,) = FalloutCase.objects.all()
    assert (held.pk, held.reason_code) == (before.pk, "held")


def test_a_hold_on_what_has_succeeded_does_not_hide_a_stuck_order(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"one": desk.task(), "two": desk.task("beta", after=["one"])})
    systems.sends["one"] = [desk.failed()]
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.failed()))
    task = desk.tasks_of(order)["one@1"]
    operations.place_hold(
        scope=HoldScope.TASK, name=str(task.pk), reason="a test", actor=by("a test")
    )
    clock(60)
    desk.claim()
    task.refresh_from_db()
    assert task.held_by_id is not None
    desk.settle(desk.result(claim, desk.succeeded(), attempt_id=None, attempt_number=None))
    operations.pause_target(target="beta", reason="a test", actor=by("a test"))
    clock(24 * 3600)
    stuck.detect_stuck()
    assert FalloutCase.objects.filter(category=CaseCategory.STUCK).count() == 1
