"""A real browser before a real stack. Where the machine has no browser, its tests are skipped.

A test that fails leaves a picture and the page of everybody in it, in `.oms/browser`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator

import pytest
from playwright.sync_api import Browser, StorageState, sync_playwright

from oms.embedded.layout import Layout
from oms.environment import CHECKOUT
from tests.browser.house import House, house_like
from tests.browser.operator import Cast

TRACES = CHECKOUT / ".oms" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser_found() -> str | None:
    """What OMS_BROWSER names, or else the first one in PATH."""
    return os.environ.get("OMS_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Until these tests end: while it is open, this process can't use Django's database."""
    found = browser_found()
    if found is None:
        pytest.skip(
            f"There is no browser: install one of {', '.join(NAMES)}, or name it in OMS_BROWSER."
        )
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def house(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, stack_model: Layout
) -> Iterator[House]:
    """One stack for all that a process has of these tests: each looks after orders of its own."""
    with house_like(stack_model, folder=tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="package")
def known(house: House) -> dict[str, StorageState]:
    """Who has signed in before."""
    return {}


@pytest.fixture
def people(browser: Browser, house: House, known: dict[str, StorageState]) -> Iterator[Cast]:
    """`people("senior")` sits down at the desk. What a console shows as an error fails the test."""
    cast = Cast(browser, house, known)
    yield cast
    cast.leave()
    assert not cast.faults(), "\n".join(cast.faults())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    people = getattr(item, "funcargs", {}).get("people")
    if report.when == "call" and report.failed and people is not None:
        name = re.sub(r"\W+", "-", item.name).strip("-")
        traces = people.leave_traces(TRACES, name)
        told = [*(str(trace) for trace in traces), *people.faults()]
        report.sections.append(("What the browser showed", "\n".join(told)))
    return report
