"""The root of a wait is what really has to end first, also where other things stand still."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.models import HoldScope
from fulfillment.queries.why import LINKS, Why, hidden, why
from fulfillment.waits.waiting import Wait
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
CUSTOMER = {"resource": "customer", "key": "${order.customer.id}"}
READY = {"ready": {"title": "Ready", "reached_by": "one", "shared": True}}


def told(order: Order) -> tuple[Why, list[tuple[str, str, str]]]:
    found = why(fulfillment_id=order.fulfillment_id)
    return found, [
        (link.order_reference, link.wait.task, str(link.wait.cause)) for link in found.chain
    ]


def for_ready_of_first(**more: Any) -> dict[str, Any]:
    wait = {"milestone": "ready", "order": "FIRST", "within": "P1D", "otherwise": "escalate"}
    return desk.step(wait=wait, **more)


def test_who_waits_for_a_lock_waits_for_the_task_that_keeps_it(systems: ScriptedSystems) -> None:
    """Not for something else that stands still in the same order."""
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"keep": desk.task("alpha", locks=[CUSTOMER]), "mail": desk.task("beta")})
    systems.sends["keep"] = [desk.accepted()]
    systems.sends["mail"] = [desk.rejected()]
    first = desk.order()
    desk.drain()
    second = desk.order()
    desk.claim("alpha")
    found, chain = told(second)
    assert chain == [
        (second.reference, "keep@1", "LOCK"),
        (first.reference, "keep@1", "REPORT"),
    ]
    assert "mail" not in found.sentence


def test_who_waits_for_a_milestone_waits_for_what_comes_before_it(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.target("beta")
    tasks = {"before": desk.task(), "one": desk.task(after=["before"]), "side": desk.task("beta")}
    desk.workflow(tasks, offering="first", milestones=READY)
    desk.workflow({"wait": for_ready_of_first(), "go": desk.task(after=["wait"])})
    systems.sends["side"] = [desk.rejected()]
    systems.sends["before"] = [desk.accepted()]
    first = desk.order(desk.item("first"), external_id="FIRST")
    desk.drain()
    second = desk.order()
    _, chain = told(second)
    assert chain == [
        (second.reference, "wait@1", "OTHER_ORDER"),
        (first.reference, "before@1", "REPORT"),
    ]


def test_a_lock_of_the_same_order_is_no_circle(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {"one": desk.task("alpha", locks=[CUSTOMER]), "two": desk.task("beta", locks=[CUSTOMER])}
    )
    systems.sends["one"] = [desk.failed(retry_after=timedelta(seconds=30))]
    order = desk.order()
    desk.drain(["alpha"])
    desk.claim("beta")
    operations.place_hold(
        scope=HoldScope.TARGET, name="alpha", reason="They move house.", actor=by("anna")
    )
    found, chain = told(order)
    assert chain == [(order.reference, "two@1", "LOCK"), (order.reference, "one@1", "HOLD")]
    assert not found.is_circle
    assert found.remedies[0].action == "release_hold"


def test_one_order_that_both_keeps_a_lock_and_waits_makes_no_circle(
    systems: ScriptedSystems,
) -> None:
    """What keeps the lock goes on by itself; the other branch is who waits."""
    desk.target("alpha")
    lock = desk.task(locks=[CUSTOMER])
    desk.workflow({"wait": for_ready_of_first(), "keep": lock})
    desk.workflow({"one": lock}, offering="first", milestones=READY)
    systems.sends["keep"] = [desk.accepted()]
    first = desk.order()
    desk.drain()
    second = desk.order(desk.item("first"), external_id="FIRST")
    assert desk.claim() == []
    found, chain = told(second)
    assert chain == [(second.reference, "one@1", "LOCK"), (first.reference, "keep@1", "REPORT")]
    assert not found.is_circle


def test_who_stands_before_a_circle_is_no_part_of_it(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    for name, other in (("a", "B"), ("b", "A"), ("c", "A")):
        wait = {"milestone": "ready", "order": other, "within": "P1D", "otherwise": "escalate"}
        desk.workflow(
            {"wait": desk.step(wait=wait), "one": desk.task(after=["wait"])},
            offering=name,
            milestones=READY,
        )
    first, second, third = (
        desk.order(desk.item(name), external_id=name.upper()) for name in ("a", "b", "c")
    )
    found, _ = told(third)
    assert found.is_circle
    names = f"{first.reference}, {second.reference}."
    assert found.sentence.endswith(f"These orders wait for each other: {names}")


def test_a_chain_that_is_too_long_to_be_followed_names_no_root(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    orders = []
    for number in range(LINKS + 2):
        wait = {
            "milestone": "ready",
            "order": f"N-{number - 1}",
            "within": "P1D",
            "otherwise": "escalate",
        }
        desk.workflow(
            {"wait": desk.step(wait=wait), "one": desk.task(after=["wait"])},
            offering=f"n{number}",
            milestones=READY,
        )
        orders.append(desk.order(desk.item(f"n{number}"), external_id=f"N-{number}"))
    last, short = why(fulfillment_id=orders[-1].fulfillment_id), told(orders[LINKS - 1])[0]
    assert len(last.chain) == len(short.chain) == LINKS
    assert (last.is_cut, short.is_cut) == (True, False)
    assert "At the root of it" not in last.sentence
    assert "At the root of it" in short.sentence


def test_what_failed_and_is_not_needed_is_no_reason(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    optional = {"extra": desk.task(required=False), "more": desk.task(required=False)}
    desk.workflow({"needed": desk.task(), **optional})
    systems.sends["extra"] = [desk.rejected()]
    systems.sends["more"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    found, chain = told(order)
    assert chain == [(order.reference, "more@1", "REPORT")]
    assert found.others == ()


def test_a_tolerated_failure_is_no_reason(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    each = {"over": "${item.characteristics.parts}", "tolerate": 0.5}
    desk.workflow({"load": desk.task(for_each=each), "next": desk.task(after=["load"])})
    systems.sends["load"] = [desk.rejected(), desk.accepted(), desk.accepted()]
    order = desk.order(desk.item(characteristics={"parts": [1, 2, 3]}))
    desk.drain()
    _, chain = told(order)
    assert chain == [(order.reference, "load@1[2]", "REPORT")]


def test_the_name_of_an_order_is_hidden_and_no_longer_name_that_begins_with_it(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    (wait,) = why(fulfillment_id=desk.order().fulfillment_id).chain
    shown = Wait(
        **{name: getattr(wait.wait, name) for name in ("task_id", "task", "title", "target")},
        state=wait.wait.state,
        reason="It waits for pool P, which O-17 and 1 more has since today.",
        until=None,
        sends=0,
        maximum_attempts=0,
        names=("O-17", "O-1"),
    )
    assert hidden(shown, owner_of={"O-17"}).reason == shown.reason
    assert "which another order and" in hidden(shown, owner_of=set()).reason
