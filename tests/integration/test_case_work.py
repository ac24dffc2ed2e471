"""Cases by hand: who has them, whom they wait for, and who has to know."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.work import audit
from fulfillment.errors import Denied, NotPossible, SubjectChanged
from fulfillment.models import (
    AuthorityDecision,
    CaseTask,
    FalloutCase,
    Operation,
    Transition,
)
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
ACTIONS = (
    Action.CASE_ASSIGN,
    Action.CASE_AWAIT_CUSTOMER,
    Action.CASE_ESCALATE,
    Action.CASE_CLOSE,
)


def an_order(systems: ScriptedSystems) -> Order:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected("no_stock")]
    order = desk.order()
    desk.drain()
    return order


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    return an_order(systems)


def the_case() -> FalloutCase:
    return FalloutCase.objects.get()


def anna() -> Actor:
    return people.anybody("anna", *ACTIONS)


def ben() -> Actor:
    return people.anybody("ben", *ACTIONS)


def do(action: Action, actor: Actor, *, version: str = "", **parameters: Any) -> operations.Done:
    return operations.perform(
        actor=actor,
        request=operations.Request(
            action=action,
            subject=f"case:{the_case().pk}",
            reason="because",
            parameters=parameters,
            expected_version=version,
        ),
    )


def standing() -> tuple[str, str]:
    case = the_case()
    return str(case.state), case.assigned_to


def traces() -> list[int]:
    return [model.objects.count() for model in (Operation, Transition, CaseTask, FalloutCase)]


def test_somebody_takes_a_case_gives_it_back_and_another_takes_it(order: Order) -> None:
    do(Action.CASE_ASSIGN, anna())
    assert standing() == ("ASSIGNED", "anna")
    do(Action.CASE_ASSIGN, anna(), release=True)
    assert standing() == ("OPEN", "")
    do(Action.CASE_ASSIGN, ben())
    assert standing() == ("ASSIGNED", "ben")
    names = Transition.objects.filter(entity="case").order_by("sequence").values_list("name")
    assert [name for (name,) in names] == ["open", "assign", "release", "assign"]
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_who_comes_second_is_told_who_has_it(order: Order) -> None:
    do(Action.CASE_ASSIGN, anna())
    with pytest.raises(NotPossible, match="anna has case"):
        do(Action.CASE_ASSIGN, ben())
    assert standing() == ("ASSIGNED", "anna")


def test_taking_a_case_from_somebody_has_to_be_meant(order: Order) -> None:
    do(Action.CASE_ASSIGN, anna())
    ben()
    with pytest.raises(NotPossible, match="instead_of=anna"):
        do(Action.CASE_ASSIGN, anna(), to="ben")
    do(Action.CASE_ASSIGN, anna(), to="ben", instead_of="anna")
    assert standing() == ("ASSIGNED", "ben")


def test_a_case_is_given_to_people_who_exist(order: Order) -> None:
    with pytest.raises(NotPossible, match="no active user"):
        do(Action.CASE_ASSIGN, anna(), to="nobody")
    assert standing() == ("OPEN", "")


def test_a_case_goes_to_another_queue(order: Order) -> None:
    do(Action.CASE_ASSIGN, anna(), queue="supply")
    case = the_case()
    assert (case.owner_queue, case.state) == ("supply", "OPEN")


def test_what_was_done_to_a_case_says_who_why_before_and_after(order: Order) -> None:
    do(Action.CASE_ASSIGN, anna())
    record = Operation.objects.get(kind="assign_case")
    assert (record.actor, record.reason) == ("anna", "because")
    assert (record.before["assigned_to"], record.after["assigned_to"]) == ("", "anna")
    assert (record.order_reference, record.authority.startswith("grant ")) == (
        order.reference,
        True,
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_not_leaves_no_trace_but_the_denial(order: Order, action: Action) -> None:
    before = traces()
    with pytest.raises(Denied):
        do(action, people.anybody("nora"))
    assert traces() == before
    assert AuthorityDecision.objects.get(actor="nora", is_allowed=False).action == action
    assert standing() == ("OPEN", "")


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_to_a_case_that_is_closed(order: Order, action: Action) -> None:
    do(Action.CASE_CLOSE, anna())
    before = traces()
    with pytest.raises(NotPossible, match="by anna: because"):
        do(action, ben())
    assert traces() == before


def test_a_case_that_has_changed_since_is_left_alone(order: Order) -> None:
    prepared = operations.prepared(
        actor=ben(),
        request=operations.Request(
            action=Action.CASE_ESCALATE, subject=f"case:{the_case().pk}", reason="because"
        ),
    )
    seen = prepared.preview()
    do(Action.CASE_ASSIGN, anna())
    with pytest.raises(SubjectChanged, match="by anna"):
        do(Action.CASE_ESCALATE, ben(), version=seen.version)
    assert the_case().escalation_level == 0


def test_a_preview_changes_nothing(order: Order) -> None:
    before = traces()
    request = operations.Request(
        action=Action.CASE_AWAIT_CUSTOMER, subject=f"case:{the_case().pk}", reason="because"
    )
    preview = operations.prepared(actor=anna(), request=request).preview()
    assert preview.done.after["state"] == "AWAITING_CUSTOMER"
    assert traces() == before
    assert standing() == ("OPEN", "")


def test_the_time_stands_still_while_the_customer_is_awaited(
    order: Order, clock: Callable[[float], None]
) -> None:
    due = the_case().sla_due_at
    clock(3600)
    do(Action.CASE_AWAIT_CUSTOMER, anna(), asked="Which colour?")
    case = the_case()
    assert (case.state, case.assigned_to, case.customer_asked) == (
        "AWAITING_CUSTOMER",
        "anna",
        "Which colour?",
    )
    clock(86_400)
    assert operations.escalate_due() == 0
    do(Action.CASE_AWAIT_CUSTOMER, anna(), ended=True)
    case = the_case()
    assert case.state == "ASSIGNED"
    later = case.sla_due_at - due
    assert timedelta(hours=24) <= later < timedelta(hours=24, minutes=1)
    assert operations.escalate_due() == 0
    clock(3 * 3600 + 60)
    assert operations.escalate_due() == 1


def test_a_case_waits_for_one_customer_once(order: Order) -> None:
    do(Action.CASE_AWAIT_CUSTOMER, anna())
    with pytest.raises(NotPossible, match="anna has it"):
        do(Action.CASE_AWAIT_CUSTOMER, ben())
    do(Action.CASE_AWAIT_CUSTOMER, anna(), ended=True)
    with pytest.raises(NotPossible, match="waits for no customer"):
        do(Action.CASE_AWAIT_CUSTOMER, anna(), ended=True)


def test_who_waits_for_the_customer_can_change(order: Order) -> None:
    do(Action.CASE_AWAIT_CUSTOMER, anna())
    do(Action.CASE_ASSIGN, ben(), instead_of="anna")
    assert standing() == ("AWAITING_CUSTOMER", "ben")
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_escalating_by_hand_ends_at_the_highest_level(order: Order) -> None:
    for level in range(1, 6):
        do(Action.CASE_ESCALATE, anna())
        assert the_case().escalation_level == level
    with pytest.raises(NotPossible, match="none above it"):
        do(Action.CASE_ESCALATE, anna())


def test_a_case_that_is_resolved_by_its_task_was_in_somebodys_hands(order: Order) -> None:
    do(Action.CASE_ASSIGN, anna())
    task = desk.tasks_of(order)["one@1"]
    operations.retry(task_id=task.pk, actor=desk.by("ops"), reason="again")
    assert standing() == ("RESOLVED", "anna")
