"""Django's checks run before there is a database."""

from __future__ import annotations

from django.core.checks import run_checks


def test_checks_find_nothing_and_ask_no_database() -> None:
    """Unit tests may not use one, so a check that did would fail here."""
    assert run_checks() == []
