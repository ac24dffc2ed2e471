"""`manage.py bulk` does what the API and the admin do, for whoever it is told."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from fulfillment.actions import Action
from fulfillment.models import BulkJob, TargetSystem
from fulfillment.operations import bulk
from tests import desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_bulk_jobs import failed_orders

pytestmark = pytest.mark.django_db


def run(*arguments: Any) -> str:
    out = StringIO()
    call_command("bulk", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_a_job_from_its_draft_to_its_end(systems: ScriptedSystems) -> None:
    failed_orders(systems, 4)
    people.operator("ann", Action.BULK_START, Action.BULK_CONTROL, Action.TASK_RETRY)
    chosen = ("--of", "task", "--filter", "target=alpha", "state=FAILED_FINAL")
    why = ("--reason", "Mended.", "--as", "ann")
    told = run("draft", "task.retry", *chosen, "--canary", 1, "--stages", "", *why)
    job = BulkJob.objects.get()
    assert told.startswith(f"Bulk job {job.pk} is drafted: 4 rows")
    assert "4 not looked at yet" in run("show", job.pk)
    bulk.work()
    assert "all looked at; 0 can't be done" in run("show", job.pk)
    assert "begins with 1 of 4" in run("start", job.pk, *why)
    bulk.work()
    desk.finish()
    desk.advance(60)
    bulk.work()
    assert "It goes on up to row 4 of 4" in run("resume", job.pk, *why)
    assert "It stands" in run("pause", job.pk, *why)
    assert "3 were not done" in run("cancel", job.pk, *why)
    assert "CANCELLED" in run("list")
    assert run("rows", job.pk, "--state", "VERIFIED").count("\n") == 1
    assert run("rows", job.pk, "--csv").count("\n") == 5
    assert BulkJob.objects.get().actor.startswith("ann (manage.py as ")


def test_what_can_not_be_done_is_said_in_words(systems: ScriptedSystems) -> None:
    tasks = failed_orders(systems, 1)
    people.operator("bob")
    names = ("draft", "task.retry", "--of", "task", "--names", tasks[0].pk)
    with pytest.raises(CommandError, match=r"bob .* may not do this"):
        run(*names, "--reason", "Mended.", "--as", "bob")
    with pytest.raises(CommandError, match="write it as target=billing"):
        run("draft", "task.retry", "--of", "task", "--filter", "alpha", "--reason", "Mended.")
    with pytest.raises(CommandError, match="There is no bulk job 99"):
        run("start", 99, "--reason", "Go.")
    assert not BulkJob.objects.exists()


def test_what_needs_two_people_is_asked_for(systems: ScriptedSystems) -> None:
    failed_orders(systems, 1)
    TargetSystem.objects.update(domain="payment")
    people.operator("ann", Action.BULK_START, Action.BULK_CONTROL, Action.TASK_RETRY)
    why = ("--reason", "Mended.", "--as", "ann")
    run("draft", "task.retry", "--of", "order", "--filter", "state=IN_PROGRESS", *why)
    job = BulkJob.objects.get()
    bulk.work()
    assert "somebody else with approve.payment" in run("start", job.pk, *why)
    assert "waits for somebody with approve.payment" in run("show", job.pk)
    assert BulkJob.objects.get().state == "DRAFT"
