"""Clocks that follow from the order's data, and again from jeopardy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.timing import durations, jeopardy
from fulfillment.errors import DefinitionInvalid
from fulfillment.models import FalloutCase, MeasuredDuration, Task
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    durations.forget()


def ordered(timeouts: dict[str, Any], **fields: Any) -> Order:
    desk.target("alpha")
    desk.workflow({"one": desk.task(timeouts=timeouts)})
    return desk.order(**fields)


def task_of(order: Order) -> Task:
    return desk.tasks_of(order)["one@1"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("${order.customer.tier == 'gold' ? 3 : 30}", 3),
        ("${order.customer.tier == 'gold' ? 'PT2M' : 'PT5M'}", 120),
        ("${0.5 * 8.0}", 4),
    ],
)
def test_a_call_has_as_long_as_its_expression_says(
    systems: ScriptedSystems, text: str, seconds: float
) -> None:
    ordered({"call": text}, customer_tier="gold")
    (claim,) = desk.claim()
    assert claim.command.deadline == timedelta(seconds=seconds)


def test_it_is_computed_anew_in_jeopardy(systems: ScriptedSystems) -> None:
    """Expedited: shorter calls, and sooner given up."""
    MeasuredDuration.objects.create(
        workflow="thing",
        task="one",
        median_seconds=7200,
        p90_seconds=9000,
        samples=50,
        measured_at=desk.now(),
    )
    order = ordered(
        {
            "call": "${plan.in_jeopardy ? 10 : 30}",
            "schedule_to_close": "${plan.in_jeopardy ? 'PT10M' : 'PT2H'}",
        },
        promised_at=desk.now() + timedelta(hours=2, minutes=5),
    )
    before = task_of(order)
    assert before.limits == {"call": 30, "schedule_to_close": 7200}
    desk.advance(600)
    jeopardy.look()
    after = task_of(order)
    assert after.limits == {"call": 10, "schedule_to_close": 600}
    assert before.close_by is not None
    assert after.close_by == before.close_by - timedelta(seconds=7200 - 600)
    (claim,) = desk.claim()
    assert claim.command.deadline == timedelta(seconds=10)


def test_a_computed_clock_runs_out_as_any_other(systems: ScriptedSystems) -> None:
    order = ordered({"schedule_to_start": "${30 + 30}", "when_unsent": "cancel"})
    desk.advance(61)
    sweeping.sweep()
    assert task_of(order).state == "FAILED_FINAL"


@pytest.mark.parametrize("text", ["${order.id}", "${order.version - 1}", "${order.customer.tier}"])
def test_what_is_no_duration_is_for_a_person(systems: ScriptedSystems, text: str) -> None:
    order = ordered({"call": text}, customer_tier="gold")
    assert task_of(order).state == "AWAITING_MANUAL"
    case = FalloutCase.objects.get()
    assert case.reason_code == "fulfillment.clock_unusable"
    assert "The clock call is no duration" in case.explanation


@pytest.mark.parametrize("text", ["${order.nothing}", "${tasks.two.x}", "${1 +}"])
def test_what_can_not_be_read_is_refused_at_publish(systems: ScriptedSystems, text: str) -> None:
    desk.target("alpha")
    with pytest.raises(DefinitionInvalid) as refused:
        desk.workflow({"one": desk.task(timeouts={"call": text})})
    assert {fault.path for fault in refused.value.faults} == {"tasks.one.timeouts.call"}
