"""Giving an order up by hand (`plan.terminate`)."""

from __future__ import annotations

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.plans import rest
from fulfillment.errors import ApprovalNeeded, ApprovalNotOpen, Denied, NotPossible, SubjectUnknown
from fulfillment.models import Approval, AuthorityDecision, Operation, Transition
from fulfillment.operations.terminating import TerminatePlan
from oms.models import Order
from tests import by_hand, desk, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

TERMINATE = Action.PLAN_TERMINATE


def undone_by(action: str, **more: object) -> dict[str, object]:
    return {"action": action, "input": {}, **more}


@pytest.fixture
def stuck(systems: ScriptedSystems) -> Order:
    """reserve is done, ship has failed for good; bill has not begun."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(
                compensation=undone_by(
                    "release", refund="49.50", impact={"customer": "The goods are gone."}
                )
            ),
            "ship": desk.task(after=["reserve"], compensation=undone_by("fetch_back")),
            "bill": desk.task(after=["ship"]),
        }
    )
    systems.sends["ship"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    systems.sent.clear()
    return order


def test_what_was_done_is_undone_and_the_order_fails(
    stuck: Order, systems: ScriptedSystems
) -> None:
    actor = people.anybody("anna", TERMINATE)
    done = by_hand.done_by_two(by_hand.request(TERMINATE, by_hand.of(stuck)), actor=actor)
    assert "Undone in the reverse order: reserve@1." in done.told
    rest.look()
    pk = stuck.fulfillment_id
    assert TerminatePlan().came_about(pks=[pk])[pk].is_so is None
    desk.finish()
    assert TerminatePlan().came_about(pks=[pk])[pk].is_so is True
    assert systems.actions() == ["release"]
    stuck.refresh_from_db()
    assert str(stuck.state) == "FAILED"
    assert by_hand.is_intact(stuck)


def test_a_preview_tells_the_fates_and_the_money_and_changes_nothing(stuck: Order) -> None:
    actor = people.anybody("anna", TERMINATE)
    before = by_hand.everything()
    seen = by_hand.previewed(by_hand.request(TERMINATE, by_hand.of(stuck)), actor=actor)
    assert by_hand.differing(before) == []
    assert seen.needs is Action.APPROVE_SENIOR
    assert seen.done.after["tasks"] == {
        "reserve@1": "undone",
        "ship@1": "withdrawn",
        "bill@1": "withdrawn",
    }
    assert "The goods are gone." in seen.done.customer_impact
    assert "The customer gets back 49.50" in seen.done.financial_impact
    done = by_hand.done_by_two(by_hand.request(TERMINATE, by_hand.of(stuck)), actor=actor)
    assert (done.told, done.after) == (seen.done.told, seen.done.after)


def test_whoever_may_not_changes_nothing_and_is_on_record(stuck: Order) -> None:
    elsewhere = people.actor(people.operator("bob", TERMINATE, regions=["ID"]))
    before = by_hand.everything()
    for actor in (people.anybody(), elsewhere, desk.by("engine")):
        with pytest.raises(Denied):
            operations.prepared(actor=actor, request=by_hand.request(TERMINATE, by_hand.of(stuck)))
    assert by_hand.differing(before) == []
    assert AuthorityDecision.objects.filter(is_allowed=False, action=TERMINATE).count() == 3


def test_one_person_alone_can_not_do_it(stuck: Order) -> None:
    almighty = people.almighty()
    asked = by_hand.request(TERMINATE, by_hand.of(stuck))
    with pytest.raises(ApprovalNeeded):
        operations.perform(actor=almighty, request=asked)
    approval = by_hand.asked_for(asked, actor=almighty)
    before = by_hand.everything()
    with pytest.raises(Denied, match="another person"):
        operations.approve(approval_id=approval.pk, actor=almighty, reason="Me.")
    assert by_hand.differing(before) == []


def test_given_up_already_it_says_so_to_whoever_comes_second(stuck: Order) -> None:
    anna, bob = people.anybody("anna", TERMINATE), people.anybody("bob", TERMINATE)
    asked = by_hand.request(TERMINATE, by_hand.of(stuck))
    late = operations.prepared(actor=bob, request=asked)
    by_hand.done_by_two(asked, actor=anna)
    with pytest.raises(NotPossible, match="given up already: given up by hand"):
        late.preview()
    rest.look()
    with pytest.raises(NotPossible, match="being undone already"):
        late.preview()
    desk.finish()
    with pytest.raises(NotPossible, match="Its plan is FAILED"):
        late.preview()


def test_an_approval_of_what_has_changed_since_is_worth_nothing(
    stuck: Order, systems: ScriptedSystems
) -> None:
    asked = by_hand.request(TERMINATE, by_hand.of(stuck))
    approval = by_hand.asked_for(asked, actor=people.anybody("anna", TERMINATE))
    ship = desk.tasks_of(stuck)["ship@1"]
    operations.retry(task_id=ship.pk, actor=desk.by("ops"), reason="Mended.")
    desk.drain()
    with pytest.raises(NotPossible, match="has changed since you looked at it"):
        operations.approve(approval_id=approval.pk, actor=people.senior(), reason="Agreed.")
    assert Approval.objects.get(pk=approval.pk).state == "STALE"
    desk.finish()
    stuck.refresh_from_db()
    assert str(stuck.state) == "COMPLETED"
    with pytest.raises(ApprovalNotOpen):
        operations.approve(approval_id=approval.pk, actor=people.senior(), reason="Again.")


def test_that_something_is_sent_outdates_no_approval(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(compensation=undone_by("undo_one"))})
    order = desk.order()
    asked = by_hand.request(TERMINATE, by_hand.of(order))
    approval = by_hand.asked_for(asked, actor=people.anybody("anna", TERMINATE))
    desk.claim()
    operations.approve(approval_id=approval.pk, actor=people.senior(), reason="Agreed.")


def test_what_is_in_doubt_is_known_first_and_then_undone(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(compensation=undone_by("undo_one"))})
    order = desk.order()
    (call,) = desk.claim()
    done = by_hand.done_by_two(
        by_hand.request(TERMINATE, by_hand.of(order)), actor=people.anybody("anna", TERMINATE)
    )
    assert "First it is waited for one@1." in done.told
    desk.settle(desk.result(call, desk.unknown()))
    rest.look()
    assert desk.states_of(order)["one@1"] == "OUTCOME_UNKNOWN"
    desk.finish()
    rest.look()
    desk.finish()
    assert systems.actions()[-1] == "undo_one"
    order.refresh_from_db()
    assert str(order.state) == "FAILED"


def test_past_a_point_of_no_return_it_is_refused(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    final = {"kind": "hard", "reason": "It has left."}
    desk.workflow({"one": desk.task(point_of_no_return=final), "two": desk.task(after=["one"])})
    systems.sends["two"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    actor = people.anybody("anna", TERMINATE)
    before = by_hand.everything()
    with pytest.raises(NotPossible, match="It has left"):
        by_hand.asked_for(by_hand.request(TERMINATE, by_hand.of(order)), actor=actor)
    assert by_hand.differing(before) == []


def test_it_leaves_a_record_of_all_that_counts(stuck: Order) -> None:
    asked = by_hand.request(TERMINATE, by_hand.of(stuck))
    by_hand.done_by_two(asked, actor=people.anybody("anna", TERMINATE))
    record = Operation.objects.get(kind="terminate_plan")
    assert (record.actor, record.reason, record.evidence) == (
        "anna",
        asked.reason,
        by_hand.EVIDENCE,
    )
    assert record.order_reference == stuck.reference
    assert record.authority.startswith("grant ")
    assert record.approval is not None
    assert record.approval.decided_by is not None
    assert record.approval.decided_by.get_username() == "sarah"
    assert record.after["tasks"]["reserve@1"] == "undone"
    trail = Transition.objects.filter(fulfillment_id=stuck.fulfillment_id, name="place_hold")
    assert "given up by hand: The customer has rung." in trail.get().cause


def test_an_order_that_is_not_there_is_not_found() -> None:
    with pytest.raises(SubjectUnknown, match="no order O-404"):
        operations.prepared(
            actor=people.anybody("anna", TERMINATE),
            request=by_hand.request(TERMINATE, "order:O-404"),
        )
