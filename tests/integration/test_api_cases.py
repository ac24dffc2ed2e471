"""Cases and incidents over the API, for people who have to do with them."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.models import FalloutCase, Incident
from oms.models import Order
from tests import desk, people
from tests.api import Api, problem
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def orders(systems: ScriptedSystems) -> list[Order]:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    codes = ["no_mapping"] * 3 + ["no_stock"]
    systems.sends["one"] = [desk.rejected(code) for code in codes]
    found = []
    for _ in codes:
        found.append(desk.order())
        desk.drain()
    operations.group_cases()
    return found


@pytest.fixture
def api(orders: list[Order]) -> Api:
    return Api(user=people.operator("anna", Action.CASE_ASSIGN))


def listed(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = api.get(f"/cases{query}")
    assert answer.status_code == 200, answer.content
    cases: list[dict[str, Any]] = answer.json()["cases"]
    return cases


def test_the_list_has_the_open_cases_with_what_may_help(api: Api, orders: list[Order]) -> None:
    cases = listed(api)
    assert [case["order"] for case in cases] == [order.reference for order in orders]
    first = cases[0]
    assert (first["state"], first["reason_code"], first["target"], first["overdue"]) == (
        "OPEN",
        "no_mapping",
        "alpha",
        False,
    )
    assert "task.retry" in first["options"]
    assert first["incident"] == Incident.objects.get().pk


def test_every_filter_narrows(api: Api, orders: list[Order]) -> None:
    case = FalloutCase.objects.order_by("pk")[0]
    operations.perform(
        actor=people.anybody("anna", Action.CASE_ASSIGN),
        request=operations.Request(
            action=Action.CASE_ASSIGN, subject=f"case:{case.pk}", reason="mine"
        ),
    )
    incident = Incident.objects.get()
    counts = {
        "?state=ASSIGNED": 1,
        "?state=OPEN": 3,
        "?state=all": 4,
        "?state=RESOLVED": 0,
        "?queue=operations": 4,
        "?queue=data": 0,
        "?category=REFUSED": 4,
        "?severity=HIGH": 0,
        "?reason_code=no_stock": 1,
        "?target=alpha": 4,
        "?target=beta": 0,
        "?assigned_to=anna": 1,
        f"?incident={incident.pk}": 3,
        "?overdue=true": 0,
        f"?order={orders[3].reference}": 1,
    }
    assert {query: len(listed(api, query)) for query in counts} == counts


def test_a_page_ends_where_the_next_begins(api: Api) -> None:
    answer = api.get("/cases?limit=3").json()
    assert len(answer["cases"]) == 3
    after = answer["cases"][-1]["id"]
    assert answer["next"].endswith(f"after={after}")
    rest = api.get(f"/cases?limit=3&after={after}").json()
    assert (len(rest["cases"]), rest["next"]) == (1, None)


def test_one_case_has_its_tasks_and_what_has_helped_before(api: Api, orders: list[Order]) -> None:
    task = desk.tasks_of(orders[0])["one@1"]
    operations.retry(task_id=task.pk, actor=desk.by("ops"), reason="the mapping is there")
    still = FalloutCase.objects.get(fulfillment=orders[1].fulfillment_id)
    case = api.get(f"/cases/{still.pk}").json()
    assert case["facts"]["target"] == "alpha"
    assert [(one["key"], one["state"]) for one in case["tasks"]] == [("one@1", "FAILED_FINAL")]
    assert case["to_find_out"]
    (before,) = case["fixed_before"]
    assert [step["operation"] for step in before["steps"]] == ["retry"]


def test_an_incident_says_how_much_it_has(api: Api) -> None:
    (found,) = api.get("/incidents").json()["incidents"]
    assert (found["cases"], found["open_cases"], found["orders"]) == (3, 3, 3)
    one = api.get(f"/incidents/{found['id']}").json()
    assert one["title"] == "alpha one: no_mapping"
    assert api.get("/incidents?state=RESOLVED").json()["incidents"] == []


def test_what_is_not_there_is_not_found(api: Api) -> None:
    for path, code in (("/cases/999999", "case.unknown"), ("/incidents/9", "incident.unknown")):
        answer = api.get(path)
        assert (answer.status_code, problem(answer)["code"]) == (404, code)


def test_a_clients_key_sees_no_cases(orders: list[Order]) -> None:
    answer = Api().get("/cases")
    assert (answer.status_code, problem(answer)["code"]) == (403, "auth.key_of_a_client")


def test_who_has_nothing_to_do_with_cases_sees_none(orders: list[Order]) -> None:
    api = Api(user=people.operator("nora", Action.TASK_RETRY))
    for path in ("/cases", f"/cases/{FalloutCase.objects.earliest('pk').pk}", "/incidents"):
        answer = api.get(path)
        assert (answer.status_code, problem(answer)["code"]) == (403, "authority.denied")


def test_a_filter_that_is_unknown_is_refused(api: Api) -> None:
    for query in ("?state=LOST", "?incident=x", "?nothing=1"):
        assert api.get(f"/cases{query}").status_code == 400
