"""Amendments over HTTP: every answer, and the words in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fulfillment.engine.plans import rest
from fulfillment.models import OutboxEvent, Transition
from oms.changes import settling
from oms.models import AmendmentRequest, Order, OrderRevision
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
                input={"quantity": "${item.quantity}"},
                compensation={
                    "action": "release",
                    "input": {},
                    "impact": {"customer": "It takes a day longer."},
                },
            ),
            "build": desk.task(
                after=["reserve"],
                input={"colour": "${item.characteristics.colour}"},
                point_of_no_return={"kind": "hard", "reason": "It is built to measure."},
            ),
            "ship": desk.task(after=["build"]),
        },
        activation="build",
    )
    return Api()


def line(item_id: str = "1", **fields: Any) -> dict[str, Any]:
    values = {"action": "add", "offering": "thing", "characteristics": {"colour": "red"}}
    return {"item_id": item_id, **values, **fields}


def submitted(api: Api, systems: ScriptedSystems, *done: str) -> str:
    """An order of two lines; only these actions have been answered."""
    for action in {"reserve", "build", "ship"} - set(done):
        systems.sends[action] = [desk.failed(retry_after=timedelta(hours=1))] * 9
    answer = api.post(an_order(items=[line(), line("2")]))
    assert answer.status_code == 201, answer.content
    desk.drain()
    reference: str = answer.json()["id"]
    return reference


def body(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "version": fields.pop("version", 2),
        "reason": "The customer rang.",
        **({"mode": fields.pop("mode")} if "mode" in fields else {}),
        "order": an_order(items=list(items), **fields),
    }


def amend(api: Api, order: str, wanted: dict[str, Any], query: str = "", **headers: str) -> Any:
    return api.send("POST", f"/orders/{order}/amend{query}", wanted, **headers)


def test_a_preview_shows_every_task_and_changes_nothing(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems, "reserve")
    before = Transition.objects.count()
    answer = amend(api, order, body(line(quantity=3), line("3")), "?preview=true")
    assert answer.status_code == 200, answer.content
    shown = answer.json()
    assert Transition.objects.count() == before
    assert not AmendmentRequest.objects.exists()
    assert not OrderRevision.objects.exists()
    assert (shown["version"], shown["mode"], shown["possible"]) == (2, "amend", True)
    assert shown["change"] == {
        "order": ["items"],
        "items": {"1": ["quantity"]},
        "come": ["3"],
        "gone": ["2"],
    }
    becomes = {task["task"]: task["becomes"] for task in shown["tasks"]}
    assert becomes["reserve@1"] == "redone"
    assert becomes["reserve@2"] == "undone"
    assert becomes["reserve@3"] == "new"
    (undone,) = [task for task in shown["tasks"] if task["task"] == "reserve@2"]
    assert undone["undo"] == "alpha release"
    assert (undone["is_done"], undone["items"]) == (True, ["2"])
    assert undone["customer_impact"] == "It takes a day longer."
    nodes = {node["task"]: node["becomes"] for node in shown["graph"]["nodes"]}
    assert nodes == becomes
    assert {"from": "reserve@3", "to": "build@3", "type": "success"} in shown["graph"]["edges"]
    assert (shown["waits_for"], shown["refusals"], shown["offers"]) == ([], [], [])


def test_an_amendment_at_once(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems, "reserve")
    shown = amend(api, order, body(line(quantity=3)), "?preview=true").json()
    answer = amend(api, order, body(line(quantity=3)))
    assert answer.status_code == 200, answer.content
    done = answer.json()
    assert (done["number"], done["state"], done["chosen"]) == (1, "APPLIED", "amend")
    assert {name: done[name] for name in ("tasks", "charges", "change")} == {
        name: shown[name] for name in ("tasks", "charges", "change")
    }
    assert done["requested_by"] == "client a-client"
    document = api.get(f"/orders/{order}").json()
    assert document["version"] == 2
    assert [(one["item_id"], one["quantity"]) for one in document["items"]] == [("1", 3)]
    detail = api.get(f"/orders/{order}/amendments/1").json()
    assert [one["quantity"] for one in detail["order"]["items"]] == [3]
    assert [one["item_id"] for one in detail["replaced"]["items"]] == ["1", "2"]
    assert detail["href"] == f"/api/v1/orders/{order}/amendments/1"
    listed = api.get(f"/orders/{order}/amendments").json()["amendments"]
    assert [one["state"] for one in listed] == ["APPLIED"]
    entries = api.get(f"/orders/{order}/timeline?limit=1000").json()["entries"]
    told = [(one["name"], one["to"]) for one in entries if one.get("entity") == "amendment"]
    assert told == [("request", "ASSESSING"), ("apply", "APPLIED")]


def test_what_is_left_out_is_no_item_of_the_order(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems, "reserve")
    amend(api, order, body(line()))
    document = api.get(f"/orders/{order}").json()
    assert [one["item_id"] for one in document["items"]] == ["1"]
    assert document["fulfilment"]["partial"]["asset"]["missing"] == ["1"]
    hold = {"scope": "item", "item": "2", "reason": "Wait."}
    assert problem(api.send("POST", f"/orders/{order}/holds", hold))["code"] == (
        "hold.nothing_to_hold"
    )


def test_the_same_again_is_answered_again(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems, "reserve")
    first = amend(api, order, body(line(quantity=3)))
    second = amend(api, order, body(line(quantity=3)))
    assert (second.status_code, second.json()) == (200, first.json())
    keyed = amend(api, order, body(line(quantity=4), version=3), Idempotency_Key="k-1")
    again = amend(api, order, body(line(quantity=4), version=3), Idempotency_Key="k-1")
    assert again.json() == keyed.json()
    assert again["Idempotent-Replayed"] == "true"
    other = amend(api, order, body(line(quantity=5), version=3), Idempotency_Key="k-1")
    assert problem(other)["code"] == "idempotency.key_reused"
    assert AmendmentRequest.objects.count() == 2


def test_older_and_equal_versions(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems, "reserve")
    amend(api, order, body(line(quantity=3), version=4))
    outdated = problem(amend(api, order, body(line(quantity=5), version=3)))
    assert (outdated["status"], outdated["code"], outdated["version"]) == (
        *(409, "amendment.outdated"),
        4,
    )
    used = problem(amend(api, order, body(line(quantity=5), version=4)))
    assert (used["code"], used["amendment"]) == ("amendment.version_used", 1)


def test_behind_a_hard_point_of_no_return(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems, "reserve", "build")
    wanted = body(line(characteristics={"colour": "blue"}), line("2"))
    shown = amend(api, order, wanted, "?preview=true").json()
    assert not shown["possible"]
    found = problem(amend(api, order, wanted, Idempotency_Key="k-1"))
    assert (found["status"], found["code"]) == (409, "amendment.refused")
    assert found["refusals"] == shown["refusals"]
    assert [(one["code"], one["task"], one["items"]) for one in found["refusals"]] == [
        ("point_of_no_return", "build@1", ["1"])
    ]
    assert found["amendment"]["state"] == "DENIED"
    assert found["instance"] == f"/api/v1/orders/{order}/amend"
    again = amend(api, order, wanted, Idempotency_Key="k-1")
    assert (again.status_code, again["Idempotent-Replayed"]) == (409, "true")
    assert AmendmentRequest.objects.count() == 1
    assert api.get(f"/orders/{order}").json()["version"] == 1


def test_it_waits_for_what_is_under_way(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems)
    desk.advance(3700)
    claims = desk.claim(limit=2)
    answer = amend(api, order, body(line(quantity=3)))
    assert answer.status_code == 202, answer.content
    assert answer.json()["state"] == "ASSESSING"
    assert answer.json()["waits_for"] == ["reserve@1", "reserve@2"]
    newer = amend(api, order, body(line(quantity=4), version=3))
    assert (newer.status_code, newer.json()["number"]) == (202, 2)
    desk.settle(*[desk.result(claim, desk.succeeded()) for claim in claims])
    rest.look()
    states = [one["state"] for one in api.get(f"/orders/{order}/amendments").json()["amendments"]]
    assert states == ["SUPERSEDED", "APPLIED"]
    detail = api.get(f"/orders/{order}/amendments/2").json()
    assert (detail["waits_for"], detail["chosen"]) == ([], "amend")


def test_a_change_order_by_name(api: Api, systems: ScriptedSystems) -> None:
    desk.workflow(
        {"alter": desk.task()},
        offering="thing-changes",
        fulfils=[{"offering": "thing", "actions": ["modify"]}],
    )
    order = submitted(api, systems, "reserve", "build", "ship")
    over = problem(amend(api, order, body(line(quantity=3), line("2"))))
    assert (over["code"], over["offers"]) == ("amendment.order_is_over", ["change_order"])
    wanted = body(line(quantity=3), line("2"), mode="change_order")
    shown = amend(api, order, wanted, "?preview=true").json()
    assert (shown["mode"], shown["tasks"], shown["graph"]["nodes"]) == ("change_order", [], [])
    assert [
        (one["item_id"], one["action"], one["asset"]) for one in shown["change_order"]["items"]
    ] == [("1", "modify", f"{order}-1")]
    answer = amend(api, order, wanted)
    assert (answer.status_code, answer.json()["state"]) == (202, "WAITING_FOR_COMPLETION")
    settling.settle_due()
    detail = api.get(f"/orders/{order}/amendments/1").json()
    assert detail["state"] == "CHANGE_ORDERED"
    made = api.get(f"/orders/{detail['change_order']}").json()
    assert made["external_id"] == "X-1/v2"
    assert amend(api, order, wanted).json()["change_order"] == made["id"]


def test_a_refusal_offers_a_change_order_where_one_is_possible(
    api: Api, systems: ScriptedSystems
) -> None:
    desk.workflow(
        {"alter": desk.task()},
        offering="thing-changes",
        fulfils=[{"offering": "thing", "actions": ["modify"]}],
    )
    order = submitted(api, systems, "reserve", "build")
    wanted = body(line(quantity=3), line("2"))
    found = problem(amend(api, order, wanted))
    assert found["offers"] == ["change_order"]
    assert "change_order" in found["detail"]
    told = amend(api, order, {**wanted, "mode": "change_order"})
    assert (told.status_code, told.json()["chosen"]) == (202, "change_order")


def test_broken_rules_are_named_with_their_paths(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems)
    found = problem(
        amend(api, order, body(line(), line("2", offering="unheard-of"), external_id="Y"))
    )
    assert (found["status"], found["code"]) == (400, "amendment.invalid")
    assert {(one["code"], one["path"]) for one in found["errors"]} == {
        ("amendment.external_id_changed", "order.external_id"),
        ("offering.unknown", "order.items[1].offering"),
    }


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"version": 0}, "version"),
        ({"version": "2"}, "version"),
        ({"reason": " "}, "reason"),
        ({"mode": "magic"}, "mode"),
        ({"order": {}}, "order.external_id"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_fault_of_the_shape(
    api: Api, systems: ScriptedSystems, change: dict[str, Any], path: str
) -> None:
    order = submitted(api, systems)
    found = problem(amend(api, order, {**body(line()), **change}))
    assert (found["status"], found["code"]) == (400, "request.invalid")
    assert path in {error["path"] for error in found["errors"]}


def test_nobody_amends_or_reads_orders_of_others(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems)
    other = Api(name="another")
    for answer in (
        amend(other, order, body(line(quantity=3))),
        amend(other, order, body(line(quantity=3)), "?preview=true"),
        other.get(f"/orders/{order}/amendments"),
        other.get(f"/orders/{order}/amendments/1"),
    ):
        assert problem(answer)["code"] == "order.not_found"
    assert problem(api.get(f"/orders/{order}/amendments/7"))["code"] == "amendment.not_found"
    assert Order.objects.get().version == 1


def test_an_amendment_is_told_to_subscribers(api: Api, systems: ScriptedSystems) -> None:
    order = submitted(api, systems, "reserve")
    amend(api, order, body(line(quantity=3)))
    event = OutboxEvent.objects.get(event_type="OrderAmended")
    assert event.payload["version"] == 2
    assert event.payload["gone"] == ["2"]
