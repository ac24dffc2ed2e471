"""What is new about a revised order: which items stay, come and go, and what is new about them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from fulfillment.definitions.concern import ChangeKind
from oms.changes.differing import WHOLE, Difference, differ, leaving_out, unchangeable
from oms.changes.documents import as_submitted, read_back
from oms.intake.requests import ItemRequest, OrderRequest


def item(item_id: str = "1", **fields: Any) -> ItemRequest:
    return ItemRequest(**{"item_id": item_id, "action": "add", "offering": "phone", **fields})


def order(*items: ItemRequest, **fields: Any) -> OrderRequest:
    values = {"external_id": "X-1", "customer_id": "C-1", "items": items or (item(),), **fields}
    return OrderRequest(**values)


def found(before: OrderRequest, after: OrderRequest, **more: Any) -> Difference:
    return differ(before=before, after=after, **more)


def test_the_same_order_differs_in_nothing() -> None:
    same = found(order(item(), item("2")), order(item(parties=[]), item("2")))
    assert not same.is_any
    assert (same.changed, same.come, same.gone, same.rewritten) == ({}, (), (), ())


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"quantity": 2}, ChangeKind.QUANTITY),
        ({"characteristics": {"colour": "red"}}, ChangeKind.CHARACTERISTICS),
        ({"place": {"id": "ADDR-2"}}, ChangeKind.ADDRESS),
        ({"parties": [{"id": "P-1", "role": "recipient"}]}, ChangeKind.CONTACT),
        ({"one_off_price": Decimal(5)}, ChangeKind.PRICE),
        ({"recurring_price": Decimal(5)}, ChangeKind.PRICE),
        ({"currency": "EUR"}, ChangeKind.PRICE),
    ],
)
def test_each_kind_of_change_of_an_item(change: dict[str, Any], kind: ChangeKind) -> None:
    difference = found(order(item(), item("2")), order(item(), item("2", **change)))
    assert difference.changed == {2: {kind}}
    assert (difference.rewritten, difference.come, difference.gone) == ((2,), (), ())


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"customer_name": "Ann"}, ChangeKind.CONTACT),
        ({"customer_email": "a@b.example"}, ChangeKind.CONTACT),
        ({"billing_account": "BA-2"}, ChangeKind.PRICE),
    ],
)
def test_each_kind_of_change_of_the_order(change: dict[str, Any], kind: ChangeKind) -> None:
    assert found(order(), order(**change)).changed == {WHOLE: {kind}}


@pytest.mark.parametrize(
    "change",
    [
        {"promised_at": datetime(2026, 3, 1, tzinfo=UTC)},
        {"priority": 5},
        {"region": "EU"},
        {"items": [item(relations=[{"type": "with", "item_id": "1"}])]},
    ],
)
def test_what_is_of_no_kind_is_a_difference_all_the_same(change: dict[str, Any]) -> None:
    difference = found(order(), replace(order(), **change))
    assert difference.is_any
    assert difference.changed == {}


def test_amounts_are_compared_as_numbers() -> None:
    before = order(item(one_off_price=Decimal("99.0000"), currency="EUR"))
    assert not found(before, order(item(one_off_price=Decimal("99.0"), currency="EUR"))).is_any


def test_items_keep_their_positions_in_whatever_order_they_are_sent() -> None:
    difference = found(order(item(), item("2"), item("3")), order(item("3"), item("1")))
    assert [one.position for one in difference.revised.items] == [3, 1]
    assert (difference.gone, difference.come) == ((2,), ())
    assert difference.changed == {WHOLE: {ChangeKind.ITEMS}}


def test_a_new_item_gets_a_position_that_none_has_ever_had() -> None:
    difference = found(order(item()), order(item(), item("2")), used=[1, 2, 7])
    assert difference.come == (8,)
    assert dict(difference.revised.lines())[8].item_id == "2"


@pytest.mark.parametrize("change", [{"offering": "fax"}, {"action": "modify", "asset": "A-1"}])
def test_another_offering_or_action_is_another_item(change: dict[str, Any]) -> None:
    difference = found(order(item(), item("2")), order(item(**change), item("2")))
    assert (difference.gone, difference.come, difference.rewritten) == ((1,), (3,), ())


def test_what_stands_within_another_line_is_another_item() -> None:
    before = order(item(), item("2", parent_id="1"), item("3"))
    difference = found(before, order(item(), item("3"), item("2", parent_id="3")))
    assert (difference.gone, difference.come) == ((2,), (4,))


def test_lines_within_a_line_that_is_another_one_are_others_too() -> None:
    before = order(item(), item("2", parent_id="1"), item("3", parent_id="2"))
    after = order(item(offering="fax"), item("2", parent_id="1"), item("3", parent_id="2"))
    difference = found(before, after)
    assert (difference.gone, difference.come) == ((1, 2, 3), (4, 5, 6))


def test_lines_stay_within_a_line_that_stays() -> None:
    before = order(item(), item("2", parent_id="1"))
    difference = found(before, order(item(quantity=3), item("2", parent_id="1")))
    assert (difference.gone, difference.come) == ((), ())
    assert difference.changed == {1: {ChangeKind.QUANTITY}}


def test_what_an_amendment_can_t_change() -> None:
    faults = unchangeable(before=order(), after=order(external_id="Y", customer_id="C-2"))
    assert [(fault.code, fault.path) for fault in faults] == [
        ("amendment.external_id_changed", "external_id"),
        ("amendment.customer_changed", "customer.id"),
    ]
    assert unchangeable(before=order(), after=order()) == []


def test_leaving_items_out_takes_what_is_nested_within_them() -> None:
    whole = order(item(), item("2", parent_id="1"), item("3", parent_id="2"), item("4"))
    assert [one.item_id for one in leaving_out(order=whole, item_ids=["1"]).items] == ["4"]
    assert [one.item_id for one in leaving_out(order=whole, item_ids=["3"]).items] == [
        *("1", "2", "4")
    ]


def test_what_is_left_is_related_to_nothing_that_is_left_out() -> None:
    both = [{"type": "used_with", "item_id": "1"}, {"type": "beside", "item_id": "3"}]
    whole = order(item(), item("2", relations=both), item("3"))
    second, third = leaving_out(order=whole, item_ids=["1"]).items
    assert (second.relations, third.relations) == ([{"type": "beside", "item_id": "3"}], ())


def test_the_difference_is_told_by_the_items_own_names() -> None:
    difference = found(
        order(item(), item("old")), order(item(quantity=2), item("new"), billing_account="BA-1")
    )
    assert difference.document({1: "1", 2: "old", 3: "new"}) == {
        "order": ["items", "price"],
        "items": {"1": ["quantity"]},
        "come": ["new"],
        "gone": ["old"],
    }


def test_an_order_is_read_back_as_it_was_written() -> None:
    whole = order(
        item(
            characteristics={"colour": "red", "ports": [1, 2]},
            one_off_price=Decimal("99.90"),
            currency="EUR",
            place={"id": "ADDR-1"},
            parties=[{"id": "P-1", "role": "recipient", "name": ""}],
            relations=[{"type": "with", "item_id": "2"}],
        ),
        item("2", parent_id="1", parties=[], relations=[]),
        item("3", parent_id="2", parties=[], relations=[], asset="A-1", action="modify"),
        customer_name="Ann",
        requested_at=datetime(2026, 3, 1, 8, tzinfo=UTC),
    )
    document = as_submitted(whole)
    assert [line["item_id"] for line in document["items"]] == ["1"]
    assert document["items"][0]["items"][0]["items"][0]["asset"] == "A-1"
    assert read_back(document) == replace(whole, items=list(whole.items))
