"""What one version of an order has changed against another, value by value."""

from __future__ import annotations

from typing import Any

import pytest

from oms.queries.versions import Change, changes


def document(**price: Any) -> dict[str, Any]:
    item = {"item_id": "1", "action": "add", "offering": "thing", "quantity": 1, "price": price}
    return {"external_id": "O", "items": [item]}


@pytest.mark.parametrize(("was", "now"), [("10.5", "10.5000"), ("100", "1E+2"), ("0.00", "0")])
def test_an_amount_is_the_same_however_many_noughts_it_has(was: str, now: str) -> None:
    before, after = (document(one_off=one, recurring=None, currency="EUR") for one in (was, now))
    assert list(changes(before=before, after=after)) == []


def test_another_price_is_a_change() -> None:
    before = document(one_off="10.5000", recurring=None, currency="EUR")
    after = document(one_off="12.00", recurring="3", currency="EUR")
    assert list(changes(before=before, after=after)) == [
        Change(item="1", what="price, once", before="10.50", after="12.00"),
        Change(item="1", what="price, recurring", before="", after="3.00"),
    ]
