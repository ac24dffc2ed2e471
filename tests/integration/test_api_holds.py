"""Holds over the API: on a client's own orders, placed once, seen where the order is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.engine.protection import holds
from fulfillment.errors import GateBusy
from fulfillment.models import Hold, HoldScope, Operation
from oms.models import Order, Scope
from tests import desk
from tests.api import Api, a_workflow, problem
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    a_workflow()
    systems.sends["one"] = [desk.succeeded(number="N-1")]
    return desk.order()


def _place(api: Api, order: Order, *, key: str = "", **body: Any) -> Any:
    body = {"scope": "order", "reason": "The address is being clarified.", **body}
    headers = {"Idempotency_Key": key} if key else {}
    return api.send("POST", f"/orders/{order.reference}/holds", body, **headers)


def _release(api: Api, hold_id: int, **body: Any) -> Any:
    return api.send("POST", f"/holds/{hold_id}/release", {"reason": "It is clear.", **body})


def _read(api: Api, path: str) -> Any:
    response = api.get(path)
    assert response.status_code == 200
    return json.loads(response.content)


def test_a_held_order_is_not_sent_says_why_and_goes_on_after_the_release(
    order: Order, systems: ScriptedSystems
) -> None:
    api = Api()
    response = _place(api, order)
    assert response.status_code == 201
    hold = json.loads(response.content)
    assert (hold["scope"], hold["name"]) == ("ORDER", order.reference)
    assert hold["placed_by"] == "client a-client"
    assert hold["in_flight"] == 0
    desk.drain()
    assert systems.actions() == []

    seen = _read(api, f"/orders/{order.reference}")
    assert [one["id"] for one in seen["holds"]] == [hold["id"]]
    (wait,) = seen["waiting"]
    assert wait["kept_by"] == "hold"
    assert "“The address is being clarified.”" in wait["reason"]
    assert "client a-client" in wait["reason"]
    assert wait["until"] is None
    assert _read(api, f"/orders/{order.reference}/holds")["holds"] == seen["holds"]

    released = json.loads(_release(api, hold["id"]).content)
    assert released["released_by"] == "client a-client"
    assert released["release_reason"] == "It is clear."
    assert _read(api, f"/orders/{order.reference}/holds") == {"holds": []}
    desk.drain()
    assert systems.actions() == ["one", "two"]


def test_an_item_is_named_by_its_id_and_a_task_by_its_key(systems: ScriptedSystems) -> None:
    a_workflow()
    order = desk.order(desk.item(item_id="left"), desk.item(item_id="right"))
    api = Api()
    item = json.loads(_place(api, order, scope="item", item="right").content)
    assert item["name"] == f"{order.reference}/2"
    task = json.loads(_place(api, order, scope="task", task="one@1").content)
    assert task["name"] == str(desk.tasks_of(order)["one@1"].pk)
    desk.drain()
    assert systems.actions() == []
    assert {one["id"] for one in _read(api, f"/orders/{order.reference}")["holds"]} == {
        item["id"],
        task["id"],
    }


def test_a_hold_ends_by_itself_at_the_time_it_names(
    order: Order, systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    api = Api()
    until = desk.now() + timedelta(hours=1)
    assert _place(api, order, until=until.isoformat()).status_code == 201
    (wait,) = _read(api, f"/orders/{order.reference}")["waiting"]
    assert wait["until"] == until.isoformat().replace("+00:00", "Z")
    clock(3601)
    assert _read(api, f"/orders/{order.reference}")["holds"] == []
    operations.release_ended_holds()
    desk.drain()
    assert systems.actions() == ["one", "two"]


def test_the_same_key_places_one_hold_and_repeats_the_answer(order: Order) -> None:
    api = Api()
    first, second = _place(api, order, key="k-1"), _place(api, order, key="k-1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert json.loads(first.content) == json.loads(second.content)
    assert second["Idempotent-Replayed"] == "true"
    assert Hold.objects.count() == 1
    assert problem(_place(api, order, key="k-1", reason="Another."))["code"] == (
        "idempotency.key_reused"
    )
    other = desk.order()
    assert problem(_place(api, other, key="k-1"))["code"] == "idempotency.key_reused"
    assert problem(_place(api, order, key="two words"))["code"] == "idempotency.key_invalid"
    assert Hold.objects.count() == 1


def test_releasing_twice_changes_nothing(order: Order) -> None:
    api = Api()
    hold = json.loads(_place(api, order).content)
    first = _release(api, hold["id"])
    second = _release(api, hold["id"], reason="Again.")
    assert (first.status_code, second.status_code) == (200, 200)
    assert json.loads(first.content) == json.loads(second.content)
    assert Operation.objects.filter(kind="release_hold").count() == 1


def test_orders_and_holds_of_others_are_not_there(order: Order) -> None:
    stranger, owner = Api(name="stranger"), Api()
    assert problem(_place(stranger, order))["code"] == "order.not_found"
    assert problem(stranger.get(f"/orders/{order.reference}/holds"))["code"] == "order.not_found"
    hold = json.loads(_place(owner, order).content)
    assert problem(_release(stranger, hold["id"]))["code"] == "hold.not_found"
    assert problem(_release(owner, 999_999))["code"] == "hold.not_found"
    target = operations.place_hold(
        scope=HoldScope.TARGET, name="alpha", reason="Maintenance.", actor=by("anna")
    )
    assert problem(_release(owner, target.hold_id or 0))["code"] == "hold.not_found"
    assert Hold.objects.filter(released_at=None).count() == 2


def test_what_an_operator_holds_a_client_does_not_release(order: Order) -> None:
    api = Api()
    placed = operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="It may be fraud.", actor=by("anna")
    )
    assert [one["placed_by"] for one in _read(api, f"/orders/{order.reference}")["holds"]] == [
        "anna"
    ]
    refused = problem(_release(api, placed.hold_id or 0))
    assert refused["code"] == "hold.placed_by_another"
    assert "anna" in refused["detail"]
    assert Hold.objects.get().released_at is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"reason": ""}, "request.invalid"),
        ({"reason": "  \n"}, "request.invalid"),
        ({"scope": "target"}, "request.invalid"),
        ({"scope": "item"}, "request.invalid"),
        ({"scope": "order", "item": "1"}, "request.invalid"),
        ({"scope": "task", "item": "1"}, "request.invalid"),
        ({"until": "tomorrow"}, "request.invalid"),
        ({"untill": None}, "request.invalid"),
        ({"until": "2020-01-01T00:00:00Z"}, "hold.would_be_over"),
        ({"scope": "item", "item": "9"}, "hold.nothing_to_hold"),
        ({"scope": "task", "task": "nine@1"}, "hold.nothing_to_hold"),
    ],
)
def test_what_can_not_be_held_is_refused_with_the_reason(
    order: Order, body: dict[str, Any], code: str
) -> None:
    assert problem(_place(Api(), order, **body))["code"] == code
    assert not Hold.objects.exists()


def test_an_order_that_is_over_can_not_be_held(order: Order) -> None:
    desk.drain()
    assert problem(_place(Api(), order))["code"] == "hold.order_is_over"


def test_placing_and_releasing_need_a_key_that_may_write(order: Order) -> None:
    reader = Api(scopes=(Scope.ORDERS_READ,))
    assert problem(_place(reader, order))["code"] == "auth.scope_missing"
    hold = json.loads(_place(Api(), order).content)
    assert problem(_release(reader, hold["id"]))["code"] == "auth.scope_missing"
    assert problem(_release(Api(), hold["id"], reason=" "))["code"] == "request.invalid"


def test_the_audit_trail_tells_of_both(order: Order) -> None:
    api = Api()
    hold = json.loads(_place(api, order).content)
    _release(api, hold["id"])
    entries = _read(api, f"/orders/{order.reference}/timeline")["entries"]
    told = [(one["name"], one["actor"]) for one in entries if one.get("entity") == "hold"]
    assert told == [("place_hold", "client a-client"), ("release_hold", "client a-client")]


def test_an_order_says_which_cases_are_open(order: Order, systems: ScriptedSystems) -> None:
    systems.sends["one"] = [desk.rejected("no_stock")]
    desk.drain()
    (case,) = _read(Api(), f"/orders/{order.reference}")["cases"]
    assert (case["category"], case["severity"]) == ("REFUSED", "MEDIUM")
    assert "alpha does not do it" in case["title"]
    assert case["opened_at"] < case["due_at"]


def test_a_hold_that_can_not_be_placed_at_the_moment_is_to_be_asked_for_again(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api()
    placed = json.loads(_place(api, order).content)

    def busy(_: Any) -> None:
        raise GateBusy("A worker has stopped in the middle of a claim; try again.")

    with monkeypatch.context() as patched:
        patched.setattr(holds, "close_gate", busy)
        for response in (_place(api, order, key="k"), _release(api, placed["id"])):
            assert (response.status_code, problem(response)["code"]) == (503, "hold.gate_busy")
            assert int(response["Retry-After"]) > 0
    assert Hold.objects.get().released_at is None
    assert _place(api, order, key="k").status_code == 201
