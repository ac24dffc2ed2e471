"""One operation over many: frozen, foreseen, begun with a few, and stopped when it fails."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fulfillment import operations
from fulfillment.errors import BulkNotPossible, SelectionInvalid, SubjectChanged
from fulfillment.models import BulkJob, BulkRow, Operation, Task
from fulfillment.operations import bulk
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

ANN = by("ann")


def failed_orders(systems: ScriptedSystems, number: int) -> list[Task]:
    """So many orders whose only task has failed for good, the oldest first."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected() for _ in range(number)]
    desk.submit_all(*(desk.request() for _ in range(number)))
    desk.finish()
    return list(Task.objects.filter(state="FAILED_FINAL").order_by("pk"))


def drafted(*tasks: Task, **terms: object) -> BulkJob:
    """A job that tries these again, looked at."""
    chosen = [str(task.pk) for task in tasks]
    job = bulk.draft(
        actor=ANN,
        action="task.retry",
        selection=bulk.Selection(of="task", names=chosen, filter={}),
        reason="They have mended it.",
        terms=bulk.Terms(**terms),  # type: ignore[arg-type]
    )
    bulk.work()
    job.refresh_from_db()
    return job


def started(job: BulkJob) -> BulkJob:
    done, approval = bulk.start(job_id=job.pk, actor=ANN, reason="Go.")
    assert done is not None
    assert approval is None
    bulk.work()
    job.refresh_from_db()
    return job


def known(job: BulkJob, *, later: float = 120) -> BulkJob:
    """What is under way ends, and time passes until somebody looks."""
    desk.finish()
    desk.advance(later)
    bulk.work()
    job.refresh_from_db()
    return job


def states(job: BulkJob) -> Counter[str]:
    return Counter(job.rows.values_list("state", flat=True))


def test_a_job_begins_with_its_canary_and_goes_on_when_somebody_says_so(
    systems: ScriptedSystems,
) -> None:
    job = started(drafted(*failed_orders(systems, 20), canary=3, stages=(50,)))
    assert (job.state, states(job)) == ("RUNNING_CANARY", {"DONE": 3, "PENDING": 17})
    # The oldest, and others spread over the rest.
    canary = job.rows.filter(state="DONE").order_by("pk").values_list("pk", flat=True)
    first = job.rows.order_by("pk").values_list("pk", flat=True)
    assert list(canary) == [first[0], first[6], first[12]]
    job = known(job)
    assert (job.state, states(job)) == ("PAUSED", {"VERIFIED": 3, "PENDING": 17})
    for state, verified in (("PAUSED", 10), ("COMPLETED", 20)):
        bulk.control(job_id=job.pk, what="resume", actor=ANN, reason="It works.")
        bulk.work()
        job = known(job)
        assert (job.state, states(job)["VERIFIED"]) == (state, verified)
    assert Operation.objects.filter(kind="retry").count() == 20
    assert set(Task.objects.values_list("state", flat=True)) == {"SUCCEEDED"}


def test_a_job_that_goes_on_by_itself_needs_nobody_while_all_is_well(
    systems: ScriptedSystems,
) -> None:
    job = started(drafted(*failed_orders(systems, 8), canary=2, stages=(50,), goes_on=True))
    for _ in range(3):
        job = known(job)
    assert (job.state, states(job)) == ("COMPLETED", {"VERIFIED": 8})


def test_the_selection_is_frozen(systems: ScriptedSystems) -> None:
    failed_orders(systems, 2)
    selection = bulk.Selection(of="task", filter={"target": "alpha"})
    job = bulk.draft(actor=ANN, action="task.retry", selection=selection, reason="Mended.")
    systems.sends["one"] = [desk.rejected()]
    desk.order()
    desk.finish()
    assert Task.objects.filter(state="FAILED_FINAL").count() == 3
    bulk.work()
    job.refresh_from_db()
    assert job.rows.count() == 2
    assert job.selection == {"of": "task", "filter": {"target": "alpha"}}
    job = known(started(job))
    assert (job.state, states(job)) == ("COMPLETED", {"VERIFIED": 2})
    assert Task.objects.filter(state="FAILED_FINAL").count() == 1


def test_a_dry_run_changes_nothing_and_says_what_would_happen(systems: ScriptedSystems) -> None:
    tasks = failed_orders(systems, 3)
    before = list(Task.objects.values("pk", "state", "changed_at", "attempts"))
    job = drafted(*tasks)
    assert list(Task.objects.values("pk", "state", "changed_at", "attempts")) == before
    assert set(job.rows.values_list("foreseen", "foretold")) == {("POSSIBLE", "Sent anew: one@1.")}
    assert job.digest
    assert not Operation.objects.filter(kind="retry").exists()


def test_what_is_not_possible_for_all_is_left_out_by_name_or_not_started(
    systems: ScriptedSystems,
) -> None:
    tasks = failed_orders(systems, 2)
    desk.order()
    desk.finish()
    fine = Task.objects.get(state="SUCCEEDED")
    offered = {
        offer.action: (offer.possible, offer.for_all)
        for offer in bulk.offers(
            actor=ANN, about="task", names=[str(one.pk) for one in (*tasks, fine)]
        )
    }
    assert offered["task.retry"] == (2, False)
    job = drafted(*tasks, fine)
    row = job.rows.get(subject=f"task:{fine.pk}")
    assert row.foreseen == "IMPOSSIBLE"
    assert "SUCCEEDED" in row.foretold
    with pytest.raises(BulkNotPossible, match="For 1 of 3 it can't be done"):
        bulk.start(job_id=job.pk, actor=ANN, reason="Go.")
    bulk.control(job_id=job.pk, what="leave_out", actor=ANN, reason="That one is done.")
    job = known(started(job))
    assert (job.state, states(job)) == ("COMPLETED", {"VERIFIED": 2, "LEFT_OUT": 1})


def test_a_row_that_has_changed_since_is_refused_with_what_changed(
    systems: ScriptedSystems,
) -> None:
    tasks = failed_orders(systems, 3)
    job = drafted(*tasks)
    systems.sends["one"] = [desk.rejected()]
    operations.retry(task_id=tasks[1].pk, actor=by("bob"), reason="I was first.")
    desk.finish()
    job = started(job)
    row = job.rows.get(subject=f"task:{tasks[1].pk}")
    assert (row.state, row.code) == ("REFUSED", "operation.subject_changed")
    assert "FAILED_FINAL since" in row.told
    assert Operation.objects.filter(kind="retry", subject=row.subject).count() == 1
    assert known(job).state == "COMPLETED"


def test_what_was_selected_is_started_and_nothing_else(systems: ScriptedSystems) -> None:
    job = drafted(*failed_orders(systems, 2))
    seen = job.digest
    gone = job.rows.order_by("pk")[0].subject
    bulk.control(job_id=job.pk, what="leave_out", actor=ANN, reason="No.", subjects=(gone,))
    with pytest.raises(SubjectChanged, match="not what you have looked at"):
        operations.perform(
            actor=ANN,
            request=operations.Request(
                action="bulk.start",  # type: ignore[arg-type]
                subject=f"bulk:{job.pk}",
                reason="Go.",
                parameters={"selection": seen},
            ),
        )
    job.refresh_from_db()
    assert job.state == "DRAFT"


def test_too_many_failures_stop_the_job_and_nothing_more_is_done(
    systems: ScriptedSystems,
) -> None:
    tasks = failed_orders(systems, 12)
    job = started(drafted(*tasks, canary=4, most_failures_percent=25))
    systems.sends["one"] = [desk.rejected(), desk.rejected()]
    job = known(job)
    assert job.state == "STOPPED"
    assert "2 of 4 have failed" in job.state_reason
    assert states(job) == {"VERIFIED": 2, "NOT_VERIFIED": 2, "PENDING": 8}
    bulk.work()
    assert states(job)["PENDING"] == 8
    # Somebody has seen those, and they count no more.
    bulk.control(job_id=job.pk, what="resume", actor=ANN, reason="These two are known.")
    bulk.work()
    job = known(job)
    assert job.state == "PAUSED"
    assert states(job)["NOT_VERIFIED"] == 2


def test_a_number_of_failures_stops_it_before_the_next_row(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = drafted(
        *failed_orders(systems, 10), canary=10, most_failures=2, most_failures_percent=100
    )

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr("fulfillment.engine.plans.rerunning.rerun", broken)
    job = started(job)
    assert (job.state, states(job)) == ("STOPPED", {"FAILED": 3, "PENDING": 7})
    row = job.rows.filter(state="FAILED").first()
    assert row is not None
    assert row.told == "RuntimeError: not today"


def test_sent_is_not_verified_until_it_has_succeeded_and_not_for_ever(
    systems: ScriptedSystems,
) -> None:
    tasks = failed_orders(systems, 2)
    systems.sends["one"] = [desk.accepted(), desk.accepted()]
    job = started(drafted(*tasks, canary=2, known_within=timedelta(minutes=30)))
    job = known(job)
    assert (job.state, states(job)) == ("RUNNING_CANARY", {"DONE": 2})
    job = known(job, later=3600)
    assert (job.state, states(job)) == ("STOPPED", {"NOT_VERIFIED": 2})
    row = job.rows.first()
    assert row is not None
    assert "It has not come about within 0:30:00" in row.told


def test_a_paused_job_does_nothing_until_it_is_let_go_on(systems: ScriptedSystems) -> None:
    job = drafted(*failed_orders(systems, 4), canary=1)
    bulk.start(job_id=job.pk, actor=ANN, reason="Go.")
    bulk.control(job_id=job.pk, what="pause", actor=ANN, reason="Wait.")
    bulk.work()
    assert states(job) == {"PENDING": 4}
    with pytest.raises(BulkNotPossible, match="It does not run: it is PAUSED. ann: Wait."):
        bulk.control(job_id=job.pk, what="pause", actor=by("bob"), reason="Wait.")
    bulk.control(job_id=job.pk, what="resume", actor=ANN, reason="Now.")
    bulk.work()
    job.refresh_from_db()
    assert (job.state, states(job)) == ("RUNNING_CANARY", {"DONE": 1, "PENDING": 3})


def test_a_cancelled_job_leaves_the_rest_as_it_is(systems: ScriptedSystems) -> None:
    job = known(started(drafted(*failed_orders(systems, 6), canary=2)))
    bulk.control(job_id=job.pk, what="cancel", actor=ANN, reason="Not any more.")
    bulk.work()
    job.refresh_from_db()
    assert (job.state, states(job)) == ("CANCELLED", {"VERIFIED": 2, "LEFT_OUT": 4})
    assert Task.objects.filter(state="FAILED_FINAL").count() == 4
    with pytest.raises(BulkNotPossible, match="it is CANCELLED. ann: Not any more"):
        bulk.control(job_id=job.pk, what="resume", actor=ANN, reason="Go on.")


def test_orders_and_cases_lead_to_the_tasks_that_have_failed(systems: ScriptedSystems) -> None:
    tasks = failed_orders(systems, 3)
    for selection in (
        bulk.Selection(of="order", filter={"state": "IN_PROGRESS"}),
        bulk.Selection(of="case", filter={"reason_code": "refused"}),
        bulk.Selection(of="task", filter={"reason_code": "refused", "target": "alpha"}),
    ):
        job = bulk.draft(actor=ANN, action="task.retry", selection=selection, reason="Mended.")
        subjects = list(job.rows.order_by("position").values_list("subject", flat=True))
        assert subjects == [f"task:{task.pk}" for task in tasks], selection


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        (bulk.Selection(of="task", filter={"target": "nobody"}), "Nothing is selected"),
        (bulk.Selection(of="moon", filter={}), "There is no list of 'moon'"),
        (bulk.Selection(of="target", names=["alpha"]), "select from a list of tasks"),
    ],
)
def test_a_selection_that_finds_nothing_says_why(
    systems: ScriptedSystems, selection: bulk.Selection, told: str
) -> None:
    with pytest.raises(SelectionInvalid, match=told):
        bulk.draft(actor=ANN, action="task.retry", selection=selection, reason="Mended.")
    assert not BulkJob.objects.exists()


def test_ten_thousand_rows_are_frozen_in_a_few_statements(systems: ScriptedSystems) -> None:
    names = [str(number) for number in range(1, 10_001)]
    selection = bulk.Selection(of="task", names=names)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        job = bulk.draft(actor=ANN, action="task.retry", selection=selection, reason="Mended.")
    assert job.rows.count() == 10_000
    assert len(captured) < 25
    with CaptureQueriesContext(connection) as captured:
        assert bulk.counts(job_ids=[job.pk])[job.pk].unseen == 10_000
    assert len(captured) <= 1


def test_an_export_has_every_row_and_no_formulas(systems: ScriptedSystems) -> None:
    job = drafted(*failed_orders(systems, 3))
    BulkRow.objects.filter(job=job, position=1).update(foretold="=cmd()")
    lines = list(bulk.exported(job=job))
    assert lines[0].startswith("position,subject,state,")
    assert len(lines) == 4
    assert "'=cmd()" in lines[1]
