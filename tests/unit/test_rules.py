"""The rules that an order must pass: each fault alone, and all of them together."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from oms.intake.requests import ItemRequest, OrderRequest
from oms.intake.rules import RULES, faults_of

SELECTORS = {("phone", "add"), ("phone", "modify"), ("phone", "disconnect"), ("line", "add")}
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)


def item(**fields: Any) -> ItemRequest:
    return ItemRequest(**{"item_id": "1", "action": "add", "offering": "phone", **fields})


def order(*items: ItemRequest, **fields: Any) -> OrderRequest:
    values = {"external_id": "X-1", "customer_id": "C-1", "items": items or (item(),), **fields}
    return OrderRequest(**values)


def found(request: OrderRequest) -> list[tuple[str, str]]:
    return [(fault.code, fault.path) for fault in faults_of(request, selectors=SELECTORS)]


PRICED = {"one_off_price": Decimal(5)}
FAULTY = [
    (order(customer_id=" "), "customer.missing", "customer.id"),
    (order(item(**PRICED)), "customer.billing_account_missing", "billing_account"),
    (
        order(item(recurring_price=Decimal("0.01"))),
        "customer.billing_account_missing",
        "billing_account",
    ),
    (order(item(offering="fax")), "offering.unknown", "items[0].offering"),
    (
        order(item(offering="line", action="modify", asset="A")),
        "offering.action_not_supported",
        "items[0].action",
    ),
    (order(item(action="no_change")), "offering.nothing_to_do", "items"),
    (order(item(place={"street": "X"})), "place.id_missing", "items[0].place.id"),
    (order(item(place={"id": " "})), "place.id_missing", "items[0].place.id"),
    (order(item(action="modify")), "asset.missing", "items[0].asset"),
    (order(item(action="disconnect")), "asset.missing", "items[0].asset"),
    (order(item(asset="A")), "asset.not_expected", "items[0].asset"),
    (
        order(
            item(action="modify", asset="A"),
            item(item_id="2", action="disconnect", asset="A"),
        ),
        "asset.changed_twice",
        "items[1].asset",
    ),
    (order(item(parties=[{"role": "user"}])), "party.id_missing", "items[0].parties[0].id"),
    (order(item(parties=[{"id": "P"}])), "party.role_missing", "items[0].parties[0].role"),
    (order(item(), item()), "item.id_repeated", "items[1].item_id"),
    (
        order(item(relations=[{"item_id": "9"}])),
        "relation.unknown_item",
        "items[0].relations[0].item_id",
    ),
    (order(item(relations=[{}])), "relation.unknown_item", "items[0].relations[0].item_id"),
    (
        order(requested_at=APRIL, promised_at=MARCH),
        "dates.promised_before_requested",
        "promised_at",
    ),
]


@pytest.mark.parametrize(("request_", "code", "path"), FAULTY)
def test_a_fault_is_named_with_its_place(request_: OrderRequest, code: str, path: str) -> None:
    assert found(request_) == [(code, path)]


FAULTLESS = [
    order(),
    order(item(**PRICED), billing_account="B-1"),
    order(item(one_off_price=Decimal(0))),
    order(item(action="modify", asset="A"), item(item_id="2", action="modify", asset="B")),
    order(item(), item(item_id="2", offering="handset", parent_id="1")),
    order(item(), item(item_id="2", action="no_change", offering="fax")),
    order(item(place={"id": "S-1"}), requested_at=MARCH, promised_at=MARCH),
    order(item(parties=[{"id": "P", "role": "user"}])),
    order(item(relations=[{"item_id": "2"}]), item(item_id="2")),
]


@pytest.mark.parametrize("request_", FAULTLESS)
def test_an_order_that_keeps_the_rules_has_no_faults(request_: OrderRequest) -> None:
    assert found(request_) == []


def test_a_nested_line_with_a_recipe_for_other_actions_is_not_let_through() -> None:
    nested = item(item_id="2", offering="line", action="disconnect", parent_id="1", asset="A")
    assert found(order(item(), nested)) == [("offering.action_not_supported", "items[1].action")]


def test_every_fault_is_reported_together_in_the_order_of_the_rules() -> None:
    request = order(
        item(action="modify", place={"street": "X"}, parties=[{}], **PRICED),
        item(offering="fax", relations=[{"item_id": "9"}]),
        customer_id="",
        requested_at=APRIL,
        promised_at=MARCH,
    )
    codes = [code for code, _ in found(request)]
    assert codes == [
        "customer.missing",
        "customer.billing_account_missing",
        "offering.unknown",
        "place.id_missing",
        "asset.missing",
        "party.id_missing",
        "party.role_missing",
        "item.id_repeated",
        "relation.unknown_item",
        "dates.promised_before_requested",
    ]


def test_every_rule_can_find_something() -> None:
    requests = [request for request, *_ in FAULTY]
    for rule in RULES:
        assert any(list(rule(request, SELECTORS)) for request in requests), rule.__name__


def test_a_message_says_what_to_do() -> None:
    (fault,) = faults_of(order(item(offering="fax")), selectors=SELECTORS)
    assert "'fax'" in fault.message
    assert "publish a workflow" in fault.message
