"""Who may start a job, where, and who has to approve it."""

from __future__ import annotations

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, client
from fulfillment.errors import ApprovalNotOpen, Denied, NotPossible
from fulfillment.models import (
    Approval,
    AuthorityDecision,
    BulkJob,
    Grant,
    Operation,
    TargetSystem,
    Task,
)
from fulfillment.operations import bulk
from oms.evidence.members import members
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_bulk_jobs import failed_orders, known, states

pytestmark = pytest.mark.django_db

BULK = (Action.BULK_START, Action.BULK_CONTROL, Action.TASK_RETRY)


def a_draft(actor: Actor, *tasks: Task, **terms: object) -> BulkJob:
    job = bulk.draft(
        actor=actor,
        action="task.retry",
        selection=bulk.Selection(of="task", names=[str(task.pk) for task in tasks]),
        reason="They have mended it.",
        terms=bulk.Terms(**terms),  # type: ignore[arg-type]
    )
    bulk.work()
    job.refresh_from_db()
    return job


def in_regions(systems: ScriptedSystems, *regions: str) -> list[Task]:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected() for _ in regions]
    desk.submit_all(*(desk.request(region=region) for region in regions))
    desk.finish()
    return list(Task.objects.order_by("pk"))


def of_billing(systems: ScriptedSystems, number: int) -> list[Task]:
    tasks = failed_orders(systems, number)
    TargetSystem.objects.update(domain="billing")
    return tasks


def test_who_has_no_permission_drafts_nothing_and_that_is_on_record(
    systems: ScriptedSystems,
) -> None:
    tasks = failed_orders(systems, 2)
    for actor in (
        people.anybody("nobody"),
        people.anybody("half", Action.BULK_START),
        people.anybody("other", Action.TASK_RETRY),
        client(name="a-client", owner="1"),
    ):
        with pytest.raises(Denied):
            a_draft(actor, *tasks)
        assert AuthorityDecision.objects.filter(actor=actor.name, is_allowed=False).exists()
    assert not BulkJob.objects.exists()


def test_each_row_has_to_be_in_the_scope_of_a_grant(systems: ScriptedSystems) -> None:
    tasks = in_regions(systems, "ID", "ID", "SG", "ID")
    indira = people.actor(people.operator("indira", *BULK, regions=["ID"]))
    job = a_draft(indira, *tasks)
    assert dict(job.rows.order_by("position").values_list("position", "foreseen")) == {
        1: "POSSIBLE",
        2: "POSSIBLE",
        3: "DENIED",
        4: "POSSIBLE",
    }
    denied = job.rows.get(foreseen="DENIED")
    assert "region SG" in denied.foretold
    with pytest.raises(Denied, match="region SG"):
        bulk.start(job_id=job.pk, actor=indira, reason="Go.")
    bulk.control(job_id=job.pk, what="leave_out", actor=indira, reason="Not mine.")
    job.refresh_from_db()
    bulk.start(job_id=job.pk, actor=indira, reason="Go.")
    bulk.work()
    job = known(job)
    assert (job.state, states(job)) == ("COMPLETED", {"VERIFIED": 3, "LEFT_OUT": 1})
    assert Task.objects.get(pk=tasks[2].pk).state == "FAILED_FINAL"


def test_ten_rows_in_one_place_are_one_decision(systems: ScriptedSystems) -> None:
    tasks = failed_orders(systems, 10)
    ann = people.anybody("ann", *BULK)
    a_draft(ann, *tasks)
    decisions = AuthorityDecision.objects.filter(actor="ann", action="task.retry")
    assert decisions.count() == 1
    decision = decisions.get()
    assert decision.is_allowed
    assert decision.subject.startswith("bulk:")


def test_somebody_else_with_less_authority_does_not_start_it(systems: ScriptedSystems) -> None:
    job = a_draft(people.anybody("ann", *BULK), *in_regions(systems, "ID", "SG"))
    indira = people.actor(people.operator("indira", *BULK, regions=["ID"]))
    before = Operation.objects.count()
    with pytest.raises(Denied):
        bulk.start(job_id=job.pk, actor=indira, reason="Go.")
    for what in ("cancel", "leave_out"):
        with pytest.raises(Denied):
            bulk.control(job_id=job.pk, what=what, actor=indira, reason="No.")
    job.refresh_from_db()
    assert job.state == "DRAFT"
    assert Operation.objects.count() == before


def test_who_loses_the_grant_while_it_runs_does_no_more_and_it_stops(
    systems: ScriptedSystems,
) -> None:
    ann = people.anybody("ann", *BULK)
    job = a_draft(ann, *failed_orders(systems, 10), canary=5, most_failures=2)
    bulk.start(job_id=job.pk, actor=ann, reason="Go.")
    Grant.objects.all().delete()
    bulk.work()
    job.refresh_from_db()
    assert job.state == "STOPPED"
    assert not Operation.objects.filter(kind="retry").exists()
    assert set(job.rows.exclude(state="PENDING").values_list("state", "code")) == {
        ("REFUSED", "authority.denied")
    }


def test_four_eyes_for_the_whole_job(systems: ScriptedSystems) -> None:
    ann, sarah = people.anybody("ann", *BULK), people.senior()
    job = a_draft(ann, *of_billing(systems, 4), canary=2)
    done, approval = bulk.start(job_id=job.pk, actor=ann, reason="Mended.")
    assert done is None
    assert approval is not None
    assert approval.needs == Action.APPROVE_PAYMENT
    assert approval.payload["parameters"] == {"selection": job.digest}
    bulk.work()
    assert states(job) == {"PENDING": 4}
    with pytest.raises(Denied, match="another person"):
        operations.approve(approval_id=approval.pk, actor=ann, reason="Yes.")
    operations.approve(approval_id=approval.pk, actor=sarah, reason="I have looked at it.")
    job.refresh_from_db()
    assert (job.state, job.approval_id, job.actor) == ("RUNNING_CANARY", approval.pk, "ann")
    bulk.work()
    job = known(job)
    bulk.control(job_id=job.pk, what="resume", actor=ann, reason="It works.")
    bulk.work()
    assert set(Operation.objects.filter(kind="retry").values_list("approval", flat=True)) == {
        approval.pk
    }
    with pytest.raises(ApprovalNotOpen):
        operations.approve(approval_id=approval.pk, actor=sarah, reason="Again.")


def test_an_approval_is_for_the_rows_that_were_seen(systems: ScriptedSystems) -> None:
    ann, sarah = people.anybody("ann", *BULK), people.senior()
    job = a_draft(ann, *of_billing(systems, 3))
    _, approval = bulk.start(job_id=job.pk, actor=ann, reason="Mended.")
    assert approval is not None
    row = job.rows.order_by("pk")[0]
    bulk.control(job_id=job.pk, what="leave_out", actor=ann, reason="No.", subjects=(row.subject,))
    with pytest.raises(NotPossible):
        operations.approve(approval_id=approval.pk, actor=sarah, reason="Yes.")
    assert Approval.objects.get(pk=approval.pk).state == "STALE"
    job.refresh_from_db()
    assert job.state == "DRAFT"


def test_a_row_that_needs_more_than_was_approved_is_refused(systems: ScriptedSystems) -> None:
    ann = people.anybody("ann", *BULK)
    tasks = failed_orders(systems, 3)
    job = a_draft(ann, *tasks)
    bulk.start(job_id=job.pk, actor=ann, reason="Go.")
    TargetSystem.objects.update(domain="billing")
    bulk.work()
    assert set(job.rows.values_list("state", "code")) == {("REFUSED", "authority.denied")}
    assert not Operation.objects.filter(kind="retry").exists()


def test_an_approver_is_asked_about_every_place(systems: ScriptedSystems) -> None:
    ann = people.anybody("ann", *BULK)
    tasks = in_regions(systems, "ID", "SG")
    TargetSystem.objects.update(domain="billing")
    job = a_draft(ann, *tasks)
    _, approval = bulk.start(job_id=job.pk, actor=ann, reason="Mended.")
    assert approval is not None
    local = people.actor(people.operator("lia", Action.APPROVE_PAYMENT, regions=["ID"]))
    with pytest.raises(Denied, match="region SG"):
        operations.approve(approval_id=approval.pk, actor=local, reason="Yes.")
    job.refresh_from_db()
    assert job.state == "DRAFT"


def test_what_a_row_needs_by_itself_is_told_by_the_dry_run(systems: ScriptedSystems) -> None:
    """What is done to a row may need a second person though the action itself does not."""
    tasks = of_billing(systems, 2)
    orders = [task.fulfillment.order_reference for task in tasks]
    job = bulk.draft(
        actor=people.anybody("ann", *BULK, Action.PLAN_REGENERATE),
        action="plan.regenerate",
        selection=bulk.Selection(of="order", names=orders),
        reason="They have mended it.",
    )
    bulk.work()
    rows = list(job.rows.all())
    assert {row.foreseen for row in rows} == {"IMPOSSIBLE"}
    assert "approve.payment" in rows[0].foretold


def test_the_evidence_of_each_order_tells_by_which_approval(systems: ScriptedSystems) -> None:
    tasks = of_billing(systems, 2)
    ann = people.anybody("ann", *BULK)
    job = a_draft(ann, *tasks)
    _, approval = bulk.start(job_id=job.pk, actor=ann, reason="Open again.")
    assert approval is not None
    operations.approve(approval_id=approval.pk, actor=people.senior(), reason="Yes.")
    bulk.work()
    order = Order.objects.get(fulfillment_id=tasks[0].fulfillment_id)
    found = {table: list(rows.values_list("pk", flat=True)) for table, rows in members(order)}
    assert found["fulfillment_bulkjob"] == [job.pk]
    assert found["fulfillment_approval"] == [approval.pk]
    assert len(found["fulfillment_bulkrow"]) == 1
