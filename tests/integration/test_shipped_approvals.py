"""Approval by amount, and what goes by it: purchases, returns, transfers, treatments, support."""

from __future__ import annotations

import pytest

from fulfillment.models import FalloutCase
from oms.models import Order
from tests import desk, shipped
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _shop(systems: ScriptedSystems) -> None:
    shipped.open_shop(
        *("approval", "support-specialist"),
        *("purchase-approval", "product-return", "transfer-risk", "prior-authorisation"),
        "support-case",
    )


def is_open(order: Order, *tasks: str) -> bool:
    return set(shipped.asked(order)) == set(tasks)


# Purchases


def test_a_small_purchase_is_approved_by_itself() -> None:
    order = shipped.order("purchase-approval/small")
    assert shipped.completed(order)
    assert shipped.sent("record_approval") == [{"subject": "Desk lamp", "amount": 480}]
    assert "place_order@1" in desk.states_of(order)
    assert "approval/manager_approval@1" not in desk.states_of(order)


def test_a_medium_purchase_is_for_the_manager_alone() -> None:
    order = shipped.order("purchase-approval/medium")
    assert shipped.asked(order) == {"approval/manager_approval@1": "manager"}
    shipped.decide(order, "approval/manager_approval@1", "approved", remark="Needed by May.")
    assert shipped.completed(order)
    assert "approval/finance_review@1" not in desk.states_of(order)
    assert shipped.sent("send_message")[0]["template"] == "request_approved"


def test_a_large_purchase_is_for_finance_once_the_manager_has_approved() -> None:
    order = shipped.order("purchase-approval/large")
    assert is_open(order, "approval/manager_approval@1")
    shipped.decide(order, "approval/manager_approval@1", "approved")
    assert shipped.asked(order) == {"approval/finance_review@1": "finance"}
    shipped.decide(order, "approval/finance_review@1", "approved")
    assert shipped.completed(order)
    assert shipped.sent("order_from_supplier")[0]["article"] == "Plotter"


@pytest.mark.parametrize("who", ["manager", "finance"])
def test_one_refusal_is_enough(who: str) -> None:
    order = shipped.order("purchase-approval/large")
    manager = "rejected" if who == "manager" else "approved"
    shipped.decide(order, "approval/manager_approval@1", manager)
    if who == "finance":
        shipped.decide(order, "approval/finance_review@1", "rejected")
    assert shipped.completed(order)
    assert ("approval/finance_review@1" in desk.states_of(order)) is (who != "manager")
    assert shipped.sent("order_from_supplier") == []
    assert shipped.sent("close_request")[0]["reason"] == "not_approved"
    assert shipped.sent("send_message")[0]["template"] == "request_declined"


def test_silence_of_finance_is_no_approval_and_no_refusal() -> None:
    order = shipped.order("purchase-approval/large")
    shipped.decide(order, "approval/manager_approval@1", "approved")
    shipped.later(3 * 86400 + 1)
    assert not shipped.completed(order)
    assert shipped.asked(order) == {}
    assert not {"order_from_supplier", "close_request", "send_message"} & set(shipped.actions())


@pytest.mark.parametrize(
    ("amount", "roles"), [("999.99", set()), ("1000.00", {"manager"}), ("4999.99", {"manager"})]
)
def test_the_limits_belong_to_the_next_step(amount: str, roles: set[str]) -> None:
    item = {"price": {"one_off": amount, "currency": "EUR"}}
    order = shipped.order("purchase-approval/small", item=item)
    assert set(shipped.asked(order).values()) == roles


def test_a_manager_who_does_not_decide_in_time_is_a_case_and_may_still_decide() -> None:
    order = shipped.order("purchase-approval/medium")
    shipped.later(2 * 86400 + 1)
    assert FalloutCase.objects.get().reason_code == "decision_overdue"
    shipped.decide(order, "approval/manager_approval@1", "approved")
    assert shipped.completed(order)
    assert not FalloutCase.objects.filter(state="OPEN").exists()


# Returns


def test_a_small_return_is_refunded_when_the_goods_are_back() -> None:
    order = shipped.order("product-return/small")
    assert shipped.asked(order) == {}
    assert shipped.sent("refund") == []
    shipped.report(order, "goods_received", condition="as_new")
    assert shipped.completed(order)
    assert shipped.sent("refund")[0]["amount"] == "89.00"
    assert len(shipped.sent("restock")) == 1


def test_damaged_goods_are_refunded_but_not_put_back_into_stock() -> None:
    order = shipped.order("product-return/small")
    shipped.report(order, "goods_received", condition="damaged")
    assert shipped.completed(order)
    assert shipped.sent("restock") == []
    assert desk.states_of(order)["restock@1"] == "SKIPPED_BY_POLICY"
    assert len(shipped.sent("refund")) == 1


def test_goods_that_come_before_anybody_waits_for_them_count() -> None:
    order = shipped.order("product-return/medium")
    shipped.report(order, "goods_received", condition="damaged")
    shipped.decide(order, "approval/manager_approval@1", "approved")
    assert shipped.completed(order)


def test_a_suspicious_return_is_investigated_before_anybody_approves() -> None:
    order = shipped.order("product-return/suspicious")
    assert shipped.asked(order) == {"investigate@1": "fraud_analyst"}
    shipped.decide(order, "investigate@1", "clear")
    shipped.decide(order, "approval/manager_approval@1", "approved")
    shipped.decide(order, "approval/finance_review@1", "rejected")
    assert shipped.completed(order)
    assert shipped.sent("send_message")[-1]["template"] == "return_declined"
    assert shipped.sent("refund") == []


def test_goods_that_never_come_are_a_case_for_a_person() -> None:
    order = shipped.order("product-return/small")
    shipped.later(30 * 86400 + 1)
    assert desk.states_of(order)["receive_goods@1"] == "AWAITING_MANUAL"
    assert FalloutCase.objects.get().reason_code == "not_reported"
    shipped.report(order, "goods_received", condition="as_new")
    assert shipped.completed(order)


# Transfers: an upstream task names the steps


def test_a_transfer_of_low_risk_takes_no_further_steps() -> None:
    order = shipped.order("transfer-risk/low")
    assert shipped.completed(order)
    assert shipped.actions() == ["assess", "transfer", "record_transaction"]


def test_a_transfer_of_medium_risk_is_verified() -> None:
    order = shipped.order("transfer-risk/medium")
    assert shipped.completed(order)
    assert shipped.actions() == ["assess", "verify_customer", "transfer", "record_transaction"]


def test_a_transfer_of_high_risk_leaves_after_analyst_compliance_and_legal() -> None:
    order = shipped.order("transfer-risk/high")
    assert set(shipped.asked(order).values()) == {"risk_analyst", "legal"}
    shipped.decide(order, "legal_review@1", "no_objection")
    assert shipped.sent("transfer") == []
    shipped.decide(order, "manual_review@1", "accepted")
    assert shipped.completed(order)
    assert shipped.actions() == ["assess", "screen_sanctions", "transfer", "record_transaction"]


def test_irreversible_guarded_no_money_leaves_against_an_objection() -> None:
    order = shipped.order("transfer-risk/high")
    shipped.decide(order, "manual_review@1", "accepted")
    shipped.later(2 * 86400 + 1)  # Legal has not decided: that counts as an objection.
    assert not shipped.completed(order)
    assert shipped.sent("transfer") == []
    assert desk.plan_of(order).state == "BLOCKED"


def test_a_step_that_the_workflow_does_not_know_is_for_a_person(systems: ScriptedSystems) -> None:
    systems.sends["assess"] = [desk.succeeded(level="odd", steps=["ask_the_mayor"])]
    order = shipped.order("transfer-risk/low")
    assert desk.states_of(order)["route@1"] == "AWAITING_MANUAL"
    assert "ask_the_mayor" in FalloutCase.objects.get().explanation
    assert shipped.sent("transfer") == []


# Treatments


def test_a_standard_treatment_is_authorised_by_itself() -> None:
    order = shipped.order("prior-authorisation/standard")
    assert shipped.completed(order)
    assert shipped.sent("issue_decision") == [
        {"treatment": "x-ray", "authorised": True, "valid_days": 30}
    ]


def test_a_specialised_treatment_is_the_medical_directors_decision() -> None:
    order = shipped.order("prior-authorisation/specialised")
    shipped.decide(order, "medical_director@1", "agreed", valid_days=90)
    assert shipped.completed(order)
    (issued,) = shipped.sent("issue_decision")
    assert (issued["authorised"], issued["valid_days"]) == (True, 90)


@pytest.mark.parametrize("insurance", ["agreed", "denied", "silent"])
def test_an_experimental_treatment_needs_all_three(insurance: str) -> None:
    order = shipped.order("prior-authorisation/experimental")
    assert len(shipped.asked(order)) == 3
    shipped.decide(order, "medical_director@1", "agreed")
    shipped.decide(order, "compliance_review@1", "agreed")
    if insurance == "silent":
        shipped.later(5 * 86400 + 1)
    else:
        shipped.decide(order, "insurance_review@1", insurance)
    assert shipped.completed(order)
    assert shipped.sent("issue_decision")[0]["authorised"] is (insurance == "agreed")


# Support


def test_a_simple_question_is_solved_at_the_first_desk() -> None:
    order = shipped.order("support-case/simple")
    shipped.decide(order, "tier_1@1", "solved", resolution="Use the link.")
    assert shipped.completed(order)
    assert shipped.sent("close_case")[0]["resolutions"] == ["Use the link."]
    assert not any("specialist" in key for key in desk.states_of(order))


@pytest.mark.parametrize("how", ["handed over", "the deadline"])
def test_what_the_first_desk_hands_over_goes_to_a_specialist(how: str) -> None:
    order = shipped.order("support-case/simple")
    if how == "handed over":
        shipped.decide(order, "tier_1@1", "escalated")
    else:
        shipped.later(4 * 3600 + 1)
    assert shipped.asked(order) == {"specialist_after_tier_1/solve@1": "specialist"}
    shipped.decide(order, "specialist_after_tier_1/solve@1", "solved", resolution="Fixed.")
    assert shipped.completed(order)
    assert shipped.sent("close_case")[0]["resolutions"] == ["Fixed."]


def test_a_complex_question_goes_to_a_specialist_at_once() -> None:
    order = shipped.order("support-case/complex")
    assert shipped.asked(order) == {"specialist/solve@1": "specialist"}
    shipped.decide(order, "specialist/solve@1", "solved", resolution="A timer was wrong.")
    assert shipped.completed(order)


def test_a_vip_has_a_senior_and_the_account_manager_knows() -> None:
    order = shipped.order("support-case/vip")
    assert shipped.asked(order) == {"senior_support@1": "senior_agent"}
    assert shipped.sent("send_message")[0]["template"] == "vip_case_opened"
    shipped.later(3601)
    assert FalloutCase.objects.get().reason_code == "decision_overdue"
    shipped.decide(order, "senior_support@1", "solved", resolution="It is up again.")
    assert shipped.completed(order)
