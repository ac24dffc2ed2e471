"""Cancelling over the API: previewed, asked for once, and followed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fulfillment.engine.plans import rest
from oms.models import CancellationRequest, Order, Scope
from tests import desk
from tests.api import Api, problem
from tests.desk import ScriptedSystems
from tests.integration.test_cancellation import a_service, a_shop, settled_by_asking

pytestmark = pytest.mark.django_db


def _cancel(api: Api, order: Order, *, key: str = "", query: str = "", **body: Any) -> Any:
    headers = {"Idempotency_Key": key} if key else {}
    body = {"reason": "Ordered by mistake.", **body}
    return api.send("POST", f"/orders/{order.reference}/cancel{query}", body, **headers)


def _read(api: Api, path: str) -> Any:
    response = api.get(path)
    assert response.status_code == 200, response.content
    return json.loads(response.content)


@pytest.fixture
def halfway(systems: ScriptedSystems) -> Order:
    """Reserved, and stopped there."""
    a_service()
    systems.sends["activate"] = [desk.failed(retryable=False)]
    order = desk.order(desk.item(one_off_price=20, currency="EUR"), billing_account="BA-1")
    desk.finish()
    return order


def test_a_preview_changes_nothing_and_is_what_is_done(halfway: Order) -> None:
    api = Api()
    before = _read(api, f"/orders/{halfway.reference}/timeline")
    preview = _cancel(api, halfway, query="?preview=true")
    assert preview.status_code == 200
    quote = preview.json()
    assert (quote["possible"], quote["verdict"]) == (True, "free")
    assert quote["items"] == [
        {
            "item_id": "1",
            "offering": "thing",
            "verdict": "free",
            "undone": ["reserve@1"],
            "stays": [],
            "withdrawn": ["activate@1", "last@1"],
        }
    ]
    assert quote["tasks"][0] == {
        "task": "reserve@1",
        "title": "A task",
        "items": ["1"],
        "becomes": "undone",
        "done": True,
        "undo": "alpha release",
        "why": "",
    }
    assert _read(api, f"/orders/{halfway.reference}/timeline") == before
    assert not CancellationRequest.objects.exists()
    assert _cancel(api, halfway).json()["quote"] == quote


def test_it_is_followed_until_it_is_done(halfway: Order, systems: ScriptedSystems) -> None:
    api = Api()
    response = _cancel(api, halfway)
    assert response.status_code == 200
    assert response["Location"] == f"/api/v1/orders/{halfway.reference}/cancellations/1"
    made = response.json()
    assert (made["state"], made["order_state"]) == ("UNDOING", "CANCELLING")
    assert (made["order_state_before"], made["requested_by"]) == ("IN_PROGRESS", "client a-client")
    assert made["progress"] == {"tasks": 1, "done": 0, "waits_for": ["undo.v2/reserve@1"]}
    path = made["href"].removeprefix("/api/v1")
    assert _read(api, path) == made
    desk.finish()
    done = _read(api, path)
    assert (done["state"], done["order_state"]) == ("DONE", "CANCELLED")
    assert done["progress"] == {"tasks": 1, "done": 1, "waits_for": []}
    assert done["finished_at"] is not None
    listed = _read(api, f"/orders/{halfway.reference}/cancellations")
    assert listed == {"cancellations": [done]}
    again = _cancel(api, halfway)
    assert (again.status_code, again.json()) == (200, done)


def test_what_is_under_way_is_answered_with_202(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["reserve"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    api = Api()
    response = _cancel(api, order)
    assert response.status_code == 202
    made = response.json()
    assert (made["state"], made["order_state"]) == ("ASSESSING", "ASSESSING_CANCELLATION")
    assert made["quote"]["waits_for"] == made["progress"]["waits_for"] == ["reserve@1"]
    second = _cancel(api, order)
    assert (second.status_code, second.json()) == (200, made)

    seen = _read(api, f"/orders/{order.reference}")
    (whole, *_) = seen["waiting"]
    assert whole["task"] is None
    assert whole["reason"] == (
        "It is to be cancelled. Whether reserve@1 is done has to be known first; nothing else is "
        "sent meanwhile."
    )
    why = _read(api, f"/orders/{order.reference}/why")
    assert whole["reason"] in why["sentence"]

    settled_by_asking(systems, "reserve")
    assert _read(api, made["href"].removeprefix("/api/v1"))["progress"]["waits_for"] == []
    rest.look()
    desk.finish()
    assert _read(api, f"/orders/{order.reference}")["state"] == "CANCELLED"


def test_past_a_point_of_no_return_it_is_refused_and_on_record(systems: ScriptedSystems) -> None:
    a_shop()
    systems.sends["last"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    api = Api()
    found = problem(_cancel(api, order))
    assert (found["status"], found["code"]) == (409, "cancellation.refused")
    (refusal,) = found["refusals"]
    assert (refusal["code"], refusal["task"], refusal["items"]) == (
        "point_of_no_return",
        "ship@1",
        ["1"],
    )
    assert found["cancellation"]["state"] == "DENIED"
    assert found["cancellation"]["order_state"] == "IN_PROGRESS"
    (listed,) = _read(api, f"/orders/{order.reference}/cancellations")["cancellations"]
    assert listed == found["cancellation"]
    preview = _cancel(api, order, query="?preview=true").json()
    assert (preview["possible"], preview["verdict"]) == (False, "past_point_of_no_return")
    assert preview["refusals"] == found["refusals"]


def test_a_complete_order_is_changed_by_another_one(systems: ScriptedSystems) -> None:
    a_service()
    order = desk.order()
    desk.finish()
    found = problem(_cancel(Api(), order))
    assert (found["status"], found["code"]) == (409, "cancellation.order_is_complete")
    assert found["offer"] == {
        "kind": "change_order",
        "actions": ["modify", "disconnect"],
        "assets": [f"{order.reference}-1"],
    }
    assert f"{order.reference}-1" in found["detail"]
    assert not CancellationRequest.objects.exists()


def test_a_rejected_order_is_over(systems: ScriptedSystems) -> None:
    a_service()
    order = desk.order(desk.item("nobody-knows-it"))
    for query in ("", "?preview=true"):
        found = problem(_cancel(Api(), order, query=query))
        assert (found["status"], found["code"]) == (409, "cancellation.order_is_over")


def test_the_same_key_asks_once_and_repeats_the_answer(halfway: Order) -> None:
    api = Api()
    first = _cancel(api, halfway, key="k-1")
    desk.finish()
    second = _cancel(api, halfway, key="k-1")
    assert (second.status_code, second.json()) == (200, first.json())
    assert second["Idempotent-Replayed"] == "true"
    assert problem(_cancel(api, halfway, key="k-1", reason="Another."))["code"] == (
        "idempotency.key_reused"
    )


def test_a_refusal_is_repeated_under_its_key(systems: ScriptedSystems) -> None:
    a_shop()
    systems.sends["last"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    api = Api()
    first, second = (problem(_cancel(api, order, key="k-2")) for _ in range(2))
    assert first == second
    assert CancellationRequest.objects.count() == 1


@pytest.mark.parametrize("body", [{"reason": ""}, {"reason": "  "}, {"items": ["1"], "x": 1}])
def test_a_request_without_a_reason_is_not_well_formed(
    halfway: Order, body: dict[str, Any]
) -> None:
    found = problem(_cancel(Api(), halfway, **body))
    assert (found["status"], found["code"]) == (400, "request.invalid")
    assert not CancellationRequest.objects.exists()


def test_preview_is_true_or_false(halfway: Order) -> None:
    found = problem(_cancel(Api(), halfway, query="?preview=perhaps"))
    assert (found["status"], found["code"]) == (400, "request.invalid")
    assert not CancellationRequest.objects.exists()


def test_nobody_cancels_the_order_of_another_client(halfway: Order) -> None:
    other = Api(name="another")
    assert problem(_cancel(other, halfway))["code"] == "order.not_found"
    path = f"/orders/{halfway.reference}/cancellations"
    assert problem(other.get(path))["code"] == "order.not_found"
    reader = Api(scopes=(Scope.ORDERS_READ,))
    assert problem(_cancel(reader, halfway))["code"] == "auth.scope_missing"
    assert problem(reader.get(f"{path}/1"))["code"] == "cancellation.not_found"
    assert not CancellationRequest.objects.exists()


def test_the_timeline_tells_of_the_request(halfway: Order) -> None:
    api = Api()
    _cancel(api, halfway)
    desk.finish()
    entries = _read(api, f"/orders/{halfway.reference}/timeline?limit=1000")["entries"]
    told = [
        (entry["entity"], entry["name"], entry["to"])
        for entry in entries
        if entry["kind"] == "transition" and entry["entity"] in ("order", "cancellation")
    ]
    assert told[-6:] == [
        ("cancellation", "request", "ASSESSING"),
        ("order", "assess_cancellation", "ASSESSING_CANCELLATION"),
        ("cancellation", "begin_undoing", "UNDOING"),
        ("order", "begin_cancelling", "CANCELLING"),
        ("cancellation", "finish", "DONE"),
        ("order", "cancel", "CANCELLED"),
    ]


def test_a_cancelled_order_is_read_as_one(halfway: Order) -> None:
    api = Api()
    _cancel(api, halfway)
    seen = _read(api, f"/orders/{halfway.reference}")
    assert seen["state"] == "CANCELLING"
    assert seen["progress"]["plan"] == "COMPENSATING"
    desk.finish()
    seen = _read(api, f"/orders/{halfway.reference}")
    assert (seen["state"], seen["waiting"], seen["cases"], seen["holds"]) == (
        "CANCELLED",
        [],
        [],
        [],
    )
    assert seen["links"]["cancellations"] == f"/api/v1/orders/{halfway.reference}/cancellations"
    assert seen["fulfilment"]["partial"]["commercial"] == {
        "partial": False,
        "there": [],
        "missing": [],
    }
    assert seen["fulfilment"]["partial"]["operational"]["missing"] == []
    assert _read(api, f"/orders/{halfway.reference}/why")["waiting"] is False
