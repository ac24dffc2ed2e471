"""Completing an order by force (`order.force_complete`)."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.plans import rest
from fulfillment.errors import Denied, EvidenceMissing, NotPossible, OutcomeInDoubt
from fulfillment.models import FalloutCase, ManualTask, Operation, TargetSystem, Transition
from fulfillment.operations.repair import Request
from fulfillment.states import PLAN_GOING_ON, TASK_SUCCESSFUL
from oms.models import Asset, Milestone, Notification, Order, PendingAsset
from tests import by_hand, desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_leakage import ACTIVE, PRICED, a_service, an_order, gaps, look_after

pytestmark = pytest.mark.django_db

FORCE = Action.ORDER_FORCE_COMPLETE
LATE: dict[str, Any] = {"within": "PT5H", "otherwise": "escalate"}
MANUAL = {
    "queue": "approvals",
    "role": "manager",
    "instructions": "Look at it.",
    "outcomes": {"approved": "proceed", "rejected": "refuse"},
    **LATE,
}


def asked(order: Order) -> Request:
    return by_hand.request(FORCE, by_hand.of(order))


@pytest.fixture
def stuck(systems: ScriptedSystems) -> Order:
    """Of everything something: done, failed, awaited, to be decided, not begun, optional."""
    desk.target("alpha")
    desk.target("billing", domain="billing")
    desk.workflow(
        {
            "done": desk.task(),
            "ship": desk.task(after=["done"]),
            "nice": desk.task(after=["ship"], required=False),
            "paid": desk.step(wait={"milestone": "paid", **LATE}),
            "approve": desk.step(manual=MANUAL),
            "way": desk.step(
                after=["ship"],
                decide=[
                    {"when": "order.priority > 5", "create": ["quick"]},
                    {"otherwise": ["slow"]},
                ],
            ),
            "quick": desk.task(),
            "slow": desk.task(),
            "bill": desk.task("billing", after=["ship", "paid"]),
        }
    )
    systems.sends["ship"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    systems.sent.clear()
    return order


def test_everything_that_is_open_is_waived_and_the_order_is_complete(
    stuck: Order, systems: ScriptedSystems
) -> None:
    done = by_hand.done_by_two(asked(stuck), actor=people.anybody("anna", FORCE))
    stuck.refresh_from_db()
    assert str(stuck.state) == "COMPLETED"
    states = desk.states_of(stuck)
    assert states["done@1"] == "SUCCEEDED"
    assert {key for key, state in states.items() if state == "WAIVED_BY_AUTHORIZED_USER"} == {
        "ship@1",
        "paid@1",
        "approve@1",
        "way@1",
        "bill@1",
    }
    assert states["nice@1"] == "SKIPPED_BY_POLICY"
    plan = desk.plan_of(stuck)
    assert (plan.tasks_open, plan.mandatory_open, plan.moving) == (0, 0, 0)
    assert set(states.values()) <= set(TASK_SUCCESSFUL)
    assert ManualTask.objects.get().state == "WITHDRAWN"
    assert not FalloutCase.objects.filter(state="OPEN").exists()
    assert "billing" in done.financial_impact
    desk.finish()
    assert systems.actions() == []
    assert by_hand.is_intact(stuck)


def test_the_preview_is_what_is_done_and_changes_nothing(stuck: Order) -> None:
    actor = people.anybody("anna", FORCE)
    before = by_hand.everything()
    seen = by_hand.previewed(asked(stuck), actor=actor)
    assert by_hand.differing(before) == []
    assert seen.needs is Action.APPROVE_SENIOR
    done = by_hand.done_by_two(asked(stuck), actor=actor)
    assert (done.told, done.before, done.after) == (
        seen.done.told,
        seen.done.before,
        seen.done.after,
    )
    rows = Transition.objects.filter(fulfillment_id=stuck.fulfillment_id, actor="anna")
    made = {(row.entity, row.name) for row in rows if row.from_state != row.to_state}
    assert made >= {(one["entity"], one["transition"]) for one in seen.transitions}


def test_every_waiver_says_who_why_and_on_what_evidence(stuck: Order) -> None:
    by_hand.done_by_two(asked(stuck), actor=people.anybody("anna", FORCE))
    rows = Transition.objects.filter(name="waive")
    assert rows.count() == 5
    assert {(row.actor, row.cause) for row in rows} == {
        ("anna", "completed by force: The customer has rung.")
    }
    assert all(row.details == {"evidence": by_hand.EVIDENCE} for row in rows)
    record = Operation.objects.get(kind="force_complete")
    assert record.before["tasks"]["ship@1"] == "FAILED_FINAL"
    assert record.after["state"] == "COMPLETED"
    assert record.approval is not None


def test_over_a_call_that_is_on_the_wire_it_is_refused(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    (call,) = desk.claim()
    actor = people.anybody("anna", FORCE)
    before = by_hand.everything()
    with pytest.raises(OutcomeInDoubt, match="in doubt: one@1"):
        by_hand.asked_for(asked(order), actor=actor)
    assert by_hand.differing(before) == []
    desk.settle(desk.result(call, desk.unknown()))
    with pytest.raises(OutcomeInDoubt, match="in doubt: one@1"):
        by_hand.asked_for(asked(order), actor=actor)


def test_what_is_in_doubt_in_a_person_s_hands_is_told_first(systems: ScriptedSystems) -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    desk.finish()
    assert desk.states_of(order) == {"one@1": "AWAITING_MANUAL"}
    with pytest.raises(OutcomeInDoubt, match="one@1"):
        by_hand.asked_for(asked(order), actor=people.anybody("anna", FORCE))


def test_while_something_is_undone_it_is_refused(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    undo = {"action": "undo_one", "input": {}}
    desk.workflow({"one": desk.task(compensation=undo), "two": desk.task(after=["one"])})
    systems.sends["two"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    actor = people.anybody("anna", FORCE, Action.PLAN_REGENERATE, Action.PLAN_COMPENSATE)
    by_hand.done_by_two(
        by_hand.request(Action.PLAN_REGENERATE, by_hand.of(order), redo=["one@1"]), actor=actor
    )
    with pytest.raises(NotPossible, match=r"being undone: undo\.v2/one@1"):
        by_hand.asked_for(asked(order), actor=actor)
    desk.finish()
    order.refresh_from_db()
    assert str(order.state) == "COMPLETED"
    with pytest.raises(NotPossible, match="It is complete"):
        by_hand.asked_for(asked(order), actor=actor)


def test_what_is_given_up_is_not_completed(stuck: Order) -> None:
    actor = people.anybody("anna", FORCE, Action.PLAN_TERMINATE)
    by_hand.done_by_two(by_hand.request(Action.PLAN_TERMINATE, by_hand.of(stuck)), actor=actor)
    with pytest.raises(NotPossible, match="being given up already"):
        by_hand.asked_for(asked(stuck), actor=actor)
    rest.look()
    assert desk.newest_plan_of(stuck).state not in PLAN_GOING_ON


def test_whoever_may_not_changes_nothing(stuck: Order) -> None:
    before = by_hand.everything()
    for actor in (
        people.anybody(),
        people.actor(people.operator("bob", FORCE, targets=["alpha"])),
        desk.by("the engine"),
    ):
        with pytest.raises(Denied):
            operations.prepared(actor=actor, request=asked(stuck))
    with pytest.raises(EvidenceMissing):
        operations.prepared(
            actor=people.anybody("anna", FORCE),
            request=Request(action=FORCE, subject=by_hand.of(stuck), reason="Because."),
        )
    assert by_hand.differing(before) == []


def test_of_two_who_approve_one_wins_and_the_other_is_told(stuck: Order) -> None:
    first = by_hand.asked_for(asked(stuck), actor=people.anybody("anna", FORCE))
    terminate = by_hand.request(Action.PLAN_TERMINATE, by_hand.of(stuck))
    second = by_hand.asked_for(terminate, actor=people.anybody("bob", Action.PLAN_TERMINATE))
    operations.approve(approval_id=first.pk, actor=people.senior(), reason="Agreed.")
    with pytest.raises(NotPossible, match="has changed since you looked at it"):
        operations.approve(approval_id=second.pk, actor=people.senior(), reason="Agreed.")
    stuck.refresh_from_db()
    assert str(stuck.state) == "COMPLETED"


def test_a_list_that_is_worked_through_ends_where_it_is(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "each": desk.task(for_each={"over": "${item.characteristics.sites}", "at_once": 1}),
            "last": desk.task(after=["each"]),
        }
    )
    systems.sends["each"] = [desk.succeeded(), desk.rejected()]
    order = desk.order(desk.item(characteristics={"sites": ["a", "b", "c"]}))
    desk.finish()
    sent = len(systems.sent)
    by_hand.done_by_two(asked(order), actor=people.anybody("anna", FORCE))
    desk.finish()
    order.refresh_from_db()
    assert (str(order.state), len(systems.sent)) == ("COMPLETED", sent)
    assert by_hand.is_intact(order)


def test_that_nobody_will_be_billed_is_told_before(stuck: Order) -> None:
    assert TargetSystem.objects.get(pk="billing").domain == "billing"
    seen = by_hand.previewed(asked(stuck), actor=people.anybody("anna", FORCE))
    assert "What was not charged or billed never will be" in seen.done.financial_impact


def test_what_is_in_use_and_was_never_billed_is_found(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [desk.rejected()]
    order = an_order(desk.item(**PRICED))
    by_hand.done_by_two(asked(order), actor=people.anybody("anna", FORCE))
    order.refresh_from_db()
    assert str(order.state) == "COMPLETED"
    assert gaps() == [("1", ACTIVE)]
    assert look_after(4.1) == 1
    assert FalloutCase.objects.get(category="LEAKAGE").reason_code == "active_without_billing"


def test_what_was_not_done_is_neither_real_nor_told(systems: ScriptedSystems) -> None:
    """installed-base-is-reality: that somebody ends an order activates nothing."""
    desk.target("alpha")
    desk.workflow(
        {
            "build": desk.task(),
            "activate": desk.task(after=["build"]),
            "bill": desk.task(after=["activate"]),
        },
        activation="activate",
        billing_trigger="order_submit",
        billing={"task": "bill", "within": "PT4H"},
        milestones={
            "built": {"title": "Built", "reached_by": "build", "tell": "It is built."},
            "ready": {"title": "Ready", "reached_by": "activate", "tell": "It is ready."},
        },
    )
    systems.sends["activate"] = [desk.rejected()]
    order = an_order(desk.item(**PRICED))
    by_hand.done_by_two(asked(order), actor=people.anybody("anna", FORCE))
    order.refresh_from_db()
    assert str(order.state) == "COMPLETED"
    assert not Asset.objects.exists()
    assert not PendingAsset.objects.exists()
    assert set(Milestone.objects.values_list("name", flat=True)) == {"built"}
    assert not Notification.objects.filter(occasion="milestone:ready").exists()
    assert Notification.objects.filter(occasion="completed").exists()
    assert gaps() == []
