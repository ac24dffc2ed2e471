"""What is stuck has a case, whatever else is open about its order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fulfillment import operations, stuck
from fulfillment.engine import cases
from fulfillment.engine.unit import run_unit
from fulfillment.models import CaseCategory, FalloutCase, HoldScope
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def test_a_dead_letter_does_not_hide_a_stuck_order(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    operations.pause_target(target="alpha", reason="a test", actor="a test")
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
    operations.place_hold(scope=HoldScope.TASK, name=str(task.pk), reason="a test", actor="a test")
    clock(60)
    desk.claim()
    task.refresh_from_db()
    assert task.held_by_id is not None
    desk.settle(desk.result(claim, desk.succeeded(), attempt_id=None, attempt_number=None))
    operations.pause_target(target="beta", reason="a test", actor="a test")
    clock(24 * 3600)
    stuck.detect_stuck()
    assert FalloutCase.objects.filter(category=CaseCategory.STUCK).count() == 1
