"""Assets change when their activation is reached; until then orders only announce it."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.contract import Outcome
from oms.intake.requests import ItemRequest
from oms.models import ApiClient, Asset, Order, PendingAsset
from tests import desk
from tests.api import Api
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def base() -> dict[str, str]:
    return {asset.asset_id: asset.state for asset in Asset.objects.order_by("asset_id")}


def pending() -> list[tuple[str, str]]:
    return list(PendingAsset.objects.order_by("asset_id").values_list("asset_id", "change"))


def a_service(**more: Any) -> None:
    """prepare → activate → bill, per item; active with `activate`."""
    desk.target("alpha")
    desk.workflow(
        {
            "prepare": desk.task(),
            "activate": desk.task(after=["prepare"]),
            "bill": desk.task(after=["activate"]),
        },
        fulfils=[{"offering": "thing", "actions": ["add", "modify", "disconnect"]}],
        **{"activation": "activate", **more},
    )


def change(action: str, asset: str, **fields: Any) -> ItemRequest:
    return ItemRequest(item_id="1", action=action, offering="thing", asset=asset, **fields)


def changed(action: str, asset: str, **fields: Any) -> Order:
    return desk.order(change(action, asset, **fields))


def test_installed_base_is_reality(systems: ScriptedSystems) -> None:
    """An item is only expected until its own activation succeeds, whatever else has."""
    a_service()
    systems.sends["activate"] = [desk.succeeded(), desk.failed(), desk.rejected()]
    order = desk.order(desk.item(), desk.item(item_id="2"))
    first, second = f"{order.reference}-1", f"{order.reference}-2"
    assert base() == {}
    assert pending() == [(first, "add"), (second, "add")]
    desk.drain()
    assert base() == {first: "ACTIVE"}
    assert pending() == [(second, "add")]
    desk.advance(60)
    desk.drain()
    assert desk.states_of(order)["activate@2"] == "FAILED_FINAL"
    assert base() == {first: "ACTIVE"}
    assert pending() == [(second, "add")]


@pytest.mark.parametrize("outcome", [desk.accepted(), desk.unknown(), desk.failed()])
def test_installed_base_is_reality_while_an_activation_is_open(
    systems: ScriptedSystems, outcome: Outcome
) -> None:
    a_service()
    order = desk.order()
    desk.settle(desk.result(desk.claim()[0], desk.succeeded()))
    desk.settle(desk.result(desk.claim()[0], outcome))
    assert desk.states_of(order)["prepare@1"] == "SUCCEEDED"
    assert base() == {}
    assert pending() == [(f"{order.reference}-1", "add")]


def test_without_an_activation_the_complete_order_makes_it_real(systems: ScriptedSystems) -> None:
    a_service(activation=None)
    systems.sends["bill"] = [desk.failed()]
    order = desk.order()
    desk.drain()
    assert base() == {}
    desk.advance(60)
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert base() == {f"{order.reference}-1": "ACTIVE"}
    assert pending() == []


def test_activation_may_be_named_by_its_milestone(systems: ScriptedSystems) -> None:
    a_service(
        activation="live", milestones={"live": {"title": "It is live", "reached_by": "prepare"}}
    )
    systems.sends["activate"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    assert base() == {f"{order.reference}-1": "ACTIVE"}


def test_an_order_level_activation_counts_for_all_its_items(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {"all": desk.task(scope="order"), "bill": desk.task(after=["all"])}, activation="all"
    )
    systems.sends["bill"] = [desk.rejected(), desk.rejected()]
    order = desk.order(desk.item(), desk.item(item_id="2"))
    desk.drain()
    assert set(base()) == {f"{order.reference}-1", f"{order.reference}-2"}


def test_modify_and_disconnect_wait_for_their_activation_as_well(
    systems: ScriptedSystems,
) -> None:
    a_service()
    added = desk.order(desk.item(characteristics={"speed": 100, "colour": "red"}))
    desk.drain()
    name = f"{added.reference}-1"
    since = Asset.objects.get().since
    desk.advance(10)

    more = changed("modify", name, characteristics={"speed": 1000}, quantity=2)
    assert Asset.objects.get().characteristics["speed"] == 100
    assert pending() == [(name, "modify")]
    desk.drain()
    asset = Asset.objects.get()
    assert asset.characteristics == {"speed": 1000, "colour": "red"}
    assert (asset.quantity, asset.order_id, asset.since) == (2, more.pk, since)

    changed("disconnect", name)
    assert base() == {name: "ACTIVE"}
    assert PendingAsset.objects.get().expected_state == "INACTIVE"
    desk.drain()
    asset = Asset.objects.get()
    assert (asset.state, asset.quantity, pending()) == ("INACTIVE", 2, [])
    assert asset.since > since


def test_an_asset_from_before_this_system_becomes_known(systems: ScriptedSystems) -> None:
    a_service()
    changed("disconnect", "LEGACY-7")
    desk.drain()
    assert base() == {"LEGACY-7": "INACTIVE"}


def test_a_nested_line_without_tasks_comes_with_the_line_around_it(
    systems: ScriptedSystems,
) -> None:
    a_service()
    systems.sends["bill"] = [desk.rejected()]
    order = desk.order(
        desk.item(), desk.item("cable", item_id="2", parent_id="1"), desk.item(item_id="3")
    )
    systems.sends["activate"] = [desk.succeeded(), desk.rejected()]
    desk.drain()
    assert base() == {f"{order.reference}-1": "ACTIVE", f"{order.reference}-2": "ACTIVE"}
    assert pending() == [(f"{order.reference}-3", "add")]


def test_what_was_skipped_is_never_real_nor_what_comes_with_it(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "must": desk.task(),
            "try": desk.task(required=False),
            "activate": desk.task(after=["try"], required=False),
        },
        activation="activate",
    )
    systems.sends["try"] = [desk.rejected()]
    order = desk.order(desk.item(), desk.item("cable", item_id="2", parent_id="1"))
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert (base(), pending()) == ({}, [])


def test_two_orders_of_one_batch_may_change_one_asset(systems: ScriptedSystems) -> None:
    a_service()
    added = desk.order()
    desk.drain()
    name = f"{added.reference}-1"
    first = changed("modify", name, characteristics={"a": 1})
    second = changed("modify", name, characteristics={"b": 2})
    assert PendingAsset.objects.filter(asset_id=name).count() == 2
    desk.drain()
    assert Asset.objects.get().characteristics == {"a": 1, "b": 2}
    assert {first.pk, second.pk} >= {Asset.objects.get().order_id}


def test_nobody_changes_the_asset_of_another_customer(systems: ScriptedSystems) -> None:
    a_service()
    added = desk.order()
    desk.drain()
    name = f"{added.reference}-1"
    (answer,) = desk.submit_all(desk.request(change("disconnect", name), customer_id="C-2"))
    assert [fault["code"] for fault in answer.faults] == ["asset.of_another_customer"]
    assert base() == {name: "ACTIVE"}


def test_the_api_shows_what_is_and_what_is_expected(systems: ScriptedSystems) -> None:
    a_service()
    api = Api()
    order = desk.order()
    name = f"{order.reference}-1"
    expected = api.get(f"/assets/{name}").json()
    assert (expected["state"], expected["offering"]) == (None, None)
    assert [(one["change"], one["order"]) for one in expected["pending"]] == [
        ("add", order.reference)
    ]
    desk.drain()
    later = changed("disconnect", name)
    shown = api.get(f"/assets/{name}").json()
    assert (shown["state"], shown["order"]) == ("ACTIVE", order.reference)
    assert [(one["expected_state"], one["order"]) for one in shown["pending"]] == [
        ("INACTIVE", later.reference)
    ]
    assert api.get("/assets?customer=C-1").json() == {"assets": [shown], "next": None}
    assert api.get("/assets?customer=C-2").json() == {"assets": [], "next": None}
    assert api.get(f"/orders/{order.reference}").json()["assets"] == [shown]
    assert Api(name="another").get(f"/assets/{name}").status_code == 404
    assert Api(name="another").get("/assets?customer=C-1").json()["assets"] == []
    assert api.get("/assets").status_code == 400


def test_the_list_of_assets_has_pages(systems: ScriptedSystems) -> None:
    a_service()
    api = Api()
    desk.order(desk.item(), desk.item(item_id="2"))
    desk.drain()
    desk.order()
    names = []
    address = "/assets?customer=C-1&limit=2"
    while address:
        page = api.get(address).json()
        names += [asset["id"] for asset in page["assets"]]
        address = (page["next"] or "").removeprefix("/api/v1")
    assert names == sorted(set(names))
    assert len(names) == 3
    assert ApiClient.objects.count() == 1


def test_what_provides_nothing_becomes_no_asset(systems: ScriptedSystems) -> None:
    """Beside an item that does; nested lines without tasks of their own go with their line."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, activation="one")
    desk.workflow({"two": desk.task()}, offering="work", billing_trigger=None, provides="nothing")
    order = desk.order(
        desk.item(item_id="1"),
        desk.item("work", item_id="2"),
        desk.item("part", item_id="3", parent_id="2"),
    )
    thing = f"{order.reference}-1"
    assert pending() == [(thing, "add")]
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert base() == {thing: "ACTIVE"}
    assert pending() == []


def test_work_alone_becomes_no_asset(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, billing_trigger=None, provides="nothing")
    order = desk.order()
    assert pending() == []
    desk.drain()
    order.refresh_from_db()
    assert (order.state, base()) == ("COMPLETED", {})
