"""Orders that are given up and changed at any moment: nothing is left, nothing is twice."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db import transaction
from django.test import override_settings
from hypothesis import given
from pytest_django import DjangoDbBlocker

from fulfillment.definitions.assessment import Becomes
from fulfillment.engine.dispatch import sending
from tests.properties.search import AT_RANDOM, search
from tests.properties.undo_run import Run, registered
from tests.properties.undo_scenarios import WHATS, Scenario, scenarios


def play(scenario: Scenario, blocker: DjangoDbBlocker) -> Run:
    """One example from its first step to its end; AssertionError where a promise is broken."""
    with (
        blocker.unblock(),
        override_settings(OMS_FAST_PATH=scenario.fast_path),
        transaction.atomic(),
    ):
        sending._drains.clear()
        run = Run(scenario)
        with registered(run.desk):
            run.begin()
            for step in scenario.steps:
                run.take(step)
            run.finish()
            run.everything_is_right()
        transaction.set_rollback(True)
    return run


TRIED = (
    *(f"carried out: {what}" for what in ("given up", *WHATS)),
    *(f"awaited: {what}" for what in ("given up", "characteristics", "anew")),
    *(f"a task is {fate}" for fate in Becomes),
    *("refused: point_of_no_return", "refused: irreversible"),
    *("plan CANCELLED", "plan FAILED", "plan COMPLETED", "plan BLOCKED"),
)
RARE = ("an item given up", "somebody refuses to undo")
"""Can be expected of long runs only."""
found: Counter[str] = Counter()


@search(quick=120)
@given(scenario=scenarios())
def test_whatever_is_given_up_or_changed_leaves_what_it_should(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, scenario: Scenario
) -> None:
    found.update(play(scenario, django_db_blocker).noted)


def test_the_search_has_given_up_and_changed_orders_in_every_way() -> None:
    if not found:
        pytest.skip("The test above has not run.")
    rare = RARE if AT_RANDOM else ()
    assert [what for what in (*TRIED, *rare) if not found[what]] == []
