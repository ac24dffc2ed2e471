"""What a target system returns with its confirmation: used, or kept for a person to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adapters.contract import Outcome, OutcomeKind
from fulfillment.models import Attempt, Task
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

GOOD = {"number": "N-1"}


def test_outputs_flow_into_the_input_of_the_next_task(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}),
            "two": desk.task(
                depends_on=[{"output": "one.number"}], input={"line": "${tasks.one.number}"}
            ),
        }
    )
    systems.sends["one"] = [desk.succeeded(number="N-1", more="not declared")]
    order = desk.order()
    desk.drain()
    assert systems.sent[-1].payload == {"line": "N-1"}
    assert desk.tasks_of(order)["one@1"].outputs == {"number": "N-1"}


SPOILED: dict[str, Outcome] = {
    "missing": desk.succeeded(),
    "null": desk.succeeded(number=None),
    "of another type": desk.succeeded(number=7),
    "with a NUL": desk.succeeded(number="a\x00b"),
    "with a lone surrogate": desk.succeeded(number="\ud800"),
}


@pytest.mark.parametrize("outcome", SPOILED.values(), ids=SPOILED)
def test_a_success_with_unusable_outputs_waits_for_a_person(
    systems: ScriptedSystems, outcome: Outcome, clock: Callable[[float], None]
) -> None:
    claim = desk.a_claimed_task()
    desk.settle(desk.result(claim, outcome))
    task = Task.objects.get(pk=claim.task_id)
    assert task.state == "AWAITING_MANUAL"
    assert "alpha confirmed one" in task.blocked_reason
    assert task.outputs is None
    order = Order.objects.get()
    assert desk.states_of(order)["two@1"] == "PENDING"
    assert desk.plan_of(order).state == "BLOCKED"
    clock(3600)
    desk.drain()
    assert systems.sent == []  # it happened: it must not be sent again


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"deep": [float("-inf")]}])
def test_numbers_that_json_does_not_have_wait_for_a_person(value: Any) -> None:
    desk.target("alpha")
    kind = "object" if isinstance(value, dict) else "number"
    desk.workflow({"one": desk.task(outputs={"amount": kind})})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.succeeded(amount=value)))
    assert desk.states_of(order) == {"one@1": "AWAITING_MANUAL"}


def test_text_that_only_looks_like_an_escape_is_a_good_output() -> None:
    claim = desk.a_claimed_task()
    desk.settle(desk.result(claim, desk.succeeded(number="C:\\u0000")))
    task = Task.objects.get(pk=claim.task_id)
    assert (task.state, task.outputs) == ("SUCCEEDED", {"number": "C:\\u0000"})


@pytest.mark.parametrize("kind", OutcomeKind)
def test_text_that_can_not_be_stored_keeps_no_outcome_from_being_settled(kind: OutcomeKind) -> None:
    claim = desk.a_claimed_task()
    outcome = Outcome(
        kind=kind,
        outputs=GOOD,
        code="bad\x00\ud800" + "x" * 500,
        message="\x00\udfff" + "y" * 5000,
        reference="r\x00\ud800" + "z" * 500,
    )
    desk.settle(desk.result(claim, outcome))
    assert Task.objects.get(pk=claim.task_id).state != "DISPATCHED"
    attempt = Attempt.objects.get()
    assert attempt.outcome == kind
    assert attempt.code.startswith("bad")
    assert "\x00" not in attempt.code + attempt.message


def test_the_reference_of_the_target_is_kept() -> None:
    claim = desk.a_claimed_task()
    accepted = Outcome(kind=OutcomeKind.ACCEPTED, reference="T-77")
    desk.settle(desk.result(claim, accepted))
    assert Task.objects.get(pk=claim.task_id).reference == "T-77"
    desk.settle(desk.result(claim, desk.succeeded(**GOOD)))
    assert Task.objects.get(pk=claim.task_id).reference == "T-77"
