"""Conditions, preconditions and fallbacks: which way a task goes, and whether it goes at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fulfillment.engine.dispatch import callbacks
from fulfillment.models import Attempt, Command, FalloutCase
from fulfillment.queries import fulfillments
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def finished(order: Order) -> bool:
    desk.finish()
    order.refresh_from_db()
    return order.state == "COMPLETED"


def test_a_conditional_dependency_exists_only_when_its_condition_holds(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.target("beta", asynchronous=True)
    desk.workflow(
        {
            "ship": desk.task("beta"),
            "install": desk.task(
                depends_on=[{"success": "ship", "when": "item.characteristics.router == true"}]
            ),
        }
    )
    systems.sends["ship"] = [desk.accepted(), desk.accepted()]
    with_router = desk.order(desk.item(characteristics={"router": True}))
    without = desk.order(desk.item(characteristics={"router": False}))
    desk.finish()
    assert desk.states_of(with_router)["install@1"] == "PENDING"
    assert desk.states_of(without)["install@1"] == "SUCCEEDED"


def test_a_task_is_skipped_unless_its_condition_holds(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "measure": desk.task(outputs={"size": "integer"}),
            "cut": desk.task(
                depends_on=[{"output": "measure.size"}], only_if="tasks.measure.size > 10"
            ),
            "pack": desk.task(after=["cut"]),
        }
    )
    systems.sends["measure"] = [desk.succeeded(size=10), desk.succeeded(size=11)]
    orders = [desk.order(), desk.order()]
    assert all(finished(order) for order in orders)
    states = [desk.states_of(order)["cut@1"] for order in orders]
    assert states == ["SKIPPED_BY_POLICY", "SUCCEEDED"]


def test_a_precondition_that_does_not_hold_has_a_case(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    check = {"check": "order.region in ['AT', 'DE']", "message": "We only deliver to AT and DE."}
    desk.workflow({"one": desk.task(preconditions=[check])})
    order = desk.order(region="FR")
    assert desk.states_of(order)["one@1"] == "AWAITING_MANUAL"
    case = FalloutCase.objects.get()
    assert case.reason_code == "precondition"
    assert "We only deliver to AT and DE." in case.explanation
    assert finished(desk.order(region="AT"))


def test_a_condition_without_a_value_goes_to_a_person(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(only_if="item.characteristics.size > 5")})
    order = desk.order()
    assert desk.states_of(order)["one@1"] == "AWAITING_MANUAL"
    assert "size" in FalloutCase.objects.get().explanation


def gateway(**target: Any) -> Order:
    desk.target("alpha", **target)
    desk.target("beta")
    desk.workflow(
        {
            "charge": desk.task(
                input={"amount": 5},
                outputs={"receipt": "string"},
                retry={"maximum_attempts": 2, "initial_interval": "PT1S"},
                fallback=[
                    {"target": "beta", "action": "charge_card", "input": {"sum": "${order.id}"}}
                ],
            ),
            "mail": desk.task(
                depends_on=[{"output": "charge.receipt"}], input={"r": "${tasks.charge.receipt}"}
            ),
        }
    )
    return desk.order()


def test_a_refusal_is_tried_another_way(systems: ScriptedSystems) -> None:
    order = gateway()
    systems.sends["charge"] = [desk.rejected()]
    systems.sends["charge_card"] = [desk.succeeded(receipt="R-2")]
    assert finished(order)
    first, second, _ = systems.sent
    assert (first.target, second.target) == ("alpha", "beta")
    assert first.idempotency_key != second.idempotency_key
    assert second.payload == {"sum": order.reference}
    assert systems.sent[-1].payload == {"r": "R-2"}
    assert list(Command.objects.filter(task__key="charge@1").values_list("revision", flat=True))


def test_attempts_that_are_used_up_lead_to_the_fallback(
    systems: ScriptedSystems, clock: Any
) -> None:
    order = gateway()
    systems.sends["charge"] = [desk.failed(), desk.failed()]
    systems.sends["charge_card"] = [desk.succeeded(receipt="R-2")]
    for _ in range(3):
        desk.finish()
        clock(60)
    assert finished(order)
    assert [sent.target for sent in systems.sent[:3]] == ["alpha", "alpha", "beta"]


def test_after_an_unknown_outcome_there_is_no_fallback(systems: ScriptedSystems) -> None:
    order = gateway(status_query=False, idempotent=False)
    systems.sends["charge"] = [desk.unknown()]
    desk.finish()
    assert desk.states_of(order)["charge@1"] == "AWAITING_MANUAL"
    assert {sent.target for sent in systems.sent} == {"alpha"}


def test_the_last_way_that_fails_fails_the_task(systems: ScriptedSystems) -> None:
    order = gateway()
    systems.sends["charge"] = [desk.rejected()]
    systems.sends["charge_card"] = [desk.rejected()]
    desk.finish()
    assert desk.states_of(order)["charge@1"] == "FAILED_FINAL"
    assert "beta" in FalloutCase.objects.get().title


def test_a_late_success_of_the_way_that_was_refused_is_a_conflict(
    systems: ScriptedSystems,
) -> None:
    order = gateway()
    systems.sends["charge"] = [desk.rejected()]
    systems.sends["charge_card"] = [desk.succeeded(receipt="R-2")]
    assert finished(order)
    callbacks.receive(
        report=callbacks.Report(
            source="alpha",
            event_id="late",
            idempotency_key=systems.sent[0].idempotency_key,
            outcome=desk.succeeded(receipt="R-1"),
            body={},
        )
    )
    assert FalloutCase.objects.get(state="OPEN").category == "CONFLICT"
    assert desk.tasks_of(order)["charge@1"].outputs == {"receipt": "R-2"}
    assert Attempt.objects.filter(task__key="charge@1").count() == 2


def test_the_graph_shows_who_did_it_and_who_undoes_it(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.target("beta")
    undone = {"compensation": {"action": "undo"}}
    fallback = [{"target": "beta", "action": "do_otherwise"}]
    desk.workflow(
        {
            "one": desk.task(**undone, fallback=fallback),
            "two": desk.task(after=["one"], **undone, fallback=fallback),
        }
    )
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    assert finished(order)
    graph = fulfillments.graph_document(plan=desk.plan_of(order))
    assert [(node["target"], node["action"], node["undo"]) for node in graph["nodes"]] == [
        ("beta", "do_otherwise", {"target": "beta", "action": "undo"}),
        ("alpha", "two", {"target": "alpha", "action": "undo"}),
    ]
    assert graph["undo_edges"] == [{"from": 1, "to": 0}]


def test_a_doubt_about_the_first_way_that_was_cleared_is_none_about_the_second(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    desk.target("alpha")
    desk.target("beta", status_query=False)
    desk.workflow(
        {
            "pay": desk.task(
                retry={"maximum_attempts": 2},
                fallback=[{"target": "beta", "action": "pay_there", "input": {}}],
            )
        }
    )
    systems.sends["pay"] = [desk.unknown(), desk.rejected()]
    systems.queries["pay"] = [desk.not_found()]
    systems.sends["pay_there"] = [desk.failed("bad_request", retryable=False)]
    order = desk.order()
    for _ in range(3):
        desk.finish()
        clock(60)
    assert systems.actions() == ["pay", "pay", "pay_there"]
    assert desk.states_of(order)["pay@1"] == "FAILED_FINAL"
    assert {case.reason_code for case in FalloutCase.objects.all()} == {"bad_request"}
