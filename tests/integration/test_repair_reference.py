"""Entering what a target system owes: what is missing, never what is there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import Denied, EvidenceMissing, NotPossible
from fulfillment.models import CaseState, FalloutCase, Task, Transition
from fulfillment.operations.repair import Request
from fulfillment.states import TaskState
from oms.models import Order
from tests import desk, people, repairs
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
REFERENCE = Action.TASK_REFERENCE


def a_task_that_owes_something() -> tuple[Order, Task]:
    """`one` is done without its number; `two` must not begin without it."""
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(
                outputs={"number": {"type": "string", "optional": True}, "kind": "string"}
            ),
            "two": desk.task(
                depends_on=[{"output": "one.number"}],
                input={"number": "${tasks.one.number?}"},
                preconditions=[
                    {"check": "tasks.one.number != null", "message": "The number is missing."}
                ],
            ),
        }
    )
    desk.systems.sends["one"] = [desk.succeeded(kind="x")]
    order = desk.order()
    desk.finish()
    assert desk.states_of(order)["two@1"] == TaskState.AWAITING_MANUAL
    return order, desk.tasks_of(order)["one@1"]


def test_what_waited_for_it_goes_on(systems: ScriptedSystems) -> None:
    order, task = a_task_that_owes_something()
    done = repairs.repair(REFERENCE, task, reference="R-1", outputs={"number": "7"})
    assert "Looked at again: two@1" in done.told
    desk.finish()
    assert systems.sent[-1].payload == {"number": "7"}
    task.refresh_from_db()
    assert (task.reference, task.outputs) == ("R-1", {"kind": "x", "number": "7"})
    assert desk.plan_of(order).state == "COMPLETED"
    assert not FalloutCase.objects.filter(state=CaseState.OPEN).exists()
    repairs.sound(order)


def test_history_kept(systems: ScriptedSystems) -> None:
    """The state stays, and the trail has before and after."""
    order, task = a_task_that_owes_something()
    repairs.previewed_as_done(REFERENCE, task, reference="R-1", outputs={"number": "7"})
    row = Transition.objects.get(entity="task", entity_id=str(task.pk), name="set_reference")
    assert (row.from_state, row.to_state, row.actor) == ("SUCCEEDED", "SUCCEEDED", "rita")
    assert row.details["before"] == {"reference": "", "outputs": {"kind": "x"}}
    assert row.details["after"] == {"reference": "R-1", "outputs": {"kind": "x", "number": "7"}}
    assert row.details["evidence"] == repairs.EVIDENCE
    record = repairs.record_of("reference")
    assert record.before == {"reference": "", "outputs": {"kind": "x"}}
    assert record.after["reference"] == "R-1"
    assert record.approval is not None
    repairs.sound(order)


def test_what_was_confirmed_is_never_overwritten(systems: ScriptedSystems) -> None:
    order, task = a_task_that_owes_something()
    repairs.refused(NotPossible, "has kind already", REFERENCE, task, outputs={"kind": "y"})
    repairs.repair(REFERENCE, task, reference="R-1")
    repairs.refused(NotPossible, "has the reference R-1 already", REFERENCE, task, reference="R-2")
    repairs.refused(NotPossible, "has the reference R-1 already", REFERENCE, task, reference="R-1")
    repairs.sound(order)


def test_values_have_to_fit(systems: ScriptedSystems) -> None:
    _, task = a_task_that_owes_something()
    repairs.refused(NotPossible, "should be string", REFERENCE, task, outputs={"number": 7})
    repairs.refused(NotPossible, "no output colour", REFERENCE, task, outputs={"colour": "red"})
    repairs.refused(NotPossible, "Say what is missing", REFERENCE, task)


def test_an_accepted_task_may_lack_its_reference_and_nothing_else(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(outputs={"number": "string"})})
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    task = desk.tasks_of(order)["one@1"]
    repairs.refused(NotPossible, "task.reconcile", REFERENCE, task, outputs={"number": "7"})
    repairs.repair(REFERENCE, task, reference="R-1")
    late = replace(desk.succeeded(number="8"), reference="R-2")
    desk.settle(desk.result(claim, late, attempt_id=None))
    task.refresh_from_db()
    assert (task.state, task.reference) == (TaskState.SUCCEEDED, "R-2")
    repairs.sound(order)


@pytest.mark.parametrize("answer", [desk.rejected(), desk.unknown()])
def test_what_is_not_done_owes_nothing(systems: ScriptedSystems, answer: object) -> None:
    desk.target("alpha", reconcile_after=timedelta(hours=1))
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [answer]
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["one@1"]
    repairs.refused(NotPossible, "only what is done, or accepted", REFERENCE, task, reference="R")


def test_nothing_of_a_finished_plan_changes(systems: ScriptedSystems) -> None:
    """completed-immutable"""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    desk.finish()
    task = desk.tasks_of(order)["one@1"]
    repairs.refused(NotPossible, "COMPLETED", REFERENCE, task, reference="R")


def test_whoever_may_not_is_denied_and_nothing_is_changed(systems: ScriptedSystems) -> None:
    _, task = a_task_that_owes_something()
    nobody = people.anybody("nobody", Action.TASK_WAIVE)
    repairs.refused_without_side_effect(REFERENCE, task, nobody, reference="R")
    with pytest.raises(EvidenceMissing):
        operations.prepared(
            actor=people.anybody("rita", REFERENCE),
            request=Request(
                action=REFERENCE,
                subject=f"task:{task.pk}",
                reason="because",
                parameters={"reference": "R"},
            ),
        )


def test_another_person_approves_it(systems: ScriptedSystems) -> None:
    _, task = a_task_that_owes_something()
    approval = repairs.ask(REFERENCE, task, by="olga", reference="R")
    assert approval.needs == Action.APPROVE_OPERATIONS
    with pytest.raises(Denied):
        operations.approve(approval_id=approval.pk, actor=people.almighty("olga"), reason="mine")


def test_of_two_who_enter_it_the_second_is_told(systems: ScriptedSystems) -> None:
    _, task = a_task_that_owes_something()
    first = repairs.ask(REFERENCE, task, by="rita", reference="R-1")
    second = repairs.ask(REFERENCE, task, by="ruth", reference="R-2")
    repairs.approve(first)
    with pytest.raises(NotPossible, match=r"by rita"):
        repairs.approve(second)
    task.refresh_from_db()
    assert task.reference == "R-1"
