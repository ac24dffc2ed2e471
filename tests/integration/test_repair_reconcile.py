"""Saying what became of a task: a person has looked it up in the target system."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.errors import Denied, EvidenceMissing, NotPossible, OutcomeInDoubt
from fulfillment.models import CaseCategory, CaseState, FalloutCase, Task, Transition
from fulfillment.operations.repair import Request
from fulfillment.states import TaskState
from oms.models import Order
from tests import desk, people, repairs
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
RECONCILE, RETRY = Action.TASK_RECONCILE, Action.TASK_RETRY


def a_task_in_doubt() -> tuple[Order, Task, Claim]:
    """Nobody but a person can tell; it has to return a number."""
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task(outputs={"number": "string"}), "two": desk.task(after=["one"])})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown()))
    task = desk.tasks_of(order)["one@1"]
    assert task.state == TaskState.AWAITING_MANUAL
    return order, task, claim


def test_what_happened_succeeds_with_what_was_found(systems: ScriptedSystems) -> None:
    order, task, _ = a_task_in_doubt()
    repairs.repair(RECONCILE, task, happened=True, outputs={"number": "7"}, reference="R-1")
    desk.finish()
    task.refresh_from_db()
    assert (task.state, task.outputs, task.reference) == ("SUCCEEDED", {"number": "7"}, "R-1")
    assert systems.actions() == ["two"]  # It was sent once, and not again.
    assert desk.plan_of(order).state == "COMPLETED"
    assert not FalloutCase.objects.filter(state=CaseState.OPEN).exists()
    repairs.sound(order)


def test_what_did_not_happen_is_sent_as_a_new_command(systems: ScriptedSystems) -> None:
    order, task, claim = a_task_in_doubt()
    systems.sends["one"] = [desk.succeeded(number="8")]
    repairs.repair(RECONCILE, task, happened=False)
    desk.finish()
    assert systems.sent[0].idempotency_key != claim.command.idempotency_key
    assert desk.plan_of(order).state == "COMPLETED"
    repairs.sound(order)


def test_what_did_not_happen_may_fail_for_good(systems: ScriptedSystems) -> None:
    order, task, _ = a_task_in_doubt()
    repairs.repair(RECONCILE, task, happened=False, then="fail")
    task.refresh_from_db()
    assert task.state == TaskState.FAILED_FINAL
    case = FalloutCase.objects.get(state=CaseState.OPEN)
    assert (case.category, case.reason_code) == (CaseCategory.REFUSED, "not_done")
    repairs.repair(Action.TASK_WAIVE, task)
    desk.finish()
    assert desk.plan_of(order).state == "COMPLETED"
    repairs.sound(order)


def test_the_outputs_are_those_that_it_declares(systems: ScriptedSystems) -> None:
    _, task, _ = a_task_in_doubt()
    repairs.refused(NotPossible, "'number' is missing", RECONCILE, task, happened=True)
    bad = {"number": 7}
    repairs.refused(NotPossible, "should be string", RECONCILE, task, happened=True, outputs=bad)
    good = {"number": "7"}
    repairs.refused(NotPossible, "has no outputs", RECONCILE, task, happened=False, outputs=good)


@pytest.mark.parametrize(
    ("happened", "name"), [(True, "confirm"), (False, "send_anew")], ids=["done", "not done"]
)
def test_a_preview_is_what_is_done_and_all_of_it_is_recorded(
    systems: ScriptedSystems, happened: bool, name: str
) -> None:
    order, task, _ = a_task_in_doubt()
    values = {"outputs": {"number": "7"}} if happened else {}
    repairs.previewed_as_done(RECONCILE, task, happened=happened, **values)
    record = repairs.record_of("reconcile")
    assert (record.actor, record.evidence) == ("rita", repairs.EVIDENCE)
    assert record.before["state"] == TaskState.AWAITING_MANUAL
    assert record.after["happened"] is happened
    assert record.approval is not None
    row = Transition.objects.get(entity="task", entity_id=str(task.pk), name=name)
    assert (row.actor, row.cause) == ("rita", repairs.REASON)
    told = row if happened else Transition.objects.get(entity="task", name="reconcile")
    assert (told.details["evidence"], told.details["happened"]) == (repairs.EVIDENCE, happened)
    repairs.sound(order)


def test_what_is_being_asked_for_may_be_told_by_a_person(systems: ScriptedSystems) -> None:
    desk.target("alpha", reconcile_after=timedelta(hours=1))
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["one@1"]
    assert task.state == TaskState.OUTCOME_UNKNOWN
    repairs.repair(RECONCILE, task, happened=True)
    desk.advance(2 * 3600)
    desk.finish()
    assert systems.queried == []
    assert desk.plan_of(order).state == "COMPLETED"


@pytest.mark.parametrize("happened", [True, False])
def test_what_was_accepted_and_is_never_reported_is_told_by_a_person(
    systems: ScriptedSystems, happened: bool
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.accepted(), desk.succeeded()]
    order = desk.order()
    desk.drain()
    repairs.repair(RECONCILE, desk.tasks_of(order)["one@1"], happened=happened)
    desk.finish()
    assert len(systems.sent) == (1 if happened else 2)
    assert desk.plan_of(order).state == "COMPLETED"
    repairs.sound(order)


def test_what_is_sent_again_after_a_lost_answer_may_be_told_before(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha", status_query=False)
    desk.workflow({"one": desk.task()})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown()))
    task = desk.tasks_of(order)["one@1"]
    assert task.state == TaskState.READY
    repairs.repair(RECONCILE, task, happened=True)
    desk.advance(3600)
    desk.finish()
    assert systems.sent == []
    assert desk.plan_of(order).state == "COMPLETED"


def test_nobody_tells_what_becomes_of_a_call_that_is_on_the_wire(
    systems: ScriptedSystems,
) -> None:
    claim = desk.a_claimed_task()
    task = Task.objects.get(pk=claim.task_id)
    repairs.refused(OutcomeInDoubt, "on the wire", RECONCILE, task, happened=False)


def test_a_call_of_what_a_person_has_in_hand_may_be_on_the_wire(systems: ScriptedSystems) -> None:
    """What was given up has happened while the new command is being sent."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    (first,) = desk.claim()
    desk.settle(desk.result(first, desk.rejected()))
    operations.retry(task_id=first.task_id, actor=people.anybody("tim", RETRY), reason="it is back")
    desk.claim()
    desk.settle(desk.result(first, desk.succeeded()))
    task = desk.tasks_of(order)["one@1"]
    assert task.state == TaskState.AWAITING_MANUAL
    repairs.refused(OutcomeInDoubt, "on the wire", RECONCILE, task, happened=True)
    repairs.refused(OutcomeInDoubt, "on the wire", Action.TASK_WAIVE, task)


def test_what_was_done_after_all_is_gone_on_with(systems: ScriptedSystems) -> None:
    """Nothing was sent since: it succeeds with what the command before has returned."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    (first,) = desk.claim()
    desk.settle(desk.result(first, desk.rejected()))
    operations.retry(task_id=first.task_id, actor=people.anybody("tim", RETRY), reason="it is back")
    desk.settle(desk.result(first, desk.succeeded()))
    task = desk.tasks_of(order)["one@1"]
    assert task.state == TaskState.AWAITING_MANUAL
    repairs.repair(RECONCILE, task, happened=True)
    assert systems.sent == []
    assert desk.plan_of(order).state == "COMPLETED"
    assert not FalloutCase.objects.filter(state=CaseState.OPEN).exists()
    repairs.sound(order)


def test_nothing_is_found_out_of_what_is_not_in_doubt(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(),
            "two": desk.task(after=["one"]),
            "three": desk.task(after=["two"]),
            "wait": desk.step(after=["one"], wait={"delay": "PT5H"}),
        }
    )
    systems.sends["two"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    tasks = desk.tasks_of(order)
    no = {"happened": False}
    repairs.refused(NotPossible, "is undone instead", RECONCILE, tasks["one@1"], happened=True)
    repairs.refused(NotPossible, "nothing of it is in doubt", RECONCILE, tasks["two@1"], **no)
    repairs.refused(NotPossible, "nothing of it is in doubt", RECONCILE, tasks["three@1"], **no)
    repairs.refused(NotPossible, "asks no target system", RECONCILE, tasks["wait@1"], **no)


def test_what_was_refused_because_it_was_there_already_is_done(systems: ScriptedSystems) -> None:
    """“Exists already”: a refusal that a person knows better."""
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.rejected("exists")]
    order = desk.order()
    desk.finish()
    repairs.repair(RECONCILE, desk.tasks_of(order)["one@1"], happened=True, reference="R-1")
    desk.finish()
    assert systems.actions() == ["one", "two"]
    assert desk.plan_of(order).state == "COMPLETED"
    repairs.sound(order)


def test_what_is_confirmed_after_it_failed_is_settled_by_a_person(
    systems: ScriptedSystems,
) -> None:
    claim = desk.a_claimed_task()
    order = Order.objects.get()
    desk.settle(desk.result(claim, desk.rejected()))
    desk.settle(desk.result(claim, desk.succeeded(number="7")))
    task = desk.tasks_of(order)["one@1"]
    tim = people.anybody("tim", RETRY)
    with pytest.raises(OutcomeInDoubt):
        operations.retry(task_id=task.pk, actor=tim, reason="it failed")
    repairs.repair(RECONCILE, task, happened=False, then="fail")
    task.refresh_from_db()
    assert task.state == TaskState.FAILED_FINAL
    assert operations.retry(task_id=task.pk, actor=tim, reason="undone there") == ["one@1"]
    repairs.sound(order)


@pytest.mark.parametrize("happened", [True, False])
def test_a_late_answer_that_contradicts_it_is_a_conflict(
    systems: ScriptedSystems, happened: bool
) -> None:
    order, task, claim = a_task_in_doubt()
    values = {"outputs": {"number": "7"}} if happened else {"then": "fail"}
    repairs.repair(RECONCILE, task, happened=happened, **values)
    outcome = desk.rejected() if happened else desk.succeeded(number="7")
    desk.settle(desk.result(claim, outcome))
    found = FalloutCase.objects.filter(category=CaseCategory.CONFLICT, state=CaseState.OPEN)
    assert found.count() == 1
    task.refresh_from_db()
    assert task.state == (TaskState.SUCCEEDED if happened else TaskState.FAILED_FINAL)
    repairs.sound(order)


def test_a_late_success_of_what_is_sent_anew_stops_it(systems: ScriptedSystems) -> None:
    """A person was wrong: it is not done twice knowingly."""
    order, task, claim = a_task_in_doubt()
    repairs.repair(RECONCILE, task, happened=False)
    desk.settle(desk.result(claim, desk.succeeded(number="7")))
    task.refresh_from_db()
    assert task.state == TaskState.AWAITING_MANUAL
    desk.finish()
    assert systems.sent == []
    assert FalloutCase.objects.filter(reason_code="done_after_all").exists()
    repairs.sound(order)


def test_whoever_may_not_is_denied_and_nothing_is_changed(systems: ScriptedSystems) -> None:
    _, task, _ = a_task_in_doubt()
    nobody = people.anybody("nobody", Action.TASK_WAIVE)
    repairs.refused_without_side_effect(RECONCILE, task, nobody, happened=False)
    with pytest.raises(EvidenceMissing):
        operations.prepared(
            actor=people.anybody("rita", RECONCILE),
            request=Request(
                action=RECONCILE,
                subject=f"task:{task.pk}",
                reason="because",
                parameters={"happened": False},
            ),
        )


def test_another_person_approves_it_and_payment_control_what_charges(
    systems: ScriptedSystems,
) -> None:
    desk.target("pay", domain="payment", idempotent=False, status_query=False)
    desk.workflow({"charge": desk.task("pay")})
    systems.sends["charge"] = [desk.unknown()]
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["charge@1"]
    approval = repairs.ask(RECONCILE, task, by="olga", happened=False)
    assert approval.needs == Action.APPROVE_PAYMENT
    for actor in (
        people.almighty("olga"),
        people.anybody("otto", Action.APPROVE_OPERATIONS, Action.APPROVE_FINANCE),
    ):
        with pytest.raises(Denied):
            operations.approve(approval_id=approval.pk, actor=actor, reason="yes")
    assert "may charge" in repairs.approve(approval).financial_impact


def test_whoever_approves_too_late_is_told_who_did_what(systems: ScriptedSystems) -> None:
    _, task, _ = a_task_in_doubt()
    number = {"number": "7"}
    first = repairs.ask(RECONCILE, task, by="rita", happened=True, outputs=number)
    second = repairs.ask(RECONCILE, task, by="ruth", happened=False)
    repairs.approve(first)
    with pytest.raises(NotPossible, match=r"SUCCEEDED since .* by rita"):
        repairs.approve(second)
    assert systems.sent == []
