"""Bulk jobs over the API: people draft, start and stop them with keys of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpResponse

from fulfillment.actions import Action
from fulfillment.models import BulkJob, Operation, TargetSystem
from fulfillment.operations import bulk
from tests import desk, people
from tests.api import Api, problem
from tests.desk import ScriptedSystems
from tests.integration.test_bulk_jobs import failed_orders

pytestmark = pytest.mark.django_db

MAY = (Action.BULK_START, Action.BULK_CONTROL, Action.TASK_RETRY)
WANTED = {
    "action": "task.retry",
    "selection": {"of": "task", "filter": {"target": "alpha"}},
    "reason": "They have mended it.",
    "canary": 2,
}


@pytest.fixture
def api(systems: ScriptedSystems) -> Api:
    failed_orders(systems, 6)
    return Api(user=people.operator("ann", *MAY))


def told(response: HttpResponse, status: int = 200) -> Any:
    assert response.status_code == status, response.content
    return json.loads(response.content)


def test_a_job_from_its_draft_to_its_end(api: Api) -> None:
    job = told(api.send("POST", "/bulk-jobs", WANTED, Idempotency_Key="k-1"), 201)
    assert (job["state"], job["progress"]["not_looked_at"]) == ("DRAFT", 6)
    again = told(api.send("POST", "/bulk-jobs", WANTED, Idempotency_Key="k-1"), 201)
    assert again["id"] == job["id"]
    assert BulkJob.objects.count() == 1
    path = f"/bulk-jobs/{job['id']}"
    early = problem(api.send("POST", f"{path}/start", {"reason": "Go."}))
    assert (early["status"], early["code"]) == (409, "bulk.not_possible")
    bulk.work()
    assert told(api.get(path))["digest"]
    begun = told(api.send("POST", f"{path}/start", {"reason": "Go."}))
    assert (begun["bulk_job"]["state"], begun["bulk_job"]["up_to"]) == ("RUNNING_CANARY", 2)
    bulk.work()
    desk.finish()
    desk.advance(60)
    bulk.work()
    assert told(api.get(path))["progress"]["by_state"] == {"VERIFIED": 2, "PENDING": 4}
    on = told(api.send("POST", f"{path}/resume", {"reason": "It works."}))
    assert on["bulk_job"]["state"] == "RUNNING"
    assert told(api.send("POST", f"{path}/pause", {"reason": "Wait."}))["told"]
    cancelled = told(api.send("POST", f"{path}/cancel", {"reason": "Enough."}))
    assert cancelled["bulk_job"]["progress"]["by_state"] == {"VERIFIED": 2, "LEFT_OUT": 4}
    listed = told(api.get("/bulk-jobs?state=CANCELLED"))
    assert [one["id"] for one in listed["bulk_jobs"]] == [job["id"]]
    page = told(api.get(f"{path}/rows?limit=4"))
    assert [row["position"] for row in page["rows"]] == [1, 2, 3, 4]
    rest = told(api.get(page["next"].removeprefix("/api/v1")))
    assert [row["position"] for row in rest["rows"]] == [5, 6]
    assert page["rows"][0]["record"] in Operation.objects.values_list("pk", flat=True)
    file = api.get(f"{path}/rows.csv")
    lines = b"".join(file).decode().splitlines()  # type: ignore[arg-type]
    assert (file["Content-Type"], len(lines)) == ("text/csv", 7)


def test_whoever_has_nothing_to_do_with_jobs_does_not_read_them(api: Api) -> None:
    job = told(api.send("POST", "/bulk-jobs", WANTED), 201)
    bulk.work()
    stranger = Api(user=people.operator("eve"))
    path = f"/bulk-jobs/{job['id']}"
    for one in ("/bulk-jobs", path, f"{path}/rows", f"{path}/rows.csv"):
        refused = problem(stranger.get(one))
        assert (refused["status"], refused["code"]) == (403, "authority.denied")
    for action in (Action.BULK_CONTROL, Action.ORDER_EVIDENCE):
        assert Api(user=people.operator(f"u-{action}", action)).get(path).status_code == 200


def test_what_needs_approval_is_asked_for(api: Api) -> None:
    TargetSystem.objects.update(domain="billing")
    job = told(api.send("POST", "/bulk-jobs", WANTED), 201)
    bulk.work()
    asked = told(api.send("POST", f"/bulk-jobs/{job['id']}/start", {"reason": "Go."}), 202)
    assert asked["approved_by"] == "approve.payment"
    assert asked["bulk_job"]["approval"] == asked["approval"]
    assert asked["bulk_job"]["state"] == "DRAFT"


def test_whoever_may_not_is_told_what_is_missing_and_nothing_is_written(api: Api) -> None:
    other = Api(user=people.operator("bob", Action.TASK_RETRY))
    found = problem(other.send("POST", "/bulk-jobs", WANTED))
    assert (found["status"], found["code"]) == (403, "authority.denied")
    client = problem(Api().send("POST", "/bulk-jobs", WANTED))
    assert (client["status"], client["code"]) == (403, "auth.key_of_a_client")
    assert not BulkJob.objects.exists()
    job = told(api.send("POST", "/bulk-jobs", WANTED), 201)
    for verb in ("start", "pause", "resume", "cancel", "leave-out", "look-again"):
        found = problem(other.send("POST", f"/bulk-jobs/{job['id']}/{verb}", {"reason": "I."}))
        assert found["code"] == "authority.denied", verb
    assert BulkJob.objects.get().state == "DRAFT"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"action": "moon.land"}, 404, "operation.unknown"),
        ({"action": "bulk.start"}, 400, "bulk.selection_invalid"),
        ({"selection": {"of": "task"}}, 400, "request.invalid"),
        ({"selection": {"of": "moon", "filter": {}}}, 400, "bulk.selection_invalid"),
        (
            {"selection": {"of": "task", "filter": {"colour": 1}}},
            400,
            "operation.parameters_invalid",
        ),
        ({"selection": {"of": "task", "names": ["9" * 40]}}, 201, ""),
        ({"stages": [50, 10]}, 400, "operation.parameters_invalid"),
        ({"canary": 0}, 400, "operation.parameters_invalid"),
        ({"parameters": {"x": 1}}, 400, "operation.parameters_invalid"),
        ({"reason": " "}, 400, "request.invalid"),
    ],
)
def test_what_does_not_fit_is_refused(
    api: Api, change: dict[str, Any], status: int, code: str
) -> None:
    response = api.send("POST", "/bulk-jobs", {**WANTED, **change})
    if status == 201:
        job = told(response, 201)
        bulk.work()
        (row,) = told(api.get(f"/bulk-jobs/{job['id']}/rows"))["rows"]
        assert row["foreseen"] == "IMPOSSIBLE"
        return
    found = problem(response)
    assert (found["status"], found["code"]) == (status, code)
