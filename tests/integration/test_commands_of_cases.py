"""`manage.py cases` and `manage.py incidents`."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.models import FalloutCase, Incident
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


@pytest.fixture
def orders(systems: ScriptedSystems) -> list[Order]:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected("no_mapping")] * 3
    found = [desk.order() for _ in range(3)]
    desk.drain()
    operations.group_cases()
    people.operator("anna", Action.CASE_ASSIGN, Action.CASE_AWAIT_CUSTOMER, Action.CASE_ESCALATE)
    people.operator("ben", Action.CASE_ASSIGN, Action.CASE_CLOSE)
    return found


def first() -> FalloutCase:
    return FalloutCase.objects.earliest("pk")


def test_a_case_is_taken_waits_and_is_escalated_and_closed(orders: list[Order]) -> None:
    number = str(first().pk)
    assert "anna's" in run("cases", "assign", number, "--reason", "mine", "--as", "anna")
    with pytest.raises(CommandError, match="anna has case"):
        run("cases", "assign", number, "--reason", "mine", "--as", "ben")
    run("cases", "await", number, "--asked", "Which?", "--reason", "they know", "--as", "anna")
    assert "awaited" in run("cases", "list", "--state", "AWAITING_CUSTOMER")
    run("cases", "await", number, "--ended", "--reason", "they said", "--as", "anna")
    assert "level 1" in run("cases", "escalate", number, "--reason", "urgent", "--as", "anna")
    with pytest.raises(CommandError, match=r"case\.close"):
        run("cases", "close", number, "--reason", "enough", "--as", "anna")
    assert "closed" in run("cases", "close", number, "--reason", "enough", "--as", "ben")


def test_a_case_is_listed_by_what_is_asked_for(orders: list[Order]) -> None:
    assert len(run("cases", "list").splitlines()) == 3
    assert len(run("cases", "list", "--order", orders[0].reference).splitlines()) == 1
    assert run("cases", "list", "--reason-code", "other") == ""
    assert run("cases", "list", "--overdue") == ""


def test_a_case_is_shown_with_what_may_help_and_what_has(orders: list[Order]) -> None:
    task = desk.tasks_of(orders[1])["one@1"]
    operations.retry(task_id=task.pk, actor=desk.by("ops"), reason="the mapping is there")
    shown = run("cases", "show", str(first().pk))
    assert "task.retry: Try a failed task again" in shown
    assert "FAILED_FINAL" in shown
    assert "retry" in shown
    assert "the mapping is there" in shown
    with pytest.raises(CommandError, match="cases list"):
        run("cases", "show", "999999")


def test_an_incident_is_listed_shown_and_closed(orders: list[Order]) -> None:
    incident = Incident.objects.get()
    assert "3 of 3 cases open, 3 orders" in run("incidents", "list")
    assert "alpha one: no_mapping" in run("incidents", "show", str(incident.pk))
    words = ("--cause", "a typo", "--fix", "corrected", "--reason", "one by one")
    assert "3 of its cases" in run("incidents", "close", str(incident.pk), *words)
    assert run("incidents", "list") == ""
    assert "a typo" in run("incidents", "show", str(incident.pk))
    with pytest.raises(CommandError, match="closed since"):
        run("incidents", "close", str(incident.pk), "--reason", "again")
    with pytest.raises(CommandError, match="incidents list"):
        run("incidents", "show", "999999")
