"""Billing is out: three hundred orders, one incident, and one operator who sees to all of it."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.house import House, line_rental
from tests.browser.operator import Cast, anything
from tests.waiting import until

ORDERS = 300
CANARY = 5
DRY_RUN_MILLISECONDS = 90_000


def test_an_outage_of_300_orders_is_one_incident_released_with_a_canary_in_ten_clicks(
    house: House, people: Cast
) -> None:
    code = house.name("account_locked")
    house.refuses("billing", code)
    references = house.submit(*(line_rental(house.name("outage")) for _ in range(ORDERS)))
    incident = house.incident_of(code, cases=ORDERS)
    finance, second = people("finance"), people("finance-2")
    # From here on every click counts, also one into a field, and two for each choice.
    finance.today()
    finance.sees(code)
    house.script()

    finance.follow(anything(code))
    finance.follow(anything("release it"))
    finance.choose("Goes on", "yes")
    finance.looks_first(reason="Billing has unlocked the account.")
    finance.sees(f"{ORDERS} failed tasks")
    finance.press_button("Do it")
    start = finance.page.get_by_role("link", name=f"Start with {CANARY} of {ORDERS}")
    expect(start).to_be_visible(timeout=DRY_RUN_MILLISECONDS)
    finance.click(start)
    finance.type("Reason", "A canary of five first.")
    finance.press_button(anything("start it"))
    finance.sees("Nothing is done yet: somebody else")
    assert _rows(house, incident) == {"PENDING": ORDERS}
    assert not any(_is_billed(house, one) for one in references[:CANARY])

    # It moves money: another person says that it may, with clicks of their own.
    second.today()
    second.menu("To approve")
    asked = second.page.get_by_role("row").filter(has_text="bulk").filter(has_text=str(ORDERS))
    second.click(asked.get_by_role("link").first)
    second.sees("A canary of five first.")
    second.type("Reason", "The account is open.")
    second.press_button(re.compile("^Approve"))

    # Finance only looks on: the page follows by itself, from the canary to the last order.
    told = finance.page.get_by_role("region", name="How far this job is")
    expect(told).to_contain_text(re.compile(rf"verified {CANARY}|{CANARY} verified|{CANARY} of"))
    house.until_state("COMPLETED", *references, seconds=150)
    until(lambda: _rows(house, incident) == {"VERIFIED": ORDERS}, seconds=60, pause_seconds=0.5)
    expect(told).to_contain_text(re.compile(rf"{ORDERS} (of|verified)|verified {ORDERS}"))
    assert finance.clicks <= 10
    assert second.clicks <= 4
    assert house.incident(incident)["open_cases"] == 0
    done = ["crm check_customer", "billing start_billing", "notification send_message"]
    assert {one: house.effects(one) for one in references} == dict.fromkeys(references, done)
    until(lambda: house.incident(incident)["state"] == "RESOLVED", seconds=60, pause_seconds=0.5)


def _is_billed(house: House, reference: str) -> bool:
    return "billing start_billing" in house.effects(reference)


def _rows(house: House, incident: int) -> dict[str, int]:
    """Of the only bulk job that releases it, by state."""
    (job,) = house.jobs_of(incident)
    found: dict[str, int] = job["progress"]["by_state"]
    return found
