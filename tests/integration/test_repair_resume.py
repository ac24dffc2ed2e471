"""Going on after a person has mended why a task stopped; what may have happened is not repeated."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import repairing
from fulfillment.engine.plans.repairing import Repaired
from fulfillment.engine.plans.signals import receive
from fulfillment.engine.work.running import run_unit
from fulfillment.errors import NotPossible, OutcomeInDoubt
from fulfillment.models import CaseState, FalloutCase, Task
from fulfillment.states import TaskState
from oms.models import Order
from tests import desk, repairs
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def resume(task: Task, **values: Any) -> Repaired:
    return run_unit(
        lambda unit: repairing.resume(unit, task_id=task.pk, values=values, cause="mended"),
        fulfillment_ids=[task.fulfillment_id],
        actor="rita",
    )


def refused(task: Task, error: type[Exception], match: str, **values: Any) -> None:
    before = repairs.rows()
    with pytest.raises(error, match=match):
        resume(task, **values)
    assert repairs.rows() == before


def stopped(order: Order, key: str = "one@1") -> Task:
    task = desk.tasks_of(order)[key]
    assert task.state == TaskState.AWAITING_MANUAL
    return task


def completed(order: Order) -> None:
    desk.finish()
    assert desk.plan_of(order).state == "COMPLETED"
    assert not FalloutCase.objects.filter(state=CaseState.OPEN).exists()
    repairs.sound(order)


def test_what_could_not_begin_is_looked_at_again(systems: ScriptedSystems) -> None:
    """Nothing is changed while what kept it is still so."""
    desk.target("alpha")
    outputs = {"ready": {"type": "boolean", "optional": True}}
    check = {"check": "tasks.zero.ready == true", "message": "It is not ready."}
    desk.workflow(
        {
            "zero": desk.task(outputs=outputs),
            "one": desk.task(depends_on=[{"output": "zero.ready"}], preconditions=[check]),
        }
    )
    order = desk.order()
    desk.finish()
    task = stopped(order)
    refused(task, NotPossible, "still can't begin. .* It is not ready.")
    refused(task, NotPossible, "has not begun, so nothing can be entered", ready=True)
    Task.objects.filter(key="zero@1").update(outputs={"ready": True})
    resume(task)
    completed(order)


def test_unusable_outputs_are_entered(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(outputs={"number": "string"}), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.succeeded(number=7)]
    order = desk.order()
    desk.finish()
    task = stopped(order)
    refused(task, NotPossible, "'number' is missing")
    refused(task, NotPossible, "should be string", number=7)
    resume(task, number="7")
    completed(order)
    assert systems.actions() == ["one", "two"]
    assert desk.tasks_of(order)["one@1"].outputs == {"number": "7"}


def test_an_unknown_outcome_is_reconciled_and_not_resumed(systems: ScriptedSystems) -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    desk.drain()
    refused(stopped(order), OutcomeInDoubt, "Say first what became of it")


def test_what_was_quarantined_is_reconciled_and_not_resumed(systems: ScriptedSystems) -> None:
    desk.target("alpha", lost_leases_limit=1)
    desk.workflow({"one": desk.task()})
    order = desk.order()
    desk.claim()
    desk.advance(3600)
    sweeping.sweep()
    refused(stopped(order), OutcomeInDoubt, "Say first what became of it")


def test_what_was_reported_with_values_that_do_not_fit_is_entered(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    wait = {"signal": "booked", "key": "${order.external_id}"}
    desk.workflow(
        {
            "wait": desk.step(
                wait={**wait, "within": "PT1H", "otherwise": "escalate"},
                outputs={"slot": "string"},
            ),
            "two": desk.task(after=["wait"]),
        }
    )
    order = desk.order()
    (subject,) = [
        task.awaits.partition(" ")[2] for task in desk.tasks_of(order).values() if task.awaits
    ]
    receive(source="a test", event_id="1", name="booked", subject=subject, payload={"slot": 7})
    task = stopped(order, "wait@1")
    refused(task, NotPossible, "should be string", slot=7)
    resume(task, slot="morning")
    completed(order)


def test_what_was_not_reported_in_time_may_be_told_by_a_person(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    wait = {"milestone": "dug", "within": "PT1H", "otherwise": "escalate"}
    desk.workflow({"wait": desk.step(wait=wait), "two": desk.task(after=["wait"])})
    order = desk.order()
    desk.advance(7200)
    sweeping.sweep()
    resume(stopped(order, "wait@1"))
    completed(order)


def test_what_a_person_decides_is_decided_and_not_resumed(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    ask = {
        "queue": "desk",
        "role": "clerk",
        "instructions": "Look.",
        "outcomes": {"ok": "proceed", "no": "refuse"},
        "within": "P1D",
        "otherwise": "escalate",
    }
    desk.workflow({"one": desk.step(manual=ask)})
    refused(stopped(desk.order()), NotPossible, "is to be decided")


def test_what_waits_for_nobody_is_not_resumed(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    refused(desk.tasks_of(desk.order())["one@1"], NotPossible, "waits for nobody's repair")
