"""Billing is out: three hundred orders, one incident, and one operator who sees to all of it."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.house import House, line_rental
from tests.browser.operator import Cast, anything
from tests.waiting import until

ORDERS = 300
CODE = "ACCOUNT_LOCKED"
DRY_RUN_MILLISECONDS = 90_000


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
    start = finance.page.get_by_role("link", name=f"Start with 5 of {ORDERS}")
    expect(start).to_be_visible(timeout=DRY_RUN_MILLISECONDS)
    finance.click(start)
    finance.type("Reason", "A canary of five first.")
    finance.press_button(anything("start it"))
    assert finance.clicks <= 10
    assert _rows(house) == {"PENDING": ORDERS}

    second.today()
    second.menu("To approve")
    second.click(second.page.get_by_role("row").filter(has_text="bulk").get_by_role("link").first)
    second.type("Reason", "The account is open.")
    second.press_button(re.compile("^Approve"))

    house.until_state("COMPLETED", *references, seconds=150)
    until(lambda: _rows(house) == {"VERIFIED": ORDERS}, seconds=60, pause_seconds=0.5)
    assert house.cases() == []
    # The job that looks after incidents has its turn every quarter of a minute.
    until(lambda: _open_cases(house) == [], seconds=60, pause_seconds=0.5)
    told = finance.page.get_by_role("region", name="How far this job is")
    expect(told).to_contain_text(re.compile(rf"{ORDERS} (of|verified)|verified {ORDERS}"))
    assert finance.clicks <= 10


def _open_cases(house: House) -> list[int]:
    """Of every incident that is not over."""
    incidents = house.call("GET", "/incidents", who="senior")["incidents"]
    return [one["open_cases"] for one in incidents if one["state"] != "RESOLVED"]


def _rows(house: House) -> dict[str, int]:
    """Of the only bulk job, by state."""
    (job,) = house.call("GET", "/bulk-jobs", who="senior")["bulk_jobs"]
    found: dict[str, int] = job["progress"]["by_state"]
    return found
