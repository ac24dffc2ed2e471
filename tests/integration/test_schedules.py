"""Scheduled jobs: submitted when they are due, each occurrence once, whatever the clocks do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from fulfillment.errors import DefinitionInvalid
from oms import schedules
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.together import together

Clock = Callable[[float], None]
FILE = """
schedules:
  job:
    title: A job
    cron: "0 6 * * *"
    timezone: Europe/Vienna
    catch_up: PT12H
    offering: thing
    characteristics: {date: "${occurrence.date}"}
"""


@pytest.fixture
def file(tmp_path: Path, settings: Any) -> Path:
    path = tmp_path / "schedules.yaml"
    path.write_text(FILE)
    settings.OMS_SCHEDULES = path
    return path


def shop() -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input={"date": "${item.characteristics.date}"})})


def it_is(text: str) -> None:
    """Turn the database's clock to this moment of UTC."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    desk.advance((moment - desk.now()).total_seconds())


def external_ids() -> list[str]:
    return list(Order.objects.order_by("pk").values_list("external_id", flat=True))


@pytest.mark.django_db
def test_an_order_is_submitted_when_its_time_has_come(systems: ScriptedSystems, file: Path) -> None:
    shop()
    it_is("2030-07-09 16:30")  # More than twelve hours after 04:00: nothing is made up for.
    assert schedules.submit_due() == []
    it_is("2030-07-10 03:59")
    assert schedules.submit_due() == []
    it_is("2030-07-10 04:00")
    (answer,) = schedules.submit_due()
    assert answer.external_id == "job-2030-07-10"
    desk.finish()
    order = Order.objects.get()
    assert order.state == "COMPLETED"
    assert order.client.name == schedules.CLIENT
    assert systems.sent[0].payload == {"date": "2030-07-10"}


@pytest.mark.django_db
def test_an_occurrence_has_one_order_however_often_it_is_looked(
    systems: ScriptedSystems, file: Path
) -> None:
    shop()
    it_is("2030-07-10 04:00")
    assert len(schedules.submit_due()) == 1
    for text in ("2030-07-10 04:00:15", "2030-07-10 03:00", "2030-07-10 15:00"):
        it_is(text)  # Also when the clock goes back.
        assert schedules.submit_due() == []
    assert external_ids() == ["job-2030-07-10"]


@pytest.mark.django_db
def test_of_what_was_missed_one_occurrence_is_made_up_for(
    systems: ScriptedSystems, file: Path
) -> None:
    shop()
    it_is("2030-07-10 04:00")
    schedules.submit_due()
    it_is("2030-07-14 10:00")  # Beat was away for four days.
    schedules.submit_due()
    it_is("2030-07-15 17:00")  # Away again, and back too late.
    schedules.submit_due()
    assert external_ids() == ["job-2030-07-10", "job-2030-07-14"]


def test_two_beats_submit_an_occurrence_once(
    systems: ScriptedSystems, committed_db: str, file: Path
) -> None:
    shop()
    file.write_text(FILE.replace("0 6 * * *", "* * * * *").replace("PT12H", "PT1M"))
    answers = together(*[schedules.submit_due] * 6)
    assert all(isinstance(found, list) for found in answers), answers
    created = [answer.external_id for found in answers for answer in found]
    assert len(created) == len(set(created)) == Order.objects.count()
    # The minute may have changed in between.
    assert 1 <= len(created) <= 2


@pytest.mark.django_db
def test_a_job_that_can_not_be_ordered_keeps_none_of_the_others(
    systems: ScriptedSystems, file: Path
) -> None:
    shop()
    file.write_text(
        FILE
        + FILE.replace("\nschedules:\n", "")
        .replace("  job:", "  gone:")
        .replace("offering: thing", "offering: not-published")
    )
    it_is("2030-07-10 04:00")
    states = {answer.external_id: answer.state for answer in schedules.submit_due()}
    assert states == {"job-2030-07-10": "IN_PROGRESS", "gone-2030-07-10": "REJECTED"}
    assert schedules.submit_due() == []


@pytest.mark.django_db
def test_without_schedules_nothing_is_submitted(settings: Any) -> None:
    settings.OMS_SCHEDULES = None
    assert schedules.submit_due() == []


@pytest.mark.django_db
def test_a_file_with_faults_submits_nothing_and_says_why(file: Path) -> None:
    file.write_text(FILE.replace("0 6 * * *", "0 6 * *"))
    with pytest.raises(DefinitionInvalid, match="no cron expression"):
        schedules.submit_due()
    with pytest.raises(CommandError, match="no cron expression"):
        call_command("schedules", "list")


@pytest.mark.django_db
def test_what_is_planned_and_a_run_by_hand(systems: ScriptedSystems, file: Path) -> None:
    shop()
    it_is("2030-07-10 12:34:56")
    assert said("list").split()[:12] == [
        *("job", "0", "6", "*", "*", "*", "Europe/Vienna"),
        *("next", "2030-07-11", "04:00", "UTC", "last"),
    ]
    assert "job-2030-07-10" in said("run")
    assert "Nothing is due" in said("run")
    assert "job-2030-07-10T143456-by-hand" in said("run", "job")
    assert "last job-2030-07-10T143456-by-hand IN_PROGRESS" in said("list")
    with pytest.raises(CommandError, match="known: job"):
        call_command("schedules", "run", "jbo")


def said(*arguments: str) -> str:
    output = StringIO()
    call_command("schedules", *arguments, stdout=output)
    return output.getvalue()
