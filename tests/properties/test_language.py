"""The whole language against its model: any template, in whatever order things may happen."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import override_settings
from hypothesis import given
from pytest_django import DjangoDbBlocker

from fulfillment.engine.dispatch import sending
from tests.properties.census import Census, census
from tests.properties.language_run import Run
from tests.properties.language_scenarios import Scenario, scenarios
from tests.properties.search import search
from tests.turns import also_turning


def play(scenario: Scenario, blocker: DjangoDbBlocker, counted: Census | None = None) -> None:
    """One example from its first step to its end; AssertionError where engine and model differ."""
    with (
        blocker.unblock(),
        override_settings(OMS_FAST_PATH=scenario.fast_path),
        also_turning(len(scenario.steps) % 2 == 1),
        transaction.atomic(),
    ):
        sending._drains.clear()
        run = Run(scenario)
        for step in scenario.steps:
            run.take(step)
        run.everybody_says_why()
        run.finish()
        run.everything_ended()
        run.everybody_says_why()
        if counted is not None:
            counted.take(run.documents, run.noted)
        transaction.set_rollback(True)


@search(quick=100)
@given(scenario=scenarios())
def test_every_template_runs_as_it_says(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, scenario: Scenario
) -> None:
    play(scenario, django_db_blocker, census)


def test_the_search_has_come_across_everything_that_a_plan_can_say() -> None:
    if not census.examples:
        pytest.skip("The test above has not run.")
    assert census.missing() == []
