"""`manage.py signals|manual|tasks`: what the edges of orders are fed with by hand."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from fulfillment.models import ManualTask, Operation, Signal
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    manual = {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Look at it.",
        "outcomes": {"approved": "proceed", "rejected": "refuse"},
        "within": "PT5H",
        "otherwise": "escalate",
    }
    late: dict[str, Any] = {"within": "PT5H", "otherwise": "escalate"}
    desk.target("alpha")
    desk.workflow(
        {
            "paid": desk.step(wait={"milestone": "paid", **late}, outputs={"amount": "number"}),
            "slot": desk.step(
                wait={"signal": "slot", "key": "${item.characteristics.place}", **late}
            ),
            "approve": desk.step(title="Approve it", manual=manual, fields={"limit": "integer"}),
            "ship": desk.task(after=["paid", "slot", "approve"]),
        }
    )
    order = desk.order(desk.item(characteristics={"place": "ADDR-7"}))
    desk.finish()
    return order


def test_milestones_and_signals_are_sent_by_hand_with_a_reason(order: Order) -> None:
    payload = ("--payload", '{"amount": 9.5}')
    told = run("signals", "send", "paid", order.reference, *payload, "--reason", "The bank rang.")
    assert "is taken in" in told
    run("signals", "send", "slot", order.reference, "--key", "ADDR-7", "--reason", "By phone.")
    assert desk.tasks_of(order)["paid@1"].outputs == {"amount": 9.5}
    assert desk.states_of(order)["slot@1"] == "SUCCEEDED"
    logged = Operation.objects.filter(kind="send_signal").order_by("pk")
    assert [one.reason for one in logged] == ["The bank rang.", "By phone."]
    listed = run("signals", "list").splitlines()
    assert len(listed) == 2
    assert f"slot                         key:{order.client_id}/ADDR-7 from by hand" in listed[0]
    assert run("signals", "list", "--waiting") == ""


def test_the_same_event_by_hand_is_taken_in_once(order: Order) -> None:
    send = ("signals", "send", "slot", order.reference, "--event-id", "e-1", "--reason", "x")
    run(*send, "--key", "ADDR-9")
    assert "reported before" in run(*send, "--key", "ADDR-9")
    with pytest.raises(CommandError, match="every event needs an id of its own"):
        run(*send, "--key", "ADDR-10")
    assert Signal.objects.count() == Operation.objects.count() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("send", "paid", "O-999999", "--reason", "x"), "There is no order O-999999"),
        (("send", "paid", "{order}"), "required: --reason"),
        (("send", "paid", "{order}", "--reason", "x", "--payload", "[]"), "write an object"),
        (("send", "paid", "{order}", "--reason", "x", "--payload", "{"), "is not JSON"),
        (
            ("send", "paid", "{order}", "--reason", "x", "--payload", '{"a": "\\u0000"}'),
            "no valid text",
        ),
    ],
)
def test_what_can_t_be_sent_says_why(
    order: Order, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        run("signals", *(one.replace("{order}", order.reference) for one in arguments))
    assert not Signal.objects.exists()


def test_manual_tasks_are_listed_and_decided(order: Order) -> None:
    manual = ManualTask.objects.get()
    (line,) = run("manual", "list", "--queue", "approvals").splitlines()
    assert f"{order.reference:10} Approve it: approved | rejected [limit]" in line
    assert run("manual", "list", "--role", "clerk") == ""
    pk = str(manual.pk)
    with pytest.raises(CommandError, match=r"values\.limit: 'limit' has to be entered"):
        run("manual", "decide", pk, "approved", "--reason", "x")
    with pytest.raises(CommandError, match=r"values\.limit: .* should be integer"):
        run("manual", "decide", pk, "approved", "--value", "limit=much", "--reason", "x")
    with pytest.raises(CommandError, match="has no outcome 'maybe'"):
        run("manual", "decide", pk, "maybe", "--reason", "x")
    with pytest.raises(CommandError, match="required: --reason"):
        run("manual", "decide", pk, "approved")
    told = run("manual", "decide", pk, "approved", "--value", "limit=5", "--reason", "Known.")
    assert told == "Approve it: approved.\n"
    assert desk.tasks_of(order)["approve@1"].outputs == {"limit": 5, "outcome": "approved"}
    assert run("manual", "list") == ""
    assert "approved by" in run("manual", "list", "--all")
    with pytest.raises(CommandError, match="was quicker, with approved"):
        run("manual", "decide", pk, "rejected", "--reason", "x")


def test_a_failed_task_is_tried_again(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    retry = ("tasks", "retry", order.reference, "one@1")
    with pytest.raises(CommandError, match="required: --reason"):
        run(*retry)
    assert run(*retry, "--reason", "Mended.") == "Runs again: one@1.\n"
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    with pytest.raises(CommandError, match="only what has failed for good"):
        run(*retry, "--reason", "Again.")
    with pytest.raises(CommandError, match="has no task 'two@1'"):
        run("tasks", "retry", order.reference, "two@1", "--reason", "x")
