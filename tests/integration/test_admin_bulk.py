"""Bulk jobs in the admin: any filtered list becomes a draft; pages that work."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from fulfillment.actions import Action
from fulfillment.models import BulkJob, BulkRow, FalloutCase, Incident, Task
from fulfillment.operations import bulk
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_bulk_jobs import failed_orders
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
