"""The engine against the model of time: clocks, deadlines, jeopardy, holds that stop clocks."""

from __future__ import annotations

from hypothesis import given
from pytest_django import DjangoDbBlocker

from tests.properties.search import search
from tests.properties.test_engine_model import play
from tests.properties.timed_run import TimedRun
from tests.properties.timed_scenarios import TimedScenario, timed_scenarios


@search(quick=40)
@given(scenario=timed_scenarios())
def test_what_happens_when_time_passes_is_what_the_model_says(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, scenario: TimedScenario
) -> None:
    play(scenario, django_db_blocker, kind=TimedRun)
