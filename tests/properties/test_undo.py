"""Orders that are given up and changed at any moment: nothing is left, nothing is twice."""

from __future__ import annotations

from django.db import transaction
from django.test import override_settings
from hypothesis import given
from pytest_django import DjangoDbBlocker

from fulfillment.engine.dispatch import sending
from tests.properties.search import search
from tests.properties.undo_run import Run, registered
from tests.properties.undo_scenarios import Scenario, scenarios


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


@search(quick=60)
@given(scenario=scenarios())
def test_whatever_is_given_up_or_changed_leaves_what_it_should(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, scenario: Scenario
) -> None:
    play(scenario, django_db_blocker)
