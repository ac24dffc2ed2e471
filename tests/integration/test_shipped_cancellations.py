"""The cloud contact center is cancelled before and after it is active, as its documentation says.

And §32.5 on shipped workflows: before dispatch, after reservation, after shipment, after
activation, and with an undo that fails.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from fulfillment.models import FalloutCase, Plan
from oms.changes import cancelling
from oms.changes.cancelling import Cancellation
from oms.models import Asset, Order, PendingAsset
from tests import desk, shipped
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

CENTER = "contact-center-enterprise"
BEFORE_T5 = ["revoke_licenses", "delete_tenant", "release_phone_numbers"]


@pytest.fixture(autouse=True)
def _shop(systems: ScriptedSystems) -> None:
    shipped.open_shop("cloud-contact-center", "ecommerce-order")


def stopped_at(systems: ScriptedSystems, action: str, name: str = CENTER, **more: Any) -> Order:
    """Everything before this action is done; it itself is refused."""
    systems.sends[action] = [desk.rejected()]
    return shipped.order(name, **more)


def cancel(order: Order) -> Cancellation:
    return cancelling.cancel(order=order, requested_by="a client", reason="changed my mind")


def undone_since(systems: ScriptedSystems, order: Order) -> list[str]:
    """What is sent when the order is cancelled now."""
    before = len(systems.sent)
    cancel(order)
    desk.finish()
    order.refresh_from_db()
    return systems.actions()[before:]


def test_cancelled_before_t5_numbers_licences_and_tenant_are_given_back(
    systems: ScriptedSystems,
) -> None:
    order = stopped_at(systems, "activate_entitlement")
    quote = cancelling.preview(order=order)
    assert (quote["possible"], quote["verdict"]) == (True, "free")
    undone = undone_since(systems, order)
    assert sorted(undone) == sorted(BEFORE_T5)
    assert undone.index("revoke_licenses") < undone.index("delete_tenant")
    assert order.state == "CANCELLED"
    assert not Asset.objects.exists()
    assert not PendingAsset.objects.exists()


def test_cancelled_after_t5_it_costs_the_month_and_billing_ends_first(
    systems: ScriptedSystems,
) -> None:
    order = stopped_at(systems, "update_installed_base")
    quote = cancelling.preview(order=order)
    assert (quote["possible"], quote["verdict"]) == (True, "cost")
    recurring = order.items.get().recurring_price
    assert recurring is not None
    (charge,) = quote["charges"]
    assert (charge["direction"], Decimal(charge["amount"])) == ("cost", recurring)
    undone = undone_since(systems, order)
    assert undone[:2] == ["cancel_subscription", "deactivate_entitlement"]
    assert sorted(undone[2:]) == sorted(BEFORE_T5)
    assert order.state == "CANCELLED"
    assert [asset.state for asset in Asset.objects.all()] == ["INACTIVE"]


def test_cancelled_before_dispatch_nothing_is_ever_sent(systems: ScriptedSystems) -> None:
    systems.sends["create_tenant"] = [desk.rejected()]
    systems.sends["reserve_phone_numbers"] = [desk.rejected()]
    order = shipped.order(CENTER)
    assert undone_since(systems, order) == []
    assert order.state == "CANCELLED"
    assert Plan.objects.get(fulfillment_id=order.fulfillment_id).state == "CANCELLED"


def test_cancelled_after_reservation_the_numbers_are_released_once(
    systems: ScriptedSystems,
) -> None:
    systems.sends["create_tenant"] = [desk.rejected()]
    order = shipped.order(CENTER)
    assert undone_since(systems, order) == ["release_phone_numbers"]
    cancel(order)
    desk.finish()
    assert systems.actions().count("release_phone_numbers") == 1


def test_cancelled_after_shipment_it_is_refused_and_the_order_goes_on(
    systems: ScriptedSystems,
) -> None:
    systems.sends["send_message"] = [desk.failed(retry_after=timedelta(minutes=5))]
    order = shipped.order("webshop-single")
    assert desk.states_of(order)["ecommerce-order/ship_order"] == "SUCCEEDED"
    before = len(systems.sent)
    done = cancel(order)
    assert done.request.state == "DENIED"
    (refusal,) = done.request.refusals
    assert (refusal["code"], refusal["task"]) == ("irreversible", "ecommerce-order/ship_order")
    assert "The parcel has left." in refusal["message"]
    order.refresh_from_db()
    assert order.state == "IN_PROGRESS"
    shipped.later(600)
    assert shipped.completed(order)
    assert systems.actions()[before:] == ["send_message"]


def test_when_an_undo_fails_the_others_go_on_and_a_person_is_told(
    systems: ScriptedSystems,
) -> None:
    order = stopped_at(systems, "activate_entitlement")
    systems.sends["revoke_licenses"] = [desk.rejected()]
    undone = undone_since(systems, order)
    assert sorted(undone) == ["release_phone_numbers", "revoke_licenses"]
    assert order.state == "CANCELLING"
    (case,) = FalloutCase.objects.filter(state="OPEN", task__key__startswith="undo.")
    assert case.task is not None
    assert case.task.key == "undo.v2/assign_licenses@1"
