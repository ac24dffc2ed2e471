"""What is waited for where no target system is at work: times, reports, people, elements."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fulfillment import operations
from fulfillment.engine.dispatch import sweeping
from fulfillment.models import ManualTask, Task
from fulfillment.waits import waiting
from fulfillment.waits.waiting import Wait
from oms.models import Order
from tests import desk
from tests.api import Api
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]


def order_with(*items: Any, **tasks: Any) -> Order:
    desk.target("alpha")
    desk.workflow({**tasks, "last": desk.task(after=list(tasks))})
    order = desk.order(*items)
    desk.finish()
    return order


def the_wait(order: Order) -> Wait:
    (wait,) = waiting.waiting(fulfillment_ids=[order.fulfillment_id])[order.fulfillment_id]
    return wait


def report(**more: Any) -> dict[str, Any]:
    return {"milestone": "paid", "within": "PT1H", "otherwise": "escalate", **more}


def approval(**more: Any) -> dict[str, Any]:
    return {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Look at the amount.",
        "outcomes": {"approved": "proceed", "rejected": "refuse"},
        "within": "PT1H",
        "otherwise": "escalate",
        **more,
    }


def test_a_wait_for_a_time_says_until_when(systems: ScriptedSystems) -> None:
    wait = the_wait(order_with(rest=desk.step(wait={"delay": "PT1H"})))
    until = Task.objects.get(key="rest@1").not_before
    assert wait.reason == f"It waits until {until:%Y-%m-%d %H:%M:%S} UTC."
    assert (wait.until, wait.target, wait.sends, wait.maximum_attempts) == (until, "", 0, 0)


@pytest.mark.parametrize(
    ("otherwise", "then"),
    [("escalate", "a person is told"), ("fail", "it fails"), ("continue", "it goes on without")],
)
def test_a_wait_for_a_milestone_says_for_which_until_when_and_what_then(
    systems: ScriptedSystems, otherwise: str, then: str
) -> None:
    wait = the_wait(order_with(pay=desk.step(wait=report(otherwise=otherwise))))
    until = f"{wait.until:%Y-%m-%d %H:%M:%S} UTC"
    expected = f"It waits for the milestone paid to be reported, until {until}; then {then}."
    assert wait.reason == expected


def test_the_other_order_and_the_key_are_named(systems: ScriptedSystems) -> None:
    line = desk.item(characteristics={"other": "WEB/2"})
    key = "${item.characteristics.other}"
    order = order_with(line, pay=desk.step(wait=report(order=key)))
    assert "the milestone paid of order WEB/2 to be" in the_wait(order).reason
    signal = {"signal": "paid", "key": key, "within": "PT1H", "otherwise": "fail"}
    desk.workflow({"pay": desk.step(wait=signal)}, offering="other")
    order = desk.order(desk.item("other", characteristics={"other": "INV/2"}))
    assert "the signal paid about INV/2 to be" in the_wait(order).reason


def test_a_wait_that_nobody_has_ended_in_time_is_somebody_s(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = order_with(pay=desk.step(title="Payment", wait=report()))
    clock(3601)
    sweeping.sweep()
    wait = the_wait(order)
    assert wait.reason.startswith(
        "It waits for the milestone paid to be reported, or for a person to decide. "
        "Payment: paid has not been reported in time."
    )
    assert wait.until is None


def test_a_manual_task_says_who_decides_what_where_and_until_when(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = order_with(approve=desk.step(title="Approve it", manual=approval()))
    manual = ManualTask.objects.get()
    wait = the_wait(order)
    assert wait.reason == (
        "manager has to decide: Approve it (queue approvals), until "
        f"{manual.due_at:%Y-%m-%d %H:%M:%S} UTC; then somebody is told."
    )
    assert (wait.until, wait.manual_id) == (manual.due_at, manual.pk)
    clock(3601)
    sweeping.sweep()
    late = the_wait(order)
    assert late.reason == "manager should have decided by now: Approve it (queue approvals)."
    assert (late.until, late.manual_id) == (None, manual.pk)


def test_an_outcome_that_is_taken_without_a_decision_is_named(systems: ScriptedSystems) -> None:
    order = order_with(approve=desk.step(manual=approval(otherwise="rejected")))
    assert the_wait(order).reason.endswith("; then it is 'rejected'.")


def test_what_a_person_refused_says_who_and_why(systems: ScriptedSystems) -> None:
    order = order_with(approve=desk.step(manual=approval()))
    operations.decide(
        manual_id=ManualTask.objects.get().pk,
        outcome="rejected",
        actor=by("ann"),
        reason="Too much.",
    )
    assert the_wait(order).reason == (
        "It is over, and not begun again by itself. ann decided: rejected. Too much."
    )


def test_a_decision_that_can_t_be_made_is_for_a_person(systems: ScriptedSystems) -> None:
    rules = [{"when": "item.characteristics.size > 3", "create": ["big"]}, {"otherwise": []}]
    desk.target("alpha")
    desk.workflow({"route": desk.step(decide=rules), "big": desk.task()})
    wait = the_wait(desk.order())
    assert wait.reason.startswith("A person has to decide. The condition or value of route@1")


def fanned_out(systems: ScriptedSystems, elements: int = 10, **each: Any) -> Order:
    """Of ten elements three are done and one has failed."""
    desk.target("alpha", concurrency_limit=1)
    over = {"over": "${item.characteristics.parts}", "tolerate": 0.5, "at_once": 4, **each}
    desk.workflow({"enrich": desk.task(title="Enrich", for_each=over)})
    order = desk.order(desk.item(characteristics={"parts": list(range(elements))}))
    for outcome in (desk.succeeded(), desk.succeeded(), desk.rejected(), desk.succeeded()):
        (claim,) = desk.claim()
        desk.settle(desk.result(claim, outcome))
    return order


def test_a_fan_out_says_how_far_it_is(systems: ScriptedSystems) -> None:
    order = fanned_out(systems)
    waits = waiting.waiting(fulfillment_ids=[order.fulfillment_id])[order.fulfillment_id]
    whole = waits[-1]
    assert (whole.task, whole.title) == ("enrich@1", "Enrich")
    assert whole.reason == ("3 of 10 elements done, 1 failed; 4 under way, of at most 4 at once.")
    assert [wait.state for wait in waits[:-1]] == ["FAILED_FINAL", *["READY"] * 4]


def test_of_thousands_of_elements_some_are_named(systems: ScriptedSystems) -> None:
    order = fanned_out(systems, elements=200, at_once=100)
    waits = waiting.waiting(fulfillment_ids=[order.fulfillment_id])[order.fulfillment_id]
    assert len(waits) == 21
    assert waits[0].state == "FAILED_FINAL"


def test_more_orders_cost_no_more_queries(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "rest": desk.step(wait={"delay": "PT1H"}),
            "approve": desk.step(manual=approval()),
            "port": desk.task(for_each={"over": "${item.characteristics.parts}"}),
        }
    )
    line = desk.item(characteristics={"parts": [1, 2]})
    orders = [desk.order(line) for _ in range(6)]

    def cost(some: list[Order]) -> int:
        with CaptureQueriesContext(connection) as asked:
            found = waiting.waiting(fulfillment_ids=[order.fulfillment_id for order in some])
        assert all(len(waits) == 5 for waits in found.values())
        return len(asked)

    cost(orders)
    assert cost(orders[:1]) == cost(orders)


def test_the_order_document_and_its_graph_show_people_elements_and_branches(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha", concurrency_limit=1)
    desk.workflow(
        {
            "approve": desk.step(title="Approve it", manual=approval()),
            "route": desk.step(
                decide=[{"when": "item.quantity > 5", "create": ["big"]}, {"otherwise": ["small"]}]
            ),
            "big": desk.task(),
            "small": desk.task(),
            "port": desk.task(
                title="Port", for_each={"over": "${item.characteristics.parts}", "at_once": 2}
            ),
        }
    )
    order = desk.order(desk.item(characteristics={"parts": [1, 2, 3]}))
    for outcome in (desk.succeeded(), desk.succeeded()):
        (claim,) = desk.claim()
        desk.settle(desk.result(claim, outcome))
    seen = json.loads(Api().get(f"/orders/{order.reference}").content)
    (manual,) = seen["manual_tasks"]
    assert (manual["title"], manual["queue"], manual["outcomes"]["approved"]) == (
        "Approve it",
        "approvals",
        "proceed",
    )
    wait = next(wait for wait in seen["waiting"] if wait["kind"] == "manual")
    assert wait["manual_task"] == manual["id"]
    assert (wait["target"], wait["sends"], wait["maximum_attempts"]) == (None, None, None)
    (fan_out,) = seen["fan_outs"]
    assert {name: fan_out[name] for name in ("task", "total", "failed")} == {
        "task": "port@1",
        "total": 3,
        "failed": 0,
    }
    graph = json.loads(Api().get(f"/orders/{order.reference}/graph").content)
    nodes = {node["task"]: node for node in graph["nodes"]}
    assert (nodes["big@1"]["exists"], nodes["big@1"]["state"]) == (False, None)
    assert nodes["small@1"]["exists"]
    assert (nodes["route@1"]["kind"], nodes["route@1"]["target"]) == ("decision", None)
    each = next(node for node in graph["nodes"] if node["elements"])
    assert each["elements"]["total"] == 3
    assert sum(each["elements"]["states"].values()) == each["elements"]["started"]
    labels = {tuple(edge["labels"]) for edge in graph["edges"] if edge["type"] == "choice"}
    assert labels == {("big",), ("small",)}


def test_what_waits_for_its_window_says_when_that_opens(systems: ScriptedSystems) -> None:
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    opens = f"{(desk.now().hour + 3) % 24:02d}:00"
    closes = f"{(desk.now().hour + 5) % 24:02d}:00"
    window = {"days": days, "from": opens, "to": closes, "timezone": "UTC"}
    desk.target("alpha")
    desk.workflow({"install": desk.task(window=window)})
    wait = the_wait(desk.order())
    assert wait.reason.startswith("Its window opens at ")
    assert wait.reason.endswith(f"{opens}:00 UTC; it is sent then.")
    assert wait.until == Task.objects.get().not_before
