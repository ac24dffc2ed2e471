"""What has failed for good, and was confirmed since: in doubt for whatever is done to its order."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.plans import rest, scanning
from fulfillment.errors import NotPossible, OutcomeInDoubt
from fulfillment.models import IS_UNRESOLVED, CaseCategory, FalloutCase
from oms.changes import settling
from oms.models import Order
from tests import by_hand, desk, people, repairs
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

UNDO: dict[str, Any] = {"action": "undo", "input": {}}


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    """one was refused, and its target system has confirmed it since."""
    desk.target("alpha")
    desk.workflow({"one": desk.task(compensation=UNDO), "two": desk.task(after=["one"])})
    order = desk.order()
    (call,) = desk.claim()
    desk.settle(desk.result(call, desk.rejected()))
    desk.settle(desk.result(call, desk.succeeded()))
    assert desk.states_of(order) == {"one@1": "FAILED_FINAL", "two@1": "PENDING"}
    return order


def conflicts() -> int:
    return FalloutCase.objects.filter(IS_UNRESOLVED, category=CaseCategory.CONFLICT).count()


def state_of(order: Order) -> str:
    order.refresh_from_db()
    return str(order.state)


def come_to_rest() -> None:
    desk.advance(120)
    rest.look()
    scanning.scan()
    settling.settle_due()
    desk.finish()


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        (Action.PLAN_REGENERATE, {}),
        (Action.PLAN_REGENERATE, {"redo": ["one@1"]}),
        (Action.ORDER_FORCE_COMPLETE, {}),
    ],
)
def test_it_is_neither_done_again_nor_left_out(
    order: Order, systems: ScriptedSystems, action: Action, parameters: dict[str, Any]
) -> None:
    """one-effect-per-key says nothing of another key: it would be done twice."""
    asked = by_hand.request(action, by_hand.of(order), **parameters)
    with pytest.raises((OutcomeInDoubt, NotPossible)):
        by_hand.previewed(asked, actor=people.anybody("anna", action))
    desk.finish()
    assert systems.actions() == []
    assert conflicts() == 1


@pytest.mark.parametrize("action", [Action.ORDER_CANCEL, Action.PLAN_TERMINATE])
@pytest.mark.parametrize("happened", [True, False])
def test_no_orphans_of_what_was_done_although_it_had_failed(
    order: Order, systems: ScriptedSystems, action: Action, happened: bool
) -> None:
    """What has to be undone is not known before it is known whether it was done."""
    asked = by_hand.request(action, by_hand.of(order))
    seen = by_hand.previewed(asked, actor=people.anybody("anna", action))
    assert "one@1" in seen.done.told
    if seen.needs is None:
        operations.perform(actor=people.anybody("anna", action), request=asked)
    else:
        by_hand.done_by_two(asked, actor=people.anybody("anna", action))
    come_to_rest()
    assert state_of(order) not in ("CANCELLED", "FAILED")
    assert conflicts() == 1
    repairs.repair(
        Action.TASK_RECONCILE,
        desk.tasks_of(order)["one@1"],
        happened=happened,
        **({} if happened else {"then": "fail"}),
    )
    come_to_rest()
    assert state_of(order) in ("CANCELLED", "FAILED")
    assert systems.actions() == (["undo"] if happened else [])
    assert conflicts() == 0
    repairs.sound(order)
