"""At the end of a long run: what its examples have come across."""

from __future__ import annotations

import pytest

from tests.properties.census import census
from tests.properties.search import AT_RANDOM, FOUND


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [
        (value, report.nodeid.partition("[")[2].rstrip("]"))
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name == FOUND
    ]
    if AT_RANDOM and census.examples:
        terminalreporter.section("what the examples had in them")
        terminalreporter.write_line(str(census))
    if AT_RANDOM and found:
        terminalreporter.section("planted bugs, and when they were found")
        for value, name in sorted(found):
            terminalreporter.write_line(f"{value}: {name}")
