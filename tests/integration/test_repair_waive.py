"""Waiving a task: somebody answers for its not being done, and the order goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from adapters.contract import Outcome, OutcomeKind
from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.dispatch import sweeping
from fulfillment.errors import (
    Denied,
    EvidenceMissing,
    NotPossible,
    OutcomeInDoubt,
    SubjectChanged,
)
from fulfillment.models import (
    CaseCategory,
    CaseState,
    FalloutCase,
    FanOut,
    ManualState,
    ManualTask,
    Task,
    Transition,
)
from fulfillment.operations.repair import Request
from fulfillment.states import TaskState
from oms import leakage
from oms.models import Order
from tests import desk, people, repairs
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
WAIVE = Action.TASK_WAIVE
WAIVED = TaskState.WAIVED_BY_AUTHORIZED_USER


def a_failed_task(systems: ScriptedSystems, **spec: object) -> tuple[Order, Task]:
    """`one` has been refused; `two` stands behind it."""
    desk.target("alpha", domain="logistics")
    desk.workflow({"one": desk.task(**spec), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order(region="ID")
    desk.finish()
    return order, desk.tasks_of(order)["one@1"]


def test_the_order_goes_on_without_what_was_waived(systems: ScriptedSystems) -> None:
    order, task = a_failed_task(systems)
    done = repairs.repair(WAIVE, task)
    assert "the order goes on without it" in done.told
    desk.finish()
    assert desk.states_of(order) == {"one@1": WAIVED, "two@1": "SUCCEEDED"}
    assert desk.plan_of(order).state == "COMPLETED"
    assert not FalloutCase.objects.filter(state=CaseState.OPEN).exists()
    repairs.sound(order)


def test_waiver_has_authority(systems: ScriptedSystems) -> None:
    """Who, when, why, authority, evidence, downstream impact: in the log and in the chain."""
    order, task = a_failed_task(systems)
    repairs.repair(WAIVE, task)
    record = repairs.record_of("waive")
    assert (record.actor, record.reason, record.evidence) == (
        "rita",
        repairs.REASON,
        repairs.EVIDENCE,
    )
    assert record.authority.startswith("grant ")
    assert record.order_reference == order.reference
    assert record.approval is not None
    assert record.approval.decided_by is not None
    assert record.approval.decided_by.username == "sarah"
    assert record.before["state"] == "FAILED_FINAL"
    assert record.after["state"] == WAIVED
    assert record.after["downstream"] == ["two@1"]
    assert record.customer_impact == "The order goes on without it."
    row = Transition.objects.get(entity="task", entity_id=str(task.pk), name="waive")
    assert (row.actor, row.cause) == ("rita", repairs.REASON)
    assert row.details["evidence"] == repairs.EVIDENCE
    assert row.details["authority"] == record.authority
    assert row.details["downstream"] == ["two@1"]


def test_whoever_may_not_is_denied_and_nothing_is_changed(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    nobody = people.anybody("nobody", Action.TASK_RETRY)
    elsewhere = people.actor(people.operator("elsewhere", WAIVE, regions=["SG"]))
    of_others = people.actor(people.operator("of-others", WAIVE, domains=["inventory"]))
    for actor in (nobody, elsewhere, of_others, desk.by("the engine")):
        repairs.refused_without_side_effect(WAIVE, task, actor)
    king = people.operator("king")
    king.is_superuser = True
    king.save()
    repairs.refused_without_side_effect(WAIVE, task, people.actor(king))


def test_may_retry_logistics_in_one_region_and_not_waive_billing(
    systems: ScriptedSystems,
) -> None:
    """The example of reference §30."""
    desk.target("alpha", domain="logistics")
    desk.target("beta", domain="billing")
    desk.workflow({"ship": desk.task(), "bill": desk.task("beta")})
    systems.sends["ship"], systems.sends["bill"] = [desk.rejected()], [desk.rejected()]
    order = desk.order(region="ID")
    desk.finish()
    ops = people.actor(
        people.operator("ops", Action.TASK_RETRY, WAIVE, regions=["ID"], domains=["logistics"])
    )
    tasks = desk.tasks_of(order)
    repairs.refused_without_side_effect(WAIVE, tasks["bill@1"], ops)
    assert operations.retry(task_id=tasks["ship@1"].pk, actor=ops, reason="it is back") == [
        "ship@1"
    ]


def test_nobody_waives_without_evidence(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    wanted = Request(action=WAIVE, subject=f"task:{task.pk}", reason="because")
    with pytest.raises(EvidenceMissing):
        operations.prepared(actor=people.anybody("rita", WAIVE), request=wanted)


def test_nobody_approves_their_own_waiver(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    approval = repairs.ask(WAIVE, task, by="olga")
    before = repairs.rows()
    with pytest.raises(Denied):
        operations.approve(approval_id=approval.pk, actor=people.almighty("olga"), reason="mine")
    assert repairs.rows() == before


def test_waiving_what_bills_is_for_finance(systems: ScriptedSystems) -> None:
    desk.target("beta", domain="billing")
    desk.workflow({"bill": desk.task("beta")})
    systems.sends["bill"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    approval = repairs.ask(WAIVE, desk.tasks_of(order)["bill@1"])
    assert approval.needs == Action.APPROVE_FINANCE
    with pytest.raises(Denied):
        operations.approve(
            approval_id=approval.pk,
            actor=people.anybody("otto", Action.APPROVE_OPERATIONS),
            reason="it is fine",
        )
    assert "not charged or billed" in repairs.approve(approval).financial_impact


def test_whoever_waives_a_decision_may_waive_all_that_is_not_done_with_it(
    systems: ScriptedSystems,
) -> None:
    """No billing disappears behind a decision that is no billing."""
    desk.target("alpha", domain="logistics")
    desk.target("beta", domain="billing")
    desk.workflow(
        {
            "first": desk.task(),
            "choose": desk.step(after=["first"], decide=[{"otherwise": ["bill"]}]),
            "bill": desk.task("beta"),
        }
    )
    systems.sends["first"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["choose@1"]
    ops = people.actor(people.operator("ops", WAIVE, domains=["logistics"], targets=["alpha"]))
    repairs.refused_without_side_effect(WAIVE, task, ops)
    assert repairs.ask(WAIVE, task).needs == Action.APPROVE_FINANCE


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([desk.accepted()], TaskState.ACCEPTED),
        ([desk.unknown()], TaskState.OUTCOME_UNKNOWN),
    ],
)
def test_what_may_have_happened_is_not_waived(
    systems: ScriptedSystems, answers: list[Outcome], state: TaskState
) -> None:
    desk.target("alpha", reconcile_after=timedelta(hours=1))
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = answers
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["one@1"]
    assert task.state == state
    repairs.refused(OutcomeInDoubt, "Say first what became of it", WAIVE, task)


def test_what_is_on_the_wire_is_not_waived(systems: ScriptedSystems) -> None:
    claim = desk.a_claimed_task()
    task = Task.objects.get(pk=claim.task_id)
    repairs.refused(OutcomeInDoubt, "on the wire", WAIVE, task)


def test_what_nobody_but_a_person_can_tell_is_not_waived(systems: ScriptedSystems) -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["one@1"]
    assert task.state == TaskState.AWAITING_MANUAL
    repairs.refused(OutcomeInDoubt, "Say first", WAIVE, task)


def test_what_is_sent_again_after_a_lost_answer_is_not_waived(systems: ScriptedSystems) -> None:
    desk.target("alpha", status_query=False)
    desk.workflow({"one": desk.task()})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown()))
    task = desk.tasks_of(order)["one@1"]
    assert task.state == TaskState.READY
    repairs.refused(OutcomeInDoubt, "an earlier send was lost", WAIVE, task)


def test_what_its_target_has_confirmed_since_it_failed_is_not_waived(
    systems: ScriptedSystems,
) -> None:
    claim = desk.a_claimed_task()
    desk.settle(desk.result(claim, desk.rejected()))
    desk.settle(desk.result(claim, desk.succeeded(number="7")))
    task = Task.objects.get(pk=claim.task_id)
    assert task.state == TaskState.FAILED_FINAL
    repairs.refused(OutcomeInDoubt, "has said that it was done", WAIVE, task)


def test_what_is_over_is_not_waived(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    systems.sends["two"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    repairs.refused(NotPossible, "it is over", WAIVE, desk.tasks_of(order)["one@1"])


def test_nothing_of_a_finished_plan_is_waived(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    desk.finish()
    repairs.refused(NotPossible, "COMPLETED", WAIVE, desk.tasks_of(order)["one@1"])


def test_a_written_command_is_never_sent_once_its_task_is_waived(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    repairs.repair(WAIVE, desk.tasks_of(order)["one@1"])
    assert desk.claim() == []
    desk.finish()
    assert systems.sent == []
    assert desk.plan_of(order).state == "COMPLETED"
    repairs.sound(order)


@pytest.mark.parametrize("outcome", [desk.succeeded(), desk.rejected()])
def test_a_late_answer_to_what_was_waived_is_compared(
    systems: ScriptedSystems, outcome: Outcome
) -> None:
    """That it was done after all is a conflict; that it was not, everybody knew."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.failed(retry_after=timedelta(hours=1))))
    repairs.repair(WAIVE, desk.tasks_of(order)["one@1"])
    desk.settle(desk.result(claim, outcome))
    assert desk.states_of(order)["one@1"] == WAIVED
    found = FalloutCase.objects.filter(category=CaseCategory.CONFLICT, state=CaseState.OPEN)
    assert found.exists() == (outcome.kind is OutcomeKind.SUCCEEDED)
    repairs.sound(order)


def test_values_that_later_tasks_use_have_to_be_given(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string", "note": "string"}),
            "two": desk.task(
                depends_on=[{"output": "one.number"}], input={"number": "${tasks.one.number}"}
            ),
        }
    )
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    task = desk.tasks_of(order)["one@1"]
    repairs.refused(NotPossible, "number is needed by two@1", WAIVE, task)
    repairs.refused(NotPossible, "should be string", WAIVE, task, outputs={"number": 7})
    repairs.refused(NotPossible, "no output colour", WAIVE, task, outputs={"colour": "red"})
    repairs.repair(WAIVE, task, outputs={"number": "7"})
    desk.finish()
    assert systems.sent[-1].payload == {"number": "7"}
    assert desk.plan_of(order).state == "COMPLETED"


def test_a_preview_is_what_is_done_and_changes_nothing(systems: ScriptedSystems) -> None:
    _, task = a_failed_task(systems)
    shown = repairs.previewed_as_done(WAIVE, task)
    assert [one["name"] for one in shown.transitions if one["entity"] == "task"] == [
        "one@1",
        "two@1",
    ]
    assert [one["task"] for one in shown.commands] == ["two@1"]


def test_an_approval_is_worth_nothing_once_its_task_has_moved(
    systems: ScriptedSystems,
) -> None:
    order, task = a_failed_task(systems)
    approval = repairs.ask(WAIVE, task)
    operations.retry(task_id=task.pk, actor=people.anybody("tim", Action.TASK_RETRY), reason="now")
    with pytest.raises(SubjectChanged, match=r"READY since .* by tim: tried again by hand"):
        repairs.approve(approval)
    approval.refresh_from_db()
    assert approval.state == "STALE"
    assert desk.states_of(order)["one@1"] == TaskState.READY


def test_a_manual_task_of_what_is_waived_is_withdrawn(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    ask = {
        "queue": "desk",
        "role": "clerk",
        "instructions": "Look.",
        "outcomes": {"ok": "proceed", "no": "refuse"},
        "within": "P1D",
        "otherwise": "escalate",
    }
    desk.workflow({"look": desk.step(manual=ask), "two": desk.task(after=["look"])})
    order = desk.order()
    repairs.repair(WAIVE, desk.tasks_of(order)["look@1"])
    assert ManualTask.objects.get().state == ManualState.WITHDRAWN
    desk.finish()
    assert desk.plan_of(order).state == "COMPLETED"


def test_what_only_waits_may_be_waived(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"pause": desk.step(wait={"delay": "PT5H"}), "two": desk.task(after=["pause"])})
    order = desk.order()
    task = desk.tasks_of(order)["pause@1"]
    assert task.state == TaskState.ACCEPTED
    repairs.repair(WAIVE, task)
    desk.finish()
    assert desk.plan_of(order).state == "COMPLETED"
    desk.advance(6 * 3600)
    sweeping.sweep()
    assert desk.states_of(order)["pause@1"] == WAIVED
    repairs.sound(order)


def a_list(systems: ScriptedSystems, answers: list[Outcome]) -> Order:
    desk.target("alpha")
    desk.workflow(
        {
            "find": desk.task(outputs={"rows": "list"}),
            "each": desk.task(
                for_each={"over": "${tasks.find.rows}", "at_once": 2},
                depends_on=[{"output": "find.rows"}],
            ),
            "end": desk.task(after=["each"]),
        }
    )
    systems.sends["find"] = [desk.succeeded(rows=[1, 2, 3])]
    systems.sends["each"] = answers
    order = desk.order()
    desk.finish()
    return order


def test_an_element_of_a_list_that_is_waived_counts_as_done(systems: ScriptedSystems) -> None:
    order = a_list(systems, [desk.rejected(), desk.succeeded(), desk.succeeded()])
    tasks = desk.tasks_of(order)
    failed = next(task for task in tasks.values() if task.state == TaskState.FAILED_FINAL)
    if not failed.element:
        failed = next(
            task for task in tasks.values() if task.element and task.state == TaskState.FAILED_FINAL
        )
    repairs.repair(WAIVE, failed)
    desk.finish()
    assert desk.plan_of(order).state == "COMPLETED"
    fan_out = FanOut.objects.get()
    assert (fan_out.done, fan_out.failed) == (3, [])
    repairs.sound(order)


def test_the_end_of_a_failed_list_may_be_waived_as_it_is(systems: ScriptedSystems) -> None:
    order = a_list(systems, [desk.rejected(), desk.rejected(), desk.rejected()])
    end = next(
        task
        for task in desk.tasks_of(order).values()
        if not task.element and task.state == TaskState.FAILED_FINAL
    )
    repairs.repair(WAIVE, end)
    desk.finish()
    assert desk.states_of(order)["end@1"] == "SUCCEEDED"
    repairs.sound(order)


def test_a_waived_billing_is_revenue_leakage(systems: ScriptedSystems) -> None:
    """What was waived is not billed: the detector sees that its item is active all the same."""
    desk.target("alpha")
    desk.target("beta", domain="billing")
    desk.workflow(
        {"activate": desk.task(), "bill": desk.task("beta", after=["activate"])},
        billing_trigger="order_submit",
        activation="activate",
        billing={"task": "bill", "within": "PT4H"},
    )
    systems.sends["bill"] = [desk.rejected()]
    order = desk.order(billing_account="BA-1")
    desk.finish()
    repairs.repair(WAIVE, desk.tasks_of(order)["bill@1"])
    assert desk.plan_of(order).state == "COMPLETED"
    desk.advance(5 * 3600)
    assert leakage.find_leaks() == 1
    case = FalloutCase.objects.get(category=CaseCategory.LEAKAGE)
    assert case.reason_code == "active_without_billing"


def test_a_waived_activation_counts_as_active_and_has_to_be_billed(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {"activate": desk.task(), "bill": desk.task(after=["activate"])},
        billing_trigger="order_submit",
        activation="activate",
        billing={"task": "bill", "within": "PT4H"},
    )
    systems.sends["activate"] = [desk.rejected()]
    systems.sends["bill"] = [desk.failed(retry_after=timedelta(days=2))]
    order = desk.order(billing_account="BA-1")
    desk.finish()
    repairs.repair(WAIVE, desk.tasks_of(order)["activate@1"])
    desk.finish()
    desk.advance(5 * 3600)
    assert leakage.find_leaks() == 1
    repairs.sound(order)
