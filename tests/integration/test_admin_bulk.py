"""Bulk jobs in the admin: any filtered list becomes a draft; pages that work."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.models import BulkJob, BulkRow, FalloutCase, Incident, Task
from fulfillment.operations import bulk
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_bulk_incidents import an_incident
from tests.integration.test_bulk_jobs import failed_orders, known, started
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db


def browser(name: str, *actions: Action) -> Client:
    user = people.operator(name, *actions)
    user.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def ann(systems: ScriptedSystems) -> Client:
    failed_orders(systems, 4)
    return browser("ann", Action.BULK_START, Action.BULK_CONTROL, Action.TASK_RETRY)


def chosen(*rows: Any, **more: str) -> dict[str, Any]:
    return {
        "action": "do_to_all",
        "select_across": "0",
        "index": "0",
        "_selected_action": [str(row.pk) for row in rows],
        **more,
    }


WANTED = {
    "drafted": "yes",
    "operation": "task.retry",
    "reason": "Mended.",
    "canary": "2",
    "stages": "50",
    "most_failures": "3",
    "most_failures_percent": "50",
    "minutes": "30",
}


@pytest.mark.parametrize("model", [Task, FalloutCase, Order])
def test_a_filtered_list_becomes_a_draft(ann: Client, model: type[Any]) -> None:
    address = address_of(model, "changelist")
    assert "Do something to all of these" in text_of(ann, address)
    rows = list(model.objects.order_by("pk"))[:3]
    page = ann.post(address, chosen(*rows)).content.decode()
    assert "Do something to these 3" in page
    assert "Try a failed task again" in page
    assert not BulkJob.objects.exists()
    response = ann.post(address, chosen(*rows, **WANTED), follow=True)
    job = BulkJob.objects.get()
    assert response.status_code == 200
    assert f"Bulk job {job.pk} is drafted" in response.content.decode()
    assert (job.rows.count(), job.canary, job.stages, job.actor) == (3, 2, [50], "ann")
    assert job.selection["named"] == 3


def test_what_an_operation_has_to_be_told_is_asked_for_by_name(ann: Client) -> None:
    address = address_of(FalloutCase, "changelist")
    cases = list(FalloutCase.objects.order_by("pk"))
    carl = browser("carl", Action.BULK_START, Action.CASE_ASSIGN, Action.CASE_CLOSE)
    page = carl.post(address, chosen(*cases)).content.decode()
    assert 'value="case.assign"' in page
    assert 'value="task.retry"' not in page
    page = carl.post(address, chosen(*cases, operation="case.assign")).content.decode()
    assert 'name="parameter-to"' in page
    assert 'name="canary"' in page
    given = {**WANTED, "operation": "case.assign", "parameter-to": "ann", "stages": "90, 10"}
    page = carl.post(address, chosen(*cases, **given)).content.decode()
    assert "Stages are rising numbers" in page
    assert not BulkJob.objects.exists()
    answer = carl.post(address, chosen(*cases, **{**given, "stages": "10, 90"}))
    job = BulkJob.objects.get()
    assert answer["Location"] == address_of(BulkJob, "change", job.pk)
    assert (job.action, job.parameters["to"], job.stages) == ("case.assign", "ann", [10, 90])
    # What may not be done to these is no operation that could be sent.
    page = carl.post(address, chosen(*cases, **WANTED)).content.decode()
    assert "Choose what is done" in page
    assert BulkJob.objects.count() == 1


def test_all_that_the_filter_finds_is_frozen(ann: Client, systems: ScriptedSystems) -> None:
    desk.order()
    desk.finish()
    address = f"{address_of(Task, 'changelist')}?state__exact=FAILED_FINAL"
    one = Task.objects.filter(state="FAILED_FINAL").first()
    ann.post(address, chosen(one, **{**WANTED, "select_across": "1"}))
    job = BulkJob.objects.get()
    assert job.rows.count() == 4
    assert job.selection["note"].endswith("state__exact=FAILED_FINAL")


def test_a_job_is_started_followed_and_stopped_in_the_admin(ann: Client) -> None:
    tasks = list(Task.objects.all())
    ann.post(address_of(Task, "changelist"), chosen(*tasks, **WANTED))
    job = BulkJob.objects.get()
    page = address_of(BulkJob, "change", job.pk)
    before = text_of(ann, page)
    assert "0 of 4 are looked at." in before
    assert f"{job.pk}/start/" not in before
    bulk.work()
    assert "Start with 2 of 4" in text_of(ann, page)
    for what, state in (("start", "RUNNING_CANARY"), ("pause", "PAUSED"), ("cancel", "CANCELLED")):
        address = f"/admin/fulfillment/bulkjob/{job.pk}/{what}/"
        assert f"bulk job {job.pk}" in text_of(ann, address)
        assert ann.post(address, {"reason": "I say so."}).status_code == 302
        job.refresh_from_db()
        assert job.state == state
    assert "4 left out" in text_of(ann, address_of(BulkJob, "changelist"))
    rows = text_of(ann, f"{address_of(BulkRow, 'changelist')}?job__id__exact={job.pk}")
    assert f"task:{tasks[0].pk}" in rows
    file = ann.get(f"/admin/fulfillment/bulkjob/{job.pk}/rows.csv")
    assert b"".join(file).decode().count("\n") == 5  # type: ignore[arg-type]


def test_whoever_may_not_sees_no_button_and_changes_nothing(ann: Client) -> None:
    tasks = list(Task.objects.all())
    ann.post(address_of(Task, "changelist"), chosen(*tasks, **WANTED))
    job = BulkJob.objects.get()
    bulk.work()
    bob = browser("bob")
    assert "Do something to all of these" not in text_of(bob, address_of(Task, "changelist"))
    assert f"{job.pk}/start/" not in text_of(bob, address_of(BulkJob, "change", job.pk))
    bob.post(address_of(Task, "changelist"), chosen(*tasks, **WANTED))
    for what in ("start", "pause", "resume", "cancel", "leave-out", "look-again"):
        answer = bob.post(f"/admin/fulfillment/bulkjob/{job.pk}/{what}/", {"reason": "I."})
        assert answer.status_code == 403, what
    assert BulkJob.objects.get().state == "DRAFT"


def test_an_incident_is_released_from_its_page(ann: Client, systems: ScriptedSystems) -> None:
    incident = Incident.objects.create(
        fingerprint="x",
        target="alpha",
        action="one",
        reason_code="refused",
        title="alpha refuses one",
        severity="HIGH",
        owner_queue="operations",
        opened_at=desk.now(),
    )
    FalloutCase.objects.update(incident=incident)
    carl = browser("carl", Action.INCIDENT_RELEASE, Action.BULK_START, Action.TASK_RETRY)
    page = text_of(carl, address_of(Incident, "change", incident.pk))
    form = f"/admin/fulfillment/operation/operate/incident.release/incident:{incident.pk}"
    assert form in page
    assert form not in text_of(ann, address_of(Incident, "change", incident.pk))
    given = {"reason": "They mended it.", "parameter-canary": "1"}
    seen = carl.post(form, given).content.decode()
    assert "4 failed tasks, the first 1 of them as a canary" in seen
    assert not BulkJob.objects.exists()
    hidden = dict(re.findall(r'name="(seen|version)"[^>]*value="([^"]*)"', seen))
    done = carl.post(form, {**given, **hidden})
    job = BulkJob.objects.get()
    assert done["Location"] == address_of(BulkJob, "change", job.pk)
    assert (job.incident_id, job.canary, job.actor) == (incident.pk, 1, "carl")
    assert done["Location"] in text_of(carl, address_of(Incident, "change", incident.pk))


def test_the_page_of_a_job_says_what_came_of_each_stage_and_row(
    ann: Client, systems: ScriptedSystems
) -> None:
    tasks = list(Task.objects.order_by("pk"))
    ann.post(address_of(Task, "changelist"), chosen(*tasks, **WANTED))
    bulk.work()
    job = started(BulkJob.objects.get())
    page = address_of(BulkJob, "change", job.pk)
    assert "2 done, result awaited of 2" in text_of(ann, page)
    assert f"{job.pk}/pause/" in text_of(ann, page)
    systems.sends["one"] = [desk.rejected("locked")]
    job = known(job)
    assert job.state == "PAUSED"
    shown = text_of(ann, page)
    assert "1 verified, 1 failed of 2" in shown
    assert "Go on up to row 4 of 4" in shown
    assert f"{job.pk}/pause/" not in shown
    assert "1 of 2 tried have failed (50 %). It stops by itself at more than 3, or" in shown
    assert shown.index("did not come about") < shown.index("</span> verified")
    only = text_of(ann, f"{page}?rows=VERIFIED")
    assert "locked" not in only.split('id="rows"')[1]
    assert "There are no such rows." in text_of(ann, f"{page}?rows=FAILED")


def test_the_list_of_jobs_shows_how_far_each_is_and_looks_at_itself_again(
    ann: Client, systems: ScriptedSystems
) -> None:
    ann.post(address_of(Task, "changelist"), chosen(*Task.objects.all(), **WANTED))
    bulk.work()
    listed = text_of(ann, address_of(BulkJob, "changelist"))
    assert "work-bar" not in listed
    assert 'data-live-seconds="5"' in listed
    started(BulkJob.objects.get())
    listed = text_of(ann, address_of(BulkJob, "changelist"))
    assert '<span class="work-part work-moving" style="width: 50.00%"></span>' in listed
    assert "2 done, result awaited, 2 not done yet" in listed


def test_the_page_of_a_job_costs_the_same_however_many_rows_it_has(
    systems: ScriptedSystems,
) -> None:
    client = browser("ann", Action.BULK_START, Action.BULK_CONTROL, Action.TASK_RETRY)
    asked = []
    for number in (3, 12):
        failed_orders(systems, number)
        rows = list(Task.objects.filter(state="FAILED_FINAL").order_by("-pk"))[:number]
        client.post(address_of(Task, "changelist"), chosen(*rows, **WANTED))
        bulk.work()
        job = started(BulkJob.objects.latest("pk"))
        text_of(client, address_of(BulkJob, "change", job.pk))  # What is read once, is.
        with CaptureQueriesContext(connection) as captured:
            text_of(client, address_of(BulkJob, "change", job.pk))
        asked.append(len(captured))
    assert asked[0] == asked[1]


def test_an_incident_says_what_it_keeps_and_costs_the_same_however_many_cases_it_has(
    systems: ScriptedSystems,
) -> None:
    client = browser("ines", Action.INCIDENT_RELEASE, Action.INCIDENT_ASSIGN, Action.BULK_START)
    incident = an_incident(systems, 3)
    page = address_of(Incident, "change", incident.pk)
    FalloutCase.objects.update(
        revenue={"1": {"EUR": ["10", "0"]}}, revenue_amount=10, revenue_currency="EUR"
    )
    text_of(client, page)  # What is read once, is.
    with CaptureQueriesContext(connection) as few:
        shown = text_of(client, page)
    assert "30.00 EUR" in shown
    assert "orders wait" in shown
    failed_orders(systems, 60)
    FalloutCase.objects.update(incident=incident)
    with CaptureQueriesContext(connection) as many:
        text_of(client, page)
    assert len(few) == len(many)
    take = address_of(Incident, "take", incident.pk)
    assert take in shown
    assert client.post(take).status_code == 302
    assert "ines has it" in text_of(client, page)
    guest = browser("guest")
    assert take not in text_of(guest, page)
    assert guest.post(take).status_code == 403


def test_what_fixed_an_incident_before_stands_on_the_next_one(systems: ScriptedSystems) -> None:
    before = an_incident(systems, 3)
    for case in FalloutCase.objects.all():
        operations.close_case(case_id=case.pk, resolution="Their clock.", actor=desk.by("anna"))
    Incident.objects.filter(pk=before.pk).update(
        state="RESOLVED", resolved_at=desk.now(), fix="They have set the clock."
    )
    desk.advance(60)
    after = an_incident(systems, 3)
    FalloutCase.objects.filter(resolved_at=None).update(incident=after)
    FalloutCase.objects.exclude(resolved_at=None).update(incident=before)
    shown = text_of(browser("guest"), address_of(Incident, "change", after.pk))
    assert "fix: They have set the clock." in shown
    assert "by anna: Their clock." in shown
