"""A claim: a fan-out over sub-processes that decide, ask people and fall back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from fulfillment import operations
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning
from fulfillment.models import FalloutCase, ManualTask
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
MIXES = Path(__file__).parent / "mixes"


@pytest.fixture(autouse=True)
def claims() -> None:
    desk.target("alpha")
    desk.target("beta")
    files = [str(MIXES / f"{name}.yaml") for name in ("insurance-claim", "one-damage")]
    call_command("workflows", "publish", *files, verbosity=0)


def claim(systems: ScriptedSystems, *values: Any) -> Order:
    systems.sends["register"] = [desk.succeeded(damages=[{"value": one} for one in values])]
    order = desk.order(desk.item("claim"))
    desk.finish()
    return order


def decide(order: Order, task: str, outcome: str, **values: Any) -> None:
    asked = ManualTask.objects.get(task__key=task, fulfillment_id=order.fulfillment_id)
    operations.decide(
        manual_id=asked.pk, outcome=outcome, actor=by("ann"), reason="a test", values=values
    )
    desk.finish()


def sent(systems: ScriptedSystems, action: str) -> list[Any]:
    return [command.payload for command in systems.sent if command.action == action]


def test_each_damage_goes_its_own_way_and_the_claim_is_paid(systems: ScriptedSystems) -> None:
    systems.sends["table"] = [desk.succeeded(amount=25), desk.rejected(), desk.rejected()]
    systems.sends["old_table"] = [desk.succeeded(amount=30.5), desk.rejected()]
    order = claim(systems, 5, 500, 50, 60, 70)
    decide(order, "assess/expert@1[2]", "assessed", amount=400)
    decide(order, "verify@1", "pay", deduct=50)
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert sent(systems, "pay") == [{"most": 350.0, "assessed": [0.0, 400, 25, 30.5]}]
    assert not sent(systems, "refuse")


def test_an_expert_who_says_nothing_assesses_nothing(systems: ScriptedSystems) -> None:
    order = claim(systems, 500)
    desk.advance(3601)
    sweeping.sweep()
    scanning.scan()
    desk.finish()
    decide(order, "verify@1", "refuse")
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert sent(systems, "close")
    assert not sent(systems, "pay")


def test_a_claim_without_damages_is_shown_to_a_person(systems: ScriptedSystems) -> None:
    order = claim(systems)
    assert desk.states_of(order)["verify@1"] == "AWAITING_MANUAL"
    assert "Nothing was assessed." in FalloutCase.objects.get().explanation


def test_too_many_failures_stop_the_claim_and_are_tried_again_alone(
    systems: ScriptedSystems,
) -> None:
    systems.sends["table"] = [desk.rejected(), desk.rejected(), desk.succeeded(amount=10)]
    systems.sends["old_table"] = [desk.rejected(), desk.rejected()]
    order = claim(systems, 20, 30, 40)
    assert desk.states_of(order)["assess@1"] == "FAILED_FINAL"
    title = FalloutCase.objects.get(state="OPEN", reason_code__contains="fan_out").title
    assert title.endswith("Assess each damage: it has failed for good")
    systems.sends["table"] = [desk.succeeded(amount=11), desk.succeeded(amount=12)]
    end = desk.tasks_of(order)["assess@1"]
    operations.retry(task_id=end.pk, actor=by("ann"), reason="Mended.")
    desk.finish()
    assert len(sent(systems, "table")) == 5
    decide(order, "verify@1", "pay")
    assert sent(systems, "pay") == [{"most": 12.0, "assessed": [11, 12, 10]}]
