"""Manual tasks, signals and retries in the admin: found, understood, and done by a person."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.plans import signals
from fulfillment.engine.work import audit
from fulfillment.models import ManualTask, Operation, Plan, Signal, Task
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems, by
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db
_LIST = address_of(ManualTask, "changelist")
FIELDS: dict[str, Any] = {
    "reason": "string",  # Called like the form's own.
    "limit": "integer",
    "rate": {"type": "number", "optional": True},
    "urgent": {"type": "boolean", "optional": True},
    "lines": {"type": "list", "optional": True},
    "extra": {"type": "object", "optional": True},
}


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    desk.target("alpha")
    desk.workflow(
        {
            "approve": desk.step(
                title="Approve <b>it</b>",
                manual={
                    "queue": "approvals",
                    "role": "manager",
                    "instructions": "Look at the amount.",
                    "outcomes": {"too_much": "refuse", "approved": "proceed"},
                    "within": "PT5H",
                    "otherwise": "escalate",
                },
                fields=FIELDS,
            ),
            "ship": desk.task(after=["approve"]),
        }
    )
    order = desk.order(desk.item(characteristics={"colour": "<i>green</i>"}))
    desk.finish()
    return order


def decide(client: Client, **entered: Any) -> Any:
    page = f"{address_of(ManualTask, 'change', ManualTask.objects.get().pk)}"
    address = page.replace("/change/", "/decide/")
    given = {"outcome": "approved", "reason": "A known one.", "value-reason": "x", **entered}
    return client.post(address, given, follow=True)


def test_open_ones_stand_first_and_are_found_by_queue_and_order(boss: Client, order: Order) -> None:
    other = desk.order()
    operations.decide(
        manual_id=ManualTask.objects.get(fulfillment_id=order.fulfillment_id).pk,
        outcome="too_much",
        actor=by("ann"),
        reason="No.",
    )
    page = text_of(boss, _LIST)
    assert page.index(other.reference) < page.index(order.reference)
    assert "too much by ann" in page
    assert order.reference not in text_of(boss, f"{_LIST}?state__exact=OPEN&queue=approvals")
    assert other.reference not in text_of(boss, f"{_LIST}?q={order.reference}")
    assert other.reference not in text_of(boss, f"{_LIST}?role=clerk")


def test_its_page_says_what_to_do_and_shows_what_was_known(boss: Client, order: Order) -> None:
    manual = ManualTask.objects.get()
    page = text_of(boss, address_of(ManualTask, "change", manual.pk))
    asked = text_of(boss, address_of(ManualTask, "decide", manual.pk))
    for text in (page, asked):
        assert "Look at the amount." in text
        assert "Approve &lt;b&gt;it&lt;/b&gt;" in text
        assert "&lt;i&gt;green&lt;/i&gt;" in text
        assert "manager (queue approvals), until" in text
    assert address_of(ManualTask, "decide", manual.pk) in page
    for name in FIELDS:
        assert f'name="value-{name}"' in asked
    places = [asked.index(f'name="value-{name}"') for name in FIELDS]
    assert places == sorted(places)
    assert 'type="number"' in asked
    assert asked.index('value="too_much"') < asked.index('value="approved"')
    assert "What stands behind it is not done." in asked


def test_it_is_decided_with_typed_values(boss: Client, order: Order) -> None:
    entered = {
        "value-limit": "500",
        "value-rate": "0.5",
        "value-urgent": "false",
        "value-lines": "[1, 2]",
        "value-extra": '{"a": "b"}',
    }
    page = decide(boss, **entered).content.decode()
    assert ": approved." in page
    assert desk.tasks_of(order)["approve@1"].outputs == {
        "reason": "x",
        "limit": 500,
        "rate": 0.5,
        "urgent": False,
        "lines": [1, 2],
        "extra": {"a": "b"},
        "outcome": "approved",
    }
    logged = Operation.objects.get(kind="decide")
    assert (logged.actor, logged.reason) == ("boss", "A known one.")
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    again = text_of(boss, address_of(ManualTask, "decide", ManualTask.objects.get().pk))
    assert "It was decided by boss: approved." in again


@pytest.mark.parametrize(
    ("entered", "told"),
    [
        ({}, "has to be entered"),
        ({"value-limit": "many"}, "Enter a whole number."),
        ({"value-limit": "1", "value-rate": "nan"}, "Enter a number."),
        ({"value-limit": "1", "value-lines": "{}"}, "should be list, but is object"),
        ({"value-limit": "1", "value-lines": "[1"}, "This is not JSON"),
        ({"value-limit": "1", "value-lines": "[NaN]"}, "no valid text or number"),
        ({"value-limit": "1", "value-extra": '{"a": "\\u0000"}'}, "no valid text or number"),
        ({"value-limit": "1", "reason": " "}, "This field is required."),
        ({"value-limit": "1", "outcome": ""}, "has no outcome"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_and_nothing_is_decided(
    boss: Client, order: Order, entered: dict[str, str], told: str
) -> None:
    response = decide(boss, **entered)
    assert response.status_code == 200
    assert told in response.content.decode()
    assert ManualTask.objects.get().state == "OPEN"
    assert not Operation.objects.exists()


def test_a_refusal_needs_no_values(boss: Client, order: Order) -> None:
    decide(boss, outcome="too_much")
    assert desk.states_of(order)["approve@1"] == "FAILED_FINAL"


def test_who_comes_second_is_told_who_was_quicker(boss: Client, order: Order) -> None:
    manual = ManualTask.objects.get()
    operations.decide(manual_id=manual.pk, outcome="too_much", actor=by("ann"), reason="No.")
    page = decide(boss, **{"value-limit": "1"}).content.decode()
    assert "It was decided by ann: too much." in page
    assert Operation.objects.count() == 1


def test_deciding_needs_a_permission(client: Client, order: Order) -> None:
    reader = User.objects.create(username="reader", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_manualtask"))
    client.force_login(reader)
    manual = ManualTask.objects.get()
    page = text_of(client, address_of(ManualTask, "change", manual.pk))
    assert address_of(ManualTask, "decide", manual.pk) not in page
    assert decide(client, **{"value-limit": "1"}).status_code == 403
    people.operator("reader", Action.MANUAL_DECIDE)
    assert decide(client, **{"value-limit": "1"}).status_code == 403  # It is for others.
    assert str(ManualTask.objects.get().state) == "OPEN"
    reader.groups.add(Group.objects.get_or_create(name=manual.role)[0])
    assert decide(client, **{"value-limit": "1"}).status_code == 200
    assert ManualTask.objects.get().decided_by == "reader"


def test_it_is_taken_with_one_click_and_given_back(boss: Client, order: Order) -> None:
    manual = ManualTask.objects.get()
    take = address_of(ManualTask, "claim", manual.pk)
    boss_user = User.objects.get(username="boss")
    boss_user.groups.add(Group.objects.get_or_create(name=manual.role)[0])
    assert take in text_of(boss, f"{_LIST}?decided_at__isempty=1")
    assert boss.get(take).status_code == 405
    told = boss.post(take, follow=True).content.decode()
    assert "boss has it now" in told
    page = text_of(boss, f"{_LIST}?decided_at__isempty=1&whose=mine")
    assert manual.title[:7] in page
    assert ">you<" in page
    rival = people.operator("rival", Action.MANUAL_CLAIM, Action.MANUAL_DECIDE)
    rival.groups.add(Group.objects.get(name=manual.role))
    rival.user_permissions.add(Permission.objects.get(codename="view_manualtask"))
    other = Client()
    other.force_login(rival)
    late = other.post(take, follow=True).content.decode()
    assert "boss" in late
    assert "boss has it: it can" in text_of(other, address_of(ManualTask, "change", manual.pk))
    given = boss.post(address_of(ManualTask, "release", manual.pk), follow=True)
    assert "is anybody&#x27;s again" in given.content.decode()
    assert ManualTask.objects.get().claimed_by == ""


def test_who_is_not_of_the_role_sees_no_button_to_take_or_decide_it(
    client: Client, order: Order
) -> None:
    manual = ManualTask.objects.get()
    reader = people.operator("reader", Action.MANUAL_CLAIM, Action.MANUAL_DECIDE)
    reader.user_permissions.add(Permission.objects.get(codename="view_manualtask"))
    client.force_login(reader)
    take, decide_at = (address_of(ManualTask, verb, manual.pk) for verb in ("claim", "decide"))
    assert take not in text_of(client, _LIST)
    page = text_of(client, address_of(ManualTask, "change", manual.pk))
    assert take not in page
    assert decide_at not in page
    assert "that is for members of manager" in page
    client.post(take)
    assert ManualTask.objects.get().claimed_by == ""


def test_the_order_s_page_leads_to_what_is_to_be_decided(boss: Client, order: Order) -> None:
    page = text_of(boss, address_of(Order, "change", order.pk))
    assert address_of(ManualTask, "change", ManualTask.objects.get().pk) in page
    assert "manager has to decide: Approve &lt;b&gt;it&lt;/b&gt; (queue approvals), until" in page


def test_pages_of_tasks_without_a_target_answer(boss: Client, order: Order) -> None:
    task = desk.tasks_of(order)["approve@1"]
    page = text_of(boss, address_of(Task, "change", task.pk))
    assert "manager decides" in page
    assert "Sent 0 of" not in page
    assert address_of(Task, "change", task.pk) in text_of(boss, address_of(Task, "changelist"))
    plan = text_of(boss, address_of(Plan, "change", task.plan_id))
    assert address_of(Task, "change", task.pk) in plan


def test_the_picture_shows_kinds_conditions_elements_and_what_is_not_there(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "route": desk.step(
                decide=[{"when": "item.quantity > 5", "create": ["big"]}, {"otherwise": ["small"]}]
            ),
            "big": desk.task(title="Big one"),
            "small": desk.task(title="Small one"),
            "port": desk.task(
                title="Port it",
                for_each={"over": "${item.characteristics.parts}", "tolerate": 0.5},
            ),
        }
    )
    systems.sends["port"] = [desk.succeeded(), desk.rejected()]
    order = desk.order(desk.item(characteristics={"parts": [1, 2, 3, 4]}))
    desk.finish()
    page = text_of(boss, address_of(Order, "change", order.pk))
    assert "Big one" in page
    assert "not there" in page
    assert "3/4 done, 1 failed" in page
    assert ">item.quantity &gt; 5</text>" in page
    assert ">otherwise</text>" in page
    plan = desk.plan_of(order)
    listed = f"{address_of(Task, 'changelist')}?plan__id__exact={plan.pk}&node__exact="
    node = Task.objects.get(key="port@1[2]").node
    assert f"{listed.replace('&', '&amp;')}{node}" in page
    rows = text_of(boss, f"{listed}{node}")
    assert "port@1[2]" in rows
    assert "small@1" not in rows


def test_a_signal_s_page_leads_to_whoever_waits_or_has_waited(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    wait = {"milestone": "paid", "within": "PT5H", "otherwise": "escalate"}
    desk.workflow({"pay": desk.step(wait=wait), "ship": desk.task(after=["pay"])})
    order = desk.order()
    subject = signals.of_order(business_key=desk.client().business_key(order.external_id))
    signals.receive(
        source="client:7", event_id="e-1", name="paid", subject=subject, payload={"a": "<b>"}
    )
    page = text_of(boss, address_of(Signal, "change", Signal.objects.get().pk))
    assert address_of(Task, "change", desk.tasks_of(order)["pay@1"].pk) in page
    assert f"/admin/orders/{order.reference}" in page
    assert "&lt;b&gt;" in page
    found = text_of(boss, f"{address_of(Signal, 'changelist')}?q={subject}")
    assert subject in found


def test_a_failed_task_is_tried_again_with_a_reason(boss: Client, halfway: Order) -> None:
    task = desk.tasks_of(halfway)["two@1"]
    page = text_of(boss, address_of(Task, "change", task.pk))
    retry = address_of(Task, "retry", task.pk)
    assert retry in page
    form = boss.get(retry).headers["Location"]
    assert "This field is required." in boss.post(form, {"reason": ""}).content.decode()
    asked = {"reason": "In stock again."}
    seen = boss.post(form, asked).context
    shown = {"seen": seen["seen"], "version": seen["preview"].version}
    told = boss.post(form, asked | shown, follow=True).content.decode()
    assert "two@1" in told
    assert retry not in told
    desk.finish()
    halfway.refresh_from_db()
    assert halfway.state == "COMPLETED"
    refused = boss.post(form, {"reason": "Once more."})
    assert refused.status_code == 409
    assert "only what has failed for good" in refused.content.decode()
    boss.logout()
    watcher = User.objects.create(username="watcher", is_staff=True)
    watcher.user_permissions.add(Permission.objects.get(codename="view_task"))
    boss.force_login(watcher)
    assert boss.post(form, {"reason": "Mine."}).status_code == 403
    assert boss.get(retry).status_code == 403
