"""The form that changes an order: line by line, with the same as JSON for all the rest."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

from fulfillment.actions import Action
from oms.changes import settling
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.integration.test_admin_operate import browser, form_of, shown
from tests.integration.test_amendment import an_order, line, product, step
from tests.pages import questions

pytestmark = pytest.mark.django_db
_LINE = "parameter-order-line-"


class _Form(HTMLParser):
    """What a browser would send of the form as it stands."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.labels: list[str] = []
        self._inside = ""
        self._select = ""
        self.feed(page[page.index('class="desk-asking"') :])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if "aria-label" in given:
            self.labels.append(given["aria-label"])
        if tag == "input" and given.get("type") != "checkbox":
            self.fields[name] = given.get("value", "")
        elif tag == "textarea":
            self._inside, self.fields[name] = name, ""
        elif tag == "select":
            self._select = name
        elif (
            tag == "option"
            and self._select
            and ("selected" in given or self._select not in self.fields)
        ):
            self.fields[self._select] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._inside = ""
        elif tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.fields[self._inside] += data


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    product()
    order = an_order(
        line(one_off_price=Decimal(10), currency="EUR", characteristics={"colour": "red"}),
        line("2", quantity=2),
        billing_account="BA-1",
    )
    step(systems, "reserve", "build")
    return order


@pytest.fixture
def ann(db: None) -> Client:
    return browser("ann", Action.ORDER_CHANGE)


def _address(order: Order) -> str:
    return form_of(Action.ORDER_CHANGE, f"order:{order.reference}")


def _begun(ann: Client, order: Order) -> dict[str, str]:
    return {**_Form(shown(ann.get(_address(order)))).fields, "reason": "They want it so."}


def _items(order: Order) -> dict[str, Any]:
    return {item.item_id: item for item in order.items.filter(removed_in_version=None)}


def test_it_begins_with_the_lines_as_they_are(ann: Client, order: Order) -> None:
    page = shown(ann.get(_address(order)))
    form = _Form(page)
    assert form.fields[f"{_LINE}0-quantity"] == "1"
    assert form.fields[f"{_LINE}0-one_off"] == "10.00"
    assert form.fields[f"{_LINE}0-attribute-0"] == "red"
    assert form.fields[f"{_LINE}1-quantity"] == "2"
    assert f"{_LINE}1-one_off" not in form.fields
    assert "Quantity of 1" in form.labels
    assert "Leave 2 out, with what is nested in it" in form.labels
    assert '<option value="thing">' in page
    assert json.loads(form.fields["parameter-order"])["items"][0]["quantity"] == 1


def test_nothing_changed_is_another_order_of_nothing(ann: Client, order: Order) -> None:
    page = shown(ann.post(_address(order), _begun(ann, order)), 409)
    (why,) = re.findall(r'class="desk-refusal".*?</div>', page, re.DOTALL)
    assert "The revised order is the order as it is; nothing was changed." in why


def test_quantity_price_and_attributes(ann: Client, order: Order) -> None:
    given = _begun(ann, order) | {
        f"{_LINE}0-quantity": "3",
        f"{_LINE}0-one_off": "8.50",
        f"{_LINE}0-attribute-0": "blue",
        f"{_LINE}1-attributes": "size = 7",
    }
    page = shown(ann.post(_address(order), given))
    assert re.search(r"<td>quantity</td>\s*<td>1</td>\s*<td>3</td>", page)
    assert re.search(r"<td>characteristics · colour</td>\s*<td>red</td>\s*<td>blue</td>", page)
    again = _Form(page).fields
    assert again[f"{_LINE}0-quantity"] == "3"
    order.refresh_from_db()
    assert order.version == 1
    assert ann.post(_address(order), again).status_code == 302
    order.refresh_from_db()
    found = _items(order)
    assert order.version == 2
    assert (found["1"].quantity, found["1"].one_off_price) == (3, Decimal("8.5"))
    assert found["1"].characteristics == {"colour": "blue"}
    assert found["2"].characteristics == {"colour": "red", "size": 7}


def test_a_line_is_left_out_and_another_one_comes(ann: Client, order: Order) -> None:
    given = _begun(ann, order) | {
        f"{_LINE}1-is_out": "out",
        f"{_LINE}new-offering": "thing",
        f"{_LINE}new-attributes": "colour = green",
    }
    page = shown(ann.post(_address(order), given))
    again = _Form(page).fields
    assert again[f"{_LINE}1-attribute-0"] == "green"
    assert again[f"{_LINE}new-offering"] == ""
    assert ann.post(_address(order), again).status_code == 302
    order.refresh_from_db()
    assert set(_items(order)) == {"1", "3"}


def test_what_is_written_as_json_and_what_is_entered_come_together(
    ann: Client, order: Order
) -> None:
    given = _begun(ann, order)
    document = json.loads(given["parameter-order"])
    document["items"][1]["place"] = {"id": "P-7"}
    given |= {"parameter-order": json.dumps(document), f"{_LINE}1-quantity": "5"}
    again = _Form(shown(ann.post(_address(order), given))).fields
    second = json.loads(again["parameter-order"])["items"][1]
    assert (second["place"], second["quantity"]) == ({"id": "P-7"}, 5)


def test_what_is_done_is_what_was_shown(ann: Client, order: Order) -> None:
    page = shown(ann.post(_address(order), _begun(ann, order) | {f"{_LINE}0-quantity": "3"}))
    other = _Form(page).fields | {f"{_LINE}0-quantity": "4"}
    page = shown(ann.post(_address(order), other))
    assert re.search(r"<td>quantity</td>\s*<td>1</td>\s*<td>4</td>", page)
    order.refresh_from_db()
    assert order.version == 1


def test_what_is_no_number_is_said_beside_it_and_stays(ann: Client, order: Order) -> None:
    page = shown(ann.post(_address(order), _begun(ann, order) | {f"{_LINE}0-quantity": "<many>"}))
    assert "The quantity of 1 is a whole number from 1, and not &#x27;&lt;many&gt;&#x27;." in page
    assert _Form(page).fields[f"{_LINE}0-quantity"] == "<many>"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", 200),
        ("{", 200),
        ("[]", 400),
        ('"x"', 400),
        ('{"items": 1}', 400),
        ('{"items": [1, {}]}', 400),
    ],
)
def test_what_is_no_order_is_refused(ann: Client, order: Order, text: str, status: int) -> None:
    page = shown(ann.post(_address(order), _begun(ann, order) | {"parameter-order": text}), status)
    assert 'class="desk-errors"' in page
    assert "Do it" not in page


def test_what_is_complete_is_changed_by_another_order(
    ann: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    selectors = [{"offering": "thing", "actions": ["add", "modify", "disconnect"]}]
    desk.workflow({"make": desk.task()}, fulfils=selectors, activation="make")
    order = an_order(line())
    desk.finish()
    given = _begun(ann, order) | {f"{_LINE}0-attribute-0": "blue"}
    assert given["parameter-mode"] == "change_order"
    page = shown(ann.post(_address(order), given))
    assert "Another order changes what" in page
    assert ann.post(_address(order), _Form(page).fields).status_code == 302
    settling.settle_due()
    made = Order.objects.exclude(pk=order.pk).get()
    (item,) = made.items.all()
    assert (item.action, item.characteristics) == ("modify", {"colour": "blue"})


def test_it_costs_the_same_however_many_lines_there_are(
    ann: Client, systems: ScriptedSystems
) -> None:
    product()
    few = an_order(line())
    many = an_order(*(line(str(at)) for at in range(1, 40)))
    assert questions(lambda: ann.get(_address(few))) == questions(lambda: ann.get(_address(many)))
