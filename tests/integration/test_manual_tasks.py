"""Manual tasks: a person decides, or the deadline does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from fulfillment import operations
from fulfillment.engine.dispatch import sweeping
from fulfillment.errors import DecisionMade, DefinitionInvalid, ManualTaskUnknown, OutcomeUnknown
from fulfillment.models import FalloutCase, ManualTask, Operation, Transition
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]


def approval(**more: Any) -> dict[str, Any]:
    return {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Is it worth it?",
        "within": "PT4H",
        "otherwise": "escalate",
        "outcomes": {"approved": "proceed", "changed": "proceed", "rejected": "refuse"},
        **more,
    }


def asked(**more: Any) -> Order:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(),
            "review": desk.step(
                after=["one"],
                manual=approval(**more),
                fields={"limit": {"type": "integer", "optional": True}},
            ),
            "two": desk.task(
                depends_on=[{"output": "review.outcome"}, {"output": "review.limit"}],
                input={"how": "${tasks.review.outcome}", "limit": "${tasks.review.limit?}"},
            ),
        }
    )
    order = desk.order()
    desk.finish()
    return order


def decide(outcome: str = "approved", **more: Any) -> ManualTask:
    return operations.decide(
        manual_id=ManualTask.objects.get().pk, outcome=outcome, actor=by("ann"), reason="ok", **more
    )


def test_a_person_is_asked_with_what_there_is_to_know(systems: ScriptedSystems) -> None:
    order = asked()
    manual = ManualTask.objects.get()
    assert (manual.queue, manual.role, manual.state) == ("approvals", "manager", "OPEN")
    assert manual.context["order"]["external_id"] == order.external_id
    assert manual.fields == {"limit": {"type": "integer", "optional": True}}
    assert desk.states_of(order)["review@1"] == "AWAITING_MANUAL"
    assert desk.plan_of(order).state == "BLOCKED"
    assert not FalloutCase.objects.exists()


def test_the_decision_and_what_was_entered_are_outputs(systems: ScriptedSystems) -> None:
    order = asked()
    decide(values={"limit": 5})
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.sent[-1].payload == {"how": "approved", "limit": 5}
    row = Transition.objects.get(name="succeed", cause__contains="approved")
    assert row.actor == "ann"
    assert Operation.objects.get(kind="decide").after == {
        "outcome": "approved",
        "values": {"limit": 5},
    }


def test_a_refusal_fails_the_task_and_has_a_case(systems: ScriptedSystems) -> None:
    order = asked()
    decide("rejected")
    desk.finish()
    assert desk.states_of(order)["review@1"] == "FAILED_FINAL"
    assert desk.states_of(order)["two@1"] == "PENDING"
    assert FalloutCase.objects.get().reason_code == "decided_rejected"


def test_of_two_decisions_one_counts_and_the_other_is_told(systems: ScriptedSystems) -> None:
    asked()
    decide()
    with pytest.raises(DecisionMade, match="ann was quicker, with approved"):
        decide("rejected")
    assert Operation.objects.filter(kind="decide").count() == 1


def test_bad_decisions_are_refused_and_change_nothing(systems: ScriptedSystems) -> None:
    order = asked()
    with pytest.raises(OutcomeUnknown, match="it has: .*approved"):
        decide("maybe")
    with pytest.raises(DefinitionInvalid, match="should be integer"):
        decide(values={"limit": "five"})
    with pytest.raises(ManualTaskUnknown):
        operations.decide(manual_id=0, outcome="approved", actor=by("ann"), reason="ok")
    assert desk.states_of(order)["review@1"] == "AWAITING_MANUAL"
    assert ManualTask.objects.get().state == "OPEN"


def test_nobody_decides_in_time_and_somebody_is_told(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = asked()
    clock(4 * 3600 + 1)
    sweeping.sweep()
    sweeping.sweep()
    assert desk.states_of(order)["review@1"] == "AWAITING_MANUAL"
    assert FalloutCase.objects.get().reason_code == "decision_overdue"
    decide()
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert not FalloutCase.objects.filter(state="OPEN").exists()


def test_the_deadline_may_decide(systems: ScriptedSystems, clock: Clock) -> None:
    order = asked(otherwise="changed")
    clock(4 * 3600 + 1)
    sweeping.sweep()
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert ManualTask.objects.get().decided_by == "deadline"


def test_what_follows_depends_on_the_outcome(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "survey": desk.step(
                manual=approval(outcomes={"dry": "proceed", "wet": "proceed"}),
            ),
            "lay": desk.task(depends_on=[{"human": "survey", "outcomes": ["dry"]}]),
            "drain": desk.task(depends_on=[{"human": "survey", "outcomes": ["wet"]}]),
            "after_drain": desk.task(after=["drain"]),
            "close": desk.task(after=["lay", "after_drain"], join="deferred"),
        }
    )
    order = desk.order()
    decide("wet")
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert set(desk.states_of(order)) == {"survey@1", "drain@1", "after_drain@1", "close@1"}


ROUTED = {"queue": "${order.region.lowerAscii()}_approvals", "role": "${tasks.one.role}"}


def routed(systems: ScriptedSystems, role: str, *, region: str = "AT") -> Order:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(outputs={"role": "string"}),
            "review": desk.step(
                title="Review it",
                manual=approval(**ROUTED),
                depends_on=[{"output": "one.role"}],
            ),
        }
    )
    systems.sends["one"] = [desk.succeeded(role=role)]
    order = desk.order(region=region)
    desk.finish()
    return order


def test_queue_and_role_may_come_from_the_order_and_from_what_was_found_out(
    systems: ScriptedSystems,
) -> None:
    routed(systems, "senior-manager")
    manual = ManualTask.objects.get()
    assert (manual.queue, manual.role) == ("at_approvals", "senior-manager")
    assert "senior-manager has to decide: Review it (queue at_approvals)" in (
        manual.task.blocked_reason
    )


@pytest.mark.parametrize("role", ["", "two words", "x" * 64])
def test_what_is_no_name_goes_to_a_person(systems: ScriptedSystems, role: str) -> None:
    order = routed(systems, role)
    assert desk.states_of(order)["review@1"] == "AWAITING_MANUAL"
    repair = ManualTask.objects.get()
    assert (repair.origin, repair.trouble, repair.queue) == ("REPAIR", "INPUT", "data")
    case = FalloutCase.objects.get()
    assert case.reason_code == "fulfillment.no_name"
    assert "can't be the queue or the role of a manual task" in case.explanation


@pytest.mark.parametrize(
    ("queue", "told"),
    [
        ("${order.regoin}", "definition.reference_path"),
        ("${tasks.one.role}", "definition.output_without_dependency"),
        ("Approvals", "manual.queue"),
    ],
)
def test_a_queue_that_can_not_be_is_refused(queue: str, told: str) -> None:
    desk.target("alpha")
    with pytest.raises((DefinitionInvalid, ValidationError), match=told):
        desk.workflow(
            {
                "one": desk.task(outputs={"role": "string"}),
                "review": desk.step(manual=approval(queue=queue), after=["one"]),
            }
        )
