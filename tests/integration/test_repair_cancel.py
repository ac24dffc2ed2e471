"""Cancelling an order by hand (`order.cancel`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority import actors
from fulfillment.errors import ApprovalNeeded, Denied, NotPossible, SubjectChanged
from fulfillment.models import Approval, Operation, Transition
from fulfillment.operations.repair import Done, Request
from oms.changes import cancelling
from oms.models import CancellationRequest, Order
from oms.repairs.cancelling import QuoteChanged
from tests import by_hand, desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_cancellation import a_service, a_shop, told, undone_by
from tests.together import together

CANCEL = Action.ORDER_CANCEL


def asked(order: Order, *, expected: str = "", **parameters: Any) -> Request:
    return by_hand.request(CANCEL, by_hand.of(order), expected=expected, **parameters)


def cancel(order: Order, **parameters: Any) -> Done:
    return operations.perform(actor=desk.by("ops"), request=asked(order, **parameters))


@pytest.fixture
def halfway_done(db: None, systems: ScriptedSystems) -> Order:
    """reserve is done, and can be undone; nothing is in use yet."""
    a_service()
    systems.sends["activate"] = [desk.rejected()]
    order = desk.order(customer_email="c@x.example")
    desk.finish()
    systems.sent.clear()
    return order


@pytest.fixture
def in_use(db: None, systems: ScriptedSystems) -> Order:
    """activate is done, which costs 10 to take back; last has failed."""
    a_service()
    systems.sends["last"] = [desk.rejected()]
    order = desk.order(customer_email="c@x.example")
    desk.finish()
    systems.sent.clear()
    return order


def test_it_is_undone_and_the_customer_is_told(
    halfway_done: Order, systems: ScriptedSystems
) -> None:
    done = cancel(halfway_done)
    assert "is being undone, and is cancelled then. Undone: reserve@1." in done.told
    desk.finish()
    assert systems.actions() == ["release"]
    halfway_done.refresh_from_db()
    assert str(halfway_done.state) == "CANCELLED"
    assert "cancelled" in told(halfway_done)
    assert by_hand.is_intact(halfway_done)


def test_the_preview_is_the_quote_and_changes_nothing(halfway_done: Order) -> None:
    quote = cancelling.preview(order=halfway_done)
    before = by_hand.everything()
    seen = by_hand.previewed(asked(halfway_done), actor=desk.by("ops"))
    assert by_hand.differing(before) == []
    assert seen.done.after["quote"] == quote
    assert [one["action"] for one in seen.commands] == ["release"]
    done = cancel(halfway_done)
    assert (done.told, done.after) == (seen.done.told, seen.done.after)


def test_after_activation_a_senior_approves_it_at_the_cost_that_was_told(in_use: Order) -> None:
    anna = people.anybody("anna", CANCEL)
    seen = by_hand.previewed(asked(in_use), actor=anna)
    assert seen.needs is Action.APPROVE_SENIOR
    assert Decimal(seen.done.result["cost"][""]) == 10
    assert "The customer pays 10" in seen.done.financial_impact
    assert "It is switched off." in seen.done.customer_impact
    with pytest.raises(QuoteChanged, match="costs the customer 10"):
        by_hand.asked_for(asked(in_use), actor=anna)
    with pytest.raises(QuoteChanged, match="The quote has changed"):
        by_hand.asked_for(asked(in_use, accepted_cost={"": "9"}), actor=anna)
    before = by_hand.everything()
    with pytest.raises(ApprovalNeeded):
        operations.perform(actor=anna, request=asked(in_use, accepted_cost={"": "10"}))
    assert by_hand.differing(before) == []
    done = by_hand.done_by_two(asked(in_use, accepted_cost={"": "10.00"}), actor=anna)
    assert "is being undone" in done.told
    desk.finish()
    in_use.refresh_from_db()
    assert str(in_use.state) == "CANCELLED"


def test_a_client_can_not_cancel_what_is_in_use_by_itself(in_use: Order) -> None:
    """It is activated, so a person has to approve it; and others' orders are none of its."""
    its = actors.client(name="shop", owner=str(in_use.client_id))
    other = actors.client(name="other", owner="999999")
    with pytest.raises(ApprovalNeeded):
        operations.perform(actor=its, request=asked(in_use, accepted_cost={"": "10"}))
    with pytest.raises(Denied, match="not about an order of this client"):
        operations.perform(actor=other, request=asked(in_use))


def test_past_a_point_of_no_return_nothing_is_done(db: None, systems: ScriptedSystems) -> None:
    a_shop()
    systems.sends["last"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    before = by_hand.everything()
    with pytest.raises(NotPossible, match="It has left"):
        cancel(order)
    assert by_hand.differing(before) == []


def test_what_is_in_doubt_is_known_first(db: None, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(compensation=undone_by("undo_one"))})
    order = desk.order()
    desk.claim()
    done = cancel(order)
    assert "as soon as it is known what becomes of one@1" in done.told
    order.refresh_from_db()
    assert str(order.state) == "ASSESSING_CANCELLATION"


def test_what_is_complete_is_changed_by_another_order(db: None, systems: ScriptedSystems) -> None:
    a_service()
    order = desk.order()
    desk.finish()
    with pytest.raises(NotPossible, match=f"modifies or disconnects {order.reference}-1"):
        operations.prepared(actor=people.anybody("anna", CANCEL), request=asked(order)).preview()


def test_whoever_comes_second_is_told_who_was_first(halfway_done: Order) -> None:
    seen = by_hand.previewed(asked(halfway_done), actor=desk.by("bob"))
    cancel(halfway_done)
    before = by_hand.everything()
    with pytest.raises(NotPossible, match="ops has asked to cancel it already"):
        operations.perform(actor=desk.by("bob"), request=asked(halfway_done))
    with pytest.raises(SubjectChanged, match="by ops"):
        operations.perform(actor=desk.by("bob"), request=asked(halfway_done, expected=seen.version))
    assert by_hand.differing(before) == []


def test_an_approval_of_another_state_is_worth_nothing(in_use: Order) -> None:
    anna = people.anybody("anna", CANCEL)
    approval = by_hand.asked_for(asked(in_use, accepted_cost={"": "10"}), actor=anna)
    last = desk.tasks_of(in_use)["last@1"]
    operations.retry(task_id=last.pk, actor=desk.by("ops"), reason="Mended.")
    desk.finish()
    with pytest.raises(NotPossible, match="has changed since"):
        operations.approve(approval_id=approval.pk, actor=people.senior(), reason="Agreed.")
    assert Approval.objects.get(pk=approval.pk).state == "STALE"
    in_use.refresh_from_db()
    assert str(in_use.state) == "COMPLETED"


def test_whoever_may_not_changes_nothing(halfway_done: Order) -> None:
    before = by_hand.everything()
    for actor in (
        people.anybody(),
        people.actor(people.operator("bob", CANCEL, products=["other"])),
        people.actor(people.operator("eve", CANCEL, regions=["ID"])),
    ):
        with pytest.raises(Denied):
            operations.perform(actor=actor, request=asked(halfway_done))
    assert by_hand.differing(before) == []


def test_the_record_has_the_quote_and_what_it_means(halfway_done: Order) -> None:
    cancel(halfway_done)
    record = Operation.objects.get(kind="cancel_order")
    assert record.before == {"state": "IN_PROGRESS"}
    assert record.after["state"] == "CANCELLING"
    assert record.after["quote"]["possible"] is True
    assert "The customer is told" in record.customer_impact
    request = CancellationRequest.objects.get()
    assert (request.requested_by, request.reason) == ("ops", "The customer has rung.")
    assert Transition.objects.filter(entity="cancellation", actor="ops").exists()


def test_of_two_at_once_one_wins(committed_db: None, systems: ScriptedSystems) -> None:
    a_service()
    order = desk.order()

    def cancelled(name: str) -> str:
        try:
            operations.perform(actor=desk.by(name), request=asked(order))
        except NotPossible as error:
            return str(error)
        return "done"

    answers = together(lambda: cancelled("anna"), lambda: cancelled("bob"))
    assert answers.count("done") == 1
    assert any("has asked to cancel it already" in one for one in answers)
    assert CancellationRequest.objects.count() == 1
    assert by_hand.is_intact(order)
