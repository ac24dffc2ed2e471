"""Operations over the API: people find, preview and do what may be done by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpResponse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.models import (
    Approval,
    AuthorityDecision,
    Hold,
    HoldScope,
    Operation,
    TargetCondition,
    Task,
)
from oms.models import Order
from tests import desk, people
from tests.api import Api, a_workflow, problem
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

REASON = "The carrier has opened the street for us."


@pytest.fixture
def failed(systems: ScriptedSystems) -> Task:
    """A task of a carrier that has failed for good, without effect."""
    desk.target("alpha", domain="logistics")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order(region="ID")
    desk.drain()
    return desk.tasks_of(order)["one@1"]


def api_of(name: str, *actions: Action, **scopes: Any) -> Api:
    return Api(user=people.operator(name, *actions, **scopes))


def operate(api: Api, action: str, subject: str, *, key: str = "", **more: Any) -> HttpResponse:
    headers = {"Idempotency_Key": key} if key else {}
    body = {"action": action, "subject": subject, "reason": REASON, **more}
    return api.send("POST", "/operations", body, **headers)


def document(response: HttpResponse, status: int = 200) -> Any:
    assert response.status_code == status, response.content
    return json.loads(response.content)


def test_every_operation_says_what_it_has_to_be_told(db: None) -> None:
    listed = document(api_of("ann").get("/operations"))["operations"]
    assert {one["action"] for one in listed} == {
        repair.action.value for repair in operations.every_repair()
    }
    retry = next(one for one in listed if one["action"] == "task.retry")
    assert retry["subjects"] == ["task"]
    assert retry["is_high_risk"] is False
    assert retry["approvals"] == [
        {"when": "where it charges or bills", "approved_by": "approve.payment"}
    ]
    hold = next(one for one in listed if one["action"] == "hold.place")
    assert hold["parameters"]["properties"]["clock_policy"]["description"]
    assert {"order", "task", "target", "customer"} <= set(hold["subjects"])


def test_what_is_offered_says_why_the_rest_is_not(failed: Task) -> None:
    api = api_of("ann", Action.TASK_RETRY, regions=["ID"])
    offered = document(api.get(f"/operations/offered?subject=task:{failed.pk}"))["operations"]
    by_action = {one["action"]: one for one in offered}
    assert by_action["task.retry"]["is_allowed"]
    assert by_action["task.retry"]["why_not"] is None
    assert not by_action["hold.place"]["is_allowed"]
    assert "the permission hold.place is missing" in by_action["hold.place"]["why_not"]
    assert not AuthorityDecision.objects.exists()

    found = problem(api.get("/operations/offered?subject=task:0"))
    assert (found["status"], found["code"]) == (404, "operation.subject_unknown")
    assert problem(api.get("/operations/offered?subject=moon:1"))["status"] == 404


def test_a_preview_changes_nothing_and_what_it_showed_is_what_is_done(
    failed: Task, systems: ScriptedSystems
) -> None:
    api = api_of("ann", Action.TASK_RETRY, regions=["ID"])
    body = {"action": "task.retry", "subject": f"task:{failed.pk}"}
    seen = document(api.send("POST", "/operations/preview", body))
    assert [(one["from"], one["to"]) for one in seen["transitions"] if one["entity"] == "task"]
    assert [command["target"] for command in seen["commands"]] == ["alpha"]
    failed.refresh_from_db()
    assert failed.state == "FAILED_FINAL"
    assert not Operation.objects.exists()

    done = document(operate(api, **body, expected_version=seen["version"]))
    assert (done["told"], done["before"], done["after"]) == (
        seen["told"],
        seen["before"],
        seen["after"],
    )
    record = Operation.objects.get(pk=done["record"])
    assert (record.kind, record.actor, record.reason) == ("retry", "ann", REASON)
    assert record.authority.startswith("grant ")
    desk.drain()
    failed.refresh_from_db()
    assert failed.state == "SUCCEEDED"


def test_who_may_not_is_told_what_is_missing_and_the_denial_is_on_record(failed: Task) -> None:
    for api, missing in (
        (api_of("eve"), "the permission task.retry is missing"),
        (api_of("ann", Action.TASK_RETRY, regions=["PH"]), "does not cover region ID"),
    ):
        for key in ("", "k-1"):
            found = problem(operate(api, "task.retry", f"task:{failed.pk}", key=key))
            assert (found["status"], found["code"]) == (403, "authority.denied")
            assert missing in found["detail"]
    assert AuthorityDecision.objects.filter(is_allowed=False).count() == 4
    failed.refresh_from_db()
    assert failed.state == "FAILED_FINAL"
    assert not Operation.objects.exists()


def test_a_key_of_a_client_operates_nothing(failed: Task) -> None:
    found = problem(operate(Api(), "task.retry", f"task:{failed.pk}"))
    assert (found["status"], found["code"]) == (403, "auth.key_of_a_client")


def test_who_comes_second_is_told_who_was_first_and_what_has_changed(failed: Task) -> None:
    ann, bob = (api_of(name, Action.TASK_RETRY) for name in ("ann", "bob"))
    seen = document(
        bob.send(
            "POST",
            "/operations/preview",
            {"action": "task.retry", "subject": f"task:{failed.pk}"},
        )
    )
    document(operate(ann, "task.retry", f"task:{failed.pk}"))
    late = problem(
        operate(bob, "task.retry", f"task:{failed.pk}", expected_version=seen["version"])
    )
    assert (late["status"], late["code"]) == (409, "operation.subject_changed")
    assert "by ann" in late["detail"]
    assert "by ann" in late["changed"]
    blind = problem(operate(bob, "task.retry", f"task:{failed.pk}"))
    assert (blind["status"], blind["code"]) == (409, "task.nothing_to_retry")
    assert Operation.objects.count() == 1


def test_what_was_given_wrongly_is_named_whole(failed: Task) -> None:
    api = api_of("ann", Action.HOLD_PLACE)
    found = problem(
        operate(
            api,
            "hold.place",
            f"task:{failed.pk}",
            parameters={"until": "tomorrow", "clock_policy": "WALK", "colour": "red"},
        )
    )
    assert (found["status"], found["code"]) == (400, "operation.parameters_invalid")
    assert {one["path"] for one in found["errors"]} == {"until", "clock_policy", "colour"}
    assert problem(operate(api, "task.explode", "task:1"))["code"] == "operation.unknown"
    assert problem(operate(api, "task.retry", f"task:{failed.pk}", reason=" "))["status"] == 400
    past = problem(
        operate(
            api, "hold.place", f"task:{failed.pk}", parameters={"until": "2020-01-01T00:00:00Z"}
        )
    )
    assert (past["status"], past["code"]) == (400, "fulfillment.hold_would_be_over")


def test_the_same_key_does_it_once_and_repeats_the_answer(failed: Task) -> None:
    api = api_of("ann", Action.TASK_RETRY)
    subject = f"task:{failed.pk}"
    first, second = (operate(api, "task.retry", subject, key="k-1") for _ in range(2))
    assert document(first) == document(second)
    assert second["Idempotent-Replayed"] == "true"
    assert Operation.objects.count() == 1
    other = problem(operate(api, "task.retry", subject, key="k-1", evidence="A call."))
    assert other["code"] == "idempotency.key_reused"


def test_what_needs_another_person_is_asked_for_and_done_when_they_approve(
    systems: ScriptedSystems,
) -> None:
    desk.target("billing", domain="billing")
    desk.workflow({"bill": desk.task("billing")})
    systems.sends["bill"] = [desk.rejected()]
    task = desk.tasks_of(desk.order())
    desk.drain()
    subject = f"task:{task['bill@1'].pk}"
    api = api_of("ann", Action.TASK_RETRY)
    asked = document(operate(api, "task.retry", subject), 202)["approval"]
    assert (asked["approved_by"], asked["requested_by"]) == ("approve.payment", "ann")
    assert document(operate(api, "task.retry", subject), 202)["approval"]["id"] == asked["id"]
    assert not Operation.objects.filter(kind="retry").exists()

    operations.approve(approval_id=asked["id"], actor=people.senior(), reason="Seen.")
    assert Approval.objects.get().state == "EXECUTED"
    assert Operation.objects.get(kind="retry").actor == "ann"


def test_a_client_s_retry_of_what_charges_is_refused_in_words_that_help(
    systems: ScriptedSystems,
) -> None:
    desk.target("payment", domain="payment")
    desk.workflow({"charge": desk.task("payment")})
    systems.sends["charge"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    path = f"/orders/{order.reference}/tasks/charge@1/retry"
    found = problem(Api().send("POST", path, {"reason": REASON}))
    assert (found["status"], found["code"]) == (403, "authority.denied")
    assert "a person has to ask for it, and another to approve" in found["detail"]
    assert AuthorityDecision.objects.get().is_allowed is False
    assert desk.states_of(order)["charge@1"] == "FAILED_FINAL"


def test_clients_decisions_about_their_own_orders_are_on_record(systems: ScriptedSystems) -> None:
    a_workflow()
    order = desk.order()
    api = Api()
    for path, body in (
        (f"/orders/{order.reference}/holds", {"scope": "order", "reason": "x"}),
        (f"/orders/{order.reference}/milestones", {"name": "paid", "event_id": "e-1"}),
        ("/signals", {"name": "paid", "key": "INV-1", "event_id": "e-2"}),
        (f"/orders/{order.reference}/cancel", {"reason": "A mistake."}),
    ):
        assert api.send("POST", path, body).status_code < 300, path
    asked = AuthorityDecision.objects.order_by("pk").values_list("action", "actor", "is_allowed")
    assert list(asked) == [
        (action, "client a-client", True)
        for action in ("hold.place", "signal.send", "signal.send", "order.cancel")
    ]


# --- holds, pauses, capacities, signals: what their previews say ----------------------------------


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    a_workflow()
    return desk.order()


def preview(action: Action, subject: str, **parameters: Any) -> operations.Preview:
    request = operations.Request(action=action, subject=subject, reason="", parameters=parameters)
    return operations.looked_at(actor=by("ann"), request=request).preview()


def test_the_preview_of_a_hold_says_what_it_would_keep_back(order: Order) -> None:
    desk.order(customer_id="C-2")
    for subject, tasks in (
        (f"order:{order.reference}", 1),
        (f"item:{order.reference}/1", 1),
        ("target:alpha", 2),
        ("action:alpha/one", 2),
        ("action:alpha/two", 0),
        ("customer:C-2", 1),
        (f"plan:{desk.plan_of(order).pk}", 1),
        (f"task:{order.reference}/one@1", 1),
        (f"task:{order.reference}/two@1", 0),
    ):
        seen = preview(Action.HOLD_PLACE, subject)
        assert seen.done.after["keeps_back"] == {"tasks": tasks, "orders": tasks}, subject
    assert not Hold.objects.exists()
    assert not Operation.objects.exists()


def test_the_preview_of_a_pause_says_what_it_would_keep_back(order: Order) -> None:
    seen = preview(Action.TARGET_PAUSE, "target:alpha")
    assert seen.done.after["keeps_back"] == {"tasks": 1, "orders": 1}
    assert TargetCondition.objects.get(pk="alpha").paused_at is None


def test_the_preview_of_a_release_says_what_goes_on(order: Order) -> None:
    placed = operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="x", actor=by("ann")
    )
    desk.drain()
    seen = preview(Action.HOLD_RELEASE, f"hold:{placed.hold_id}")
    assert seen.done.after["goes_on"] == {"tasks": 1, "orders": 1}
    assert Hold.objects.get().released_at is None


def test_a_second_pause_is_told_who_has_paused_it(order: Order) -> None:
    ann, bob = (api_of(name, Action.TARGET_PAUSE) for name in ("ann", "bob"))
    assert (
        "keeps back 1 task of 1 order"
        in document(operate(ann, "target.pause", "target:alpha"))["told"]
    )
    late = problem(operate(bob, "target.pause", "target:alpha"))
    assert (late["status"], late["code"]) == (409, "operation.already_so")
    assert "by ann" in late["detail"]
    assert "by ann" in late["changed"]


def test_a_signal_of_before_is_not_taken_in_twice(order: Order) -> None:
    api = api_of("ann", Action.SIGNAL_SEND)
    parameters = {"name": "paid", "event_id": "e-1", "payload": {"amount": 7}}
    subject = f"order:{order.reference}"
    document(operate(api, "signal.send", subject, parameters=parameters))
    late = problem(operate(api, "signal.send", subject, parameters=parameters))
    assert (late["status"], late["code"]) == (409, "operation.already_so")
    assert Operation.objects.filter(kind="send_signal").count() == 1
