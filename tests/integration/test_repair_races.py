"""Operators who repair the same orders at once: of each kind one wins, and the others are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.plans import rest
from fulfillment.errors import FulfillmentError, NotPossible
from fulfillment.models import Approval, Command, Operation, Plan, Task
from fulfillment.operations.repair import Request
from fulfillment.states import PLAN_TERMINAL
from oms.models import Order
from tests import by_hand, desk, people
from tests.desk import ScriptedSystems
from tests.together import together

REPAIRS = (
    Action.PLAN_REGENERATE,
    Action.PLAN_COMPENSATE,
    Action.PLAN_TERMINATE,
    Action.ORDER_FORCE_COMPLETE,
    Action.ORDER_CANCEL,
    Action.TASK_RETRY,
)
_MAY_BE_DONE = (
    ["regenerate_plan"],
    ["compensate"],
    ["terminate_plan"],
    ["force_complete"],
    ["cancel_order"],
    ["retry"],
    ["compensate", "retry"],
)


def undone_by(action: str) -> dict[str, object]:
    return {"action": action, "input": {}}


@pytest.fixture
def stuck(committed_db: str, systems: ScriptedSystems) -> list[Order]:
    """Orders that have reserved, and can't be shipped."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(compensation=undone_by("release")),
            "ship": desk.task(after=["reserve"], compensation=undone_by("fetch_back")),
        }
    )
    systems.sends["ship"] = [desk.rejected()] * 3
    orders = [desk.order() for _ in range(3)]
    desk.finish()
    systems.sent.clear()
    return orders


def asks(order: Order) -> list[Request]:
    """Each repair that is possible now, of this order."""
    ship = Task.objects.get(fulfillment=order.fulfillment_id, key="ship@1")
    return [
        by_hand.request(Action.PLAN_REGENERATE, by_hand.of(order)),
        by_hand.request(Action.ORDER_CANCEL, by_hand.of(order)),
        by_hand.request(Action.TASK_RETRY, f"task:{ship.pk}"),
    ]


def asks_of_two(order: Order) -> list[Request]:
    return [
        by_hand.request(Action.PLAN_COMPENSATE, f"task:{order.reference}/reserve@1"),
        by_hand.request(Action.PLAN_REGENERATE, by_hand.of(order), redo=["reserve@1"]),
        by_hand.request(Action.PLAN_TERMINATE, by_hand.of(order)),
        by_hand.request(Action.ORDER_FORCE_COMPLETE, by_hand.of(order)),
    ]


def told(work: Callable[[], object]) -> str:
    """Empty when it was done."""
    try:
        work()
    except NotPossible as error:
        return str(error) or type(error).__name__
    except FulfillmentError as error:
        return f"{error.code}: {error}"
    return ""


def test_twenty_one_operators_at_once_leave_every_order_whole(
    stuck: list[Order], systems: ScriptedSystems
) -> None:
    anna = people.anybody("anna", *REPAIRS)
    senior = people.senior()
    works: list[Callable[[], object]] = []
    for order in stuck:
        for request in asks_of_two(order):
            approval = by_hand.asked_for(request, actor=anna)
            works.append(
                partial(operations.approve, approval_id=approval.pk, actor=senior, reason="Agreed.")
            )
        for request in asks(order):
            looked = operations.prepared(actor=anna, request=request).preview()
            works.append(
                partial(
                    operations.perform,
                    actor=anna,
                    request=by_hand.expecting(request, looked.version),
                )
            )
    answers = together(*(partial(told, work) for work in works))
    # What was looked at in one state is done by one. Only to send ship again leaves reserve as it
    # was looked at: that may be undone besides.
    done = {order.reference: _done_to(order) for order in stuck}
    assert all(kinds in _MAY_BE_DONE for kinds in done.values()), done
    assert answers.count("") == sum(map(len, done.values()))
    why = re.compile(
        r"has changed since|already|It is |its plan is|in a plan that still runs", re.I
    )
    assert [one for one in answers if one and not why.search(one)] == []
    assert Approval.objects.filter(state="EXECUTED").count() <= len(stuck)
    for _ in range(3):
        desk.finish()
        rest.look()
    for order in stuck:
        assert (
            Plan.objects.filter(fulfillment=order.fulfillment_id)
            .exclude(state__in=PLAN_TERMINAL)
            .count()
            <= 1
        )
        assert by_hand.is_intact(order)
        mine = Command.objects.filter(fulfillment=order.fulfillment_id)
        undone = mine.filter(action="release").count()
        assert undone <= 1
        sent = [one.idempotency_key for one in systems.sent]
        assert len(sent) == len(set(sent))


def _done_to(order: Order) -> list[str]:
    kinds = [operations.repair_of(action.value).kind for action in REPAIRS]
    rows = Operation.objects.filter(order_reference=order.reference, kind__in=kinds)
    return sorted(rows.values_list("kind", flat=True))


def test_one_approval_is_used_once_by_however_many(stuck: list[Order]) -> None:
    anna = people.anybody("anna", *REPAIRS)
    (order, *_) = stuck
    approval = by_hand.asked_for(
        by_hand.request(Action.PLAN_TERMINATE, by_hand.of(order)), actor=anna
    )
    seniors = [people.senior(f"senior-{number}") for number in range(8)]
    answers = together(
        *(
            partial(
                told,
                partial(
                    operations.approve, approval_id=approval.pk, actor=senior, reason="Agreed."
                ),
            )
            for senior in seniors
        )
    )
    assert answers.count("") == 1
    assert all("is EXECUTED, by senior-" in one for one in answers if one)
    assert Operation.objects.filter(kind="terminate_plan").count() == 1
