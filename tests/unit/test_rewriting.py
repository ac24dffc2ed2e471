"""An order rewritten line by line: what was entered otherwise than it was shown is taken over."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from oms.repairs.rewriting import entries_of, faults_of, lines_of, rewritten

ORDER: dict[str, Any] = {
    "external_id": "X-1",
    "items": [
        {
            "item_id": "1",
            "action": "add",
            "offering": "line",
            "quantity": 1,
            "characteristics": {"speed": 100, "number": "100", "ports": [1, 2], "on": True},
            "price": {"one_off": "5.0000", "recurring": None, "currency": "EUR"},
            "items": [{"item_id": "1.1", "action": "add", "offering": "router", "items": []}],
        },
        {"item_id": "2", "action": "add", "offering": "phone", "quantity": 2, "price": None},
    ],
}


def made(entered: dict[str, str], *, order: dict[str, Any] = ORDER) -> dict[str, Any]:
    before = deepcopy(order)
    found = rewritten(order=order, shown=ORDER, entered=entered)
    assert order == before
    return found


def untouched() -> dict[str, str]:
    return {
        f"{at}-{name}": text
        for at, line in enumerate(lines_of(ORDER))
        for name, text in entries_of(line).items()
    }


def test_what_is_sent_back_as_it_was_shown_changes_nothing() -> None:
    assert made(untouched()) == ORDER
    assert made({}) == ORDER
    assert untouched()["0-one_off"] == "5.00"


def test_every_line_stands_before_those_that_are_nested_in_it() -> None:
    assert [(one.name, one.depth) for one in lines_of(ORDER)] == [("1", 1), ("1.1", 2), ("2", 1)]
    assert lines_of({"items": "none"}) == lines_of({}) == []


def test_quantity_and_price() -> None:
    found = made({**untouched(), "0-quantity": "3", "0-one_off": "7.50", "0-recurring": "1"})
    line = found["items"][0]
    assert line["quantity"] == 3
    assert line["price"] == {"one_off": "7.50", "recurring": "1", "currency": "EUR"}
    assert made({"0-one_off": ""})["items"][0]["price"]["one_off"] is None


def test_attributes_keep_their_kind() -> None:
    found = made({"0-attribute-0": "50", "0-attribute-1": "50", "0-attribute-2": "false"})
    told = found["items"][0]["characteristics"]
    assert told == {"speed": 50, "number": "50", "ports": [1, 2], "on": False}


def test_an_attribute_that_is_emptied_goes_and_others_come() -> None:
    more = 'colour = blue\nsize=3\ncode = "7"\nnothing'
    found = made({"0-attribute-0": "", "0-attributes": more})
    assert found["items"][0]["characteristics"] == {
        "number": "100",
        "ports": [1, 2],
        "on": True,
        "colour": "blue",
        "size": 3,
        "code": "7",
    }


def test_a_line_that_is_left_out_goes_with_what_is_nested_in_it() -> None:
    assert [one.name for one in lines_of(made({"0-is_out": "out"}))] == ["2"]
    assert [one.name for one in lines_of(made({"1-is_out": "out"}))] == ["1", "2"]


def test_one_more_line() -> None:
    entered = {
        "new-offering": "phone",
        "new-action": "add",
        "new-quantity": "2",
        "new-within": "1",
        "new-one_off": "9.90",
        "new-currency": "EUR",
        "new-attributes": "colour = red",
    }
    assert made(entered)["items"][0]["items"][1] == {
        "item_id": "4",
        "action": "add",
        "offering": "phone",
        "quantity": 2,
        "characteristics": {"colour": "red"},
        "price": {"one_off": "9.90", "currency": "EUR"},
    }
    assert made({"new-quantity": "2", "new-action": "add"}) == ORDER
    assert made({"new-offering": "phone"})["items"][2]["offering"] == "phone"


def test_what_was_rewritten_as_a_whole_is_kept() -> None:
    order = deepcopy(ORDER)
    order["items"][0]["quantity"] = 9
    order["items"][0]["place"] = {"id": "P"}
    del order["items"][1]
    found = made({**untouched(), "0-attribute-0": "50", "2-quantity": "7"}, order=order)
    assert found["items"][0]["quantity"] == 9
    assert found["items"][0]["characteristics"]["speed"] == 50
    assert [one.name for one in lines_of(found)] == ["1", "1.1"]


def test_what_is_no_number_is_said_in_plain_words() -> None:
    found = made({"0-quantity": "many", "0-one_off": "free", "2-quantity": "0"})
    assert list(faults_of(found)) == [
        "The quantity of 1 is a whole number from 1, and not 'many'.",
        "The price of 1 is an amount such as 9.90, and not 'free'.",
        "The quantity of 2 is a whole number from 1, and not 0.",
    ]
    assert not list(faults_of(ORDER))
