"""Manual tasks are taken, given back, given to others, and keep in step with their tasks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.dispatch import sweeping
from fulfillment.errors import (
    AlreadySo,
    DecisionMade,
    Denied,
    ManualTaskTaken,
    NotPossible,
    ParametersInvalid,
    SubjectChanged,
)
from fulfillment.models import FalloutCase, ManualTask, Operation
from oms.changes import cancelling
from tests import by_hand, desk, manual_work, people
from tests.desk import ScriptedSystems, by
from tests.manual_work import steps_of, the_one

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]


def manager(name: str, *actions: Action) -> Actor:
    user = people.operator(name, *(actions or (Action.MANUAL_CLAIM, Action.MANUAL_DECIDE)))
    user.groups.add(Group.objects.get_or_create(name="manager")[0])
    return people.actor(user)


# --- claimed and released ------------------------------------------------------------------------


def test_who_has_claimed_it_decides_it_and_nobody_else(systems: ScriptedSystems) -> None:
    order = manual_work.asked()
    manual = the_one(order)
    operations.claim(manual_id=manual.pk, actor=by("ann"), reason="Mine.")
    with pytest.raises(ManualTaskTaken, match="ann has it since"):
        manual_work.decide(order, "approved", actor=by("bob"))
    with pytest.raises(ManualTaskTaken, match="ann has it since"):
        operations.claim(manual_id=manual.pk, actor=by("bob"), reason="Mine.")
    with pytest.raises(ManualTaskTaken, match="ann has it since"):
        operations.release(manual_id=manual.pk, actor=by("bob"), reason="Not hers.")
    with pytest.raises(AlreadySo, match="you have it already"):
        operations.claim(manual_id=manual.pk, actor=by("ann"), reason="Mine.")
    assert desk.states_of(order)["review@1"] == "AWAITING_MANUAL"
    manual_work.decide(order, "approved", actor=by("ann"))
    assert steps_of(manual)[1:] == [
        ("claim", "CLAIMED", "ann"),
        ("decide", "DECIDED", "ann"),
    ]
    assert by_hand.is_intact(order)


def test_who_decides_what_nobody_has_claims_it_in_passing(systems: ScriptedSystems) -> None:
    order = manual_work.asked()
    manual = manual_work.decide(order, "approved")
    assert (manual.claimed_by, manual.decided_by, manual.state) == ("ann", "ann", "DECIDED")
    assert [name for name, _, _ in steps_of(manual)] == ["open", "claim", "decide"]


def test_what_is_given_back_is_anybody_s(systems: ScriptedSystems) -> None:
    order = manual_work.asked()
    manual = the_one(order)
    with pytest.raises(NotPossible, match="is OPEN"):
        operations.release(manual_id=manual.pk, actor=by("ann"), reason="I had it?")
    operations.claim(manual_id=manual.pk, actor=by("ann"), reason="Mine.")
    operations.release(manual_id=manual.pk, actor=by("ann"), reason="On leave.")
    manual.refresh_from_db()
    assert (str(manual.state), manual.claimed_by, manual.claimed_at) == ("OPEN", "", None)
    manual_work.decide(order, "approved", actor=by("bob"))
    done = Operation.objects.get(kind="release")
    assert (done.actor, done.reason, done.after["claimed_by"]) == ("ann", "On leave.", "")


def test_what_somebody_has_is_given_to_another(systems: ScriptedSystems) -> None:
    order = manual_work.asked()
    manual = the_one(order)
    manager("bob")
    operations.claim(manual_id=manual.pk, actor=by("ann"), reason="Mine.")
    operations.reassign(manual_id=manual.pk, actor=by("boss"), reason="Ann is ill.", to="bob")
    manual.refresh_from_db()
    assert (str(manual.state), manual.claimed_by) == ("CLAIMED", "bob")
    operations.reassign(manual_id=manual.pk, actor=by("boss"), reason="No.", queue="legal")
    manual.refresh_from_db()
    assert (str(manual.state), manual.claimed_by, manual.queue) == ("OPEN", "", "legal")
    with pytest.raises(ParametersInvalid):
        operations.reassign(manual_id=manual.pk, actor=by("boss"), reason="To whom?")
    with pytest.raises(NotPossible, match="no active user 'nobody'"):
        operations.reassign(manual_id=manual.pk, actor=by("boss"), reason="To her.", to="nobody")
    people.operator("eve", Action.MANUAL_DECIDE)
    with pytest.raises(NotPossible, match="eve could not decide it: it is for manager"):
        operations.reassign(manual_id=manual.pk, actor=by("boss"), reason="To her.", to="eve")
    assert by_hand.is_intact(order)


def test_only_members_of_its_role_may_take_it(systems: ScriptedSystems) -> None:
    order = manual_work.asked()
    manual = the_one(order)
    eve = people.anybody("eve", Action.MANUAL_CLAIM, Action.MANUAL_DECIDE)
    before = by_hand.everything()
    with pytest.raises(Denied, match="it is for manager, and eve is not in that group"):
        operations.claim(manual_id=manual.pk, actor=eve, reason="Mine.")
    with pytest.raises(Denied, match="it is for manager"):
        manual_work.decide(order, "approved", actor=eve)
    with pytest.raises(Denied, match="permission manual.claim is missing"):
        operations.claim(manual_id=manual.pk, actor=people.anybody("joe"), reason="Mine.")
    assert by_hand.differing(before) == []
    operations.claim(manual_id=manual.pk, actor=manager("mia"), reason="Mine.")


def test_who_decides_by_what_they_have_seen_is_told_what_has_changed(
    systems: ScriptedSystems,
) -> None:
    order = manual_work.asked()
    manual = the_one(order)
    asked = by_hand.request(Action.MANUAL_CLAIM, f"manual:{manual.pk}")
    seen = by_hand.previewed(asked, actor=by("ann"))
    assert [(one["entity"], one["to"]) for one in seen.transitions] == [("manual", "CLAIMED")]
    operations.claim(manual_id=manual.pk, actor=by("bob"), reason="Mine.")
    late = by_hand.request(
        Action.MANUAL_REASSIGN, f"manual:{manual.pk}", expected=seen.version, queue="legal"
    )
    with pytest.raises(SubjectChanged, match="CLAIMED since .* by bob"):
        operations.perform(actor=by("ann"), request=late)


# --- what can't go on by itself -----------------------------------------------------------------


def test_what_lacks_its_input_asks_somebody(systems: ScriptedSystems) -> None:
    order = manual_work.without_its_input(systems)
    manual = the_one(order)
    assert (manual.origin, manual.trouble, str(manual.state)) == ("REPAIR", "INPUT", "OPEN")
    assert (manual.queue, manual.role, manual.fields) == ("data", "", {})
    assert manual.due_at == manual.opened_at + timedelta(hours=4)
    assert list(manual.outcomes.values()) == [
        "repair",
        "waive",
        "refuse",
        "ask_customer",
        "requote",
        "cancel",
    ]
    assert "The number of one is missing." in manual.instructions
    assert manual.context["task"]["key"] == "two@1"
    assert manual.context["order"]["external_id"] == order.external_id
    assert [name for name, _, _ in steps_of(manual)] == ["open"]


def test_what_came_back_unusable_asks_for_the_values(systems: ScriptedSystems) -> None:
    manual = the_one(manual_work.with_unusable_outputs(systems))
    assert (manual.trouble, manual.fields) == (
        "OUTPUTS",
        {"number": {"type": "string", "optional": False}},
    )
    assert {"WAIVED", "REJECTED"}.isdisjoint(manual.outcomes)


def test_an_unknown_outcome_asks_what_has_happened(systems: ScriptedSystems) -> None:
    manual = the_one(manual_work.in_doubt(systems))
    assert manual.trouble == "UNKNOWN"
    assert list(manual.fields) == ["happened", "reference", "number"]
    assert manual.fields["happened"] == {"type": "boolean", "optional": False}
    assert "WAIVED" not in manual.outcomes
    assert manual.context["task"]["idempotency_key"]


def test_a_late_answer_withdraws_the_question(systems: ScriptedSystems) -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    (claim,) = desk.claim("alpha")
    desk.settle_call(claim, desk.unknown())
    manual = the_one(order)
    assert (str(manual.state), manual.trouble) == ("OPEN", "UNKNOWN")
    desk.settle(desk.result(claim, desk.succeeded()))
    manual.refresh_from_db()
    assert (str(manual.state), manual.decided_by) == ("WITHDRAWN", "")
    assert [name for name, _, _ in steps_of(manual)] == ["open", "withdraw"]
    with pytest.raises(DecisionMade, match="withdrawn"):
        manual_work.decide(order, "NEEDS_CUSTOMER_INPUT", question="Is it there?")
    assert by_hand.is_intact(order)


def test_a_cancellation_withdraws_the_question(systems: ScriptedSystems) -> None:
    order = manual_work.without_its_input(systems)
    cancelling.cancel(order=order, requested_by="a client", reason="Not wanted.")
    manual = the_one(order)
    assert str(manual.state) == "WITHDRAWN"
    assert ManualTask.objects.count() == 1


def test_on_the_happy_path_nobody_is_asked(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    desk.finish()
    order.refresh_from_db()
    assert str(order.state) == "COMPLETED"
    assert not ManualTask.objects.exists()


# --- time ----------------------------------------------------------------------------------------


def test_when_nobody_has_decided_others_are_asked(systems: ScriptedSystems, clock: Clock) -> None:
    order = manual_work.asked(escalate_to={"role": "director", "queue": "board", "within": "PT1H"})
    manual = the_one(order)
    operations.claim(manual_id=manual.pk, actor=by("ann"), reason="Mine.")
    clock(4 * 3600 + 1)
    sweeping.sweep()
    manual.refresh_from_db()
    assert (manual.role, manual.queue, manual.escalations) == ("director", "board", 1)
    assert (str(manual.state), manual.claimed_by) == ("OPEN", "")
    assert manual.due_at is not None
    assert FalloutCase.objects.get().reason_code == "decision_overdue"
    clock(3601)
    sweeping.sweep()
    manual.refresh_from_db()
    assert (manual.escalations, manual.due_at) == (2, None)
    assert [name for name, _, _ in steps_of(manual)] == [
        "open",
        "claim",
        "release",
        "escalate",
        "escalate",
    ]
    manual_work.decide(order, "approved")
    assert not FalloutCase.objects.exclude(state="RESOLVED").exists()


def test_a_repair_that_is_due_is_escalated_and_its_case_stays_what_it_is(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = manual_work.without_its_input(systems)
    clock(4 * 3600 + 1)
    sweeping.sweep()
    sweeping.sweep()
    manual = the_one(order)
    assert (manual.escalations, manual.due_at) == (1, None)
    assert FalloutCase.objects.get().reason_code == "precondition"
