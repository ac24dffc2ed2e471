"""Each outcome of a manual task does what it says, to the end of the plan."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db.models import QuerySet

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import rest, signals
from fulfillment.errors import (
    ApprovalNeeded,
    DefinitionInvalid,
    Denied,
    EvidenceMissing,
    NotPossible,
)
from fulfillment.models import FalloutCase, Hold, ManualTask, Operation, OutboxEvent, Task
from oms.models import CancellationRequest, Notification, Order
from tests import by_hand, desk, manual_work, people, repairs
from tests.desk import ScriptedSystems, by
from tests.manual_work import decide, decide_by_two, steps_of, the_one

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]


def worker(name: str = "rob", *actions: Action, role: str = "") -> Actor:
    user = people.operator(name, Action.MANUAL_DECIDE, *actions)
    if role:
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    return people.actor(user)


def state_of(order: Order) -> str:
    order.refresh_from_db()
    return str(order.state)


def mend(order: Order) -> None:
    """What was missing has been told since."""
    Task.objects.filter(key="one@1", plan__fulfillment=order.fulfillment_id).update(
        outputs={"number": "N-1"}
    )


# --- repaired ------------------------------------------------------------------------------------


def test_repaired_is_looked_at_again_and_goes_on(systems: ScriptedSystems) -> None:
    order = manual_work.without_its_input(systems)
    mend(order)
    manual = decide(order, "REPAIRED")
    desk.finish()
    assert state_of(order) == "COMPLETED"
    assert systems.actions() == ["one", "two", "three"]
    assert [name for name, _, _ in steps_of(manual)] == ["open", "claim", "decide"]
    assert not FalloutCase.objects.exclude(state="RESOLVED").exists()
    assert by_hand.is_intact(order)


def test_what_is_not_repaired_is_refused_and_changes_nothing(systems: ScriptedSystems) -> None:
    order = manual_work.without_its_input(systems)
    before = by_hand.everything()
    with pytest.raises(NotPossible, match="still can't begin.* The number of one is missing"):
        decide(order, "REPAIRED")
    assert by_hand.differing(before) == []


def test_values_that_were_unusable_are_entered_by_two(systems: ScriptedSystems) -> None:
    order = manual_work.with_unusable_outputs(systems)
    rob = worker("rob", Action.TASK_REFERENCE)
    with pytest.raises(ApprovalNeeded):
        decide(order, "REPAIRED", values={"number": "N-1"}, evidence="Seen.", actor=rob)
    with pytest.raises(DefinitionInvalid, match="'number' has to be entered"):
        decide_by_two(order, "REPAIRED", actor=rob)
    decide_by_two(order, "REPAIRED", actor=rob, values={"number": "N-1"})
    desk.finish()
    assert state_of(order) == "COMPLETED"
    assert systems.sent[-1].payload == {"number": "N-1"}
    assert the_one(order).decided_by == "rob"
    assert systems.actions() == ["one", "two"]


def test_what_has_happened_is_told_by_two_and_not_sent_again(systems: ScriptedSystems) -> None:
    order = manual_work.in_doubt(systems)
    rob = worker("rob", Action.TASK_RECONCILE)
    with pytest.raises(DefinitionInvalid, match="Say whether alpha has done it"):
        decide_by_two(order, "REPAIRED", actor=rob)
    with pytest.raises(DefinitionInvalid, match="'number' has to be entered"):
        decide_by_two(order, "REPAIRED", actor=rob, values={"happened": True})
    told = {"happened": True, "number": "N-1", "reference": "A-7"}
    decide_by_two(order, "REPAIRED", actor=rob, values=told)
    desk.finish()
    assert state_of(order) == "COMPLETED"
    assert systems.actions() == ["one", "two"]
    assert desk.tasks_of(order)["one@1"].reference == "A-7"


def test_what_has_not_happened_is_sent_anew_under_another_key(systems: ScriptedSystems) -> None:
    order = manual_work.in_doubt(systems)
    rob = worker("rob", Action.TASK_RECONCILE)
    systems.sends["one"] = [desk.succeeded(number="N-2")]
    decide_by_two(order, "REPAIRED", actor=rob, values={"happened": False})
    desk.finish()
    assert state_of(order) == "COMPLETED"
    first, second = (one for one in systems.sent if one.action == "one")
    assert first.idempotency_key != second.idempotency_key


def test_a_report_that_never_came_is_entered(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "paid": desk.step(
                wait={"signal": "paid", "key": "K", "within": "PT1H", "otherwise": "escalate"},
                outputs={"amount": "integer"},
            ),
            "ship": desk.task(
                depends_on=[{"output": "paid.amount"}], input={"amount": "${tasks.paid.amount}"}
            ),
        }
    )
    order = desk.order()
    clock(3700)
    sweeping.sweep()
    manual = the_one(order)
    assert (manual.trouble, list(manual.fields)) == ("REPORT", ["amount"])
    with pytest.raises(DefinitionInvalid, match="should be integer"):
        decide(order, "REPAIRED", values={"amount": "much"})
    decide(order, "REPAIRED", values={"amount": 5})
    desk.finish()
    assert state_of(order) == "COMPLETED"
    assert systems.sent[-1].payload == {"amount": 5}


def test_a_report_that_comes_after_all_withdraws_the_question(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "paid": desk.step(
                wait={"milestone": "paid", "within": "PT1H", "otherwise": "escalate"}
            ),
            "ship": desk.task(after=["paid"]),
        }
    )
    order = desk.order()
    clock(3700)
    sweeping.sweep()
    manual = the_one(order)
    assert str(manual.state) == "OPEN"
    report(order, "paid")
    desk.finish()
    manual.refresh_from_db()
    assert str(manual.state) == "WITHDRAWN"
    assert state_of(order) == "COMPLETED"


def report(order: Order, name: str, **payload: Any) -> None:
    signals.receive(
        source="a test",
        event_id=f"{name} of {order.reference}",
        name=name,
        subject=signals.of_order(business_key=order.fulfillment.business_key),
        payload=payload,
    )


# --- waived and rejected -------------------------------------------------------------------------


def test_waiving_takes_the_authority_to_waive_and_a_second_person(
    systems: ScriptedSystems,
) -> None:
    order = manual_work.without_its_input(systems)
    before = by_hand.everything()
    with pytest.raises(Denied, match="permission task.waive is missing"):
        decide(order, "WAIVED", actor=worker("eve"), evidence="Seen.")
    rob = worker("rob", Action.TASK_WAIVE)
    with pytest.raises(ApprovalNeeded):
        decide(order, "WAIVED", actor=rob, evidence="Seen.")
    with pytest.raises(Denied):
        decide(order, "WAIVED", actor=by("ann"), evidence="The engine waives nothing.")
    assert by_hand.differing(before) == []
    decide_by_two(order, "WAIVED", actor=rob)
    desk.finish()
    assert state_of(order) == "COMPLETED"
    assert desk.states_of(order)["two@1"] == "WAIVED_BY_AUTHORIZED_USER"
    assert systems.actions() == ["one", "three"]
    done = Operation.objects.get(kind="decide")
    assert (done.actor, done.evidence) == ("rob", by_hand.EVIDENCE)
    assert done.approval is not None
    assert by_hand.is_intact(order)


def test_a_workflow_s_own_question_may_be_waived(systems: ScriptedSystems) -> None:
    order = manual_work.asked()
    rob = worker("rob", Action.TASK_WAIVE, role="manager")
    decide_by_two(order, "waived", actor=rob)
    desk.finish()
    assert state_of(order) == "COMPLETED"
    review = desk.tasks_of(order)["review@1"]
    assert (str(review.state), review.outputs) == (
        "WAIVED_BY_AUTHORIZED_USER",
        {"outcome": "waived"},
    )


def test_what_high_risk_decisions_rest_on_has_to_be_said(systems: ScriptedSystems) -> None:
    order = manual_work.without_its_input(systems)
    asked = operations.Request(
        action=Action.MANUAL_DECIDE,
        subject=f"manual:{the_one(order).pk}",
        reason="So it is.",
        parameters={"outcome": "WAIVED"},
    )
    prepared = operations.prepared(actor=worker("rob", Action.TASK_WAIVE), request=asked)
    with pytest.raises(EvidenceMissing):
        prepared.preview()


def test_rejected_fails_and_the_order_stops_there(systems: ScriptedSystems) -> None:
    order = manual_work.without_its_input(systems)
    decide(order, "REJECTED")
    desk.finish()
    assert desk.states_of(order)["two@1"] == "FAILED_FINAL"
    assert FalloutCase.objects.exclude(state="RESOLVED").get().reason_code == "decided_REJECTED"
    assert str(the_one(order).state) == "DECIDED"


def test_rejected_undoes_where_its_workflow_says_so(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    check = {"check": "order.region == 'AT'", "message": "We only deliver to AT."}
    desk.workflow(
        {
            "one": desk.task(compensation={"action": "take_back", "input": {}}),
            "two": desk.task(after=["one"], preconditions=[check]),
        },
        on_failure="compensate",
    )
    order = desk.order(region="FR")
    desk.finish()
    decide(order, "REJECTED")
    desk.finish()
    rest.look()
    desk.finish()
    assert systems.actions() == ["one", "take_back"]
    assert state_of(order) == "FAILED"


def test_what_was_not_done_and_is_not_to_be_is_rejected_by_two(systems: ScriptedSystems) -> None:
    order = manual_work.in_doubt(systems)
    rob = worker("rob", Action.TASK_RECONCILE)
    with pytest.raises(DefinitionInvalid, match="What has happened is not rejected"):
        decide_by_two(order, "REJECTED", actor=rob, values={"happened": True})
    decide_by_two(order, "REJECTED", actor=rob, values={"happened": False})
    desk.finish()
    assert desk.states_of(order)["one@1"] == "FAILED_FINAL"
    assert systems.actions() == ["one"]


def questions_to(order: Order) -> QuerySet[Notification]:
    return Notification.objects.filter(
        order=order, channel="email", occasion__startswith="question:"
    )


# --- the customer --------------------------------------------------------------------------------


def test_the_customer_is_asked_and_time_stands_still(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = manual_work.asked()
    manual, plan = the_one(order), desk.plan_of(order)
    due, finish_by = manual.due_at, plan.finish_by
    assert due is not None
    assert finish_by is not None
    with pytest.raises(DefinitionInvalid, match="Say what the customer is asked"):
        decide(order, "asked")
    decide(order, "asked", question="Which colour?", reason="He has forgotten it.")
    manual.refresh_from_db()
    assert (str(manual.state), manual.awaits, manual.claimed_by) == (
        "AWAITING_CUSTOMER",
        "customer",
        "ann",
    )
    (mail,) = questions_to(order)
    assert mail.recipient == "ann@example.com"
    assert "Which colour?" in mail.body
    assert "forgotten" not in mail.body
    task = desk.tasks_of(order)["review@1"]
    assert (str(task.state), str(task.waits_for)) == ("AWAITING_MANUAL", "CUSTOMER")
    clock(5 * 24 * 3600)
    sweeping.sweep()
    manual.refresh_from_db()
    assert (str(manual.state), manual.escalations) == ("AWAITING_CUSTOMER", 0)
    operations.resume(
        manual_id=manual.pk, actor=by("ann"), reason="He has rung.", answer={"colour": "red"}
    )
    manual.refresh_from_db()
    assert (str(manual.state), manual.context["answer"]) == ("CLAIMED", {"colour": "red"})
    assert manual.due_at is not None
    assert abs(manual.due_at - due - timedelta(days=5)) < timedelta(minutes=1)
    plan.refresh_from_db()
    assert plan.finish_by is not None
    assert abs(plan.finish_by - finish_by - timedelta(days=5)) < timedelta(minutes=1)
    decide(order, "approved")
    desk.finish()
    assert state_of(order) == "COMPLETED"
    assert [name for name, _, _ in steps_of(manual)] == [
        "open",
        "claim",
        "await_customer",
        "resume",
        "decide",
    ]
    assert by_hand.is_intact(order)


def test_the_customer_s_answer_lets_it_go_on(systems: ScriptedSystems) -> None:
    order = manual_work.without_its_input(systems)
    decide(order, "NEEDS_CUSTOMER_INPUT", question="What number?")
    case = FalloutCase.objects.get()
    assert (str(case.state), case.customer_asked) == ("AWAITING_CUSTOMER", "What number?")
    report(order, "customer_answered", number="N-1")
    manual = the_one(order)
    assert (str(manual.state), manual.context["answer"]) == ("CLAIMED", {"number": "N-1"})
    task = desk.tasks_of(order)["two@1"]
    case.refresh_from_db()
    assert (str(case.state), case.assigned_to) == ("ASSIGNED", "ann")
    assert "The number of one is missing." in task.blocked_reason
    assert str(task.waits_for) == "REPAIR"


def test_who_decides_while_the_customer_is_awaited_needs_no_answer(
    systems: ScriptedSystems,
) -> None:
    order = manual_work.asked()
    decide(order, "asked", question="Which colour?")
    decide(order, "asked", question="Red or blue?")
    assert questions_to(order).count() == 2
    decide(order, "approved")
    desk.finish()
    assert state_of(order) == "COMPLETED"
    assert desk.plan_of(order).stopped_at is None


def test_the_clock_goes_on_when_it_is_repaired_without_the_manual_task(
    systems: ScriptedSystems,
) -> None:
    """Nobody waits for the customer any more, so the deadline runs on."""
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task()}, deadline={"within": "P10D"})
    systems.sends["one"] = [desk.unknown(), desk.accepted()]
    order = desk.order()
    desk.finish()
    decide(order, "NEEDS_CUSTOMER_INPUT", question="Has it come?")
    assert desk.plan_of(order).stopped_at is not None
    was_due = desk.plan_of(order).finish_by
    desk.advance(3600)
    task = desk.tasks_of(order)["one@1"]
    repairs.repair(Action.TASK_RECONCILE, task, happened=False)
    desk.drain()
    assert (desk.states_of(order)["one@1"], str(the_one(order).state)) == ("ACCEPTED", "WITHDRAWN")
    plan = desk.plan_of(order)
    assert plan.stopped_at is None
    assert was_due is not None
    assert plan.finish_by is not None
    assert plan.finish_by >= was_due + timedelta(hours=1)


@pytest.mark.parametrize("by_decision", [True, False])
def test_a_case_of_several_goes_on_when_the_one_that_had_asked_is_settled(
    systems: ScriptedSystems, by_decision: bool
) -> None:
    """The customer is awaited no more: else its time would stand still for ever."""
    desk.target("alpha", idempotent=False, status_query=False)
    each = {"over": "${item.characteristics.sites}", "at_once": 2}
    desk.workflow({"one": desk.task(for_each=each)})
    systems.sends["one"] = [desk.unknown(), desk.unknown()]
    order = desk.order(desk.item(characteristics={"sites": ["a", "b"]}))
    desk.finish()
    case = FalloutCase.objects.get()
    first, _ = ManualTask.objects.order_by("pk")
    assert case.tasks_open == 2
    operations.decide(
        manual_id=first.pk,
        outcome="NEEDS_CUSTOMER_INPUT",
        question="Has it come?",
        actor=by("ann"),
        reason="Nobody here knows.",
    )
    case.refresh_from_db()
    assert (str(case.state), case.sla_paused_at is None) == ("AWAITING_CUSTOMER", False)
    if by_decision:
        ann = people.operator("ann", Action.MANUAL_DECIDE, Action.TASK_RECONCILE)
        ann.groups.add(Group.objects.get_or_create(name=first.role)[0])
        wanted = by_hand.request(
            Action.MANUAL_DECIDE,
            f"manual:{first.pk}",
            outcome="REPAIRED",
            values={"happened": True},
        )
        by_hand.done_by_two(wanted, actor=people.actor(ann))
    else:
        repairs.repair(Action.TASK_RECONCILE, first.task, happened=True)
    case.refresh_from_db()
    assert case.tasks_open == 1
    assert (str(case.state), case.sla_paused_at) == ("ASSIGNED", None)
    assert by_hand.is_intact(order)


def test_a_case_of_several_waits_until_every_answer_is_there(systems: ScriptedSystems) -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    each = {"over": "${item.characteristics.sites}", "at_once": 2}
    desk.workflow({"one": desk.task(for_each=each)})
    systems.sends["one"] = [desk.unknown(), desk.unknown()]
    desk.order(desk.item(characteristics={"sites": ["a", "b"]}))
    desk.finish()
    case, asked = FalloutCase.objects.get(), list(ManualTask.objects.order_by("pk"))
    for one in asked:
        operations.decide(
            manual_id=one.pk,
            outcome="NEEDS_CUSTOMER_INPUT",
            question="Has it come?",
            actor=by("ann"),
            reason="Nobody here knows.",
        )
    for one, state in zip(asked, ("AWAITING_CUSTOMER", "ASSIGNED"), strict=True):
        operations.resume(manual_id=one.pk, actor=by("ann"), reason="They have rung.")
        case.refresh_from_db()
        assert str(case.state) == state


# --- commerce ------------------------------------------------------------------------------------


def test_a_new_quote_holds_the_order_and_is_told_to_commerce(systems: ScriptedSystems) -> None:
    order = manual_work.asked()
    decide(order, "requote", question="The cable is longer than sold.")
    hold = Hold.objects.get()
    assert (hold.subject, hold.released_at) == (f"order:{order.reference}", None)
    assert "The cable is longer than sold." in hold.reason
    told = OutboxEvent.objects.get(event_type="OrderNeedsRequote")
    assert (told.payload["reason"], told.payload["asked_by"]) == (
        "The cable is longer than sold.",
        "ann",
    )
    manual = the_one(order)
    assert (str(manual.state), manual.awaits, manual.hold_id) == (
        "AWAITING_CUSTOMER",
        "commerce",
        hold.pk,
    )
    operations.release_hold(hold_id=hold.pk, actor=by("bob"), reason="It is as it was.")
    manual.refresh_from_db()
    assert (str(manual.state), manual.claimed_by, manual.hold_id) == ("CLAIMED", "ann", None)
    decide(order, "approved")
    desk.finish()
    assert state_of(order) == "COMPLETED"
    assert by_hand.is_intact(order)


def test_nobody_plans_an_order_anew_that_waits_for_its_quote(systems: ScriptedSystems) -> None:
    order = manual_work.without_its_input(systems)
    decide(order, "NEEDS_REQUOTE", question="The number is sold out.")
    hold = Hold.objects.get()
    anew = operations.Request(
        action=Action.PLAN_REGENERATE, subject=f"order:{order.reference}", reason="Try again."
    )
    with pytest.raises(NotPossible, match=f"waits for a new quote, and hold {hold.pk}"):
        operations.perform(actor=by("ann"), request=anew)
    hold.refresh_from_db()
    assert hold.released_at is None


def test_who_decides_without_a_new_quote_releases_the_hold(systems: ScriptedSystems) -> None:
    order = manual_work.asked()
    decide(order, "requote", question="Longer.")
    decide(order, "approved")
    assert Hold.objects.get().released_at is not None
    desk.finish()
    assert state_of(order) == "COMPLETED"


# --- cancelled -----------------------------------------------------------------------------------


def test_cancelling_files_a_request_that_takes_effect(systems: ScriptedSystems) -> None:
    order = manual_work.asked()
    decide(order, "cancelled", reason="He does not want it.")
    desk.finish()
    request = CancellationRequest.objects.get(order=order)
    assert (request.requested_by, request.reason) == ("ann", "He does not want it.")
    assert state_of(order) == "CANCELLED"
    manual = ManualTask.objects.get()
    assert (str(manual.state), manual.outcome) == ("DECIDED", "cancelled")
    assert by_hand.is_intact(order)


def test_a_cancellation_that_is_denied_is_told_and_leaves_it_to_be_decided(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(irreversible=True, compensation={"none": "It is built."}),
            "review": desk.step(after=["one"], manual=manual_work.a_question()),
        }
    )
    order = desk.order()
    desk.finish()
    asked = by_hand.request(
        Action.MANUAL_DECIDE, f"manual:{the_one(order).pk}", outcome="cancelled"
    )
    done = operations.perform(actor=by("ann"), request=asked)
    assert "is denied" in done.told
    assert CancellationRequest.objects.get(order=order).state == "DENIED"
    assert str(the_one(order).state) == "CLAIMED"
    decide(order, "approved")
    desk.finish()
    assert state_of(order) == "COMPLETED"
