"""Breaking a lock whose holder can't let go of it (`lock.break`)."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.work import locking
from fulfillment.errors import (
    ApprovalNeeded,
    Denied,
    EvidenceMissing,
    NotPossible,
    OutcomeInDoubt,
    SubjectUnknown,
)
from fulfillment.models import Approval, Operation, Plan, ResourceLock, Transition
from fulfillment.operations.repair import Done, Request
from oms.models import Order
from tests import by_hand, desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_resource_locks import ASSET, CUSTOMER, a_shop, changing, kept

pytestmark = pytest.mark.django_db

BREAK = Action.LOCK_BREAK


def asked(lock: str, **parameters: Any) -> Request:
    return by_hand.request(BREAK, f"lock:{lock}", **parameters)


def break_it(lock: str, **parameters: Any) -> Done:
    return by_hand.done_by_two(asked(lock, **parameters), actor=people.anybody("anna", BREAK))


@pytest.fixture
def stuck(systems: ScriptedSystems) -> Order:
    """Its order keeps the customer to its end, and can't go on."""
    a_shop(of_plan=(CUSTOMER,))
    systems.sends["bill"] = [desk.rejected()]
    order = changing()
    desk.finish()
    assert kept() == {"customer:C-1"}
    return order


def test_whoever_waits_gets_it_and_the_holder_lines_up_behind(
    stuck: Order, systems: ScriptedSystems
) -> None:
    other = changing("A-2")
    desk.claim(limit=10)
    assert desk.tasks_of(other)["change@1"].waits_for_lock == "customer:C-1"
    done = break_it("customer:C-1")
    assert f"{stuck.reference} keeps customer:C-1 no longer; 1 wait for it." in done.told
    locking.wake()
    (call,) = desk.claim(limit=10)
    assert call.fulfillment_id == other.fulfillment_id
    # Its holder goes on only when it has it again.
    bill = desk.tasks_of(stuck)["bill@1"]
    operations.retry(task_id=bill.pk, actor=desk.by("ops"), reason="Mended.")
    assert desk.claim("beta", limit=10) == []
    assert desk.tasks_of(stuck)["bill@1"].waits_for_lock == "customer:C-1"
    desk.settle(desk.result(call, desk.succeeded()))
    desk.finish()
    locking.wake()
    desk.finish()
    for order in (stuck, other):
        order.refresh_from_db()
        assert str(order.state) == "COMPLETED"
    assert kept() == set()
    assert by_hand.is_intact(stuck)


def test_the_preview_is_what_is_done_and_changes_nothing(stuck: Order) -> None:
    before = by_hand.everything()
    actor = people.anybody("anna", BREAK)
    seen = by_hand.previewed(asked("customer:C-1"), actor=actor)
    assert by_hand.differing(before) == []
    assert seen.needs is Action.APPROVE_SENIOR
    done = break_it("customer:C-1")
    assert (done.told, done.before, done.after) == (
        seen.done.told,
        seen.done.before,
        seen.done.after,
    )


def test_over_a_call_on_the_wire_or_a_doubt_it_is_not_broken(systems: ScriptedSystems) -> None:
    a_shop(ASSET)
    order = changing()
    (call,) = desk.claim(limit=10)
    actor = people.anybody("anna", BREAK)
    before = by_hand.everything()
    with pytest.raises(OutcomeInDoubt, match="change@1"):
        by_hand.asked_for(asked("asset:A-1"), actor=actor)
    assert by_hand.differing(before) == []
    desk.settle(desk.result(call, desk.unknown()))
    with pytest.raises(OutcomeInDoubt, match="change@1"):
        by_hand.asked_for(asked("asset:A-1"), actor=actor)
    done = break_it("asset:A-1", in_spite_of_doubt=True)
    assert done.before["in_doubt"] == ["change@1"]
    assert kept() == set()
    assert desk.states_of(order)["change@1"] == "OUTCOME_UNKNOWN"
    row = Transition.objects.get(entity="lock")
    assert row.details["in_doubt"] == ["change@1"]
    assert by_hand.is_intact(order)


def test_a_plan_loses_all_of_its_locks_or_none(systems: ScriptedSystems) -> None:
    a_shop(of_plan=(CUSTOMER, ASSET))
    systems.sends["bill"] = [desk.rejected()]
    order = changing()
    desk.finish()
    assert kept() == {"customer:C-1", "asset:A-1"}
    done = break_it("asset:A-1")
    assert "With it goes customer:C-1." in done.told
    assert kept() == set()
    assert Plan.objects.get().is_locked is False
    row = Transition.objects.get(entity="lock")
    assert (row.fulfillment_id, row.name, row.from_state, row.to_state) == (
        order.fulfillment_id,
        "break_lock",
        "KEPT",
        "BROKEN",
    )


def test_of_several_holders_one_is_named(systems: ScriptedSystems) -> None:
    a_shop(CUSTOMER)
    first, second = changing(), changing("A-2")
    operations.set_capacity(resource="customer", capacity=2, reason="A test.", actor=desk.by("ops"))
    desk.claim(limit=10)
    assert ResourceLock.objects.count() == 2
    with pytest.raises(SubjectUnknown, match="kept by several orders"):
        by_hand.asked_for(asked("customer:C-1"), actor=people.anybody("anna", BREAK))
    break_it(f"customer:C-1@{second.reference}", in_spite_of_doubt=True)
    assert ResourceLock.objects.get().fulfillment_id == first.fulfillment_id


def test_whoever_may_not_changes_nothing(stuck: Order) -> None:
    before = by_hand.everything()
    for actor in (
        people.anybody(),
        people.actor(people.operator("bob", BREAK, regions=["ID"])),
        desk.by("the engine"),
    ):
        with pytest.raises(Denied):
            operations.prepared(actor=actor, request=asked("customer:C-1"))
    anna = people.anybody("anna", BREAK)
    with pytest.raises(ApprovalNeeded):
        operations.perform(actor=anna, request=asked("customer:C-1"))
    with pytest.raises(EvidenceMissing):
        operations.prepared(
            actor=anna, request=Request(action=BREAK, subject="lock:customer:C-1", reason="x")
        )
    with pytest.raises(SubjectUnknown, match="Nobody keeps"):
        operations.prepared(actor=anna, request=asked("customer:C-404"))
    assert by_hand.differing(before) == []


def test_a_lock_that_is_free_by_now_is_not_broken(stuck: Order) -> None:
    approval = by_hand.asked_for(asked("customer:C-1"), actor=people.anybody("anna", BREAK))
    bill = desk.tasks_of(stuck)["bill@1"]
    operations.retry(task_id=bill.pk, actor=desk.by("ops"), reason="Mended.")
    desk.finish()
    assert kept() == set()
    with pytest.raises((NotPossible, SubjectUnknown)):
        operations.approve(approval_id=approval.pk, actor=people.senior(), reason="Agreed.")
    assert not Operation.objects.filter(kind="break_lock").exists()
    assert Approval.objects.get(pk=approval.pk).state != "EXECUTED"


def test_the_record_has_lock_holder_and_evidence(stuck: Order) -> None:
    break_it("customer:C-1")
    record = Operation.objects.get(kind="break_lock")
    assert record.subject == f"lock:customer:C-1@{stuck.reference}"
    assert (record.actor, record.evidence) == ("anna", by_hand.EVIDENCE)
    assert record.before["order"] == stuck.reference
    assert record.order_reference == stuck.reference
