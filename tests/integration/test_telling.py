"""Telling customers: occasions, texts and channels, in the unit in which things become true."""

from __future__ import annotations

import pytest

from fulfillment.engine.plans import settlement
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import DefinitionInvalid
from fulfillment.models import OutboxEvent
from oms.models import Notification, Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def told(order: Order) -> list[tuple[str, str, str]]:
    """(occasion, channel, state), in the order in which they were written."""
    return [
        (one.occasion, one.channel, str(one.state))
        for one in Notification.objects.filter(order=order).order_by("id")
    ]


def test_a_customer_hears_of_acceptance_and_completion(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order(customer_email="anna@example.org", external_id="SHOP-1")
    assert told(order) == [
        ("accepted", "email", "QUEUED"),
        ("accepted", "webhook", "SENT"),
    ]
    desk.drain()
    assert told(order)[2:] == [
        ("completed", "email", "QUEUED"),
        ("completed", "webhook", "SENT"),
    ]
    first = Notification.objects.earliest("id")
    assert first.recipient == "anna@example.org"
    assert first.subject == "We received your order SHOP-1"
    event = OutboxEvent.objects.filter(event_type="CustomerNotified").earliest("id")
    assert event.payload["occasion"] == "accepted"
    assert event.payload["message"] == first.body
    assert event.payload["customer"] == "C-1"


def test_without_an_address_nobody_is_written_to(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    assert told(desk.order()) == [("accepted", "webhook", "SENT")]


def test_a_milestone_is_told_once_with_its_last_carrier(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task(), "two": desk.task(after=["one"])},
        milestones={
            "ready": {
                "title": "It is ready",
                "reached_by": "one",
                "tell": "Dear ${order.customer.name?}, ${order.external_id} is ready.",
            },
            "quiet": {"title": "Nobody hears", "reached_by": "one"},
        },
    )
    systems.sends["one"] = [desk.succeeded(), desk.failed()]
    order = desk.order(
        desk.item(),
        desk.item(item_id="2"),
        customer_email="anna@example.org",
        customer_name="Anna",
        external_id="SHOP-2",
    )
    desk.drain()
    assert [occasion for occasion, _, _ in told(order)] == ["accepted"] * 2
    desk.advance(60)
    desk.drain()
    (letter, hook) = Notification.objects.filter(order=order, occasion="milestone:ready")
    assert {letter.channel, hook.channel} == {"email", "webhook"}
    assert letter.body == hook.body == "Dear Anna, SHOP-2 is ready."
    assert letter.subject == "It is ready"
    assert not Notification.objects.filter(occasion="milestone:quiet").exists()


def test_a_workflow_has_its_own_words_and_channels(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task()},
        messages={
            "accepted": {"subject": "Hello", "message": "Thanks.", "channels": ["email"]},
            "completed": {"message": "Unheard.", "channels": []},
        },
    )
    order = desk.order(customer_email="anna@example.org")
    desk.drain()
    assert told(order) == [("accepted", "email", "QUEUED")]
    assert Notification.objects.get(order=order).subject == "Hello"


def test_dates_are_written_for_people_and_names_break_no_headers(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task()},
        messages={
            "accepted": {
                "subject": "For ${order.customer.name?}",
                "message": "Promised for ${order.promised_at?}.",
            }
        },
    )
    promised = desk.now().replace(year=2027, month=3, day=5, hour=9, minute=30)
    order = desk.order(
        customer_email="a@example.org", customer_name="A\r\nBcc: b", promised_at=promised
    )
    letter = Notification.objects.get(order=order, channel="email")
    assert letter.subject == "For A Bcc: b"
    assert letter.body == "Promised for 5 March 2027, 09:30 UTC."


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("${tasks.one.number}", "definition.not_for_customers"),
        ("${order.billing_account}", "definition.not_for_customers"),
        ("${order.customer.tier}", "definition.not_for_customers"),
        ("${item.offering}", "definition.not_for_customers"),
        ("${order.promised_at}", "definition.not_for_customers"),
        ("${order.external_id", "definition.reference_malformed"),
    ],
)
def test_a_text_names_nothing_but_what_customers_may_know(text: str, code: str) -> None:
    desk.target("alpha")
    with pytest.raises(DefinitionInvalid) as refused:
        desk.workflow(
            {"one": desk.task(outputs={"number": "string"})},
            milestones={"ready": {"title": "Ready", "reached_by": "one", "tell": text}},
            messages={"delayed": {"subject": text, "message": "Late."}},
        )
    assert [(fault.code, fault.path) for fault in refused.value.faults] == [
        (code, "milestones.ready.tell.message"),
        (code, "messages.delayed.subject"),
    ]


def test_what_is_rolled_back_was_told_to_nobody(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order(customer_email="anna@example.org")
    claimed = desk.claim()[0]

    def falls(unit: Unit) -> None:
        settlement.apply(unit, [desk.result(claimed, desk.succeeded())])
        unit.notify_orders()
        raise RuntimeError("the unit dies")

    with pytest.raises(RuntimeError):
        run_unit(falls, fulfillment_ids=[order.fulfillment_id], actor="a test")
    assert [occasion for occasion, _, _ in told(order)] == ["accepted", "accepted"]
