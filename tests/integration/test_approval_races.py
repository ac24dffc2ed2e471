"""An approval that is decided, taken back, overtaken and started over by several at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.audit.verifying import verify
from fulfillment.authority.actors import Actor
from fulfillment.errors import ApprovalNotOpen, FulfillmentError, NotPossible
from fulfillment.models import (
    Approval,
    BulkJob,
    Command,
    FalloutCase,
    Incident,
    Operation,
    Task,
)
from fulfillment.operations import bulk
from oms.models import Order
from tests import by_hand, desk, people
from tests.desk import ScriptedSystems, by
from tests.integration.test_bulk_jobs import drafted, failed_orders
from tests.together import together

pytestmark = pytest.mark.usefixtures("committed_db", "redis_url")


@pytest.fixture
def failed(systems: ScriptedSystems) -> list[Task]:
    return failed_orders(systems, 6)


def told(work: Callable[[], object]) -> str:
    """Empty for whoever has done it."""
    try:
        work()
    except (NotPossible, ApprovalNotOpen) as error:
        return str(error)
    return ""


def waiver_of(task: Task, *, actor: Actor) -> Approval:
    asked = by_hand.request(Action.TASK_WAIVE, f"task:{task.pk}")
    return by_hand.asked_for(asked, actor=actor)


def test_of_who_approves_refuses_and_takes_it_back_one_decides(failed: list[Task]) -> None:
    anna = people.anybody("anna", Action.TASK_WAIVE)
    seniors = [people.senior(f"senior-{number}") for number in range(4)]
    ends: Counter[str] = Counter()
    for task in failed:
        approval = waiver_of(task, actor=anna)
        said = together(
            *(
                partial(
                    told,
                    partial(decide, approval_id=approval.pk, actor=actor, reason=f"{actor.name}!"),
                )
                for decide, actor in (
                    (operations.withdraw, anna),
                    (operations.approve, seniors[0]),
                    (operations.approve, seniors[1]),
                    (operations.refuse, seniors[2]),
                    (operations.refuse, seniors[3]),
                )
            )
        )
        assert said.count("") == 1, said
        approval.refresh_from_db()
        winner = approval.decided_by
        assert winner is not None
        assert approval.decision_reason == f"{winner}!"
        for one in filter(None, said):
            assert f"is {approval.state}, by {winner}: {winner}!" in one
        task.refresh_from_db()
        assert (task.state == "WAIVED_BY_AUTHORIZED_USER") is (approval.state == "EXECUTED")
        ends[str(approval.state)] += 1
    assert Operation.objects.filter(kind="waive").count() == ends["EXECUTED"]
    assert [str(one) for one in verify()] == []


def test_while_it_is_approved_its_task_is_tried_again(failed: list[Task]) -> None:
    anna = people.anybody("anna", Action.TASK_WAIVE, Action.TASK_RETRY)
    sarah = people.senior()
    for task in failed:
        approval = waiver_of(task, actor=anna)
        approving = partial(
            operations.approve, approval_id=approval.pk, actor=sarah, reason="Agreed."
        )
        retrying = partial(operations.retry, task_id=task.pk, actor=anna, reason="It is well.")
        approved, retried = together(partial(told, approving), partial(told, retrying))
        approval.refresh_from_db()
        task.refresh_from_db()
        if approved:
            assert (str(approval.state), str(task.state), retried) == ("STALE", "READY", "")
            assert "by anna: tried again by hand: It is well." in approved
        else:
            assert (str(approval.state), str(task.state)) == (
                "EXECUTED",
                "WAIVED_BY_AUTHORIZED_USER",
            )
            assert "only what has failed for good" in retried
        done = Operation.objects.filter(kind__in=["waive", "retry"], subject=f"task:{task.pk}")
        assert done.count() == 1
    assert [str(one) for one in verify()] == []


def test_the_same_asked_for_by_many_at_once_is_one_approval(failed: list[Task]) -> None:
    task, *_ = failed
    askers = [people.anybody(f"asker-{number}", Action.TASK_WAIVE) for number in range(8)]
    said = together(
        *(partial(told, partial(waiver_of, task, actor=actor)) for actor in askers),
    )
    assert said.count("") == 1
    asker = Approval.objects.get().requested_by
    assert all(f"{asker} has asked for the same already" in one for one in said if one)


def test_a_job_is_started_as_it_was_looked_at_while_rows_are_left_out(failed: list[Task]) -> None:
    """Either they are left out and nothing is started, or all of it is."""
    for first, second in zip(failed[::2], failed[1::2], strict=True):
        job = drafted(first, second, canary=2)
        answers = together(
            partial(told, partial(bulk.start, job_id=job.pk, actor=by("ann"), reason="Go.")),
            partial(
                told,
                partial(
                    bulk.control,
                    job_id=job.pk,
                    what="leave_out",
                    actor=by("bob"),
                    reason="Not this one.",
                    subjects=(f"task:{second.pk}",),
                ),
            ),
        )
        job.refresh_from_db()
        states = Counter(job.rows.values_list("state", flat=True))
        if job.state == "DRAFT":
            assert "is selected is not what you have looked at" in answers[0]
            assert states == {"PENDING": 1, "LEFT_OUT": 1}
        elif answers[1]:
            assert "its rows are fixed" in answers[1]
            assert states == {"PENDING": 2}
        else:  # It was started as it stood without that row: looked at after it had gone.
            assert states == {"PENDING": 1, "LEFT_OUT": 1}
        started = Operation.objects.filter(kind="start_bulk_job", subject=f"bulk:{job.pk}")
        assert [one.after["selection"] for one in started] == [job.digest] * (not answers[0])


def test_a_case_is_closed_while_the_job_that_releases_its_incident_runs(
    failed: list[Task], systems: ScriptedSystems
) -> None:
    """Closing it changes nothing of its task: each is tried again once, and the incident ends."""
    operations.group_cases()
    incident = Incident.objects.get()
    job_id = bulk.release(
        incident_id=incident.pk,
        actor=by("ann"),
        reason="They mended it.",
        parameters={"canary": 6},
    )
    bulk.work()
    bulk.start(job_id=job_id, actor=by("ann"), reason="Go.")
    sent = len(systems.sent)
    cases = FalloutCase.objects.order_by("pk").values_list("pk", flat=True)
    said = together(
        *(
            partial(
                told,
                partial(operations.close_case, case_id=pk, resolution="Seen to.", actor=by("otto")),
            )
            for pk in cases
        ),
        lambda: str(bulk.work() or "")[:0],
        lambda: str(bulk.work() or "")[:0],
    )
    assert all("is closed already" in one or "has changed" in one for one in said if one)
    bulk.work()
    assert Counter(BulkJob.objects.get().rows.values_list("state", flat=True)) == {"DONE": 6}
    assert Operation.objects.filter(kind="retry").count() == 6
    desk.finish()
    assert len(systems.sent) - sent == 6
    assert Command.objects.count() == 12
    assert {str(one) for one in Order.objects.values_list("state", flat=True)} == {"COMPLETED"}
    operations.group_cases()
    incident.refresh_from_db()
    assert str(incident.state) == "RESOLVED"
    assert not FalloutCase.objects.exclude(state="RESOLVED").exists()
    assert [str(one) for one in verify()] == []


def test_two_who_look_at_a_job_and_do_another_thing_with_it(failed: list[Task]) -> None:
    """One pauses it, the other cancels it, each by what they have seen: one of them is told."""
    job = drafted(*failed, canary=2)
    bulk.start(job_id=job.pk, actor=by("ann"), reason="Go.")
    asked = {
        what: bulk.control_request(job_id=job.pk, what=what, reason=f"{what} it")
        for what in ("pause", "cancel")
    }
    versions = {
        what: operations.prepared(actor=by("ann"), request=one).preview().version
        for what, one in asked.items()
    }

    def doing(what: str) -> str:
        request = by_hand.expecting(asked[what], versions[what])
        try:
            operations.perform(actor=by(what), request=request)
        except FulfillmentError as error:
            return str(error)
        return ""

    said = together(partial(doing, "pause"), partial(doing, "cancel"))
    assert said.count("") == 1
    done = "pause" if not said[0] else "cancel"
    assert f"by {done}: {done} it" in "".join(said)
    job.refresh_from_db()
    assert job.state == {"pause": "PAUSED", "cancel": "CANCELLED"}[done]
