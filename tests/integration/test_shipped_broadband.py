"""Broadband: appointment, shipment, installation in its hours, activation, billing, delays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fulfillment.models import FalloutCase
from oms import delays
from oms.models import Asset, Notification, Order, PendingAsset
from oms.queries.progress import Structured, structured
from tests import desk, shipped
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
SLOT = "2030-07-16T09:00:00+02:00"  # A Tuesday.


@pytest.fixture(autouse=True)
def _shop(systems: ScriptedSystems) -> None:
    shipped.open_shop("broadband")
    it_is("2030-07-10 08:00")


def it_is(text: str) -> None:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    shipped.later((moment - desk.now()).total_seconds())


def ordered(sample: str = "own-device") -> Order:
    dates = {"requested_at": "2030-07-10T08:00:00Z", "promised_at": "2030-07-24T16:00:00Z"}
    return shipped.order(f"broadband/{sample}", **dates)


def reached(order: Order) -> set[str]:
    return set(order.milestones.values_list("name", flat=True))


def progress_of(order: Order) -> Structured:
    row = Order.objects.prefetch_related("items", "milestones").get(pk=order.pk)
    return structured(orders=[row], plans={row.fulfillment_id: desk.plan_of(row)})[row.pk]


def told(order: Order) -> set[str]:
    return set(Notification.objects.filter(order=order).values_list("occasion", flat=True))


def test_it_is_installed_at_the_agreed_time_and_billed_once_it_works() -> None:
    order = ordered()
    assert desk.states_of(order)["ship_router@1"] == "SKIPPED_BY_POLICY"
    shipped.report(order, "appointment_confirmed", slot=SLOT)
    assert shipped.sent("install") == []
    it_is("2030-07-16 06:59:50")
    assert shipped.sent("install") == []
    assert PendingAsset.objects.count() == 1
    assert not Asset.objects.exists()
    it_is("2030-07-16 07:00:01")
    assert shipped.completed(order)
    assert shipped.actions()[-5:] == [
        *("install", "activate_line", "create_subscription"),
        *("update_installed_base", "send_message"),
    ]
    assert {"installation_scheduled", "installed", "service_active"} <= reached(order)
    assert "router_shipped" not in reached(order)  # Nothing was shipped.
    assert progress_of(order).customer_visible.missing == ()
    assert Asset.objects.get().state == "ACTIVE"
    assert {"milestone:installation_scheduled", "milestone:service_active"} <= told(order)


def test_with_a_router_it_is_installed_once_that_is_there() -> None:
    order = ordered("with-router")
    assert len(shipped.sent("ship")) == 1
    shipped.report(order, "appointment_confirmed", slot=SLOT)
    it_is("2030-07-16 07:00:01")
    assert shipped.sent("install") == []
    shipped.report(order, "router_delivered", event_id="e-2")
    assert shipped.completed(order)


def test_an_appointment_that_is_confirmed_before_the_port_is_reserved_counts(
    systems: ScriptedSystems,
) -> None:
    systems.sends["reserve_port"] = [desk.failed(retry_after=timedelta(minutes=1))]
    order = ordered()
    shipped.report(order, "appointment_confirmed", slot=SLOT)
    assert "installation_scheduled" not in reached(order)
    shipped.later(120)
    assert "installation_scheduled" in reached(order)


def test_nobody_is_sent_at_night_at_the_weekend_or_on_a_holiday() -> None:
    order = ordered()
    # The night to a Thursday which is a holiday: Assumption Day. It is Friday's work.
    shipped.report(order, "appointment_confirmed", slot="2030-08-14T20:00:00+02:00")
    it_is("2030-08-15 10:00")
    assert shipped.sent("install") == []
    it_is("2030-08-16 06:00:01")
    assert len(shipped.sent("install")) == 1
    assert shipped.completed(order)


def test_a_customer_who_can_not_be_reached_is_a_case_and_may_still_call() -> None:
    order = ordered()
    it_is("2030-07-24 08:00:01")
    assert desk.states_of(order)["appointment@1"] == "AWAITING_MANUAL"
    assert FalloutCase.objects.get().reason_code == "not_reported"
    shipped.report(order, "appointment_confirmed", slot="2030-07-25T09:00:00+02:00")
    assert not FalloutCase.objects.filter(state="OPEN").exists()
    it_is("2030-07-25 07:00:01")
    assert shipped.completed(order)


def test_a_slot_that_is_no_instant_is_for_a_person() -> None:
    order = ordered()
    shipped.report(order, "appointment_confirmed", slot="next Tuesday")
    assert desk.states_of(order)["install~3@1"] == "AWAITING_MANUAL"
    assert "next Tuesday" in FalloutCase.objects.get().explanation
    assert shipped.sent("install") == []


def test_a_late_order_is_told_once_and_without_the_reason(systems: ScriptedSystems) -> None:
    systems.sends["install"] = [desk.rejected("nobody_at_home")]
    order = ordered()
    shipped.report(order, "appointment_confirmed", slot=SLOT)
    it_is("2030-07-24 15:59:59")
    delays.tell_delays()
    assert "delayed" not in told(order)
    it_is("2030-07-24 16:00:01")
    for _ in range(2):
        delays.tell_delays()
    late = Notification.objects.filter(order=order, occasion="delayed")
    assert {one.channel for one in late} == {"email", "webhook"}
    assert len(late) == 2
    assert all("nobody_at_home" not in one.body for one in late)


def test_billing_on_milestone_a_line_that_is_not_billed_yet_may_be_used(
    systems: ScriptedSystems,
) -> None:
    systems.sends["create_subscription"] = [desk.rejected("account_closed")]
    order = ordered()
    shipped.report(order, "appointment_confirmed", slot=SLOT)
    it_is("2030-07-16 07:00:01")
    assert desk.states_of(order)["start_billing@1"] == "FAILED_FINAL"
    assert Asset.objects.get().state == "ACTIVE"
    progress = progress_of(order)
    assert progress.billing.missing == ("1",)
    assert progress.entitled.there == ("1",)


def test_an_appointment_behind_the_end_of_the_reservation_has_the_port_reserved_anew() -> None:
    order = ordered()
    shipped.report(order, "appointment_confirmed", slot="2030-09-02T09:00:00+02:00")
    it_is("2030-09-02 06:59:50")
    first = desk.tasks_of(order)["reserve_port@1"].outputs or {}
    assert len(shipped.sent("reserve_port")) == 1
    it_is("2030-09-02 07:00:01")
    assert shipped.completed(order)
    assert len(shipped.sent("reserve_port")) == 2
    fresh = desk.tasks_of(order)["reserve_port@1"].outputs or {}
    (installed,) = shipped.sent("install")
    assert installed["port_id"] == fresh["port_id"] != first["port_id"]
