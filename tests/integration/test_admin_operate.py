"""What may be done, in the admin: shown to whoever may, previewed first, done as it was shown."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.models import (
    Approval,
    AuthorityDecision,
    FalloutCase,
    Hold,
    HoldScope,
    Operation,
    Plan,
    TargetSystem,
    Task,
)
from oms.models import Order
from tests import desk, people
from tests.api import Api
from tests.desk import ScriptedSystems, by
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def failed(systems: ScriptedSystems) -> Task:
    desk.target("alpha", domain="logistics")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order(region="ID")
    desk.drain()
    return desk.tasks_of(order)["one@1"]


def browser(name: str, *actions: Action, **scopes: Any) -> Client:
    """In which somebody is logged in who may read everything, and do these things."""
    user = people.operator(name, *actions, **scopes)
    user.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    return client


def form_of(action: Action, subject: str) -> str:
    return reverse("admin:fulfillment_operate", args=[action.value, subject])


def shown(response: HttpResponse, status: int = 200) -> str:
    text = response.content.decode()
    assert response.status_code == status, text[-3000:]
    return text


def seen_in(page: str) -> dict[str, str]:
    """What the second press of the button carries along."""
    return dict(re.findall(r'name="(seen|version)" value="([^"]*)"', page))


def test_a_page_shows_what_may_be_done_to_whoever_may_do_it(failed: Task) -> None:
    page = address_of(Task, "change", failed.pk)
    retry = form_of(Action.TASK_RETRY, f"task:{failed.pk}")
    hold = form_of(Action.HOLD_PLACE, f"task:{failed.pk}")
    for name, actions, expected in (
        ("ann", (Action.TASK_RETRY,), (True, False)),
        ("bob", (Action.HOLD_PLACE,), (False, True)),
        ("eve", (), (False, False)),
    ):
        text = text_of(browser(name, *actions), page)
        assert (retry in text, hold in text) == expected, name


def test_what_makes_no_sense_now_is_not_shown(boss: Client, failed: Task) -> None:
    pause, resume = (
        form_of(action, "target:alpha") for action in (Action.TARGET_PAUSE, Action.TARGET_RESUME)
    )
    page = address_of(TargetSystem, "change", "alpha")
    before = text_of(boss, page)
    operations.pause_target(target="alpha", reason="x", actor=by("ann"))
    after = text_of(boss, page)
    assert (pause in before, resume in before) == (True, False)
    assert (pause in after, resume in after) == (False, True)


def test_every_page_of_what_something_may_be_done_to_leads_there(
    boss: Client, failed: Task
) -> None:
    placed = operations.place_hold(
        scope=HoldScope.ORDER, name=failed.fulfillment.order_reference, reason="x", actor=by("a")
    )
    order = Order.objects.get()
    for page, action, subject in (
        (address_of(Order, "change", order.pk), Action.SIGNAL_SEND, f"order:{order.reference}"),
        (address_of(Plan, "change", failed.plan_id), Action.HOLD_PLACE, f"plan:{failed.plan_id}"),
        (address_of(TargetSystem, "change", "alpha"), Action.TARGET_PAUSE, "target:alpha"),
        (
            address_of(Hold, "change", placed.hold_id),
            Action.HOLD_RELEASE,
            f"hold:{placed.hold_id}",
        ),
        *(
            (address_of(FalloutCase, "change", case.pk), Action.CASE_CLOSE, f"case:{case.pk}")
            for case in FalloutCase.objects.all()[:1]
        ),
    ):
        form = form_of(action, subject)
        assert form in text_of(boss, page), page
        assert "See what it would do" in text_of(boss, form)


def test_the_first_press_shows_and_the_second_does_it(failed: Task) -> None:
    ann = browser("ann", Action.TASK_RETRY)
    form = form_of(Action.TASK_RETRY, f"task:{failed.pk}")
    given = {"reason": "The street is open.", "evidence": ""}
    page = shown(ann.post(form, given))
    assert "Sent anew: one@1." in page
    assert "failed final" in page
    assert '→ </span><span class="desk-badge desk-moving">' in page
    assert not Operation.objects.exists()
    answer = ann.post(form, {**given, **seen_in(page)}, follow=True)
    assert "Sent anew: one@1." in shown(answer)
    assert answer.redirect_chain[-1][0] == address_of(Task, "change", failed.pk)
    record = Operation.objects.get()
    assert (record.actor, record.reason) == ("ann", "The street is open.")


def test_what_was_not_shown_is_not_done(failed: Task) -> None:
    ann = browser("ann", Action.TASK_RETRY)
    form = form_of(Action.TASK_RETRY, f"task:{failed.pk}")
    page = shown(ann.post(form, {"reason": "One."}))
    page = shown(ann.post(form, {"reason": "Another.", **seen_in(page)}))
    assert "What it would do now" in page
    assert not Operation.objects.exists()


def test_who_comes_second_is_told_who_was_first(failed: Task) -> None:
    ann, bob = (browser(name, Action.TASK_RETRY) for name in ("ann", "bob"))
    form = form_of(Action.TASK_RETRY, f"task:{failed.pk}")
    given = {"reason": "x"}
    of_ann, of_bob = (seen_in(shown(who.post(form, given))) for who in (ann, bob))
    assert ann.post(form, {**given, **of_ann}).status_code == 302
    late = shown(bob.post(form, {**given, **of_bob}), 409)
    assert "has changed since you looked at it" in late
    assert "by ann" in late
    assert Operation.objects.count() == 1


def test_who_may_not_gets_403_also_for_a_forged_request(failed: Task) -> None:
    form = form_of(Action.TASK_RETRY, f"task:{failed.pk}")
    eve = browser("eve", Action.HOLD_PLACE)
    assert eve.get(form).status_code == 403
    assert not AuthorityDecision.objects.filter(is_allowed=False).exists()
    assert eve.post(form, {"reason": "x"}).status_code == 403
    elsewhere = browser("ann", Action.TASK_RETRY, regions=["PH"])
    page = shown(elsewhere.post(form, {"reason": "x"}), 403)
    assert "does not cover region ID" in page
    denied = AuthorityDecision.objects.filter(is_allowed=False).order_by("pk")
    assert list(denied.values_list("actor", flat=True)) == ["eve", "ann"]
    assert not Operation.objects.exists()
    failed.refresh_from_db()
    assert failed.state == "FAILED_FINAL"


def test_what_is_not_there_is_not_found(boss: Client, failed: Task) -> None:
    assert boss.get(form_of(Action.TASK_RETRY, "task:1") + "%00").status_code == 404
    address = form_of(Action.TASK_RETRY, "task:1").replace("task.retry", "task.explode")
    assert boss.get(address).status_code == 404
    page = boss.post(form_of(Action.TASK_RETRY, "task:0"), {"reason": "x"})
    assert "There is no task 0" in shown(page, 404)


def test_what_needs_another_person_is_asked_for(systems: ScriptedSystems) -> None:
    desk.target("billing", domain="billing")
    desk.workflow({"bill": desk.task("billing")})
    systems.sends["bill"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["bill@1"]
    ann = browser("ann", Action.TASK_RETRY)
    form = form_of(Action.TASK_RETRY, f"task:{task.pk}")
    page = shown(ann.post(form, {"reason": "x"}))
    assert "Another person has to approve it: approve.payment." in page
    assert "Ask for approval" in page
    answer = shown(ann.post(form, {"reason": "x", **seen_in(page)}, follow=True))
    approval = Approval.objects.get()
    assert f"Approval {approval.pk} is asked for" in answer
    assert not Operation.objects.filter(kind="retry").exists()


def test_the_form_asks_for_what_the_operation_declares(boss: Client, failed: Task) -> None:
    form = form_of(Action.HOLD_PLACE, f"task:{failed.pk}")
    page = text_of(boss, form)
    for name in ("parameter-until", "parameter-clock_policy", "reason", "evidence"):
        assert f'name="{name}"' in page
    given = {"reason": "x", "parameter-until": "2020-01-01T08:00", "parameter-clock_policy": "STOP"}
    assert "which has passed" in shown(boss.post(form, given), 400)
    given["parameter-until"] = "2126-01-01T08:00"
    page = shown(boss.post(form, given))
    assert boss.post(form, {**given, **seen_in(page)}).status_code == 302
    hold = Hold.objects.get()
    assert (hold.clock_policy, f"{hold.until:%Y-%m-%d %H:%M}") == ("STOP", "2126-01-01 08:00")

    send = form_of(Action.SIGNAL_SEND, f"order:{failed.fulfillment.order_reference}")
    given = {"reason": "x", "parameter-name": "paid", "parameter-payload": "{"}
    assert "This is not JSON" in shown(boss.post(send, given))
    given["parameter-payload"] = '{"amount": 7}'
    assert seen_in(shown(boss.post(send, given)))


def test_a_preview_says_how_the_same_is_done_without_the_page(failed: Task) -> None:
    """What it says is typed in as it stands, and asks for what the form would."""
    anna = browser("anna", Action.HOLD_PLACE)
    form = form_of(Action.HOLD_PLACE, f"task:{failed.pk}")
    reason = 'It\'s <b>theirs</b>; they "look" at it.'
    assert "The same without this page" not in shown(anna.get(form))
    page = shown(anna.post(form, {"reason": reason, "parameter-clock_policy": "STOP"}))
    (command,) = re.findall(r"On a server: <code>(.*?)</code>", page, re.DOTALL)
    first, name, *words = shlex.split(unescape(command))
    assert (first, name) == ("manage.py", "operate")
    (body,) = re.findall(r'<pre class="desk-json">(.*?)</pre>', page, re.DOTALL)
    asked = json.loads(unescape(body))
    seen = Api(user=User.objects.get(username="anna")).send("POST", "/operations/preview", asked)
    assert seen.status_code == 200, seen.content
    assert not Hold.objects.exists()
    call_command(name, *words, stdout=StringIO())
    hold = Hold.objects.get()
    assert (hold.reason, hold.clock_policy) == (reason, "STOP")
    assert hold.placed_by.startswith("anna ")  # Then whose shell it was.
