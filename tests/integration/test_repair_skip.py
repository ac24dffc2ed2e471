"""Skipping a task: this order does not need it, and nobody misses anything."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.plans import rest
from fulfillment.errors import Denied, NotPossible, OutcomeInDoubt
from fulfillment.models import CaseCategory, FalloutCase, Task, Transition
from fulfillment.states import TaskState
from oms import leakage
from oms.models import BillingMatch, Order
from tests import desk, people, repairs
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
SKIP = Action.TASK_SKIP
SKIPPED = TaskState.SKIPPED_BY_POLICY


def a_failed_task(systems: ScriptedSystems, **spec: object) -> tuple[Order, Task]:
    desk.target("alpha")
    desk.workflow({"one": desk.task(**spec), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    return order, desk.tasks_of(order)["one@1"]


def test_the_order_goes_on_without_what_was_skipped(systems: ScriptedSystems) -> None:
    order, task = a_failed_task(systems)
    repairs.repair(SKIP, task)
    desk.finish()
    assert desk.states_of(order) == {"one@1": SKIPPED, "two@1": "SUCCEEDED"}
    assert desk.plan_of(order).state == "COMPLETED"
    repairs.sound(order)


def test_waiver_has_authority_and_so_has_a_skip(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    repairs.repair(SKIP, task)
    record = repairs.record_of("skip")
    assert (record.actor, record.reason, record.evidence) == (
        "rita",
        repairs.REASON,
        repairs.EVIDENCE,
    )
    assert record.approval is not None
    assert record.before["state"] == "FAILED_FINAL"
    assert (record.after["state"], record.after["downstream"]) == (SKIPPED, ["two@1"])
    row = Transition.objects.get(entity="task", entity_id=str(task.pk), name="leave_out")
    assert row.details["evidence"] == repairs.EVIDENCE
    assert row.details["authority"] == record.authority
    assert row.details["downstream"] == ["two@1"]


def test_whoever_may_not_is_denied_and_nothing_is_changed(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    repairs.refused_without_side_effect(SKIP, task, people.anybody("w", Action.TASK_WAIVE))
    elsewhere = people.operator("elsewhere", SKIP, targets=["beta"])
    repairs.refused_without_side_effect(SKIP, task, people.actor(elsewhere))


def test_a_required_task_is_skipped_by_two_people(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    approval = repairs.ask(SKIP, task, by="olga")
    assert approval.needs == Action.APPROVE_OPERATIONS
    with pytest.raises(Denied):
        operations.approve(approval_id=approval.pk, actor=people.almighty("olga"), reason="mine")
    task.refresh_from_db()
    assert task.state == TaskState.FAILED_FINAL


def test_a_preview_is_what_is_done_and_changes_nothing(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    repairs.previewed_as_done(SKIP, task)


def test_what_may_have_happened_is_not_skipped(systems: ScriptedSystems) -> None:
    desk.target("alpha", reconcile_after=timedelta(hours=1))
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    desk.drain()
    repairs.refused(OutcomeInDoubt, "Say first", SKIP, desk.tasks_of(order)["one@1"])


def test_what_is_over_is_not_skipped(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    systems.sends["two"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    repairs.refused(NotPossible, "it is over", SKIP, desk.tasks_of(order)["one@1"])


def test_what_later_tasks_use_can_not_be_skipped(systems: ScriptedSystems) -> None:
    """Skipped, it has no outputs; waived, somebody gives them."""
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}),
            "two": desk.task(
                depends_on=[{"output": "one.number"}], input={"number": "${tasks.one.number}"}
            ),
        }
    )
    order = desk.order()
    task = desk.tasks_of(order)["one@1"]
    repairs.refused(NotPossible, "number is needed by two@1", SKIP, task)
    repairs.repair(SKIP, desk.tasks_of(order)["two@1"])
    repairs.repair(SKIP, task)
    assert desk.plan_of(order).state == "COMPLETED"
    repairs.sound(order)


def test_a_task_before_its_turn_may_be_skipped(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task(), "two": desk.task(after=["one"]), "three": desk.task(after=["two"])}
    )
    order = desk.order()
    repairs.repair(SKIP, desk.tasks_of(order)["two@1"])
    desk.finish()
    assert systems.actions() == ["one", "three"]
    assert desk.plan_of(order).state == "COMPLETED"


def test_whoever_approves_too_late_is_told_who_did_what(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    approval = repairs.ask(SKIP, task, by="ruth")
    repairs.repair(Action.TASK_WAIVE, task)
    before = repairs.rows()["Task"]
    with pytest.raises(NotPossible, match="WAIVED_BY_AUTHORIZED_USER since .* by rita|it is over"):
        repairs.approve(approval)
    assert repairs.rows()["Task"] == before


def test_a_late_success_of_what_was_skipped_is_a_conflict(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.failed(retry_after=timedelta(hours=1))))
    repairs.repair(SKIP, desk.tasks_of(order)["one@1"])
    desk.settle(desk.result(claim, desk.succeeded()))
    assert FalloutCase.objects.get(state="OPEN").category == CaseCategory.CONFLICT
    assert desk.states_of(order)["one@1"] == SKIPPED
    repairs.sound(order)


def test_a_skipped_activation_is_no_service_that_is_billed(systems: ScriptedSystems) -> None:
    """The difference to a waiver: nobody is told that it is there, so what is billed leaks."""
    desk.target("alpha")
    desk.workflow(
        {"activate": desk.task(), "bill": desk.task(after=["activate"])},
        billing_trigger="order_submit",
        activation="activate",
        billing={"task": "bill", "within": "PT4H"},
    )
    systems.sends["activate"] = [desk.rejected()]
    order = desk.order(billing_account="BA-1")
    desk.finish()
    repairs.repair(SKIP, desk.tasks_of(order)["activate@1"])
    desk.finish()
    assert BillingMatch.objects.get().service_at is None
    desk.advance(5 * 3600)
    assert leakage.find_leaks() == 1
    case = FalloutCase.objects.get(category=CaseCategory.LEAKAGE)
    assert case.reason_code == "billed_without_service"


def test_an_undo_is_not_skipped(systems: ScriptedSystems) -> None:
    """No resource is left behind because somebody finds that it does not matter."""
    desk.target("alpha")
    undo = {"target": "alpha", "action": "free"}
    desk.workflow(
        {"one": desk.task(compensation=undo), "two": desk.task(after=["one"])},
        on_failure="compensate",
    )
    systems.sends["two"] = [desk.rejected()]
    systems.sends["free"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    rest.look()
    desk.finish()
    failed = Task.objects.get(fulfillment_id=order.fulfillment_id, plan__state="COMPENSATING")
    assert failed.state == TaskState.FAILED_FINAL
    repairs.refused(NotPossible, "undoes what has been done", SKIP, failed)
    repairs.repair(Action.TASK_WAIVE, failed)
    assert desk.newest_plan_of(order).state == "FAILED"
    repairs.sound(order)
