"""Waits: for a time, a milestone, a signal, another order. Every one of them ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning, settlement, signals
from fulfillment.engine.plans.signals import SignalReused
from fulfillment.engine.tasks.outcomes import Result
from fulfillment.engine.work.unit import Unit
from fulfillment.models import FalloutCase, Fulfillment, Plan, Signal
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]


def key_of(order: Order) -> str:
    return Fulfillment.objects.get(pk=order.fulfillment_id).business_key


def report(order: Order, name: str = "ready", event_id: str = "e1", **payload: Any) -> None:
    subject = signals.of_order(business_key=key_of(order))
    signals.receive(source="a test", event_id=event_id, name=name, subject=subject, payload=payload)


def waiting_for(**wait: Any) -> Order:
    desk.target("alpha")
    wait = {"within": "PT1H", "otherwise": "escalate", **wait}
    desk.workflow(
        {
            "one": desk.task(),
            "wait": desk.step(after=["one"], wait=wait),
            "two": desk.task(after=["wait"], input={"region": "${order.region}"}),
        }
    )
    order = desk.order()
    desk.finish()
    return order


def state(order: Order, key: str = "wait@1") -> str:
    return desk.states_of(order)[key]


def is_complete(order: Order) -> bool:
    desk.finish()
    order.refresh_from_db()
    return order.state == "COMPLETED"


def test_a_delay_counts_from_the_task_before_it(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(),
            "two": desk.task(depends_on=[{"after": "one", "delay": "PT10M"}]),
        }
    )
    clock(300)
    order = desk.order()
    desk.finish()
    assert state(order, "two~1@1") == "ACCEPTED"
    clock(590)
    sweeping.sweep()
    assert state(order, "two~1@1") == "ACCEPTED"
    clock(11)
    sweeping.sweep()
    assert is_complete(order)


def test_an_instant_that_is_past_holds_nobody(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(depends_on=[{"until": "2020-01-01T00:00:00Z"}])})
    assert is_complete(desk.order())


@pytest.mark.parametrize("text", ["tomorrow", "2030-01-01T00:00:00", ""])
def test_what_is_no_instant_goes_to_a_person(systems: ScriptedSystems, text: str) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(depends_on=[{"until": "${order.region}"}])})
    order = desk.order(region=text)
    assert state(order, "one~1@1") == "AWAITING_MANUAL"
    assert FalloutCase.objects.get().reason_code == "fulfillment.no_instant"


def test_a_milestone_from_outside_lets_it_go_on(systems: ScriptedSystems) -> None:
    order = waiting_for(milestone="ready")
    assert state(order) == "ACCEPTED"
    report(order, "something_else", "e0")
    assert state(order) == "ACCEPTED"
    report(order)
    assert is_complete(order)


def test_a_milestone_that_came_before_anybody_waited_counts(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(),
            "two": desk.task(
                after=["one"],
                depends_on=[{"milestone": "ready", "within": "PT1H", "otherwise": "fail"}],
            ),
        }
    )
    order = desk.order()
    report(order)
    assert is_complete(order)


def test_once_per_event_a_signal_that_comes_twice_is_one(systems: ScriptedSystems) -> None:
    order = waiting_for(milestone="ready")
    report(order)
    report(order)
    assert Signal.objects.count() == 1
    with pytest.raises(SignalReused):
        report(order, "other")
    assert is_complete(order)


def test_a_signal_is_told_by_its_business_key(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "wait": desk.step(
                wait={
                    "signal": "paid",
                    "key": "INV-${item.characteristics.invoice}",
                    "within": "P1D",
                    "otherwise": "fail",
                },
                outputs={"amount": "number"},
            ),
            "book": desk.task(
                depends_on=[{"output": "wait.amount"}], input={"amount": "${tasks.wait.amount}"}
            ),
        }
    )
    orders = [desk.order(desk.item(characteristics={"invoice": number})) for number in (7, 8)]
    prefix = key_of(orders[0]).rpartition("/")[0]
    for event_id, key in (("e1", "INV-9"), ("e2", "INV-8")):
        signals.receive(
            source="bank",
            event_id=event_id,
            name="paid",
            subject=signals.of_key(owner=prefix, key=key),
            payload={"amount": 12.5},
        )
    assert [state(order) for order in orders] == ["ACCEPTED", "SUCCEEDED"]
    assert is_complete(orders[1])
    assert systems.sent[0].payload == {"amount": 12.5}


def test_a_report_without_its_values_goes_to_a_person_and_a_better_one_mends_it(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    wait = {"milestone": "ready", "within": "PT1H", "otherwise": "fail"}
    desk.workflow({"wait": desk.step(wait=wait, outputs={"slot": "string"})})
    order = desk.order()
    report(order)
    assert state(order) == "AWAITING_MANUAL"
    report(order, event_id="e2", slot="Monday")
    assert is_complete(order)
    assert desk.tasks_of(order)["wait@1"].outputs == {"slot": "Monday"}


@pytest.mark.parametrize(
    ("otherwise", "then", "plan"),
    [
        ("escalate", "AWAITING_MANUAL", "BLOCKED"),
        ("fail", "FAILED_FINAL", "BLOCKED"),
        ("continue", "SUCCEEDED", "COMPLETED"),
    ],
)
def test_every_wait_ends(
    systems: ScriptedSystems, clock: Clock, otherwise: str, then: str, plan: str
) -> None:
    order = waiting_for(milestone="ready", otherwise=otherwise)
    clock(3500)
    sweeping.sweep()
    assert state(order) == "ACCEPTED"
    clock(200)
    sweeping.sweep()
    sweeping.sweep()
    assert state(order) == then
    desk.finish()
    assert desk.plan_of(order).state == plan
    assert FalloutCase.objects.filter(state="OPEN").count() == (otherwise != "continue")


def test_after_the_escalation_the_report_still_ends_it(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = waiting_for(milestone="ready")
    clock(4000)
    sweeping.sweep()
    assert state(order) == "AWAITING_MANUAL"
    report(order)
    assert is_complete(order)
    assert not FalloutCase.objects.filter(state="OPEN").exists()


def test_continuing_without_the_report_uses_the_default_outputs(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha")
    wait = {
        "milestone": "ready",
        "within": "PT1H",
        "otherwise": "continue",
        "default": {"slot": "any"},
    }
    desk.workflow(
        {
            "wait": desk.step(wait=wait, outputs={"slot": "string"}),
            "two": desk.task(
                depends_on=[{"output": "wait.slot"}], input={"slot": "${tasks.wait.slot}"}
            ),
        }
    )
    order = desk.order()
    clock(4000)
    sweeping.sweep()
    assert is_complete(order)
    assert systems.sent[0].payload == {"slot": "any"}


def test_an_order_may_wait_for_a_shared_milestone_of_another(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {"refresh": desk.task()},
        offering="data",
        milestones={"refreshed": {"title": "Fresh", "reached_by": "refresh", "shared": True}},
    )
    desk.workflow(
        {
            "wait": desk.step(
                wait={
                    "milestone": "refreshed",
                    "order": "data-${item.characteristics.day}",
                    "within": "PT6H",
                    "otherwise": "fail",
                }
            ),
            "report": desk.task(after=["wait"]),
        },
        offering="report",
    )
    early = desk.order(desk.item("report", characteristics={"day": "1"}))
    other = desk.order(desk.item("report", characteristics={"day": "2"}))
    assert state(early) == state(other) == "ACCEPTED"
    desk.order(desk.item("data"), external_id="data-1")
    desk.finish()
    scanning.scan()
    signals.apply_new()
    late = desk.order(desk.item("report", characteristics={"day": "1"}))
    desk.finish()
    assert [state(order) for order in (early, other, late)] == [
        "SUCCEEDED",
        "ACCEPTED",
        "SUCCEEDED",
    ]


def test_what_was_kept_and_not_told_is_told_by_the_next_scan(systems: ScriptedSystems) -> None:
    order = waiting_for(milestone="ready")
    Signal.objects.create(
        source="x",
        event_id="1",
        name="ready",
        subject=signals.of_order(business_key=key_of(order)),
        occurred_at=desk.now(),
        received_at=desk.now(),
    )
    assert signals.apply_new() == 1
    assert signals.apply_new() == 0
    assert is_complete(order)


def test_a_report_that_the_engine_fails_with_keeps_no_other_from_being_told(
    systems: ScriptedSystems,
) -> None:
    poisoned = waiting_for(milestone="ready")
    well = desk.order()
    desk.finish()
    context = Plan.objects.get(fulfillment_id=poisoned.fulfillment_id).context
    Plan.objects.filter(fulfillment_id=poisoned.fulfillment_id).update(context={})
    for order in (poisoned, well):
        Signal.objects.create(
            source="x",
            event_id=str(order.pk),
            name="ready",
            subject=signals.of_order(business_key=key_of(order)),
            occurred_at=desk.now(),
            received_at=desk.now(),
        )
    assert signals.apply_new() == 1
    assert is_complete(well)
    (case,) = FalloutCase.objects.all()
    assert (case.category, case.task.key) == ("POISON", "wait@1")
    Plan.objects.filter(fulfillment_id=poisoned.fulfillment_id).update(context=context)
    assert signals.apply_new() == 1
    assert is_complete(poisoned)


def test_a_report_that_the_engine_fails_with_is_taken_all_the_same(
    systems: ScriptedSystems,
) -> None:
    order = waiting_for(milestone="ready")
    context = Plan.objects.get().context
    Plan.objects.update(context={})
    report(order)
    Plan.objects.update(context=context)
    assert signals.apply_new() == 1
    assert is_complete(order)


def test_signals_that_can_not_be_told_keep_no_newer_one_from_it(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.target("alpha")
    wait = {"milestone": "ready", "within": "PT1H", "otherwise": "escalate"}
    desk.workflow({"wait": desk.step(wait=wait)})
    *poisoned, last = (desk.order() for _ in range(3))
    apply = settlement.apply

    def fail_with_some(unit: Unit, results: Sequence[Result]) -> list[Result]:
        if unit.fulfillments.keys() & {order.fulfillment_id for order in poisoned}:
            raise RuntimeError("the graph burns")
        return apply(unit, results)

    monkeypatch.setattr(settlement, "apply", fail_with_some)
    for number, order in enumerate((*poisoned, last)):
        Signal.objects.create(
            source="a test",
            event_id=f"e{number}",
            name="ready",
            subject=signals.of_order(business_key=key_of(order)),
            payload={},
            occurred_at=desk.now(),
            received_at=desk.now(),
            applied=False,
        )
    assert signals.apply_new(limit=2) == 1
    assert [state(order) for order in (*poisoned, last)] == ["ACCEPTED", "ACCEPTED", "SUCCEEDED"]
    monkeypatch.setattr(settlement, "apply", apply)
    assert signals.apply_new(limit=2) == 2
    assert {state(order) for order in poisoned} == {"SUCCEEDED"}


def test_of_what_very_many_wait_for_they_are_told_a_batch_at_a_time(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction for all of them would keep all of them from everything else."""
    wait = {"milestone": "ready", "order": "LINE", "within": "PT1H", "otherwise": "escalate"}
    desk.workflow({"wait": desk.step(wait=wait)})
    line = desk.order(external_id="LINE")
    desk.submit_all(*(desk.request() for _ in range(2 * signals.TOGETHER)))
    settle, batches = settlement.settle, list[int]()

    def counting(**what: Any) -> None:
        batches.append(len(what["results"]))
        settle(**what)

    monkeypatch.setattr(signals, "settle", counting)
    report(line)
    assert sum(batches) == 2 * signals.TOGETHER + 1
    assert max(batches) == signals.TOGETHER
    assert not Plan.objects.exclude(state="COMPLETED").exists()
