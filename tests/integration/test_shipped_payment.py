"""The payment pipeline: two phases, a second gateway, and nobody charged twice."""

from __future__ import annotations

import pytest

from fulfillment.models import Command, FalloutCase
from oms.models import Order
from tests import desk, shipped
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _shop(systems: ScriptedSystems) -> None:
    shipped.open_shop("payment-pipeline")


def asked_gateways(order: Order) -> list[str]:
    rows = Command.objects.filter(fulfillment_id=order.fulfillment_id, action="authorise")
    return list(rows.order_by("id").values_list("target_id", flat=True))


def test_a_payment_is_authorised_captured_and_recorded() -> None:
    order = shipped.order("payment-pipeline/card")
    assert shipped.completed(order)
    assert shipped.actions() == [
        *("validate_payment", "check_fraud", "authorise", "capture"),
        *("record_transaction", "send_message"),
    ]
    (entry,) = shipped.sent("record_transaction")
    assert (entry["amount"], entry["gateway"]) == ("249.90", "payment")
    assert entry["capture_id"].startswith("capture-")
    assert set(order.milestones.values_list("name", flat=True)) == {"authorised", "paid"}


def test_the_second_gateway_is_asked_after_an_outage_without_effect(
    systems: ScriptedSystems,
) -> None:
    systems.sends["authorise"] = [desk.failed("unavailable")] * 3
    order = shipped.order("payment-pipeline/card")
    for _ in range(3):
        shipped.later(60)
    assert shipped.completed(order)
    assert asked_gateways(order) == ["payment", "payment-backup"]
    assert "capture_at_backup@1" in desk.states_of(order)
    assert "capture@1" not in desk.states_of(order)
    (entry,) = shipped.sent("record_transaction")
    assert entry["gateway"] == "payment-backup"
    assert entry["capture_id"].startswith("capture-")


def test_the_second_gateway_is_asked_after_a_refusal_of_the_gateway_itself(
    systems: ScriptedSystems,
) -> None:
    systems.sends["authorise"] = [desk.rejected("currency_not_supported")]
    order = shipped.order("payment-pipeline/card")
    assert shipped.completed(order)
    assert asked_gateways(order) == ["payment", "payment-backup"]


def test_a_declined_card_is_not_tried_elsewhere(systems: ScriptedSystems) -> None:
    systems.sends["authorise"] = [desk.rejected("card_declined")]
    order = shipped.order("payment-pipeline/card")
    assert asked_gateways(order) == ["payment"]
    assert desk.states_of(order)["authorise@1"] == "FAILED_FINAL"
    assert FalloutCase.objects.get().reason_code == "card_declined"


def test_an_unknown_outcome_never_reaches_the_second_gateway(systems: ScriptedSystems) -> None:
    systems.sends["authorise"] = [desk.unknown()]
    found = desk.succeeded(authorisation_id="auth-1", gateway="payment")
    systems.queries["authorise"] = [desk.unknown(), found]
    order = shipped.order("payment-pipeline/card")
    for _ in range(3):
        shipped.later(60)
    assert shipped.completed(order)
    assert asked_gateways(order) == ["payment"]
    assert shipped.sent("capture")[0]["authorisation_id"] == "auth-1"


def test_a_suspicious_payment_is_looked_at_before_anything_is_authorised() -> None:
    order = shipped.order("payment-pipeline/large-transfer")
    assert shipped.asked(order) == {"review@1": "fraud_analyst"}
    assert shipped.sent("authorise") == []
    shipped.decide(order, "review@1", "genuine")
    assert shipped.completed(order)


@pytest.mark.parametrize("decides", [True, False], ids=["an analyst", "the deadline"])
def test_a_fraud_is_never_authorised(decides: bool) -> None:
    order = shipped.order("payment-pipeline/large-transfer")
    if decides:
        shipped.decide(order, "review@1", "fraud")
    else:
        shipped.later(4 * 3600 + 1)
    assert not shipped.completed(order)
    assert shipped.sent("authorise") == []
    assert FalloutCase.objects.get().reason_code == "decided_fraud"


def test_a_payment_without_an_amount_is_for_a_person() -> None:
    item = {"price": {"one_off": "0.00", "currency": "EUR"}}
    order = shipped.order("payment-pipeline/card", item=item)
    assert desk.states_of(order)["validate@1"] == "AWAITING_MANUAL"
    assert "has no amount" in FalloutCase.objects.get().explanation
