"""What was activated or billed and is undone: assets, expectations, and what leaks then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.models import FalloutCase
from oms import leakage
from oms.changes import cancelling
from oms.intake.requests import ItemRequest
from oms.models import Asset, BillingMatch, Order, PendingAsset
from tests import desk
from tests.api import Api
from tests.desk import ScriptedSystems, by
from tests.integration.test_cancellation import undone_by
from tests.integration.test_leakage import gaps, leaks, look_after

pytestmark = pytest.mark.django_db

PRICED: dict[str, Any] = {"recurring_price": 49, "currency": "EUR"}


def a_service(**more: Any) -> None:
    """activate → bill → last, each with an undo; `last` fails, so that the order is open."""
    desk.target("alpha")
    desk.workflow(
        {
            "activate": desk.task(compensation=undone_by("deactivate")),
            "bill": desk.task(
                after=["activate"], compensation=more.pop("unbill", undone_by("unbill"))
            ),
            "last": desk.task(after=["bill"]),
        },
        fulfils=[{"offering": "thing", "actions": ["add", "modify", "disconnect"]}],
        **{
            "billing_trigger": "order_submit",
            "activation": "activate",
            "billing": {"task": "bill", "within": "PT4H"},
            **more,
        },
    )


def an_order(systems: ScriptedSystems, *items: ItemRequest, stops: bool = True) -> Order:
    """Worked off as far as it goes: up to `last`, unless it does not stop there."""
    systems.sends["last"] = [desk.failed(retryable=False)] * stops * len(items or [1])
    order = desk.order(*items, billing_account="BA-1")
    desk.finish()
    return order


def change(action: str, asset: str, **fields: Any) -> ItemRequest:
    item_id = fields.pop("item_id", "1")
    return ItemRequest(item_id=item_id, action=action, offering="thing", asset=asset, **fields)


def cancel(order: Order, *, up_to: str = "CANCELLED") -> None:
    cancelling.cancel(order=order, requested_by="a client", reason="Enough.")
    desk.finish()
    order.refresh_from_db()
    assert str(order.state) == up_to


def test_what_was_new_becomes_inactive(systems: ScriptedSystems) -> None:
    a_service()
    order = an_order(systems, desk.item(characteristics={"speed": 10}))
    asset = Asset.objects.get()
    assert asset.state == "ACTIVE"
    desk.advance(60)
    cancel(order)
    undone = Asset.objects.get()
    assert (undone.state, undone.characteristics) == ("INACTIVE", {"speed": 10})
    assert undone.since > asset.since
    assert (undone.before, undone.order_id) == ([], order.pk)
    assert not PendingAsset.objects.exists()


@pytest.mark.parametrize("action", ["modify", "disconnect"])
def test_what_was_changed_is_as_it_was_before(systems: ScriptedSystems, action: str) -> None:
    a_service()
    added = an_order(
        systems,
        desk.item(characteristics={"speed": 10, "colour": "red"}, place={"id": "A"}),
        stops=False,
    )
    name = f"{added.reference}-1"
    known = Asset.objects.values("state", "quantity", "characteristics", "place", "offering")
    before = known.get()
    order = an_order(
        systems,
        change(action, name, quantity=3, characteristics={"speed": 100, "x": 1}, place={"id": "B"}),
    )
    assert known.get() != before
    assert [one["order"] for one in Asset.objects.get().before] == [order.pk]
    cancel(order)
    assert known.get() == before
    assert Asset.objects.get().before == []


def test_what_another_order_has_changed_since_stays(systems: ScriptedSystems) -> None:
    a_service()
    added = an_order(systems, desk.item(characteristics={"speed": 10, "colour": "red"}))
    name = f"{added.reference}-1"
    faster = an_order(systems, change("modify", name, characteristics={"speed": 100}))
    an_order(systems, change("modify", name, characteristics={"colour": "blue"}), stops=False)
    cancel(faster)
    asset = Asset.objects.get()
    assert (asset.state, asset.characteristics) == ("ACTIVE", {"speed": 10, "colour": "blue"})


def test_of_orders_that_are_over_nothing_is_kept(systems: ScriptedSystems) -> None:
    """The history of an asset does not grow with every order there ever was."""
    a_service()
    added = an_order(systems, desk.item(), stops=False)
    name = f"{added.reference}-1"
    for number in range(4):
        an_order(systems, change("modify", name, characteristics={"n": number}), stops=False)
    assert len(Asset.objects.get().before) == 1
    still_open = an_order(systems, change("modify", name, characteristics={"n": 7}))
    an_order(systems, change("modify", name, characteristics={"n": 8}), stops=False)
    an_order(systems, change("modify", name, characteristics={"m": 9}), stops=False)
    (first, *later) = Asset.objects.get().before
    assert first["order"] == still_open.pk
    assert len(later) == 2


def test_an_asset_from_before_this_system_is_active_again(systems: ScriptedSystems) -> None:
    a_service()
    order = an_order(systems, change("disconnect", "LEGACY-7"))
    assert Asset.objects.get().state == "INACTIVE"
    cancel(order)
    assert Asset.objects.get().state == "ACTIVE"


def test_a_nested_line_goes_with_the_line_around_it(systems: ScriptedSystems) -> None:
    a_service()
    desk.workflow({"nothing": desk.task(only_if="false")}, offering="part", activation="nothing")
    order = an_order(
        systems,
        desk.item(item_id="around"),
        ItemRequest(item_id="in", action="add", offering="thing", parent_id="around"),
    )
    assert set(Asset.objects.values_list("state", flat=True)) == {"ACTIVE"}
    cancel(order)
    assert set(Asset.objects.values_list("state", flat=True)) == {"INACTIVE"}


def test_until_its_undo_is_done_it_stays_active(systems: ScriptedSystems) -> None:
    a_service()
    order = an_order(systems)
    systems.sends["deactivate"] = [desk.rejected()]
    cancel(order, up_to="CANCELLING")
    assert Asset.objects.get().state == "ACTIVE"
    assert not PendingAsset.objects.exists()


def test_what_was_only_expected_is_expected_no_longer(systems: ScriptedSystems) -> None:
    a_service()
    order = desk.order()
    assert PendingAsset.objects.count() == 1
    cancel(order)
    assert (PendingAsset.objects.count(), Asset.objects.count()) == (0, 0)


def test_what_is_still_there_of_an_order_that_is_given_up_is_told(
    systems: ScriptedSystems,
) -> None:
    a_service(milestones={"on": {"title": "It is on", "reached_by": "activate"}})
    order = an_order(systems, desk.item(**PRICED))
    systems.sends["deactivate"] = [desk.rejected()]
    cancel(order, up_to="CANCELLING")
    far = json.loads(Api().get(f"/orders/{order.reference}").content)["fulfilment"]
    assert far["tasks"] == {"mandatory": 2, "done": 1, "share": 0.5}
    assert far["partial"]["operational"]["there"] == ["undo.v2/bill@1"]
    assert far["partial"]["operational"]["missing"] == ["undo.v2/activate@1"]
    assert far["partial"]["asset"]["there"] == ["1"]
    assert far["partial"]["billing"] == {"partial": False, "there": [], "missing": ["1"]}
    assert far["partial"]["customer_visible"]["there"] == ["on"]
    assert far["entitled"]["there"] == []
    assert [gap["leak"] for gap in far["gaps"]] == ["ACTIVE_WITHOUT_BILLING"]


# --- what leaks -----------------------------------------------------------------------------------


def test_when_service_and_billing_are_both_undone_nothing_leaks(systems: ScriptedSystems) -> None:
    a_service()
    order = an_order(systems, desk.item(**PRICED))
    assert BillingMatch.objects.count() == 1
    cancel(order)
    assert not BillingMatch.objects.exists()
    assert look_after(100) == 0
    assert leaks() == []


def test_switched_off_and_still_billed_has_a_case_in_time(systems: ScriptedSystems) -> None:
    a_service(unbill={"none": "Somebody does it by hand."})
    order = an_order(systems, desk.item(**PRICED))
    desk.advance(7200)
    cancel(order)
    assert [leak for _, leak in gaps()] == ["BILLED_WITHOUT_SERVICE"]
    assert look_after(3.9) == 0
    assert look_after(0.2) == 1
    assert leaks() == ["billed_without_service"]
    assert BillingMatch.objects.get().service_at is None


def test_an_undo_that_fails_is_named_by_the_case(systems: ScriptedSystems) -> None:
    """The billing is taken back first; the service is still there."""
    a_service()
    order = an_order(systems, desk.item(**PRICED))
    systems.sends["deactivate"] = [desk.rejected()]
    cancel(order, up_to="CANCELLING")
    assert [leak for _, leak in gaps()] == ["ACTIVE_WITHOUT_BILLING"]
    assert look_after(4.1) == 1
    case = FalloutCase.objects.get(category="LEAKAGE")
    assert "undo.v2/activate@1 is FAILED_FINAL" in case.explanation
    assert case.task_id == desk.tasks_of(order)["undo.v2/activate@1"].pk


def test_the_case_closes_when_the_undo_has_followed(systems: ScriptedSystems) -> None:
    a_service()
    order = an_order(systems, desk.item(**PRICED))
    systems.sends["deactivate"] = [desk.rejected()]
    cancel(order, up_to="CANCELLING")
    assert look_after(4.1) == 1
    failed = desk.tasks_of(order)["undo.v2/activate@1"]
    operations.retry(task_id=failed.pk, reason="again", actor=by("an operator"))
    desk.finish()
    order.refresh_from_db()
    assert str(order.state) == "CANCELLED"
    assert leaks() == ["active_without_billing"]
    leakage.find_leaks()
    assert leaks() == []
    assert not BillingMatch.objects.exists()


def test_billed_and_never_active_is_no_leak_once_the_billing_is_undone(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "bill": desk.task(compensation=undone_by("unbill")),
            "activate": desk.task(after=["bill"], compensation=undone_by("deactivate")),
        },
        billing_trigger="order_submit",
        activation="activate",
        billing={"task": "bill", "within": "PT4H"},
    )
    systems.sends["activate"] = [desk.failed(retryable=False)]
    order = desk.order(desk.item(**PRICED), billing_account="BA-1")
    desk.finish()
    assert look_after(4.1) == 1
    cancel(order)
    leakage.find_leaks()
    assert leaks() == []
    assert not BillingMatch.objects.exists()
