"""What holds for every page: it opens, says what it is, and is usable without a mouse."""

from __future__ import annotations

import pytest

from tests.browser import readable
from tests.browser.house import House, line_rental
from tests.browser.operator import Cast, Operator


@pytest.fixture(scope="module")
def day(house: House) -> House:
    """One order is done, one has fallen out, and one is held."""
    (done,) = house.submit(line_rental("DONE"))
    house.until_state("COMPLETED", done)
    house.refuses("billing", "ACCOUNT_LOCKED")
    (failed,) = house.submit(line_rental("FAILED", customer={"id": "C-1", "name": "<b>Ann</b>"}))
    house.case_of(failed)
    return house


@pytest.mark.parametrize("name", ["senior", "auditor", "desk"])
def test_every_line_of_the_side_bar_opens_for_whoever_sees_it(
    day: House, people: Cast, name: str
) -> None:
    one = people(name)
    lines = _lines(one)
    assert "/admin/" in lines
    wrong = {}
    for path in lines:
        one.open(path)
        found = readable.faults(one.page)
        if found:
            wrong[path] = found
    assert wrong == {}


def _lines(one: Operator) -> list[str]:
    found: list[str] = one.page.evaluate(
        "[...document.querySelectorAll('#nav-sidebar-apps a[href]')].map((a) => "
        "a.getAttribute('href'))"
    )
    return found
