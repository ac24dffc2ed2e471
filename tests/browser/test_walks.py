"""What people do at the desk, walked on the whole stack."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.house import House, line_rental
from tests.browser.operator import Cast, Operator, anything
from tests.waiting import until


@pytest.fixture
def failed(house: House) -> str:
    """An order that billing has refused; billing goes on refusing."""
    house.refuses("billing", "NOT_KNOWN_HERE")
    (reference,) = house.submit(line_rental(f"FAILED-{_next(house)}"))
    house.case_of(reference)
    return reference


def _next(house: House) -> int:
    house.orders += 1
    return house.orders


def _open_order(one: Operator, reference: str) -> None:
    one.open(f"/admin/orders/{reference}")


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


def test_what_is_forbidden_is_not_shown_not_done_by_force_and_on_record(
    house: House, people: Cast, failed: str
) -> None:
    desk, auditor = people("desk"), people("auditor")
    before = house.order(failed)
    (task,) = (
        one["id"]
        for one in house.call("GET", f"/cases/{_case(house, failed)}", who="senior")["tasks"]
    )
    _open_order(desk, failed)
    assert not any("Waive" in words for words in desk.offered())
    path = f"/admin/fulfillment/operation/operate/task.waive/task:{task}"
    refused = desk.forge(
        path,
        **{
            "reason": "It is late.",
            "evidence": "None",
            "parameter-outputs": json.dumps({"reference": "X"}),
        },
    )
    assert refused == 403
    assert house.order(failed) == before
    auditor.open("/admin/")
    auditor.menu("Decisions", folded="Authority")
    auditor.sees("task.waive")


def test_of_two_who_release_an_incident_one_does_and_the_other_is_told(
    house: House, people: Cast
) -> None:
    house.refuses("billing", "NO_CONTRACT")
    references = house.submit(*(line_rental(f"BOTH-{_next(house)}") for _ in range(3)))
    incident = _incident(house, "NO_CONTRACT", cases=3)
    first, second = people("finance"), people("finance-2")
    for one in (first, second):
        one.open(f"/admin/fulfillment/incident/{incident}/change/")
        one.follow(anything("release it"))
        one.looks_first(reason="The contracts are there.")
    first.press_button("Do it")
    first.sees(anything("is drafted"))
    with second.foreseen("409"):
        second.press_button("Do it")
        second.sees(anything("finance"))
    jobs = house.call("GET", "/bulk-jobs", who="senior")["bulk_jobs"]
    assert len([one for one in jobs if one["incident"] == incident]) == 1
    assert house.states(references) == {"IN_PROGRESS"}


def _incident(house: House, code: str, *, cases: int) -> int:
    found: list[int] = []

    def is_there() -> bool:
        rows = house.call("GET", "/incidents", who="senior")["incidents"]
        found[:] = [
            one["id"] for one in rows if code in one["title"] and one["open_cases"] == cases
        ]
        return bool(found)

    until(is_there, seconds=60, pause_seconds=0.2)
    return found[0]


def _case(house: House, reference: str) -> int:
    return int(house.case_of(reference)["id"])


def test_cancelling_shows_the_quote_first(house: House, people: Cast) -> None:
    house.refuses("notification", "NO_SUCH_ADDRESS")
    (reference,) = house.submit(line_rental(f"CANCEL-{_next(house)}"))
    house.case_of(reference)
    house.script()
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
    house.refuses("billing", "NOT_FOR_ONE")
    (reference,) = house.submit(line_rental(f"AMEND-{_next(house)}"))
    house.case_of(reference)
    house.script()
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
