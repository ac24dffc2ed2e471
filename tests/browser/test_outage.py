"""Billing is out: three hundred orders, one incident, and one operator who sees to all of it."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.house import House, line_rental
from tests.browser.operator import Cast, anything
from tests.waiting import until

ORDERS = 300
CODE = "ACCOUNT_LOCKED"


def test_an_outage_of_300_orders_is_one_incident_released_with_a_canary_in_ten_clicks(
    house: House, people: Cast
) -> None:
    house.refuses("billing", CODE)
    references = house.submit(*(line_rental(f"OUTAGE-{number}") for number in range(ORDERS)))
    until(lambda: _open_cases(house) == [ORDERS], seconds=120, pause_seconds=0.5)
    finance, second = people("finance"), people("finance-2")
    finance.today()
    finance.sees(CODE)
    house.script()

    finance.follow(anything(CODE))
    finance.follow(anything("release it"))
    finance.choose("Goes on", "yes")
    finance.looks_first(reason="Billing has unlocked the account.")
    finance.sees(f"{ORDERS} failed tasks")
    finance.press_button("Do it")
    finance.follow(re.compile(rf"Start with 5 of {ORDERS}"))
    finance.type("Reason", "A canary of five first.")
    finance.press_button(anything("start it"))
    assert finance.clicks <= 10
    _nothing_is_done_yet(house)

    second.today()
    second.menu("To approve")
    second.click(second.page.get_by_role("row").filter(has_text="bulk").get_by_role("link").first)
    second.type("Reason", "The account is open.")
    second.press_button(re.compile("^Approve"))

    house.until_state("COMPLETED", *references, seconds=150)
    assert _open_cases(house) == []
    assert house.cases() == []
    (job,) = house.call("GET", "/bulk-jobs", who="senior")["bulk_jobs"]
    assert job["progress"]["by_state"] == {"VERIFIED": ORDERS}
    told = finance.page.get_by_role("region", name="How far this job is")
    expect(told).to_contain_text(re.compile(rf"{ORDERS} (of|verified)|verified {ORDERS}"))
    assert finance.clicks <= 10


def _open_cases(house: House) -> list[int]:
    """Of every incident that is not over."""
    incidents = house.call("GET", "/incidents", who="senior")["incidents"]
    return [one["open_cases"] for one in incidents if one["state"] != "RESOLVED"]


def _nothing_is_done_yet(house: House) -> None:
    (job,) = house.call("GET", "/bulk-jobs", who="senior")["bulk_jobs"]
    assert job["progress"]["by_state"] == {"PENDING": ORDERS}
