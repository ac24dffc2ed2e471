"""`manage.py operate`: listed, previewed, done, denied, refused and asked for, each in words."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from fulfillment.actions import Action
from fulfillment.management.commands.operate import ASKED_FOR, DENIED, NOT_POSSIBLE
from fulfillment.models import Approval, AuthorityDecision, Hold, ManualTask, Operation, Task
from tests import desk, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def failed(systems: ScriptedSystems) -> Task:
    desk.target("alpha", domain="logistics")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order(region="ID")
    desk.drain()
    return desk.tasks_of(order)["one@1"]


def told(*words: str) -> str:
    out = StringIO()
    call_command("operate", *words, stdout=out)
    return out.getvalue()


def refused(*words: str) -> CommandError:
    with pytest.raises(CommandError) as caught:
        told(*words)
    return caught.value


def test_the_list_names_every_operation_and_what_it_is_told(db: None) -> None:
    listed = told("list")
    assert "task.retry" in listed
    assert "--set clock_policy=…  choice (RUN | STOP), optional" in listed
    assert "needs approve.payment by another person, where it charges or bills" in listed


def test_the_list_of_a_subject_says_what_may_be_done_and_why_not(failed: Task) -> None:
    people.operator("ann", Action.TASK_RETRY)
    listed = told("list", f"task:{failed.pk}", "--as", "ann")
    assert "Try a failed task again: yes" in listed
    assert "Place a hold: NO: the permission hold.place is missing" in listed
    assert "There is no task 0" in str(refused("list", "task:0"))


def test_what_is_done_is_told_and_recorded_under_the_name_given(failed: Task) -> None:
    people.operator("ann", Action.TASK_RETRY)
    subject = f"task:{failed.fulfillment.order_reference}/one@1"
    words = told("task.retry", subject, "--reason", "The street is open.", "--as", "ann")
    assert "Sent anew: one@1." in words
    record = Operation.objects.get()
    assert f"Record {record.pk}, by grant" in words
    assert record.actor.startswith("ann (manage.py as ")
    assert record.reason == "The street is open."


def test_a_preview_tells_what_would_happen_and_does_nothing(failed: Task) -> None:
    subject = f"task:{failed.pk}"
    words = told("task.retry", subject, "--preview")
    assert "It would do this, and has done nothing: Sent anew: one@1." in words
    assert "task one@1: FAILED_FINAL → " in words
    assert "alpha is asked to one:" in words
    assert not Operation.objects.exists()
    version = words.split("--version-seen '")[1].split("'")[0]
    told("task.retry", subject, "--reason", "x", "--version-seen", version)
    late = refused("task.retry", subject, "--reason", "x", "--version-seen", version)
    assert late.returncode == NOT_POSSIBLE
    assert "has changed since you looked at it" in str(late)


def test_a_denial_has_an_exit_code_of_its_own_and_no_effect(failed: Task) -> None:
    people.operator("eve")
    error = refused("task.retry", f"task:{failed.pk}", "--reason", "x", "--as", "eve")
    assert error.returncode == DENIED
    assert "the permission task.retry is missing" in str(error)
    assert AuthorityDecision.objects.get().is_allowed is False
    failed.refresh_from_db()
    assert failed.state == "FAILED_FINAL"


def test_what_is_not_possible_has_an_exit_code_of_its_own(failed: Task) -> None:
    told("task.retry", f"task:{failed.pk}", "--reason", "x")
    error = refused("task.retry", f"task:{failed.pk}", "--reason", "x")
    assert error.returncode == NOT_POSSIBLE
    assert Operation.objects.count() == 1


def test_what_another_person_has_to_approve_is_asked_for(
    systems: ScriptedSystems, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.target("billing", domain="billing")
    desk.workflow({"bill": desk.task("billing")})
    systems.sends["bill"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    people.operator("ann", Action.TASK_RETRY)
    subject = f"task:{order.reference}/bill@1"
    with pytest.raises(SystemExit) as ended:
        call_command("operate", "task.retry", subject, "--reason", "x", "--as", "ann")
    assert ended.value.code == ASKED_FOR
    approval = Approval.objects.get()
    assert f"needs approve.payment by another person: approval {approval.pk}" in (
        capsys.readouterr().out
    )
    assert not Operation.objects.filter(kind="retry").exists()
    nameless = refused("task.retry", subject, "--reason", "x")
    assert nameless.returncode == DENIED


def test_parameters_are_given_one_by_one_or_as_json(failed: Task) -> None:
    subject = f"task:{failed.pk}"
    told(
        *("hold.place", subject, "--reason", "x", "--set", "clock_policy=STOP"),
        *("--set", "until=2126-01-01T08:00:00Z"),
    )
    hold = Hold.objects.get()
    assert (hold.clock_policy, hold.until is not None) == ("STOP", True)
    told("hold.release", f"hold:{hold.pk}", "--reason", "y")
    told("hold.place", subject, "--reason", "x", "--json", '{"clock_policy": "RUN"}')
    error = refused(
        *("hold.place", subject, "--reason", "x", "--set", "colour=red"),
        *("--set", "clock_policy=WALK"),
    )
    assert error.returncode == 1
    assert "colour: " in str(error)
    assert "clock_policy: " in str(error)


def test_values_that_are_json_are_given_as_json(systems: ScriptedSystems) -> None:
    desk.workflow(
        {
            "approve": desk.step(
                manual={
                    "queue": "approvals",
                    "role": "manager",
                    "instructions": "Look at it.",
                    "outcomes": {"approved": "proceed", "rejected": "refuse"},
                    "within": "P2D",
                    "otherwise": "escalate",
                },
                fields={"limit": "integer"},
            )
        }
    )
    order = desk.order()
    manual = ManualTask.objects.get()
    error = refused("manual.decide", f"manual:{manual.pk}", "--reason", "x", "--set", "values={")
    assert "values is JSON" in str(error)
    told(
        *(
            "manual.decide",
            f"manual:{manual.pk}",
            "--reason",
            "Known.",
            "--set",
            "outcome=approved",
        ),
        *("--set", 'values={"limit": 7}'),
    )
    assert desk.states_of(order)["approve@1"] == "SUCCEEDED"


def test_nothing_is_done_without_a_reason_or_to_what_is_not_there(failed: Task) -> None:
    assert "Say why" in str(refused("task.retry", f"task:{failed.pk}"))
    assert "There is no operation 'explode'" in str(refused("explode", "task:1", "--reason", "x"))
    assert "There is no task" in str(refused("task.retry", "task:0", "--reason", "x"))
    assert not Operation.objects.exists()
