"""Orders over HTTP: submitting, replaying, listing, reading."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oms.models import Order, Scope, Submission
from tests import desk
from tests.api import Api, a_workflow, an_order, problem
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(systems: ScriptedSystems) -> Api:
    a_workflow()
    systems.sends["one"] = [desk.succeeded(number="N-1") for _ in range(50)]
    return Api()


def test_one_order_is_created_started_and_named(api: Api) -> None:
    response = api.post(an_order())
    assert response.status_code == 201
    body = response.json()
    order = Order.objects.get(external_id="X-1")
    assert body == {
        "id": order.reference,
        "external_id": "X-1",
        "state": "IN_PROGRESS",
        "faults": [],
        "href": f"/api/v1/orders/{order.reference}",
    }
    assert response["Location"] == body["href"]
    assert order.client.name == "a-client"


def test_everything_an_order_holds_comes_back_as_it_was_sent(api: Api) -> None:
    sent = an_order(
        customer={"id": "C-9", "name": "Åse", "tier": "gold", "email": "ase@example.org"},
        billing_account="BA-1",
        region="EU",
        channel="web",
        requested_at="2026-09-01T10:00:00+02:00",
        promised_at="2026-09-04T16:00:00Z",
        priority=7,
        items=[
            {
                "item_id": "line",
                "action": "add",
                "offering": "thing",
                "quantity": 3,
                "characteristics": {"deep": {"list": [1, 2.5, None, "ü"]}},
                "price": {"one_off": "10.5000", "recurring": "0.0001", "currency": "EUR"},
                "place": {"id": "SITE-1", "city": "Oslo"},
                "parties": [{"id": "P-1", "role": "installer", "name": "Kim"}],
                "items": [{"item_id": "child", "action": "add", "offering": "thing"}],
            },
            {
                "item_id": "other",
                "action": "add",
                "offering": "thing",
                "relations": [{"type": "used_with", "item_id": "child"}],
            },
        ],
    )
    reference = api.post(sent).json()["id"]
    body = api.get(f"/orders/{reference}").json()
    assert body["requested_at"] == "2026-09-01T08:00:00Z"
    for name in ("external_id", "customer", "billing_account", "region", "channel", "priority"):
        assert body[name] == sent[name]
    line, child, other = body["items"]
    for name in ("quantity", "characteristics", "price", "place", "parties"):
        assert line[name] == sent["items"][0][name]
    assert (child["item_id"], child["parent"]) == ("child", "line")
    assert other["relations"] == [{"type": "used_with", "item_id": "child"}]


def test_an_order_that_breaks_rules_is_kept_with_every_fault(api: Api) -> None:
    response = api.post(
        an_order(
            customer={"id": " "},
            items=[
                {"item_id": "1", "action": "add", "offering": "unheard-of"},
                {"item_id": "1", "action": "modify", "offering": "thing", "place": {"x": 1}},
            ],
        )
    )
    assert response.status_code == 201
    body = response.json()
    assert body["state"] == "REJECTED"
    assert [fault["code"] for fault in body["faults"]] == [
        "customer.missing",
        "offering.unknown",
        "offering.action_not_supported",
        "place.id_missing",
        "asset.missing",
        "item.id_repeated",
    ]
    document = api.get(f"/orders/{body['id']}").json()
    assert document["faults"] == body["faults"]
    assert document["progress"] == {"plan": None, "tasks": 0, "done": 0, "percent": 0}
    assert problem(api.get(f"/orders/{body['id']}/graph"))["code"] == "order.has_no_plan"


def test_an_external_id_is_used_once_per_client(api: Api) -> None:
    first = api.post(an_order()).json()
    again = problem(api.post(an_order(priority=3)))
    assert (again["status"], again["code"]) == (409, "order.external_id_used")
    assert again["order"]["id"] == first["id"]
    assert Api(name="another").post(an_order()).status_code == 201
    assert Order.objects.count() == 2


def test_many_orders_are_answered_one_by_one(api: Api) -> None:
    known = api.post(an_order("A")).json()
    response = api.post({"orders": [an_order("A"), an_order("B"), an_order("B"), an_order("C")]})
    assert response.status_code == 207
    results = response.json()["results"]
    assert [result["status"] for result in results] == [
        "duplicate",
        "created",
        "duplicate",
        "created",
    ]
    assert results[0]["order"]["id"] == known["id"]
    assert results[2]["order"]["id"] == results[1]["order"]["id"]
    assert api.post({"orders": [an_order("D"), an_order("E")]}).status_code == 201


def test_one_malformed_order_among_many_creates_none(api: Api) -> None:
    response = api.post({"orders": [an_order("A"), an_order("B", colour="red", items=[])]})
    found = problem(response)
    assert (found["status"], found["code"]) == (400, "request.invalid")
    assert {error["path"] for error in found["errors"]} == {"orders[1].colour", "orders[1].items"}
    assert not Order.objects.exists()


# --- Idempotency-Key ------------------------------------------------------------------------------


def test_the_same_key_and_body_replay_the_first_answer(api: Api) -> None:
    first = api.post(an_order(), Idempotency_Key="k-1")
    desk.drain()
    reordered = dict(reversed(list(an_order().items())))
    again = api.post(reordered, Idempotency_Key="k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert again["Location"] == first["Location"]
    assert Order.objects.count() == 1


def test_the_same_key_with_another_body_is_refused(api: Api) -> None:
    api.post(an_order(), Idempotency_Key="k-1")
    found = problem(api.post(an_order("X-2"), Idempotency_Key="k-1"))
    assert (found["status"], found["code"]) == (409, "idempotency.key_reused")
    assert Order.objects.count() == 1
    # Another client's keys are its own.
    assert Api(name="another").post(an_order("X-2"), Idempotency_Key="k-1").status_code == 201


def test_a_refusal_is_replayed_too(api: Api) -> None:
    api.post(an_order())
    first = problem(api.post(an_order(), Idempotency_Key="k-2"))
    again = problem(api.post(an_order(), Idempotency_Key="k-2"))
    assert first["code"] == again["code"] == "order.external_id_used"


def test_a_malformed_request_does_not_use_up_its_key(api: Api) -> None:
    assert api.post({"external_id": "X"}, Idempotency_Key="k-3").status_code == 400
    assert not Submission.objects.exists()
    assert api.post(an_order(), Idempotency_Key="k-3").status_code == 201


@pytest.mark.parametrize("key", ["", " ", "two words", "x" * 256, "tab\there"])
def test_a_key_that_no_header_should_carry_is_refused(api: Api, key: str) -> None:
    assert problem(api.post(an_order(), Idempotency_Key=key))["code"] == "idempotency.key_invalid"


# --- reading --------------------------------------------------------------------------------------


def test_progress_milestones_and_the_reason_of_a_wait_can_be_read(
    api: Api, systems: ScriptedSystems
) -> None:
    systems.sends["two"] = [desk.failed("busy")]
    reference = api.post(an_order()).json()["id"]
    desk.drain()
    body = api.get(f"/orders/{reference}").json()
    assert body["progress"] == {"plan": "RUNNING", "tasks": 2, "done": 1, "percent": 50}
    assert body["milestones"] == [{"name": "ready", "title": "It is ready", "reached_at": None}]
    (wait,) = body["waiting"]
    assert wait["task"] == "two@1"
    assert wait["state"] == "FAILED_RETRYABLE"
    assert "busy" in wait["reason"]
    assert wait["until"] is not None
    desk.advance(3600)
    desk.drain()
    body = api.get(f"/orders/{reference}").json()
    assert body["state"] == "COMPLETED"
    assert body["waiting"] == []
    assert body["milestones"][0]["reached_at"] is not None
    assert body["finished_at"] is not None


def test_a_blocked_order_says_what_a_person_has_to_do(api: Api, systems: ScriptedSystems) -> None:
    systems.sends["two"] = [desk.rejected("no_such_thing")]
    reference = api.post(an_order()).json()["id"]
    desk.drain()
    body = api.get(f"/orders/{reference}").json()
    assert body["progress"]["plan"] == "BLOCKED"
    assert "no_such_thing" in body["waiting"][0]["reason"]


def test_the_timeline_holds_every_transition_command_and_attempt_once_over_all_pages(
    api: Api, systems: ScriptedSystems
) -> None:
    systems.sends["two"] = [desk.failed(), desk.failed()]
    reference = api.post(an_order()).json()["id"]
    for _ in range(3):
        desk.drain()
        desk.advance(3600)
    whole = api.get(f"/orders/{reference}/timeline?limit=1000").json()
    assert whole["next"] is None
    kinds = [entry["kind"] for entry in whole["entries"]]
    assert kinds.count("command") == 2
    assert kinds.count("attempt") == 4
    sequences = [e["sequence"] for e in whole["entries"] if e["kind"] == "transition"]
    assert sequences == list(range(1, len(sequences) + 1))
    for limit in (1, 2, 3, 7):
        paged: list[Any] = []
        address = f"/orders/{reference}/timeline?limit={limit}"
        while address:
            page = api.get(address).json()
            paged += page["entries"]
            address = (page["next"] or "").removeprefix("/api/v1")
        assert sorted(map(json.dumps, paged)) == sorted(map(json.dumps, whole["entries"]))


def test_the_graph_shows_nodes_with_states_and_typed_edges(api: Api) -> None:
    reference = api.post(an_order()).json()["id"]
    desk.drain()
    graph = api.get(f"/orders/{reference}/graph").json()
    assert graph["state"] == "COMPLETED"
    assert [(node["task"], node["state"]) for node in graph["nodes"]] == [
        ("one@1", "SUCCEEDED"),
        ("two@1", "SUCCEEDED"),
    ]
    assert graph["nodes"][0]["outputs"] == {"number": "N-1"}
    assert {node["kind"] for node in graph["nodes"]} == {"command"}
    (edge,) = graph["edges"]
    assert (edge["from"], edge["to"], edge["type"], edge["output"]) == (0, 1, "output", "number")
    assert (edge["when"], edge["labels"]) == (None, [])


def test_the_list_pages_through_all_orders_newest_first(api: Api) -> None:
    api.post({"orders": [an_order(f"X-{number}") for number in range(7)]})
    seen: list[str] = []
    address = "/orders?limit=3"
    pages = 0
    while address:
        page = api.get(address).json()
        seen += [order["external_id"] for order in page["orders"]]
        address = (page["next"] or "").removeprefix("/api/v1")
        pages += 1
    assert seen == [f"X-{number}" for number in reversed(range(7))]
    assert pages == 3


def test_filters_narrow_the_list_and_stay_in_the_next_page(
    api: Api, systems: ScriptedSystems
) -> None:
    api.post(an_order("good", customer={"id": "C-7"}))
    desk.drain()
    api.post(an_order("bad", customer={"id": "C-7"}, items=[{"action": "add", "offering": "no"}]))
    api.post(an_order("running"))

    def found(query: str) -> list[str]:
        return [order["external_id"] for order in api.get(f"/orders?{query}").json()["orders"]]

    assert found("state=REJECTED") == ["bad"]
    assert found("state=REJECTED&state=COMPLETED") == ["bad", "good"]
    assert found("customer=C-7") == ["bad", "good"]
    assert found("external_id=running") == ["running"]
    assert found("submitted_before=2020-01-01T00:00:00Z") == []
    assert len(found("submitted_from=2020-01-01T00:00:00Z")) == 3
    assert found("stuck=true") == []
    assert len(found("stuck=false")) == 3
    assert (
        api.get("/orders?customer=C-7&limit=1")
        .json()["next"]
        .startswith("/api/v1/orders?customer=C-7&limit=1&after=O-")
    )


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=1&limit=2",
        "state=GONE",
        "after=7",
        "after=O-99999999999999999999",
        "customer=%00",
        "unknown=1",
        "submitted_from=yesterday",
        "submitted_from=2026-01-01T00:00:00",
        "stuck=perhaps",
    ],
)
def test_a_filter_that_can_not_be_read_is_a_clear_400(api: Api, query: str) -> None:
    found = problem(api.get(f"/orders?{query}"))
    assert (found["status"], found["code"]) == (400, "request.invalid")
    assert found["errors"][0]["path"].split("[")[0] == query.split("=")[0]


def test_a_page_behind_an_order_that_is_not_yours_is_a_clear_400(api: Api) -> None:
    theirs = Api(name="another").post(an_order("theirs")).json()["id"]
    for reference in (theirs, "O-999999"):
        found = problem(api.get(f"/orders?after={reference}"))
        assert (found["status"], found["code"]) == (400, "request.invalid")
        assert found["errors"][0]["path"] == "after"


def test_the_list_costs_the_same_for_one_order_and_for_fifty(
    api: Api, django_assert_num_queries: Any
) -> None:
    api.post(an_order("first"))
    with django_assert_num_queries(4):  # key, which orders, they, plans
        api.get("/orders")
    api.post({"orders": [an_order(f"X-{number}") for number in range(49)]})
    with django_assert_num_queries(4):
        assert len(api.get("/orders").json()["orders"]) == 50


def test_orders_of_other_clients_do_not_exist(api: Api) -> None:
    reference = api.post(an_order()).json()["id"]
    other = Api(name="another")
    assert other.get("/orders").json()["orders"] == []
    for address in ("", "/timeline", "/graph"):
        assert problem(other.get(f"/orders/{reference}{address}"))["code"] == "order.not_found"


def test_a_key_reads_and_writes_only_with_the_scope_for_it(api: Api) -> None:
    reader = Api(scopes=(Scope.ORDERS_READ,))
    writer = Api(scopes=(Scope.ORDERS_WRITE,))
    assert reader.get("/orders").status_code == 200
    assert problem(reader.post(an_order()))["code"] == "auth.scope_missing"
    assert writer.post(an_order()).status_code == 201
    assert problem(writer.get("/orders"))["code"] == "auth.scope_missing"


def test_an_e_mail_address_has_to_be_one() -> None:
    api = Api()
    a_workflow()
    for address in ("somebody", "a@b@c", "a@example.org\nBcc: b@example.org", "x" * 250 + "@a.io"):
        refused = api.post(an_order(customer={"id": "C-1", "email": address}))
        assert refused.status_code == 400
        assert [error["path"] for error in refused.json()["errors"]] == ["customer.email"]
    assert api.post(an_order(customer={"id": "C-1", "email": ""})).status_code == 201
