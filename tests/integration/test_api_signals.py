"""Milestones and signals over the API: they reach who waits, once, and nobody else's orders."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fulfillment.models import Signal
from oms.models import Order, Scope
from tests import desk
from tests.api import Api, problem
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def waiting_workflow(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "confirmed": desk.step(
                wait={"milestone": "slot_confirmed", "within": "P2D", "otherwise": "escalate"},
                outputs={"slot": "string"},
            ),
            "paid": desk.step(
                wait={
                    "signal": "paid",
                    "key": "${item.characteristics.invoice}",
                    "within": "P2D",
                    "otherwise": "escalate",
                },
            ),
            "ship": desk.task(
                after=["paid"],
                depends_on=[{"output": "confirmed.slot"}],
                input={"slot": "${tasks.confirmed.slot}"},
            ),
        }
    )


def order_of(name: str, **fields: Any) -> tuple[Api, Order]:
    """An order of the client with this name, submitted over the API."""
    api = Api(name=name)
    body = {
        "external_id": "A/1",
        "customer": {"id": "C-1"},
        "items": [
            {"action": "add", "offering": "thing", "characteristics": {"invoice": "INV/7"}},
        ],
        **fields,
    }
    return api, Order.objects.get(reference=json.loads(api.post(body).content)["id"])


def milestone(api: Api, order: Order, **body: Any) -> Any:
    body = {
        "name": "slot_confirmed",
        "event_id": "e-1",
        "payload": {"slot": "2026-09-01T08:00:00Z"},
        **body,
    }
    return api.send("POST", f"/orders/{order.reference}/milestones", body)


def signal(api: Api, **body: Any) -> Any:
    return api.send("POST", "/signals", {"name": "paid", "key": "INV/7", "event_id": "e-2", **body})


def test_a_milestone_and_a_signal_let_the_order_go_on(systems: ScriptedSystems) -> None:
    api, order = order_of("webshop")
    assert desk.states_of(order)["confirmed@1"] == "ACCEPTED"
    first = milestone(api, order, occurred_at="2026-08-30T10:00:00Z")
    assert (first.status_code, json.loads(first.content)) == (202, {"duplicate": False})
    assert signal(api).status_code == 202
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert [dict(sent.payload) for sent in systems.sent] == [{"slot": "2026-09-01T08:00:00Z"}]
    kept = Signal.objects.get(name="slot_confirmed")
    assert kept.occurred_at.isoformat() == "2026-08-30T10:00:00+00:00"


def test_what_is_reported_before_somebody_waits_is_found_later(systems: ScriptedSystems) -> None:
    assert signal(Api(name="webshop")).status_code == 202
    _, order = order_of("webshop")
    assert desk.states_of(order)["paid@1"] == "SUCCEEDED"


def test_an_event_counts_once_and_its_id_is_for_no_other(systems: ScriptedSystems) -> None:
    api, order = order_of("webshop")
    milestone(api, order)
    again = milestone(api, order, payload={"slot": "never"})
    assert (again.status_code, json.loads(again.content)) == (202, {"duplicate": True})
    assert desk.tasks_of(order)["confirmed@1"].outputs == {"slot": "2026-09-01T08:00:00Z"}
    assert Signal.objects.count() == 1
    other = signal(api, event_id="e-1")
    assert other.status_code == 409
    assert problem(other)["code"] == "signal.event_id_reused"


def test_another_client_s_signal_does_nothing(systems: ScriptedSystems) -> None:
    api, order = order_of("webshop")
    stranger, own = order_of("stranger")
    assert signal(stranger).status_code == 202
    assert desk.states_of(own)["paid@1"] == "SUCCEEDED"
    assert desk.states_of(order)["paid@1"] == "ACCEPTED"
    # The same event id of another client is another event.
    assert json.loads(signal(api).content) == {"duplicate": False}
    assert desk.states_of(order)["paid@1"] == "SUCCEEDED"


def test_another_client_s_order_can_t_be_reached(systems: ScriptedSystems) -> None:
    _, order = order_of("webshop")
    stranger = Api(name="stranger")
    answer = milestone(stranger, order)
    assert answer.status_code == 404
    assert problem(answer)["code"] == "order.not_found"
    # Nor by a key that looks like the subject of an order.
    assert signal(stranger, key=f"../{order.client_id}/INV/7").status_code == 202
    assert desk.states_of(order)["paid@1"] == "ACCEPTED"


def test_values_that_do_not_fit_are_taken_in_and_go_to_a_person(systems: ScriptedSystems) -> None:
    api, order = order_of("webshop")
    assert milestone(api, order, payload={"slot": 8}).status_code == 202
    task = desk.tasks_of(order)["confirmed@1"]
    assert task.state == "AWAITING_MANUAL"
    assert "'slot' should be string" in task.blocked_reason


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Not A Name"},
        {"event_id": ""},
        {"event_id": "two words"},
        {"occurred_at": "yesterday"},
        {"occurred_at": "2026-08-30T10:00:00"},
        {"payload": ["a list"]},
        {"misspelt": 1},
        {"name": None},
    ],
    ids=str,
)
def test_what_is_not_well_formed_is_refused(systems: ScriptedSystems, body: dict[str, Any]) -> None:
    api, order = order_of("webshop")
    answer = milestone(api, order, **body)
    assert answer.status_code == 400
    assert problem(answer)["code"] == "request.invalid"
    assert signal(api, key="").status_code == 400
    assert Signal.objects.count() == 0


def test_reporting_needs_the_scope_to_write(systems: ScriptedSystems) -> None:
    reader = Api(name="webshop", scopes=(Scope.ORDERS_READ,))
    assert signal(reader).status_code == 403
    assert Signal.objects.count() == 0
