"""Asking what became of a command, by its idempotency key."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fulfillment.models import Attempt, Command
from oms.models import Order, Scope
from tests import desk
from tests.api import Api, a_workflow, problem
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    """Its first task succeeded at the second try, after its outcome had been unknown."""
    a_workflow()
    systems.sends["one"] = [desk.unknown("timeout")]
    systems.queries["one"] = [desk.unknown(), desk.succeeded(number="N-1")]
    systems.sends["two"] = [desk.rejected("no_stock")]
    order = desk.order()
    desk.drain()
    desk.advance(600)
    desk.drain()
    return order


def key_of(action: str) -> str:
    return Command.objects.get(action=action).idempotency_key


def read(key: str, **who: Any) -> dict[str, Any]:
    answer: dict[str, Any] = Api(**who).get(f"/commands/{key}").json()
    return answer


def test_a_key_tells_what_was_asked_and_how_every_attempt_ended(order: Order) -> None:
    document = read(key_of("one"))
    attempts = document.pop("attempts")
    created = document.pop("created_at")
    assert document == {
        "idempotency_key": key_of("one"),
        "order": order.reference,
        "task": "one@1",
        "target": "alpha",
        "action": "one",
        "revision": 1,
        "replaced": False,
        "state": "SUCCEEDED",
        "reason": "",
        "reference": "",
        "outputs": {"number": "N-1"},
    }
    assert [(a["number"], a["purpose"], a["outcome"], a["code"]) for a in attempts] == [
        (1, "SEND", "UNKNOWN", "timeout"),
        (2, "QUERY", "UNKNOWN", "timeout"),
        (3, "QUERY", "SUCCEEDED", ""),
    ]
    times = [created, *(time for a in attempts for time in (a["started_at"], a["finished_at"]))]
    assert times == sorted(times)


def test_what_is_in_doubt_is_told_as_such(systems: ScriptedSystems) -> None:
    a_workflow()
    desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown("timeout")))
    document = read(key_of("one"))
    assert (document["state"], document["outputs"]) == ("OUTCOME_UNKNOWN", None)
    assert "timeout" in document["reason"]


def test_what_was_refused_says_why(order: Order) -> None:
    document = read(key_of("two"))
    assert (document["state"], document["reason"]) == (
        "FAILED_FINAL",
        "no_stock: The target says no.",
    )


def test_what_is_on_the_wire_has_an_attempt_without_an_end(systems: ScriptedSystems) -> None:
    a_workflow()
    desk.order()
    desk.claim()
    document = read(key_of("one"))
    assert document["state"] == "DISPATCHED"
    (attempt,) = document["attempts"]
    assert (attempt["finished_at"], attempt["outcome"]) == (None, None)


def test_of_very_many_attempts_the_newest_are_shown(order: Order) -> None:
    first = Attempt.objects.earliest("number")
    Attempt.objects.bulk_create(
        Attempt(
            **{
                field.attname: getattr(first, field.attname)
                for field in Attempt._meta.concrete_fields
                if field.attname not in ("id", "number")
            },
            number=number,
        )
        for number in range(10, 250)
    )
    numbers = [attempt["number"] for attempt in read(key_of("one"))["attempts"]]
    assert numbers == list(range(50, 250))


def test_a_key_of_another_client_and_one_that_nobody_has_are_answered_alike(order: Order) -> None:
    somebody_else = Api(name="another-client")
    answers = [problem(somebody_else.get(f"/commands/{key}")) for key in (key_of("one"), "0" * 64)]
    assert {answer.pop("instance")[:17] for answer in answers} == {"/api/v1/commands/"}
    assert answers[0] == answers[1]
    assert (answers[0]["status"], answers[0]["code"]) == (404, "command.not_found")


@pytest.mark.parametrize("key", ["", "x", "0" * 63, "0" * 65, "A" * 64, "%00" * 64])
def test_what_is_no_key_is_at_no_address(order: Order, key: str) -> None:
    assert problem(Api().get(f"/commands/{key}"))["code"] == "request.not_found"


def test_a_key_with_the_scope_to_read_is_needed(order: Order) -> None:
    path = f"/commands/{key_of('one')}"
    assert Api().send("GET", path, authorization="").status_code == 401
    assert Api(scopes=(Scope.ORDERS_WRITE,)).get(path).status_code == 403
    assert Api(scopes=(Scope.ORDERS_READ,)).get(path).status_code == 200


def test_it_costs_the_same_however_many_attempts_there_were(order: Order) -> None:
    api = Api()
    costs = []
    for action in ("one", "two"):
        key = key_of(action)
        with CaptureQueriesContext(connection) as asked:
            api.get(f"/commands/{key}")
        costs.append(len(asked))
    assert costs[0] == costs[1]
