"""What people do at the desk, walked on the whole stack."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.house import House, line_rental
from tests.browser.operator import Cast, Operator, anything


@pytest.fixture
def failed(house: House) -> str:
    """An order that billing has refused; billing is mended since."""
    return house.failed(house.name("not_known"))


def _open_order(one: Operator, reference: str) -> None:
    one.open(f"/admin/orders/{reference}")


def test_a_newcomer_clears_a_fallout_in_two_minutes(house: House, people: Cast) -> None:
    """Whoever has never read the code: every step is found by the words on the screen."""
    code = house.name("customer_unknown")
    reference = house.failed(code, target="crm")
    others = house.submit(*(line_rental(house.name("other")) for _ in range(3)))
    newcomer = people("supply")
    newcomer.today()
    newcomer.sees("Needs somebody")
    newcomer.follow(re.compile("cases? open"))
    newcomer.follow(re.compile(rf"^{reference} ·"))

    newcomer.sees("What happened")
    newcomer.sees("crm")
    newcomer.sees(code)
    newcomer.sees("What has to be found out")
    newcomer.sees("What may help")
    newcomer.follow(re.compile("^Try .*again"))
    newcomer.looks_first(reason="They have entered the customer.")
    newcomer.sees("check_customer")
    newcomer.press_button("Do it")
    newcomer.sees("Sent anew")
    newcomer.follow(anything(reference))
    house.until_state("COMPLETED", reference, *others)
    expect(newcomer.page.get_by_role("region", name="How this order stands")).to_contain_text(
        anything("completed")
    )
    assert newcomer.clicks <= 8
    assert house.effects(reference) == [
        "crm check_customer",
        "billing start_billing",
        "notification send_message",
    ]
    assert house.cases(order=reference) == []


def test_a_waiver_needs_finance_and_a_second_person(
    house: House, people: Cast, failed: str
) -> None:
    desk, finance, second = people("desk"), people("finance"), people("finance-2")
    _open_order(desk, failed)
    assert not any("Waive" in words for words in desk.offered())

    _open_order(finance, failed)
    finance.follow(re.compile("^Waive"))
    finance.looks_first(
        reason="The line is billed by hand.",
        evidence="Ledger 4711",
        Outputs=json.dumps({"reference": "BY-HAND-1"}),
    )
    finance.sees(anything("another person has to approve"))
    finance.press_button("Ask for approval")
    finance.sees(anything("nothing is done before"))
    assert house.order(failed)["state"] == "IN_PROGRESS"

    _open_approval(finance, failed)
    assert not any(words.startswith("Approve") for words in finance.offered())
    _open_approval(second, failed)
    second.sees("The line is billed by hand.")
    second.type("Reason", "The ledger has it.")
    second.press_button(re.compile("^Approve"))
    second.sees(anything("is waived"))
    house.until_state("COMPLETED", failed)
    assert house.cases(order=failed) == []


def _open_approval(one: Operator, reference: str) -> None:
    one.today()
    one.menu("To approve")
    row = one.page.get_by_role("row").filter(has_text="Waive a task")
    one.click(row.get_by_role("link").first)


def test_of_two_who_release_an_incident_one_does_and_the_other_is_told(
    house: House, people: Cast
) -> None:
    code = house.name("no_contract")
    house.refuses("billing", code)
    references = house.submit(*(line_rental(house.name("both")) for _ in range(3)))
    incident = house.incident_of(code, cases=3)
    house.script()
    first, second = people("finance"), people("finance-2")
    for one in (first, second):
        one.open(f"/admin/fulfillment/incident/{incident}/change/")
        one.follow(anything("release it"))
        one.looks_first(reason="The contracts are there.")
    first.press_button("Do it")
    first.sees(anything("is drafted"))
    with second.foreseen("409"):
        second.press_button("Do it")
        second.sees("Somebody was there before you")
        second.sees(re.compile(r"Release .* by finance\b"))
    (job,) = house.jobs_of(incident)
    for one in (first, second):
        one.open(f"/admin/fulfillment/incident/{incident}/change/")
        expect(
            one.content.get_by_role("link", name=re.compile(rf"bulk job {job['id']}"))
        ).to_be_visible()
    # It waits to be started: nothing was tried again for anybody.
    assert house.states(references) == {"IN_PROGRESS"}
    assert all(house.effects(one) == ["crm check_customer"] for one in references)


def test_of_two_who_take_a_case_one_has_it(house: House, people: Cast) -> None:
    case = house.case_of(house.failed(house.name("unknown"), target="crm"))["id"]
    supply, senior = people("supply"), people("senior")
    for one in (supply, senior):
        one.open(f"/admin/fulfillment/falloutcase/{case}/change/")
    supply.press_button("Take it")
    supply.sees("supply has it")
    senior.press_button("Take it")
    senior.sees(re.compile("supply (has|was)"))
    senior.sees("supply has it since")
    assert house.call("GET", f"/cases/{case}", who="senior")["assigned_to"] == "supply"


def test_who_tries_again_what_another_has_cancelled_is_told(house: House, people: Cast) -> None:
    reference = house.failed(house.name("unknown"), target="crm")
    supply, desk = people("supply"), people("desk")
    _open_order(supply, reference)
    supply.follow("Try again")
    supply.looks_first(reason="They know the customer by now.")
    _open_order(desk, reference)
    desk.follow(re.compile("^Cancel"))
    desk.looks_first(reason="Ordered twice.")
    desk.press_button("Do it")
    house.until_state("CANCELLED", reference)
    with supply.foreseen("409"):
        supply.press_button("Do it")
        supply.sees(anything("nothing was done"))
        supply.sees(re.compile(r"by desk\b"))
    _open_order(supply, reference)
    supply.sees("Ordered twice.")
    assert house.effects(reference) == []


def test_cancelling_shows_the_quote_first(house: House, people: Cast) -> None:
    reference = house.failed(house.name("no_address"), target="notification")
    desk = people("desk")
    _open_order(desk, reference)
    desk.follow(re.compile("^Cancel"))
    desk.sees("What it costs")
    desk.sees(re.compile(r"5(\.00)? EUR"))
    desk.looks_first(reason="Ordered twice.")
    assert house.order(reference)["state"] == "IN_PROGRESS"
    desk.click(desk.content.get_by_role("checkbox"))
    desk.press_button("Do it")
    house.until_state("CANCELLED", reference)
    _open_order(desk, reference)
    desk.sees(anything("cancelled"))


def test_amending_shows_the_difference_first(house: House, people: Cast) -> None:
    reference = house.failed(house.name("not_for_one"))
    desk = people("desk")
    _open_order(desk, reference)
    desk.follow(re.compile("^Change"))
    desk.looks_first(reason="They want three.", **{"Quantity of ": "3"})
    changed = desk.page.get_by_role("row").filter(has_text=anything("quantity"))
    expect(changed.first).to_contain_text("3")
    assert house.order(reference)["version"] == 1
    desk.press_button("Do it")
    house.until_state("COMPLETED", reference)
    assert house.order(reference)["version"] == 2
