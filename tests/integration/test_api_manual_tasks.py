"""Manual tasks and retries over the API: only a client's own, decided and done once."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from fulfillment.engine.store import graphs
from fulfillment.models import ManualTask, Operation
from oms.intake import workflows
from oms.models import Order, Scope
from tests import desk
from tests.api import Api, problem
from tests.desk import ScriptedSystems
from tests.manual_work import an_approval

pytestmark = pytest.mark.django_db

APPROVAL: dict[str, Any] = {
    "check": desk.task(),
    "approve": desk.step(
        after=["check"],
        title="Approve the amount",
        manual=an_approval(within="P2D"),
        fields={"limit": "integer", "note": {"type": "string", "optional": True}},
    ),
    "ship": desk.task(
        depends_on=[{"output": "approve.limit"}], input={"limit": "${tasks.approve.limit}"}
    ),
}


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    desk.target("alpha")
    desk.workflow(APPROVAL)
    order = desk.order()
    desk.finish()
    return order


def decide(api: Api, *, key: str = "", **body: Any) -> Any:
    manual = ManualTask.objects.get()
    body = {"outcome": "approved", "values": {"limit": 500}, "reason": "A known one.", **body}
    headers = {"Idempotency_Key": key} if key else {}
    return api.send("POST", f"/manual-tasks/{manual.pk}/decision", body, **headers)


def read(api: Api, path: str) -> Any:
    response = api.get(path)
    assert response.status_code == 200, response.content
    return json.loads(response.content)


def test_a_manual_task_is_listed_read_and_decided(order: Order, systems: ScriptedSystems) -> None:
    api = Api()
    (listed,) = read(api, "/manual-tasks?queue=approvals&role=manager&state=OPEN")["manual_tasks"]
    assert (listed["order"], listed["task"]) == (order.reference, "approve@1")
    shown = read(api, f"/manual-tasks/{listed['id']}")
    assert shown["instructions"] == "Look at the amount."
    assert shown["fields"] == {
        "limit": {"type": "integer", "optional": False},
        "note": {"type": "string", "optional": True},
    }
    assert shown["context"]["order"]["customer"]["id"] == "C-1"

    answer = decide(api)
    assert answer.status_code == 200
    decided = json.loads(answer.content)
    assert (decided["state"], decided["outcome"]) == ("DECIDED", "approved")
    assert (decided["decided_by"], decided["reason"]) == ("client a-client", "A known one.")
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert [dict(sent.payload) for sent in systems.sent][-1] == {"limit": 500}
    assert Operation.objects.get(kind="decide").actor == "client a-client"


@pytest.mark.parametrize(
    ("query", "found"),
    [("", 1), ("?state=DECIDED", 0), ("?queue=other", 0), ("?role=clerk", 0), ("?limit=1", 1)],
)
def test_every_filter_narrows(order: Order, query: str, found: int) -> None:
    assert len(read(Api(), f"/manual-tasks{query}")["manual_tasks"]) == found
    assert Api().get("/manual-tasks?state=LOST").status_code == 400


def test_the_list_goes_on_where_a_page_ends(order: Order) -> None:
    for _ in range(2):
        desk.order()
    desk.finish()
    first = read(Api(), "/manual-tasks?limit=2")
    assert len(first["manual_tasks"]) == 2
    rest = read(Api(), first["next"].removeprefix("/api/v1"))
    assert rest["next"] is None
    ids = [one["id"] for one in first["manual_tasks"] + rest["manual_tasks"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 3


def test_who_comes_second_is_told_who_decided_and_what(order: Order) -> None:
    decide(Api())
    late = decide(Api(), outcome="rejected", values={})
    assert late.status_code == 409
    told = problem(late)
    assert told["code"] == "manual.decided"
    assert told["decision"]["outcome"] == "approved"
    assert told["decision"]["decided_by"] == "client a-client"
    assert "client a-client" in told["detail"]


def test_the_same_key_decides_once_and_repeats_the_answer(order: Order) -> None:
    api = Api()
    first, second = decide(api, key="k-1"), decide(api, key="k-1")
    assert (first.status_code, second.status_code) == (200, 200)
    assert json.loads(first.content) == json.loads(second.content)
    assert second["Idempotent-Replayed"] == "true"
    assert Operation.objects.filter(kind="decide").count() == 1
    assert problem(decide(api, key="k-1", reason="Another."))["code"] == "idempotency.key_reused"


def test_what_was_refused_leaves_no_answer_under_its_key(order: Order) -> None:
    api = Api()
    assert decide(api, key="k-1", values={}).status_code == 400
    assert decide(api, key="k-1").status_code == 200


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        ({}, {("values.limit", "output.missing")}),
        ({"limit": "500"}, {("values.limit", "output.type")}),
        (
            {"limit": True, "note": 7},
            {("values.limit", "output.type"), ("values.note", "output.type")},
        ),
        (
            {"limit": 1, "nots": "x", "outcome": "rejected"},
            {("values.nots", "manual.unknown_value"), ("values.outcome", "manual.unknown_value")},
        ),
    ],
)
def test_every_fault_of_the_values_is_told(
    order: Order, values: dict[str, Any], faults: set[tuple[str, str]]
) -> None:
    answer = decide(Api(), values=values)
    assert answer.status_code == 400
    told = problem(answer)
    assert told["code"] == "manual.values_invalid"
    assert {(one["path"], one["code"]) for one in told["errors"]} == faults
    assert ManualTask.objects.get().state == "OPEN"


def test_an_outcome_that_it_does_not_have_is_refused(order: Order) -> None:
    answer = decide(Api(), outcome="perhaps")
    assert answer.status_code == 400
    told = problem(answer)
    assert told["code"] == "manual.unknown_outcome"
    assert "approved, rejected" in told["detail"]
    assert decide(Api(), reason=" ").status_code == 400


def test_those_of_other_clients_are_not_there(order: Order) -> None:
    stranger = Api(name="stranger")
    assert read(stranger, "/manual-tasks")["manual_tasks"] == []
    pk = ManualTask.objects.get().pk
    assert problem(stranger.get(f"/manual-tasks/{pk}"))["code"] == "manual.unknown"
    answer = decide(stranger)
    assert (answer.status_code, problem(answer)["code"]) == (404, "manual.unknown")
    assert decide(Api(scopes=(Scope.ORDERS_READ,))).status_code == 403
    assert ManualTask.objects.get().state == "OPEN"


# --- retry ---------------------------------------------------------------------------------------


def retry(api: Api, order: Order, task: str, *, key: str = "", reason: str = "Mended.") -> Any:
    headers = {"Idempotency_Key": key} if key else {}
    path = f"/orders/{order.reference}/tasks/{task}/retry"
    return api.send("POST", path, {"reason": reason}, **headers)


def fanned_out(systems: ScriptedSystems) -> Order:
    """Of three elements the second has failed."""
    desk.target("alpha")
    desk.workflow({"port": desk.task(for_each={"over": "${item.characteristics.numbers}"})})
    systems.sends["port"] = [desk.succeeded(), desk.rejected(), desk.succeeded()]
    order = desk.order(desk.item(characteristics={"numbers": [1, 2, 3]}))
    desk.finish()
    return order


@pytest.mark.parametrize("spelled", [str, lambda key: quote(key, safe="")], ids=["raw", "encoded"])
@pytest.mark.parametrize("task", ["port@1", "port@1[2]"])
def test_a_failed_task_is_tried_again(systems: ScriptedSystems, task: str, spelled: Any) -> None:
    order = fanned_out(systems)
    answer = retry(Api(), order, spelled(task))
    assert (answer.status_code, json.loads(answer.content)) == (200, {"tasks": ["port@1[2]"]})
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    logged = Operation.objects.get(kind="retry")
    assert (logged.actor, logged.reason) == ("client a-client", "Mended.")


def test_a_key_with_slashes_names_its_task(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"all": desk.task(scope="order")})
    systems.sends["all"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    (key,) = desk.states_of(order)
    assert "/" in key
    for spelled in (key, quote(key, safe="")):
        systems.sends["all"] = [desk.rejected()]
        assert retry(Api(), order, spelled).status_code == 200
        desk.finish()


def test_a_retry_under_a_key_is_done_once(systems: ScriptedSystems) -> None:
    order = fanned_out(systems)
    systems.sends["port"] = [desk.rejected()]
    first = retry(Api(), order, "port@1", key="k-1")
    desk.finish()
    second = retry(Api(), order, "port@1", key="k-1")
    assert json.loads(first.content) == json.loads(second.content)
    assert second["Idempotent-Replayed"] == "true"
    assert Operation.objects.filter(kind="retry").count() == 1


def test_what_has_not_failed_is_not_tried_again(systems: ScriptedSystems) -> None:
    order = fanned_out(systems)
    api = Api()
    answer = retry(api, order, "port@1[1]")
    assert (answer.status_code, problem(answer)["code"]) == (409, "task.nothing_to_retry")
    answer = retry(api, order, "nothing@1")
    assert (answer.status_code, problem(answer)["code"]) == (404, "task.unknown")
    assert problem(retry(api, order, "a%00b"))["code"] == "task.unknown"
    stranger = retry(Api(name="stranger"), order, "port@1")
    assert (stranger.status_code, problem(stranger)["code"]) == (404, "order.not_found")
    assert retry(api, order, "port@1", reason=" ").status_code == 400
    assert not Operation.objects.filter(kind="retry").exists()


def test_outcomes_and_fields_keep_the_order_of_the_template(systems: ScriptedSystems) -> None:
    """Also in a process that has read everything from the database."""
    outcomes = {"passed_with_remarks": "proceed", "passed": "proceed", "no": "refuse"}
    asked = {"serial_number": "string", "at": "string", "colour": "string"}
    manual = {**APPROVAL["approve"]["manual"], "outcomes": outcomes}
    desk.target("alpha")
    desk.workflow({"survey": desk.step(manual=manual, fields=asked), "ship": desk.task()})
    for forget in (workflows.forget, graphs.forget):
        forget()
    desk.order()
    desk.finish()
    api = Api()
    (listed,) = read(api, "/manual-tasks")["manual_tasks"]
    shown = read(api, f"/manual-tasks/{listed['id']}")
    assert list(listed["outcomes"]) == list(shown["outcomes"]) == list(outcomes)
    assert list(shown["fields"]) == list(asked)
