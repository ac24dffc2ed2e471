"""Trying again by hand: only what is known to have had no effect."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import (
    ApprovalNeeded,
    Denied,
    NothingToRetry,
    OutcomeInDoubt,
    SubjectChanged,
)
from fulfillment.models import Command, Task, Transition
from fulfillment.states import TaskState
from oms.models import Order
from tests import desk, people, repairs
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
RETRY = Action.TASK_RETRY


def a_failed_task(systems: ScriptedSystems, domain: str = "logistics") -> tuple[Order, Task]:
    desk.target("alpha", domain=domain)
    desk.workflow({"one": desk.task(input={"n": 1})})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    return order, desk.tasks_of(order)["one@1"]


def test_the_record_says_who_when_why_and_what_it_means(systems: ScriptedSystems) -> None:
    order, task = a_failed_task(systems)
    tim = people.anybody("tim", RETRY)
    prepared = operations.prepared(actor=tim, request=repairs.request(RETRY, task))
    before = repairs.rows()
    shown = prepared.preview()
    assert repairs.rows() == before
    done = prepared.perform()
    assert (done.told, done.before, done.after) == (
        shown.done.told,
        shown.done.before,
        shown.done.after,
    )
    assert [one["payload"] for one in shown.commands] == [
        command.payload for command in Command.objects.filter(revision=2)
    ]
    record = repairs.record_of("retry")
    assert (record.actor, record.reason) == ("tim", repairs.REASON)
    assert record.authority.startswith("grant ")
    assert (record.before["state"], record.after["state"]) == ("FAILED_FINAL", "READY")
    assert record.customer_impact == "The order can't complete without it."
    row = Transition.objects.get(entity="task", entity_id=str(task.pk), name="try_again")
    assert row.actor == "tim"
    repairs.sound(order)


def test_whoever_may_not_is_denied_and_nothing_is_changed(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    repairs.refused_without_side_effect(RETRY, task, people.anybody("w", Action.TASK_WAIVE))


def test_a_charge_is_retried_by_two_people(systems: ScriptedSystems) -> None:
    """What may charge is never tried again by one person alone."""
    order, task = a_failed_task(systems, domain="payment")
    with pytest.raises(ApprovalNeeded):
        operations.retry(task_id=task.pk, actor=people.anybody("tim", RETRY), reason="again")
    approval = repairs.ask(RETRY, task, by="olga")
    assert approval.needs == Action.APPROVE_PAYMENT
    with pytest.raises(Denied):
        operations.approve(approval_id=approval.pk, actor=people.almighty("olga"), reason="mine")
    assert len(systems.sent) == 1
    assert "may charge" in repairs.approve(approval).financial_impact
    desk.finish()
    assert desk.plan_of(order).state == "COMPLETED"


@pytest.mark.parametrize(
    "answer", [desk.accepted(), desk.unknown(), desk.failed(retry_after=timedelta(hours=1))]
)
def test_what_has_not_failed_for_good_is_not_tried_again(
    systems: ScriptedSystems, answer: object
) -> None:
    desk.target("alpha", reconcile_after=timedelta(hours=1))
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [answer]
    order = desk.order()
    desk.drain()
    before = repairs.rows()
    with pytest.raises(NothingToRetry, match="only what has failed for good"):
        repairs.preview(RETRY, desk.tasks_of(order)["one@1"])
    assert repairs.rows() == before


def test_what_its_target_has_confirmed_since_it_failed_is_not_tried_again(
    systems: ScriptedSystems,
) -> None:
    """one-effect-per-key: a new key would do it a second time."""
    claim = desk.a_claimed_task()
    desk.settle(desk.result(claim, desk.rejected()))
    desk.settle(desk.result(claim, desk.succeeded(number="7")))
    task = Task.objects.get(pk=claim.task_id)
    before = repairs.rows()
    with pytest.raises(OutcomeInDoubt, match="has said that it was done"):
        repairs.preview(RETRY, task)
    assert repairs.rows() == before


def test_of_a_list_no_element_is_tried_again_that_was_confirmed_since_it_failed(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"port": desk.task(for_each={"over": "${item.characteristics.numbers}"})})
    order = desk.order(desk.item(characteristics={"numbers": ["1"]}))
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.rejected()))
    desk.settle(desk.result(claim, desk.succeeded()))
    end = next(
        task
        for task in desk.tasks_of(order).values()
        if task.pk != claim.task_id and task.state == TaskState.FAILED_FINAL
    )
    before = repairs.rows()
    with pytest.raises(OutcomeInDoubt, match="has said that it was done"):
        repairs.preview(RETRY, end)
    assert repairs.rows() == before


def test_whoever_looks_at_an_old_version_is_told_who_did_what(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    version = repairs.preview(RETRY, task).version
    operations.retry(task_id=task.pk, actor=people.anybody("tim", RETRY), reason="again")
    late = operations.prepared(
        actor=people.anybody("tom", RETRY), request=repairs.request(RETRY, task, version=version)
    )
    before = repairs.rows()
    with pytest.raises(SubjectChanged, match=r"READY since .* by tim: tried again by hand"):
        late.perform()
    assert repairs.rows() == before


def test_that_it_was_sent_is_not_what_it_was_for(systems: ScriptedSystems) -> None:
    """Verified means that it has succeeded."""
    _, task = a_failed_task(systems)
    systems.sends["one"] = [desk.rejected()]
    repair = operations.repair_of(RETRY)
    operations.retry(task_id=task.pk, actor=people.anybody("tim", RETRY), reason="again")
    assert repair.came_about(pks=[task.pk])[task.pk].is_so is None
    desk.finish()
    assert repair.came_about(pks=[task.pk])[task.pk].is_so is False
    repairs.repair(Action.TASK_WAIVE, task)
    assert operations.repair_of(Action.TASK_WAIVE).came_about(pks=[task.pk])[task.pk].is_so
    assert TaskState(Task.objects.get(pk=task.pk).state) is TaskState.WAIVED_BY_AUTHORIZED_USER
