"""Single items are cancelled over HTTP: quoted, undone, and the rest of the order goes on (§19)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from oms.models import Order
from tests import desk
from tests.api import Api, an_order, problem
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(systems: ScriptedSystems) -> Api:
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(
                compensation={"action": "release", "input": {}, "refund": "12.50"},
            ),
            "build": desk.task(
                after=["reserve"],
                point_of_no_return={"kind": "hard", "reason": "It is built to measure."},
            ),
            "tell": desk.task(after=["build"], scope="order"),
        },
        activation="build",
    )
    return Api()


def line(item_id: str, **fields: Any) -> dict[str, Any]:
    return {"item_id": item_id, "action": "add", "offering": "thing", **fields}


def submitted(api: Api, systems: ScriptedSystems, *done: str, **more: Any) -> str:
    for action in {"reserve", "build", "tell"} - set(done):
        systems.sends[action] = [desk.failed(retry_after=timedelta(hours=1))] * 9
    items = more.get("items") or [line("1"), line("2")]
    answer = api.post(an_order(items=items))
    assert answer.status_code == 201, answer.content
    assert answer.json()["faults"] == []
    desk.drain()
    reference: str = answer.json()["id"]
    return reference


def cancel(api: Api, reference: str, *items: str, query: str = "") -> Any:
    body = {"reason": "changed my mind", "items": list(items)}
    return api.send("POST", f"/orders/{reference}/cancel{query}", body)


def refused(answer: Any, code: str) -> dict[str, Any]:
    told = problem(answer)
    assert (told["status"], told["code"]) == (409, code)
    return told


def test_an_item_is_quoted_first_and_then_left_out(api: Api, systems: ScriptedSystems) -> None:
    reference = submitted(api, systems, "reserve")
    quoted = cancel(api, reference, "2", query="?preview=true").json()
    (item,) = quoted["items"]
    assert (item["item_id"], item["verdict"], item["undone"]) == ("2", "free", ["reserve@2"])
    assert quoted["sums"] == [{"direction": "refund", "currency": "", "amount": "12.5000"}]
    assert Order.objects.get(reference=reference).version == 1

    done = cancel(api, reference, "2")
    assert done.status_code == 200, done.content
    assert done.json()["state"] == "APPLIED"
    assert done.json()["change"]["gone"] == ["2"]
    systems.sent.clear()
    systems.sends.clear()
    desk.advance(4000)
    desk.finish()
    assert sorted(systems.actions()) == ["build", "release", "tell"]
    order = api.get(f"/orders/{reference}").json()
    assert order["state"] == "COMPLETED"
    assert [one["item_id"] for one in order["items"]] == ["1"]


def test_asked_again_it_is_the_same_request(api: Api, systems: ScriptedSystems) -> None:
    reference = submitted(api, systems, "reserve")
    first = cancel(api, reference, "2").json()
    again = cancel(api, reference, "2")
    assert again.status_code == 200
    assert again.json()["number"] == first["number"]
    assert Order.objects.get(reference=reference).version == 2


def test_while_something_of_it_is_under_way_it_is_the_same_request(
    api: Api, systems: ScriptedSystems
) -> None:
    systems.sends["reserve"] = [desk.accepted(), desk.accepted()]
    answer = api.post(an_order(items=[line("1"), line("2")]))
    desk.drain()
    reference = answer.json()["id"]
    first = cancel(api, reference, "2")
    assert (first.status_code, first.json()["state"]) == (202, "ASSESSING")
    again = cancel(api, reference, "2")
    assert (again.status_code, again.json()["number"]) == (202, first.json()["number"])


def test_an_item_past_its_point_of_no_return_is_refused_by_name(
    api: Api, systems: ScriptedSystems
) -> None:
    reference = submitted(api, systems, "reserve", "build")
    told = refused(cancel(api, reference, "2"), "amendment.refused")
    (refusal,) = told["refusals"]
    assert (refusal["code"], refusal["task"]) == ("point_of_no_return", "build@2")
    assert refusal["items"] == ["2"]
    assert Order.objects.get(reference=reference).version == 1


def test_what_is_nested_in_an_item_goes_with_it(api: Api, systems: ScriptedSystems) -> None:
    items = [line("1"), line("2", items=[line("2.1", action="add")])]
    reference = submitted(api, systems, "reserve", items=items)
    done = cancel(api, reference, "2")
    assert done.status_code == 200, done.content
    assert done.json()["change"]["gone"] == ["2", "2.1"]


def test_where_nothing_would_be_left_to_do_the_order_is_to_be_cancelled(
    api: Api, systems: ScriptedSystems
) -> None:
    items = [line("1"), line("2", action="no_change", asset="A-1")]
    reference = submitted(api, systems, "reserve", items=items)
    refused(cancel(api, reference, "1"), "amendment.nothing_left")


def test_no_item_may_be_left_over_and_none_be_unknown(api: Api, systems: ScriptedSystems) -> None:
    reference = submitted(api, systems, "reserve")
    refused(cancel(api, reference, "1", "2"), "amendment.nothing_left")
    refused(cancel(api, reference, "7"), "amendment.item_unknown")
    assert Order.objects.get(reference=reference).version == 1
