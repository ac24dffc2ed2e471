"""Asking target systems whether an order can be done, before it is accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from adapters.contract import Command as ContractCommand
from adapters.contract import OutcomeKind
from fulfillment.engine.work.audit import verify
from fulfillment.models import Command, FalloutCase, Fulfillment, OutboxEvent, Plan
from oms.intake import feasibility
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.together import closing, together

Clock = Callable[[float], None]
CHECK = {"target": "alpha", "action": "can_it", "input": {"site": "${item.place.id}"}}


def an_offering(*checks: dict[str, Any]) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, feasibility=list(checks or [CHECK]))


def an_order(**fields: Any) -> Order:
    return desk.order(desk.item(place={"id": "S-1"}), **fields)


def state_of(order: Order) -> str:
    order.refresh_from_db()
    return str(order.state)


@pytest.mark.django_db
def test_an_order_waits_in_validation_until_it_is_known_to_be_feasible(
    systems: ScriptedSystems,
) -> None:
    an_offering()
    order = an_order(priority=3)
    assert state_of(order) == "VALIDATING"
    assert order.waiting_reason == feasibility.ASKING
    assert not Plan.objects.exists()
    assert feasibility.assess() == 1
    assert state_of(order) == "IN_PROGRESS"
    assert (order.waiting_reason, order.feasibility_due_at) == ("", None)
    (question,) = systems.sent
    assert (question.action, question.payload) == ("can_it", {"site": "S-1"})
    assert question.deadline == timedelta(seconds=5)
    assert Command.objects.get().action == "one"  # a question leaves no command
    assert desk.tasks_of(order)["one@1"].priority == 3
    desk.drain()
    assert state_of(order) == "COMPLETED"
    assert verify(fulfillment_id=order.fulfillment_id) == []


@pytest.mark.django_db
def test_an_order_that_is_not_feasible_is_rejected_with_every_refusal(
    systems: ScriptedSystems,
) -> None:
    an_offering(CHECK, {"target": "alpha", "action": "is_allowed", "scope": "order"})
    systems.sends["can_it"] = [desk.succeeded(), desk.rejected("no_line")]
    systems.sends["is_allowed"] = [desk.rejected("not_here")]
    place = {"id": "S-1"}
    order = desk.order(desk.item(place=place), desk.item(item_id="2", place=place))
    feasibility.assess()
    assert state_of(order) == "REJECTED"
    assert [(fault["code"], fault["path"]) for fault in order.faults] == [
        ("feasibility.refused", "order"),
        ("feasibility.refused", "items[1]"),
    ]
    assert order.finished_at is not None
    assert not Plan.objects.exists()
    assert OutboxEvent.objects.get().event_type == "OrderRejected"
    assert feasibility.assess() == 0


@pytest.mark.django_db
def test_a_value_that_the_question_needs_and_the_order_lacks_is_a_fault(
    systems: ScriptedSystems,
) -> None:
    an_offering()
    order = desk.order()
    feasibility.assess()
    assert state_of(order) == "REJECTED"
    (fault,) = order.faults
    assert (fault["code"], fault["path"]) == ("feasibility.value_missing", "items[0]")
    assert "item.place.id" in fault["message"]
    assert systems.sent == []


def explodes(_: Any) -> desk.Outcome:
    raise RuntimeError("the wire burns")


@pytest.mark.django_db
@pytest.mark.parametrize("trouble", [desk.unknown(), desk.failed(), desk.accepted(), explodes])
def test_trouble_keeps_an_order_waiting_and_is_told_and_later_it_goes_on(
    systems: ScriptedSystems, clock: Clock, trouble: Any
) -> None:
    an_offering()
    systems.sends["can_it"] = [trouble, trouble]
    order = an_order()
    feasibility.assess()
    assert state_of(order) == "VALIDATING"
    assert order.waiting_reason.startswith("alpha did not answer can_it")
    assert feasibility.assess() == 0  # not before its time
    clock(4)
    assert feasibility.assess() == 1
    assert state_of(order) == "VALIDATING"
    assert order.feasibility_attempts == 2
    clock(4)
    assert feasibility.assess() == 0  # and each pause is longer than the last
    clock(4)
    assert feasibility.assess() == 1
    assert state_of(order) == "IN_PROGRESS"
    assert order.waiting_reason == ""


@pytest.mark.django_db
def test_an_order_that_nobody_can_judge_has_a_case_until_somebody_does(
    systems: ScriptedSystems, clock: Clock
) -> None:
    an_offering()
    systems.sends["can_it"] = [desk.unknown()] * 6
    order = an_order()
    for _ in range(4):
        feasibility.assess()
        clock(600)
    assert not FalloutCase.objects.exists()
    feasibility.assess()
    case = FalloutCase.objects.get()
    assert (case.reason_code, case.fulfillment_id) == (
        "feasibility_unanswered",
        order.fulfillment_id,
    )
    for _ in range(2):
        clock(600)
        feasibility.assess()
    assert state_of(order) == "IN_PROGRESS"
    assert FalloutCase.objects.get().state == "RESOLVED"
    assert verify(fulfillment_id=order.fulfillment_id) == []


@pytest.mark.django_db
def test_an_order_with_which_the_decision_fails_has_a_case_and_others_are_decided(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_offering()
    bad, good = an_order(), an_order()
    real = feasibility.request_of

    def broken(order: Order) -> Any:
        if order.pk == bad.pk and order.feasibility_attempts:
            raise ValueError("a row that can't be read")
        return real(order)

    monkeypatch.setattr(feasibility, "request_of", broken)
    feasibility.assess()
    assert (state_of(bad), state_of(good)) == ("VALIDATING", "IN_PROGRESS")
    case = FalloutCase.objects.get()
    assert (case.category, case.fulfillment_id) == ("POISON", bad.fulfillment_id)


@pytest.mark.django_db
def test_trouble_with_one_question_rejects_nothing(systems: ScriptedSystems) -> None:
    """A refusal counts only together with every other answer: all faults at once."""
    an_offering(CHECK, {"target": "alpha", "action": "is_allowed"})
    systems.sends["can_it"] = [desk.rejected()]
    systems.sends["is_allowed"] = [desk.unknown()]
    order = an_order()
    feasibility.assess()
    assert state_of(order) == "VALIDATING"
    assert order.faults == []


@pytest.mark.django_db
def test_faults_of_the_rules_are_told_without_asking(systems: ScriptedSystems) -> None:
    an_offering()
    (answer,) = desk.submit_all(desk.request(desk.item(asset="A")))
    assert answer.state == "REJECTED"
    assert feasibility.assess() == 0
    assert systems.sent == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "state"), [(OutcomeKind.REJECTED, "REJECTED"), (OutcomeKind.UNKNOWN, "VALIDATING")]
)
def test_text_that_can_not_be_stored_does_not_hold_up_other_orders(
    systems: ScriptedSystems, kind: OutcomeKind, state: str
) -> None:
    an_offering()
    first, second = an_order(), an_order()

    def spoilt_for_the_first(command: ContractCommand) -> desk.Outcome:
        if command.order_reference == first.reference:
            return desk.Outcome(kind=kind, message="no \x00way \ud800")
        return desk.succeeded()

    systems.sends["can_it"] = [spoilt_for_the_first] * 2
    feasibility.assess()
    assert state_of(first) == state
    assert "no way ?" in f"{first.faults} {first.waiting_reason}"
    assert state_of(second) == "IN_PROGRESS"


@pytest.mark.usefixtures("committed_db", "redis_url")
def test_two_assessors_decide_about_every_order_once(systems: ScriptedSystems) -> None:
    an_offering()
    orders = [an_order() for _ in range(12)]
    assert sum(together(*[feasibility.assess] * 3)) == 12
    assert len(systems.sent) == 12
    assert {state_of(order) for order in orders} == {"IN_PROGRESS"}
    assert Plan.objects.count() == Fulfillment.objects.count() == 12
    for order in orders:
        assert verify(fulfillment_id=order.fulfillment_id) == []


@pytest.mark.usefixtures("committed_db", "redis_url")
def test_an_order_that_is_being_asked_about_is_decided_once(systems: ScriptedSystems) -> None:
    an_offering()
    order = an_order()
    others: list[int] = []

    def meanwhile(_: ContractCommand) -> desk.Outcome:
        others.append(closing(feasibility._assess)())  # as another process does
        # As long after as a process takes for dead whoever asks and does not come back.
        Order.objects.update(feasibility_due_at=order.submitted_at)
        others.append(closing(feasibility._assess)())
        return desk.rejected()

    systems.sends["can_it"] = [meanwhile]
    assert feasibility.assess() == 1
    assert others == [0, 1]
    assert state_of(order) == "IN_PROGRESS"
    assert Plan.objects.count() == 1
    assert verify(fulfillment_id=order.fulfillment_id) == []


@pytest.mark.django_db
def test_a_target_that_can_not_be_asked_keeps_back_its_own_orders_only(
    systems: ScriptedSystems,
) -> None:
    an_offering()
    desk.target("beta")
    desk.workflow(
        {"one": desk.task("alpha")},
        offering="other",
        feasibility=[{"target": "beta", "action": "can_it"}],
    )
    healthy, bad = an_order(), desk.order(desk.item("other"))
    desk.target("beta", queue="nowhere")
    feasibility.assess()
    healthy.refresh_from_db()
    bad.refresh_from_db()
    assert healthy.state == "IN_PROGRESS"
    assert bad.state == "VALIDATING"
    assert "OMS_TARGET_QUEUES" in bad.waiting_reason
    desk.target("beta")
    desk.advance(60)
    feasibility.assess()
    bad.refresh_from_db()
    assert bad.state == "IN_PROGRESS"
