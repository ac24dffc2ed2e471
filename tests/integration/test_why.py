"""Why an order is not moving: for every reachable wait the true cause, down to its root."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fulfillment import operations, stuck
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning
from fulfillment.models import FalloutCase, HoldScope, Plan, Resource, Task
from fulfillment.queries.why import Why, why
from fulfillment.states import Cause
from oms.models import Order, Scope
from oms.queries.reasons import reason_of
from tests import desk
from tests.api import Api, an_order
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
CUSTOMER = {"resource": "customer", "key": "${order.customer.id}"}


def a_shop(one: dict[str, Any] | None = None, **target: Any) -> None:
    """one → two → three."""
    desk.target("alpha", **target)
    desk.target("beta")
    desk.workflow(
        {
            "one": one or desk.task(),
            "two": desk.task("beta", after=["one"]),
            "three": desk.task("beta", after=["two"]),
        }
    )


def why_of(order: Order) -> Why:
    return why(fulfillment_id=order.fulfillment_id)


def held() -> Order:
    a_shop()
    order = desk.order()
    operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="The customer called.", actor=by("anna")
    )
    return order


def held_and_met() -> Order:
    order = held()
    assert desk.claim() == []
    return order


def paused() -> Order:
    a_shop()
    operations.pause_target(target="alpha", reason="They move house.", actor=by("anna"))
    return desk.order()


def left_alone() -> Order:
    a_shop(breaker_failures=1, breaker_pause=timedelta(minutes=5))
    order = desk.order()
    desk.systems.sends["one"] = [desk.failed()]
    desk.drain()
    desk.advance(10)
    return order


def rate_used_up() -> Order:
    a_shop(rate_per_second=0.001, rate_burst=1)
    desk.order()
    order = desk.order(customer_id="C-2")
    desk.drain()
    return order


def slots_used_up() -> Order:
    a_shop(concurrency_limit=1)
    desk.order()
    desk.claim()
    return desk.order(customer_id="C-2")


def on_the_wire() -> Order:
    a_shop()
    order = desk.order()
    desk.claim()
    return order


def after(outcome: Any, **target: Any) -> Callable[[], Order]:
    def made() -> Order:
        a_shop(**target)
        desk.systems.sends["one"] = [outcome]
        order = desk.order()
        desk.drain()
        return order

    return made


def locked() -> Order:
    a_shop(desk.task(locks=[CUSTOMER]))
    desk.order()
    desk.claim()
    order = desk.order()
    assert desk.claim() == []
    return order


def locked_for_the_order() -> Order:
    desk.target("alpha")
    desk.target("beta")
    tasks = {"one": desk.task(), "two": desk.task(after=["one"])}
    desk.workflow({**tasks, "three": desk.task("beta", after=["two"])}, locks=[CUSTOMER])
    desk.order()
    desk.claim()
    order = desk.order()
    assert desk.claim() == []
    return order


def unknown_and_paused() -> Order:
    order = after(desk.unknown(), reconcile_after=timedelta(hours=1))()
    operations.pause_target(target="alpha", reason="They move house.", actor=by("anna"))
    return order


def asked_in_vain() -> Order:
    order = asked()
    desk.advance(2 * 86400)
    sweeping.sweep()
    return order


def no_longer_held() -> Order:
    a_shop()
    order = desk.order()
    operations.place_hold(
        scope=HoldScope.ORDER,
        name=order.reference,
        reason="The customer called.",
        actor=by("anna"),
        until=desk.now() + timedelta(hours=1),
    )
    assert desk.claim() == []
    desk.advance(3700)
    return order


def waiting_for(wait: dict[str, Any]) -> Callable[[], Order]:
    def made() -> Order:
        a_shop(desk.step(wait=wait))
        return desk.order()

    return made


def asked() -> Order:
    manual = {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Look.",
        "within": "P1D",
        "otherwise": "escalate",
        "outcomes": {"approved": "proceed"},
    }
    a_shop(desk.step(manual=manual))
    return desk.order()


def the_customer() -> Order:
    wait = {"milestone": "confirmed", "within": "P9D", "otherwise": "escalate"}
    a_shop(desk.step(wait=wait, clock="stop"))
    return desk.order()


def shut() -> Order:
    now = desk.now()
    opens = (now + timedelta(hours=3)).strftime("%H:00")
    closes = (now + timedelta(hours=5)).strftime("%H:00")
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    window = {"days": days, "from": opens, "to": closes, "timezone": "UTC"}
    a_shop(desk.task(window=window))
    return desk.order()


def shut_when_it_is_tried_again() -> Order:
    now = desk.now()
    opens, closes = (f"{now + timedelta(hours=hours):%H}:00" for hours in (-1, 1))
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    window = {"days": days, "from": opens, "to": closes, "timezone": "UTC"}
    a_shop(desk.task(window=window))
    desk.systems.sends["one"] = [desk.failed(retry_after=timedelta(hours=3))]
    order = desk.order()
    desk.drain()
    return order


def input_missing() -> Order:
    a_shop(desk.task(input={"x": "${item.characteristics.size}"}))
    return desk.order()


def a_time_that_never_comes() -> Order:
    a_shop(
        desk.step(wait={"signal": "paid", "key": "K", "within": "PT1H", "otherwise": "escalate"})
    )
    order = desk.order()
    desk.advance(3700)
    sweeping.sweep()
    return order


EVERY_WAIT: dict[str, tuple[Callable[[], Order], Cause]] = {
    "about to be sent": (lambda: (a_shop(), desk.order())[1], Cause.TARGET),
    "held": (held, Cause.HOLD),
    "held, met by a claim": (held_and_met, Cause.HOLD),
    "target paused": (paused, Cause.PAUSED),
    "breaker open": (left_alone, Cause.BREAKER),
    "rate": (rate_used_up, Cause.RATE),
    "capacity": (slots_used_up, Cause.CAPACITY),
    "on the wire": (on_the_wire, Cause.CALL),
    "tried again later": (
        after(desk.failed(retry_after=timedelta(minutes=1))),
        Cause.RETRY,
    ),
    "report": (after(desk.accepted()), Cause.REPORT),
    "unknown outcome": (
        after(desk.unknown(), reconcile_after=timedelta(hours=1)),
        Cause.UNKNOWN_OUTCOME,
    ),
    "refused": (after(desk.rejected()), Cause.REPAIR),
    "only a person can tell": (
        after(desk.unknown(), idempotent=False, status_query=False),
        Cause.REPAIR,
    ),
    "lock": (locked, Cause.LOCK),
    "time": (waiting_for({"delay": "PT1H"}), Cause.TIME),
    "milestone": (
        waiting_for({"milestone": "paid", "within": "P1D", "otherwise": "escalate"}),
        Cause.MILESTONE,
    ),
    "milestone of another order": (
        waiting_for(
            {"milestone": "paid", "order": "NO-1", "within": "P1D", "otherwise": "escalate"}
        ),
        Cause.OTHER_ORDER,
    ),
    "signal": (
        waiting_for({"signal": "paid", "key": "K", "within": "P1D", "otherwise": "escalate"}),
        Cause.SIGNAL,
    ),
    "signal, too late": (a_time_that_never_comes, Cause.REPAIR),
    "a person": (asked, Cause.HUMAN),
    "the customer": (the_customer, Cause.CUSTOMER),
    "window": (shut, Cause.WINDOW),
    "window, after a failed attempt": (shut_when_it_is_tried_again, Cause.WINDOW),
    "workflow's own lock": (locked_for_the_order, Cause.LOCK),
    "asked about, target paused": (unknown_and_paused, Cause.PAUSED),
    "person, too late": (asked_in_vain, Cause.HUMAN),
    "held until its end, and a moment more": (no_longer_held, Cause.TARGET),
    "input missing": (input_missing, Cause.REPAIR),
}


@pytest.mark.parametrize("name", EVERY_WAIT)
def test_every_wait_is_named_by_its_true_cause(systems: ScriptedSystems, name: str) -> None:
    prepare, cause = EVERY_WAIT[name]
    order = prepare()
    found = why_of(order)
    assert found.chain[0].wait.task.startswith("one")
    # Where another order keeps the lock, that one's own wait is the root.
    assert found.chain[0].wait.cause == cause
    assert order.reference in found.sentence
    assert found.chain[0].behind == 2


def test_every_cause_is_reached_by_a_test() -> None:
    told = {cause for _, cause in EVERY_WAIT.values()}
    assert told == set(Cause) - {Cause.NONE, Cause.DEPENDENCY}


def test_every_cause_stands_in_the_description_of_the_api() -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    assert not [cause for cause in Cause if cause and f"`{cause}`" not in text]


def test_the_cause_is_stored_by_whoever_decides_it(systems: ScriptedSystems) -> None:
    order = locked()
    rows = Task.objects.filter(fulfillment_id=order.fulfillment_id).order_by("node")
    assert [row.waits_for for row in rows] == ["LOCK", "DEPENDENCY", "DEPENDENCY"]
    desk.drain()
    order = held_and_met_again()
    (one, *_) = Task.objects.filter(fulfillment_id=order.fulfillment_id).order_by("node")
    assert one.waits_for == "HOLD"


def held_and_met_again() -> Order:
    order = desk.order(customer_id="C-9")
    operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="The customer called.", actor=by("anna")
    )
    assert desk.claim() == []
    return order


def test_what_has_ended_waits_for_nothing(systems: ScriptedSystems) -> None:
    a_shop()
    order = desk.order()
    desk.drain()
    order.refresh_from_db()
    assert why_of(order).chain == ()
    assert set(Task.objects.values_list("waits_for", flat=True)) == {""}
    assert reason_of(order).sentence == f"{order.reference} waits for nothing: it is complete."


def test_the_chain_goes_down_to_what_the_keeper_of_the_lock_waits_for(
    systems: ScriptedSystems,
) -> None:
    """third waits for second, which waits for first, whose target has gone silent."""
    a_shop(desk.task(locks=[CUSTOMER]))
    first = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    second = desk.order()
    assert desk.claim() == []
    found = why_of(second)
    assert [(link.order_reference, str(link.wait.cause)) for link in found.chain] == [
        (second.reference, "LOCK"),
        (first.reference, "REPORT"),
    ]
    assert f"which {first.reference} (one@1) has since" in found.sentence
    assert "At the root of it: " in found.sentence
    assert found.remedies[0].action == "ask_owner"


def test_a_milestone_of_another_order_leads_to_that_order(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task()},
        offering="first",
        milestones={"ready": {"title": "Ready", "reached_by": "one", "shared": True}},
    )
    wait = {"milestone": "ready", "order": "FIRST", "within": "P1D", "otherwise": "escalate"}
    desk.workflow({"wait": desk.step(wait=wait), "go": desk.task(after=["wait"])})
    first = desk.order(desk.item("first"), external_id="FIRST")
    second = desk.order()
    operations.pause_target(target="alpha", reason="They move house.", actor=by("anna"))
    found = why_of(second)
    assert [(link.order_reference, str(link.wait.cause)) for link in found.chain] == [
        (second.reference, "OTHER_ORDER"),
        (first.reference, "PAUSED"),
    ]
    assert found.remedies[0].command == "targets resume alpha --reason REASON"


def test_orders_that_wait_for_each_other_are_told_and_the_chain_ends(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    waits = {
        name: {"milestone": "ready", "order": other, "within": "P1D", "otherwise": "escalate"}
        for name, other in (("a", "B"), ("b", "A"))
    }
    for name, wait in waits.items():
        desk.workflow(
            {"wait": desk.step(wait=wait), "go": desk.task(after=["wait"])},
            offering=name,
            milestones={"ready": {"title": "Ready", "reached_by": "go", "shared": True}},
        )
    first = desk.order(desk.item("a"), external_id="A")
    second = desk.order(desk.item("b"), external_id="B")
    found = why_of(first)
    assert found.is_circle
    assert [link.order_reference for link in found.chain] == [first.reference, second.reference]
    assert "These orders wait for each other" in found.sentence


def test_what_the_order_needs_goes_before_what_it_can_do_without(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"extra": desk.task(required=False), "needed": desk.task()})
    systems.sends["extra"] = [desk.rejected()]
    systems.sends["needed"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    found = why_of(order)
    assert found.chain[0].wait.task == "needed@1"


def test_the_api_tells_it_and_nothing_about_orders_of_others(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(locks=[{"resource": "pool", "key": "P"}])})
    mine, theirs = Api(name="mine"), Api(name="theirs")
    other = json.loads(theirs.post(an_order("T-1")).content)["id"]
    desk.claim()
    own = json.loads(mine.post(an_order("M-1")).content)["id"]
    assert desk.claim() == []
    answer = mine.get(f"/orders/{own}/why")
    told = json.loads(answer.content)
    assert answer.status_code == 200
    assert (told["waiting"], told["cause"]) == (True, "LOCK")
    assert "another order" in told["sentence"]
    assert other not in answer.content.decode()
    assert other not in mine.get(f"/orders/{own}").content.decode()
    assert mine.get(f"/orders/{other}/why").status_code == 404
    told = json.loads(theirs.get(f"/orders/{other}/why").content)
    assert (told["cause"], told["remedies"]) == ("CALL", [])


def test_the_command_prints_the_sentence_the_chain_and_what_helps(
    systems: ScriptedSystems,
) -> None:
    order = held()
    printed = io.StringIO()
    call_command("why", order.reference, stdout=printed)
    assert "Held (order:" in printed.getvalue()
    assert "manage.py holds release" in printed.getvalue()


@pytest.mark.parametrize("name", ["O-999999", "o-1", "", "WEB-1"])
def test_an_order_that_is_not_there_is_told_of(systems: ScriptedSystems, name: str) -> None:
    with pytest.raises(CommandError, match="There is no order .*; write it as O-17"):
        call_command("why", name)


@pytest.mark.parametrize(
    "name", ["O-999999", "O-1%00", "o-1", "O-99999999999999999999999", "O-1/.."]
)
def test_the_api_knows_no_order_of_a_name_that_is_none(systems: ScriptedSystems, name: str) -> None:
    assert Api().get(f"/orders/{name}/why").status_code == 404


def test_who_may_not_read_orders_is_not_told_why(systems: ScriptedSystems) -> None:
    order = held()
    answer = Api(name="writer", scopes=(Scope.ORDERS_WRITE,)).get(f"/orders/{order.reference}/why")
    assert answer.status_code == 403


def test_it_costs_the_same_for_many_tasks(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(locks=[{"resource": "pool", "key": "P"}])})
    Resource.objects.filter(name="pool").update(capacity=1)
    few, many = desk.order(), desk.order(*(desk.item(item_id=str(n)) for n in range(30)))
    desk.claim(limit=50)
    counts = []
    for order in (few, many):
        with CaptureQueriesContext(connection) as queries:
            why_of(order)
        counts.append(len(queries))
    # Whoever waits for a lock takes one order more to look at.
    assert counts[1] <= 2 * counts[0] + 2
    scanning.scan()


@pytest.mark.parametrize("name", EVERY_WAIT)
def test_a_case_of_a_stuck_order_says_the_same(systems: ScriptedSystems, name: str) -> None:
    """Whatever it waits for: `why`, and then what to do about it."""
    prepare, cause = EVERY_WAIT[name]
    order = prepare()
    Plan.objects.filter(fulfillment_id=order.fulfillment_id).update(
        stuck_at=desk.now(), stuck_reason="Nothing has happened for long."
    )
    stuck.detect_stuck()
    told = why_of(order)
    cases = FalloutCase.objects.filter(fulfillment_id=order.fulfillment_id)
    if name.startswith("held") and name != "held":
        assert not cases.exists()  # Whoever holds it has said why.
        return
    if cause is not Cause.REPAIR and name != "person, too late":
        case = cases.get(subject=f"plan:{desk.plan_of(order).pk}")
        assert case.explanation.startswith(told.sentence)
        assert case.facts["cause"] == told.cause
    assert cases.exists()
