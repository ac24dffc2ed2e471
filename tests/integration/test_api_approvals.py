"""Four eyes over the API: keys of people ask, see, approve, refuse and take back."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from fulfillment.actions import Action
from fulfillment.models import Approval, ApprovalState, Grant, Operation
from oms.models import Order
from tests import desk, people
from tests.api import Api, problem
from tests.desk import ScriptedSystems
from tests.integration.test_approvals import a_failed_charge, the_request

pytestmark = pytest.mark.django_db


@pytest.fixture
def charge(systems: ScriptedSystems) -> Order:
    return a_failed_charge(systems)


@pytest.fixture
def anna(charge: Order) -> Api:
    return Api(user=people.operator("anna", Action.TASK_RETRY))


@pytest.fixture
def paula(charge: Order) -> Api:
    return Api(user=people.operator("paula", Action.APPROVE_PAYMENT))


def ask(api: Api, order: Order, **changes: Any) -> int:
    answer = api.send(
        "POST",
        "/operations",
        {
            "action": "task.retry",
            "subject": the_request(order).subject,
            "reason": "The bank says it was a mistake of theirs.",
            **changes,
        },
    )
    assert answer.status_code == 202, answer.content
    number: int = answer.json()["approval"]["id"]
    return number


def decide(api: Api, number: int, verb: str, reason: str = "Seen.") -> Any:
    return api.send("POST", f"/approvals/{number}/{verb}", {"reason": reason})


def untouched(order: Order) -> bool:
    return (
        desk.states_of(order) == {"charge@1": "FAILED_FINAL"}
        and not Operation.objects.filter(kind="retry").exists()
    )


def test_it_is_asked_for_seen_and_approved(charge: Order, anna: Api, paula: Api) -> None:
    number = ask(anna, charge)
    assert untouched(charge)
    (listed,) = paula.get("/approvals?state=REQUESTED").json()["approvals"]
    assert (listed["id"], listed["may_decide"]) == (number, True)
    assert (listed["requested_by"], listed["order"]) == ("anna", charge.reference)
    assert anna.get(f"/approvals/{number}").json()["may_decide"] is False
    answer = decide(paula, number, "approve")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["state"], body["decided_by"], body["decision"]) == ("EXECUTED", "paula", "Seen.")
    assert Operation.objects.get(pk=body["record"]).kind == "retry"
    assert desk.states_of(charge) == {"charge@1": "READY"}


def test_it_is_refused_or_taken_back(charge: Order, anna: Api, paula: Api) -> None:
    number = ask(anna, charge)
    assert decide(paula, number, "refuse", "Call first.").json()["state"] == "REFUSED"
    number = ask(anna, charge)
    assert problem(decide(paula, number, "withdraw"))["code"] == "authority.denied"
    assert decide(anna, number, "withdraw").json()["state"] == "WITHDRAWN"
    assert untouched(charge)


def test_a_self_approval_is_refused(charge: Order) -> None:
    olga = Api(user=people.operator("olga", *people.EVERYTHING))
    answer = decide(olga, ask(olga, charge), "approve")
    assert (answer.status_code, problem(answer)["code"]) == (403, "authority.denied")
    assert untouched(charge)


def test_a_replayed_approval_is_refused(charge: Order, anna: Api, paula: Api) -> None:
    number = ask(anna, charge)
    decide(paula, number, "approve")
    answer = decide(paula, number, "approve")
    assert (answer.status_code, problem(answer)["code"]) == (409, "approval.not_open")
    assert Operation.objects.filter(kind="retry").count() == 1


def test_a_stale_version_is_refused(charge: Order, anna: Api, paula: Api) -> None:
    first, second = ask(anna, charge), ask(anna, charge, reason="Once more.")
    decide(paula, second, "approve")
    answer = decide(paula, first, "approve")
    assert (answer.status_code, problem(answer)["code"]) == (409, "operation.subject_changed")
    assert Approval.objects.get(pk=first).state == ApprovalState.STALE
    assert Operation.objects.filter(kind="retry").count() == 1


def test_what_was_looked_at_as_something_else_is_not_asked_for(charge: Order, anna: Api) -> None:
    answer = anna.send(
        "POST",
        "/operations",
        {
            "action": "task.retry",
            "subject": the_request(charge).subject,
            "reason": "Again.",
            "expected_version": "0123456789abcdef",
        },
    )
    assert (answer.status_code, problem(answer)["code"]) == (409, "operation.subject_changed")
    assert not Approval.objects.exists()


@pytest.mark.parametrize(
    ("actions", "scopes"),
    [
        ((), {}),
        ((Action.APPROVE_FINANCE, Action.APPROVE_SENIOR), {}),
        ((Action.APPROVE_PAYMENT,), {"regions": ["SG"]}),
        ((Action.APPROVE_PAYMENT,), {"domains": ["logistics"]}),
        ((Action.APPROVE_PAYMENT,), {"targets": ["biller"]}),
    ],
    ids=["no role", "another role", "another region", "another domain", "another target"],
)
def test_another_role_or_another_scope_is_refused(
    charge: Order, anna: Api, actions: tuple[Action, ...], scopes: dict[str, Any]
) -> None:
    number = ask(anna, charge)
    nina = Api(user=people.operator("nina", *actions, **scopes))
    for verb in ("approve", "refuse"):
        answer = decide(nina, number, verb)
        assert (answer.status_code, problem(answer)["code"]) in {
            (403, "authority.denied"),
            (404, "approval.unknown"),
        }
    assert untouched(charge)
    assert Approval.objects.get().state == ApprovalState.REQUESTED


def test_a_grant_taken_away_meanwhile_is_noticed(charge: Order, anna: Api, paula: Api) -> None:
    number = ask(anna, charge)
    Grant.objects.filter(user=User.objects.get(username="anna")).delete()
    answer = decide(paula, number, "approve")
    assert (answer.status_code, problem(answer)["code"]) == (409, "approval.not_open")
    assert untouched(charge)


def test_a_clients_key_has_nothing_to_do_with_approvals(charge: Order, anna: Api) -> None:
    number = ask(anna, charge)
    client = Api()
    for answer in (
        client.get("/approvals"),
        client.get(f"/approvals/{number}"),
        decide(client, number, "approve"),
    ):
        assert (answer.status_code, problem(answer)["code"]) == (403, "auth.key_of_a_client")
    assert untouched(charge)


def test_somebody_who_approves_nothing_sees_their_own_only(charge: Order, anna: Api) -> None:
    ask(anna, charge)
    nina = Api(user=people.operator("nina", Action.TASK_RETRY))
    assert nina.get("/approvals").json()["approvals"] == []
    assert len(anna.get("/approvals").json()["approvals"]) == 1


def test_an_approval_needs_a_reason(charge: Order, anna: Api, paula: Api) -> None:
    number = ask(anna, charge)
    assert problem(decide(paula, number, "approve", " "))["status"] == 400
    assert untouched(charge)
