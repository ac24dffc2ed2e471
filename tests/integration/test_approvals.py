"""Four eyes: one person asks, another approves, once, and it is done in that moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import InternalError, ProgrammingError, connection, transaction

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, client, console, person_at_console
from fulfillment.errors import ApprovalNeeded, ApprovalNotOpen, Denied, NotPossible
from fulfillment.models import (
    Approval,
    ApprovalState,
    AuthorityDecision,
    Command,
    Grant,
    Operation,
    Transition,
)
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems
from tests.together import together

REFUSED = (InternalError, ProgrammingError)


def a_failed_charge(systems: ScriptedSystems) -> Order:
    """An order whose only task, at a payment system, has failed for good."""
    desk.target("alpha", domain="payment")
    desk.workflow({"charge": desk.task()})
    systems.sends["charge"] = [desk.rejected("card_declined")]
    order = desk.order(region="ID")
    desk.drain()
    assert desk.states_of(order) == {"charge@1": "FAILED_FINAL"}
    return order


@pytest.fixture
def charge(db: None, systems: ScriptedSystems) -> Order:
    return a_failed_charge(systems)


@pytest.fixture
def anna(db: None) -> Actor:
    return people.actor(people.operator("anna", Action.TASK_RETRY))


@pytest.fixture
def paula(db: None) -> Actor:
    """She controls payments."""
    return people.actor(people.operator("paula", Action.APPROVE_PAYMENT))


def the_request(order: Order, **changes: Any) -> operations.Request:
    return operations.Request(
        **{
            "action": Action.TASK_RETRY,
            "subject": f"task:{desk.tasks_of(order)['charge@1'].pk}",
            "reason": "The bank says it was a mistake of theirs.",
            **changes,
        }
    )


def asked(order: Order, actor: Actor, **changes: Any) -> Approval:
    found = operations.prepared(actor=actor, request=the_request(order, **changes))
    assert found.needs is Action.APPROVE_PAYMENT
    return operations.ask_for_approval(prepared=found)


def nothing_was_done(order: Order) -> None:
    assert desk.states_of(order) == {"charge@1": "FAILED_FINAL"}
    assert Command.objects.count() == 1
    assert not Operation.objects.filter(kind="retry").exists()


def test_one_asks_another_approves_and_it_is_done_in_that_moment(
    charge: Order, anna: Actor, paula: Actor
) -> None:
    with pytest.raises(ApprovalNeeded):
        operations.perform(actor=anna, request=the_request(charge))
    approval = asked(charge, anna)
    nothing_was_done(charge)
    done, what = operations.approve(approval_id=approval.pk, actor=paula, reason="Seen the mail.")
    assert desk.states_of(charge) == {"charge@1": "READY"}
    assert done.state == ApprovalState.EXECUTED
    record = Operation.objects.get(kind="retry")
    assert (record.pk, record.actor, record.approval) == (what.record, "anna", done)
    assert record.authority.startswith("grant ")
    row = Transition.objects.get(entity="approval", name="execute")
    assert (row.actor, row.cause) == ("paula", "Seen the mail.")
    assert Operation.objects.get(kind="execute_approval").actor == "paula"


def test_whoever_asks_does_not_approve(charge: Order) -> None:
    olga = people.almighty()
    approval = asked(charge, olga)
    with pytest.raises(Denied, match="another person"):
        operations.approve(approval_id=approval.pk, actor=olga, reason="I am sure.")
    with pytest.raises(Denied, match="another person"):
        operations.refuse(approval_id=approval.pk, actor=olga, reason="I am sure.")
    nothing_was_done(charge)
    denied = AuthorityDecision.objects.filter(action=Action.APPROVE_PAYMENT)
    assert {decision.is_allowed for decision in denied} == {False}
    assert denied.count() == 2


@pytest.mark.parametrize(
    "stranger",
    [
        lambda: console(account="root"),
        lambda: client(name="a-client", owner=desk.client().owner),
        lambda: desk.by("engine"),
        lambda: people.anybody("nina"),
        lambda: people.anybody("fred", Action.APPROVE_FINANCE, Action.APPROVE_SENIOR),
    ],
    ids=["console", "client", "engine", "nobody", "of another kind"],
)
def test_only_a_person_with_the_right_to_it_approves(
    charge: Order, anna: Actor, stranger: Callable[[], Actor]
) -> None:
    approval = asked(charge, anna)
    for decide in (operations.approve, operations.refuse):
        with pytest.raises(Denied):
            decide(approval_id=approval.pk, actor=stranger(), reason="Because.")
    nothing_was_done(charge)
    approval.refresh_from_db()
    assert approval.state == ApprovalState.REQUESTED


def test_from_a_shell_it_is_asked_for_and_never_approved(charge: Order) -> None:
    anna = people.operator("anna", Action.TASK_RETRY)
    paula = people.operator("paula", Action.APPROVE_PAYMENT)
    approval = asked(charge, person_at_console(name="anna", user_id=anna.pk, account="root"))
    assert approval.requested_by == anna
    log = Operation.objects.get(kind="request_approval")
    assert log.actor == "anna (manage.py as root)"
    with pytest.raises(Denied, match="log in"):
        operations.approve(
            approval_id=approval.pk,
            actor=person_at_console(name="paula", user_id=paula.pk, account="root"),
            reason="Seen.",
        )
    nothing_was_done(charge)


def test_a_shell_without_a_name_asks_for_nothing(charge: Order) -> None:
    nameless = operations.prepared(actor=console(account="root"), request=the_request(charge))
    with pytest.raises(Denied, match="two people"):
        operations.ask_for_approval(prepared=nameless)
    assert not Approval.objects.exists()


def test_an_approval_of_another_region_does_not_count(charge: Order, anna: Actor) -> None:
    approval = asked(charge, anna)
    elsewhere = people.operator("otto", Action.APPROVE_PAYMENT, regions=["SG"])
    with pytest.raises(Denied, match="region ID"):
        operations.approve(approval_id=approval.pk, actor=people.actor(elsewhere), reason="Yes.")
    nothing_was_done(charge)


def test_the_same_is_asked_for_once(charge: Order, anna: Actor) -> None:
    first = asked(charge, anna)
    assert asked(charge, anna) == first
    other = people.anybody("bert", Action.TASK_RETRY)
    with pytest.raises(NotPossible, match="anna has asked for the same already"):
        asked(charge, other)
    assert Approval.objects.count() == 1


def test_an_approval_is_used_once(charge: Order, anna: Actor, paula: Actor) -> None:
    approval = asked(charge, anna)
    operations.approve(approval_id=approval.pk, actor=paula, reason="Seen.")
    for decide in (operations.approve, operations.refuse):
        with pytest.raises(ApprovalNotOpen, match="EXECUTED, by paula"):
            decide(approval_id=approval.pk, actor=paula, reason="Again.")
    assert Operation.objects.filter(kind="retry").count() == 1


def test_what_was_refused_or_withdrawn_is_not_done(
    charge: Order, anna: Actor, paula: Actor
) -> None:
    approval = asked(charge, anna)
    operations.refuse(approval_id=approval.pk, actor=paula, reason="Call them first.")
    with pytest.raises(ApprovalNotOpen, match="Call them first"):
        operations.approve(approval_id=approval.pk, actor=paula, reason="Now.")
    again = asked(charge, anna)
    with pytest.raises(Denied):
        operations.withdraw(approval_id=again.pk, actor=paula, reason="Not mine.")
    operations.withdraw(approval_id=again.pk, actor=anna, reason="They have paid.")
    with pytest.raises(ApprovalNotOpen, match="They have paid"):
        operations.approve(approval_id=again.pk, actor=paula, reason="Now.")
    nothing_was_done(charge)


def test_what_has_changed_since_makes_it_stale(
    charge: Order, anna: Actor, paula: Actor, clock: Callable[[float], None]
) -> None:
    approval = asked(charge, anna)
    other = people.anybody("bert", Action.TASK_RETRY)
    second = asked(charge, other, reason="Another reason.")
    operations.approve(approval_id=second.pk, actor=paula, reason="Seen.")
    with pytest.raises(NotPossible, match="has changed since"):
        operations.approve(approval_id=approval.pk, actor=paula, reason="Seen.")
    approval.refresh_from_db()
    assert approval.state == ApprovalState.STALE
    assert Operation.objects.filter(kind="retry").count() == 1


def test_what_has_changed_since_ends_by_itself(charge: Order, anna: Actor, paula: Actor) -> None:
    approval, second = asked(charge, anna), asked(charge, anna, reason="Once more.")
    assert operations.look_after_approvals() == 0
    operations.approve(approval_id=second.pk, actor=paula, reason="Seen.")
    assert operations.look_after_approvals() == 1
    approval.refresh_from_db()
    assert approval.state == ApprovalState.STALE


def test_it_expires(
    charge: Order, anna: Actor, paula: Actor, clock: Callable[[float], None]
) -> None:
    approval = asked(charge, anna)
    clock(25 * 3600)
    with pytest.raises(ApprovalNotOpen, match="expired"):
        operations.approve(approval_id=approval.pk, actor=paula, reason="Late.")
    assert operations.look_after_approvals() == 1
    approval.refresh_from_db()
    assert approval.state == ApprovalState.EXPIRED
    nothing_was_done(charge)
    assert asked(charge, anna) != approval


def test_a_grant_that_was_taken_away_meanwhile_allows_nothing(
    charge: Order, anna: Actor, paula: Actor
) -> None:
    approval = asked(charge, anna)
    Grant.objects.filter(user_id=anna.user_id).delete()
    with pytest.raises(ApprovalNotOpen, match="may not do it any more"):
        operations.approve(approval_id=approval.pk, actor=paula, reason="Seen.")
    approval.refresh_from_db()
    assert approval.state == ApprovalState.STALE
    nothing_was_done(charge)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("state = 'EXECUTED', decided_at = now()", "another person"),
        (
            "state = 'EXECUTED', decided_at = now(), decided_by_id = requested_by_id",
            "another person",
        ),
        ("state = 'REFUSED', decided_by_id = requested_by_id", "another person"),
        ("payload = '{}'", "as it was asked for"),
        ("payload_hash = 'x'", "as it was asked for"),
        ("version = 'x'", "as it was asked for"),
        ("subject = 'task:999'", "as it was asked for"),
        ("action = 'order.force_complete'", "as it was asked for"),
        ("needs = 'approve.operations'", "as it was asked for"),
        ("told = 'Nothing.'", "as it was asked for"),
        ("expires_at = now() + interval '1 year'", "as it was asked for"),
        (
            "requested_by_id = (SELECT id FROM auth_user WHERE username = 'paula')",
            "as it was asked for",
        ),
        (
            "state = 'EXECUTED', decided_at = expires_at + interval '1 s', "
            "decided_by_id = (SELECT id FROM auth_user WHERE username = 'paula')",
            "expired",
        ),
    ],
)
def test_the_database_keeps_an_approval_as_it_was_asked_for(
    charge: Order, anna: Actor, paula: Actor, change: str, why: str
) -> None:
    asked(charge, anna)
    with connection.cursor() as raw, pytest.raises(REFUSED, match=why), transaction.atomic():
        raw.execute(f"UPDATE fulfillment_approval SET {change}")


def test_the_database_refuses_a_second_use_and_a_deletion(
    charge: Order, anna: Actor, paula: Actor
) -> None:
    approval = asked(charge, anna)
    operations.approve(approval_id=approval.pk, actor=paula, reason="Seen.")
    for statement in (
        "UPDATE fulfillment_approval SET state = 'REQUESTED', decided_by_id = NULL",
        "UPDATE fulfillment_approval SET decision_reason = 'Something else.'",
        "DELETE FROM fulfillment_approval",
        "TRUNCATE fulfillment_approval CASCADE",
    ):
        with connection.cursor() as raw, pytest.raises(REFUSED), transaction.atomic():
            raw.execute(statement)
    approval.refresh_from_db()
    assert approval.state == ApprovalState.EXECUTED


def test_of_twenty_who_approve_one_does(committed_db: str, systems: ScriptedSystems) -> None:
    order = a_failed_charge(systems)
    approval = asked(order, people.anybody("anna", Action.TASK_RETRY))
    seniors = [people.anybody(f"paula{number}", Action.APPROVE_PAYMENT) for number in range(20)]

    def attempt(actor: Actor) -> str:
        try:
            operations.approve(approval_id=approval.pk, actor=actor, reason="Seen.")
        except ApprovalNotOpen as error:
            assert "EXECUTED, by paula" in str(error)
            return "told"
        return "done"

    said = together(*(lambda actor=actor: attempt(actor) for actor in seniors))
    assert sorted(said) == ["done"] + ["told"] * 19
    assert Operation.objects.filter(kind="retry").count() == 1
    assert Command.objects.count() == 2


def test_twenty_approvals_of_the_same_task_do_it_once(
    committed_db: str, systems: ScriptedSystems
) -> None:
    order = a_failed_charge(systems)
    anna = people.anybody("anna", Action.TASK_RETRY)
    paula = people.anybody("paula", Action.APPROVE_PAYMENT)
    approvals = [asked(order, anna, reason=f"Reason {number}.") for number in range(20)]

    def attempt(pk: int) -> str:
        try:
            operations.approve(approval_id=pk, actor=paula, reason="Seen.")
        except NotPossible as error:
            assert "changed" in str(error)
            return "told"
        return "done"

    said = together(*(lambda pk=one.pk: attempt(pk) for one in approvals))
    assert sorted(said) == ["done"] + ["told"] * 19
    states = sorted(Approval.objects.values_list("state", flat=True))
    assert states == ["EXECUTED"] + ["STALE"] * 19
    assert Command.objects.count() == 2


def test_an_approval_lasts_a_day(charge: Order, anna: Actor) -> None:
    approval = asked(charge, anna)
    assert approval.expires_at - approval.requested_at == timedelta(hours=24)
