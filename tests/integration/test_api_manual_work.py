"""Manual work over the API and at the console: people read, claim and decide it in their name."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.http import HttpResponse

from fulfillment.actions import Action
from fulfillment.models import Approval, ManualTask
from tests import by_hand, manual_work, people
from tests.api import Api
from tests.desk import ScriptedSystems
from tests.manual_work import the_one

pytestmark = pytest.mark.django_db
ALL = (
    Action.MANUAL_CLAIM,
    Action.MANUAL_RELEASE,
    Action.MANUAL_REASSIGN,
    Action.MANUAL_RESUME,
    Action.MANUAL_DECIDE,
)


def worker(name: str, *actions: Action) -> User:
    user = people.operator(name, *(actions or ALL))
    user.groups.add(Group.objects.get_or_create(name="manager")[0])
    return user


def operate(api: Api, action: Action, manual: ManualTask, **parameters: Any) -> HttpResponse:
    body = {
        "action": action.value,
        "subject": f"manual:{manual.pk}",
        "reason": "So it is.",
        "evidence": by_hand.EVIDENCE,
        "parameters": parameters,
    }
    return api.send("POST", "/operations", body)


def document(response: HttpResponse, status: int = 200) -> Any:
    assert response.status_code == status, response.content
    return json.loads(response.content)


def console(*words: str) -> str:
    told = StringIO()
    call_command("manual", *words, stdout=told)
    return told.getvalue()


def test_people_read_all_of_it_and_clients_what_their_workflows_ask(
    systems: ScriptedSystems,
) -> None:
    question = the_one(manual_work.asked())
    ann, client = Api(user=worker("ann")), Api()
    (listed,) = document(ann.get("/manual-work?queue=approvals"))["manual_tasks"]
    assert (listed["id"], listed["origin"], listed["claimed_by"]) == (
        question.pk,
        "WORKFLOW",
        None,
    )
    assert document(ann.get(f"/manual-work/{question.pk}"))["instructions"] == "Is it worth it?"
    assert document(ann.get("/manual-work?state=DECIDED"))["manual_tasks"] == []
    document(ann.get("/manual-work/0"), 404)
    document(ann.get("/manual-tasks"), 403)
    document(client.get("/manual-work"), 403)
    document(Api(user=people.operator("eve")).get("/manual-work"), 403)
    assert len(document(client.get("/manual-tasks"))["manual_tasks"]) == 1


def test_what_has_gone_wrong_is_not_the_client_s(systems: ScriptedSystems) -> None:
    order = manual_work.without_its_input(systems)
    repair, client = the_one(order), Api()
    ann = Api(user=people.operator("ann", *ALL))
    (listed,) = document(ann.get("/manual-work?origin=REPAIR"))["manual_tasks"]
    assert (listed["id"], listed["trouble"]) == (repair.pk, "INPUT")
    assert document(client.get("/manual-tasks"))["manual_tasks"] == []
    document(client.get(f"/manual-tasks/{repair.pk}"), 404)
    decision = {"outcome": "REPAIRED", "reason": "It is there."}
    document(client.send("POST", f"/manual-tasks/{repair.pk}/decision", decision), 404)
    assert document(client.get(f"/orders/{order.reference}"))["manual_tasks"] == []


def test_it_is_claimed_and_decided_over_the_api(systems: ScriptedSystems) -> None:
    manual = the_one(manual_work.asked())
    ann, bob = Api(user=worker("ann")), Api(user=worker("bob"))
    done = document(operate(ann, Action.MANUAL_CLAIM, manual))
    assert "ann has it now" in done["told"]
    refused = document(operate(bob, Action.MANUAL_DECIDE, manual, outcome="approved"), 409)
    assert refused["code"] == "manual.claimed"
    assert "ann has it since" in refused["detail"]
    wrong = operate(ann, Action.MANUAL_DECIDE, manual, outcome="asked")
    assert document(wrong, 400)["errors"][0]["path"] == "question"
    document(operate(ann, Action.MANUAL_DECIDE, manual, outcome="asked", question="Why?"))
    document(operate(ann, Action.MANUAL_RESUME, manual, answer={"because": "so"}))
    document(operate(ann, Action.MANUAL_DECIDE, manual, outcome="approved"))
    manual.refresh_from_db()
    assert (str(manual.state), manual.decided_by) == ("DECIDED", "ann")


def test_a_forged_decision_is_refused_and_changes_nothing(systems: ScriptedSystems) -> None:
    manual = the_one(manual_work.asked())
    eve = Api(user=people.operator("eve", *ALL))
    before = by_hand.everything()
    for action, more in (
        (Action.MANUAL_CLAIM, {}),
        (Action.MANUAL_DECIDE, {"outcome": "approved"}),
        (Action.MANUAL_DECIDE, {"outcome": "waived"}),
    ):
        assert document(operate(eve, action, manual, **more), 403)["code"] == "authority.denied"
    changed = set(by_hand.differing(before)) - {"oms_apikey"}
    assert changed == set()


def test_waiving_over_the_api_asks_for_an_approval(systems: ScriptedSystems) -> None:
    manual = the_one(manual_work.asked())
    rob = Api(user=worker("rob", *ALL, Action.TASK_WAIVE))
    document(operate(rob, Action.MANUAL_DECIDE, manual, outcome="waived"), 202)
    assert Approval.objects.get().action == "manual.decide"
    assert str(the_one_again(manual).state) == "OPEN"


def the_one_again(manual: ManualTask) -> ManualTask:
    return ManualTask.objects.get(pk=manual.pk)


def test_the_console_takes_gives_and_decides(systems: ScriptedSystems) -> None:
    manual = the_one(manual_work.asked())
    worker("ann")
    worker("bob")
    number = str(manual.pk)
    told = console("claim", number, "--reason", "Mine.", "--as", "ann")
    assert "has it now" in told
    assert number in console("list", "--mine", the_one_again(manual).claimed_by)
    with pytest.raises(CommandError, match="has it since"):
        console("decide", number, "approved", "--reason", "x", "--as", "bob")
    console("reassign", number, "--to", "bob", "--reason", "He knows.", "--as", "ann")
    assert the_one_again(manual).claimed_by == "bob"
    console("reassign", number, "--queue", "legal", "--reason", "They know.", "--as", "ann")
    told = console("decide", number, "asked", "--question", "Why?", "--reason", "x", "--as", "bob")
    assert "the customer was asked" in told
    assert "awaits customer" in console("list")
    console("resume", number, "--answer", "because=so", "--reason", "Rung.", "--as", "bob")
    assert the_one_again(manual).context["answer"] == {"because": "so"}
    console("decide", number, "approved", "--reason", "x", "--as", "bob")
    assert str(the_one_again(manual).state) == "DECIDED"


def test_what_needs_a_second_person_is_asked_for_at_the_console(systems: ScriptedSystems) -> None:
    manual = the_one(manual_work.asked())
    worker("rob", *ALL, Action.TASK_WAIVE)
    told = console(
        "decide",
        str(manual.pk),
        "waived",
        "--reason",
        "x",
        "--evidence",
        "Seen.",
        "--as",
        "rob",
    )
    assert "somebody else with approve.operations has to decide it" in told
    assert Approval.objects.count() == 1
