"""Correcting what a task is sent: another command, once the one before is known to have had no
effect."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import Denied, NotPossible, OutcomeInDoubt, ParametersInvalid
from fulfillment.models import CaseState, Command, FalloutCase, Task, Transition
from fulfillment.states import TaskState
from oms.models import Order
from tests import desk, people, repairs
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
CORRECT, RETRY = Action.TASK_CORRECT, Action.TASK_RETRY
INPUT = {"name": "Anna", "tags": ["a"], "address": {"city": "Bonn", "zip": "5"}}


def a_failed_task(systems: ScriptedSystems, *answers: object) -> tuple[Order, Task]:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input=INPUT), "two": desk.task(after=["one"])})
    systems.sends["one"] = list(answers) or [desk.rejected()]
    order = desk.order()
    desk.finish()
    return order, desk.tasks_of(order)["one@1"]


def test_corrected_data_makes_a_new_command_with_a_key_of_its_own(
    systems: ScriptedSystems,
) -> None:
    order, task = a_failed_task(systems)
    repairs.repair(CORRECT, task, patch={"address": {"zip": "53111"}, "tags": None})
    desk.finish()
    first, second = systems.sent[0], systems.sent[1]
    assert first.payload == INPUT
    assert second.payload == {"name": "Anna", "address": {"city": "Bonn", "zip": "53111"}}
    assert first.idempotency_key != second.idempotency_key
    assert desk.plan_of(order).state == "COMPLETED"
    assert not FalloutCase.objects.filter(state=CaseState.OPEN).exists()
    repairs.sound(order)


def test_a_whole_payload_takes_the_place_of_the_one_before(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    repairs.repair(CORRECT, task, payload={"name": "Berta"})
    desk.drain()
    assert systems.sent[1].payload == {"name": "Berta"}


def test_the_record_has_the_payload_before_and_after(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    shown = repairs.previewed_as_done(CORRECT, task, patch={"name": "Berta"})
    assert shown.done.before["payload"] == INPUT
    assert shown.done.after["payload"] == {**INPUT, "name": "Berta"}
    record = repairs.record_of("correct")
    assert (record.actor, record.reason) == ("rita", repairs.REASON)
    assert (record.before["payload"]["name"], record.after["payload"]["name"]) == ("Anna", "Berta")
    assert record.approval is not None
    row = Transition.objects.get(entity="task", entity_id=str(task.pk), name="send_anew")
    assert row.details["corrected"] == {"merge": {"name": "Berta"}}
    assert row.actor == "rita"


def test_a_correction_outlives_a_retry(systems: ScriptedSystems) -> None:
    order, task = a_failed_task(systems, desk.rejected(), desk.failed(retryable=False))
    repairs.repair(CORRECT, task, patch={"name": "Berta"})
    desk.drain()
    operations.retry(task_id=task.pk, actor=people.anybody("tim", RETRY), reason="it is back")
    desk.drain()
    assert [one.payload["name"] for one in systems.sent if one.action == "one"] == [
        "Anna",
        "Berta",
        "Berta",
    ]
    assert desk.plan_of(order).state == "COMPLETED"


def test_a_second_correction_begins_with_what_the_first_has_made(
    systems: ScriptedSystems,
) -> None:
    _, task = a_failed_task(systems, desk.rejected(), desk.rejected())
    repairs.repair(CORRECT, task, patch={"name": "Berta"})
    desk.drain()
    repairs.repair(CORRECT, task, patch={"tags": ["b"]})
    desk.drain()
    assert systems.sent[2].payload == {**INPUT, "name": "Berta", "tags": ["b"]}


def test_a_correction_goes_on_top_of_values_that_were_obtained_anew(
    systems: ScriptedSystems,
) -> None:
    """The mapping is evaluated again, and what was corrected stays corrected."""
    desk.target("alpha")
    desk.target("beta")
    outputs = {"stock": {"type": "string", "valid_until": "until"}, "until": "string"}
    desk.workflow(
        {
            "reserve": desk.task(outputs=outputs),
            "ship": desk.task(
                "beta",
                depends_on=[{"output": "reserve.stock", "expired": "reobtain"}],
                input={"stock": "${tasks.reserve.stock}", "name": "Anna"},
            ),
        }
    )
    until = (desk.now() + timedelta(hours=1)).isoformat()
    later = (desk.now() + timedelta(days=2)).isoformat()
    systems.sends["reserve"] = [
        desk.succeeded(stock="S-1", until=until),
        desk.succeeded(stock="S-2", until=later),
    ]
    order = desk.order()
    desk.drain(["alpha"])
    repairs.repair(CORRECT, desk.tasks_of(order)["ship@1"], patch={"name": "Berta"})
    desk.advance(2 * 3600)
    desk.drain()  # Sent back; its value is obtained anew.
    desk.finish()
    assert systems.sent[-1].payload == {"stock": "S-2", "name": "Berta"}
    assert desk.plan_of(order).state == "COMPLETED"
    repairs.sound(order)


def test_what_has_not_been_sent_may_be_corrected(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input=INPUT)})
    order = desk.order()
    repairs.repair(CORRECT, desk.tasks_of(order)["one@1"], patch={"name": "Berta"})
    desk.finish()
    assert [one.payload["name"] for one in systems.sent] == ["Berta"]
    assert Command.objects.count() == 2  # The one before is kept, and never sent.
    repairs.sound(order)


def test_what_could_not_begin_begins_with_a_whole_payload(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input={"size": "${item.characteristics.size}"})})
    order = desk.order(desk.item(characteristics={}))
    task = desk.tasks_of(order)["one@1"]
    assert task.state == TaskState.AWAITING_MANUAL
    repairs.refused(NotPossible, "give all of it", CORRECT, task, patch={"size": 3})
    repairs.repair(CORRECT, task, payload={"size": 3})
    desk.finish()
    assert [one.payload for one in systems.sent] == [{"size": 3}]
    assert desk.plan_of(order).state == "COMPLETED"
    repairs.sound(order)


def test_a_fallback_is_asked_with_what_its_workflow_says(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.target("beta")
    other = {"target": "beta", "action": "other", "input": {"who": "nobody"}}
    desk.workflow({"one": desk.task(input=INPUT, fallback=[other])})
    systems.sends["one"] = [desk.failed(retry_after=timedelta(hours=1)), desk.rejected()]
    order = desk.order()
    desk.drain()
    repairs.repair(CORRECT, desk.tasks_of(order)["one@1"], patch={"name": "Berta"})
    desk.finish()
    assert [one.payload for one in systems.sent[1:]] == [
        {**INPUT, "name": "Berta"},
        {"who": "nobody"},
    ]
    repairs.sound(order)


@pytest.mark.parametrize("answer", [desk.accepted(), desk.unknown()])
def test_a_payload_is_frozen_while_it_may_have_had_an_effect(
    systems: ScriptedSystems, answer: object
) -> None:
    desk.target("alpha", reconcile_after=timedelta(hours=1))
    desk.workflow({"one": desk.task(input=INPUT)})
    systems.sends["one"] = [answer]
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["one@1"]
    repairs.refused(OutcomeInDoubt, "Say first", CORRECT, task, patch={"name": "Berta"})


def test_a_payload_is_frozen_while_a_lost_send_may_arrive(systems: ScriptedSystems) -> None:
    desk.target("alpha", status_query=False)
    desk.workflow({"one": desk.task(input=INPUT)})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown()))
    task = desk.tasks_of(order)["one@1"]
    repairs.refused(OutcomeInDoubt, "was lost", CORRECT, task, patch={"name": "Berta"})


def test_what_is_not_sent_any_more_or_not_yet_is_not_corrected(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(input=INPUT),
            "two": desk.task(after=["one"]),
            "three": desk.task(after=["two"]),
            "look": desk.step(after=["one"], wait={"delay": "PT5H"}),
        }
    )
    systems.sends["two"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    tasks = desk.tasks_of(order)
    patch = {"name": "Berta"}
    repairs.refused(NotPossible, "is SUCCEEDED", CORRECT, tasks["one@1"], patch=patch)
    repairs.refused(NotPossible, "has not begun", CORRECT, tasks["three@1"], patch=patch)
    repairs.refused(NotPossible, "sends nothing", CORRECT, tasks["look@1"], patch=patch)


def test_what_would_change_nothing_is_refused(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    repairs.refused(NotPossible, "exactly that already", CORRECT, task, patch={"name": "Anna"})
    for values in (
        {},
        {"patch": {"name": "\x00"}},
        {"payload": {}, "patch": {}},
        {"patch": {}, "else": 1},
        {"patch": [1]},
    ):
        with pytest.raises(ParametersInvalid):
            repairs.preview(CORRECT, task, **values)


def test_whoever_may_not_is_denied_and_nothing_is_changed(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    nobody = people.anybody("nobody", RETRY)
    repairs.refused_without_side_effect(CORRECT, task, nobody, patch={"name": "Berta"})


def test_correcting_what_charges_is_for_payment_control(systems: ScriptedSystems) -> None:
    desk.target("pay", domain="payment")
    desk.workflow({"charge": desk.task("pay", input={"amount": 1})})
    systems.sends["charge"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    approval = repairs.ask(CORRECT, desk.tasks_of(order)["charge@1"], patch={"amount": 2})
    assert approval.needs == Action.APPROVE_PAYMENT
    with pytest.raises(Denied):
        operations.approve(
            approval_id=approval.pk,
            actor=people.anybody("otto", Action.APPROVE_OPERATIONS),
            reason="it is fine",
        )
    assert "may charge or bill" in repairs.approve(approval).financial_impact


def test_whoever_approves_too_late_is_told_who_did_what(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    first = repairs.ask(CORRECT, task, by="rita", patch={"name": "Berta"})
    second = repairs.ask(CORRECT, task, by="ruth", patch={"name": "Clara"})
    repairs.approve(first)
    with pytest.raises(NotPossible, match=r"READY since .* by rita"):
        repairs.approve(second)
    desk.drain()
    assert [one.payload["name"] for one in systems.sent if one.action == "one"] == [
        "Anna",
        "Berta",
    ]


def test_a_late_answer_to_the_command_before_does_not_settle_the_corrected_one(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input=INPUT)})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.rejected()))
    repairs.repair(CORRECT, desk.tasks_of(order)["one@1"], patch={"name": "Berta"})
    desk.settle(desk.result(claim, desk.succeeded()))
    task = desk.tasks_of(order)["one@1"]
    assert task.state == TaskState.AWAITING_MANUAL
    assert FalloutCase.objects.filter(reason_code="done_after_all").exists()
    repairs.refused(OutcomeInDoubt, "Say first", CORRECT, task, patch={"name": "Clara"})
    repairs.sound(order)


def test_a_corrected_element_of_a_list_is_under_way_again(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    each = {"over": "${item.characteristics.numbers}"}
    desk.workflow({"port": desk.task(for_each=each, input={"number": "${element}"})})
    systems.sends["port"] = [desk.rejected()]
    order = desk.order(desk.item(characteristics={"numbers": ["1", "2"]}))
    desk.finish()
    failed = next(
        task
        for task in desk.tasks_of(order).values()
        if task.element and task.state == TaskState.FAILED_FINAL
    )
    repairs.repair(CORRECT, failed, patch={"number": "7"})
    desk.finish()
    assert desk.plan_of(order).state == "COMPLETED"
    assert {one.payload["number"] for one in systems.sent} == {"1", "2", "7"}
    repairs.sound(order)
