"""Nobody knows whether a task was done: what each operation does about that.

What would do it twice, or drop it, is refused; what is done otherwise sends nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import NotPossible, OutcomeInDoubt
from fulfillment.models import Command
from fulfillment.operations.repair import Repair
from oms.changes.documents import as_submitted
from oms.models import Order
from tests import by_hand, desk, manual_work, scenes
from tests.desk import ScriptedSystems
from tests.integration.test_amendment import revision

pytestmark = pytest.mark.django_db

ABOUT = {"task", "order", "plan"}
REPAIRS = [one for one in operations.every_repair() if {one.about, *one.also_about} & ABOUT]
REFUSED: Mapping[Action, type[NotPossible]] = {
    Action.TASK_CORRECT: OutcomeInDoubt,
    Action.TASK_WAIVE: OutcomeInDoubt,
    Action.TASK_SKIP: OutcomeInDoubt,
    Action.PLAN_COMPENSATE: OutcomeInDoubt,
    Action.ORDER_FORCE_COMPLETE: OutcomeInDoubt,
    # By its state already: it has not failed, is not done, and nothing would begin anew.
    Action.TASK_RETRY: NotPossible,
    Action.TASK_REFERENCE: NotPossible,
    Action.PLAN_REGENERATE: NotPossible,
}
WAITS = {Action.PLAN_TERMINATE, Action.ORDER_CANCEL}
"""Done, and carried out once it is known what has become of it."""
LEAVES_IT = {Action.HOLD_PLACE, Action.SIGNAL_SEND, Action.ORDER_CHANGE}
SAYS_SO = Action.TASK_RECONCILE


def being_asked(systems: ScriptedSystems) -> Order:
    """Its target system is to be asked, in an hour."""
    return _two_tasks(systems, reconcile_after=timedelta(hours=1))


def on_the_wire(systems: ScriptedSystems) -> Order:
    """Nobody has answered yet."""
    return _two_tasks(systems, answers=False)


def _two_tasks(systems: ScriptedSystems, *, answers: bool = True, **row: Any) -> Order:
    desk.target("alpha", **row)
    desk.workflow({"one": desk.task(outputs={"number": "string"}), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    if answers:
        desk.drain()
    else:
        desk.claim()
    return order


def told(action: Action, order: Order) -> Mapping[str, Any]:
    document = as_submitted(revision(order, desk.item(quantity=2)))
    return {
        Action.TASK_CORRECT: {"patch": {"to": "Vienna"}},
        Action.TASK_REFERENCE: {"reference": "R-1"},
        Action.TASK_WAIVE: {"outputs": {"number": "7"}},
        Action.TASK_RECONCILE: {"happened": False},
        Action.ORDER_CHANGE: {"version": 2, "order": document},
        Action.SIGNAL_SEND: {"name": "paid"},
    }.get(action, {})


def test_of_every_operation_it_is_known_what_it_does() -> None:
    assert {one.action for one in REPAIRS} == {*REFUSED, *WAITS, *LEAVES_IT, SAYS_SO}


@pytest.mark.parametrize("doubt", [manual_work.in_doubt, being_asked, on_the_wire])
@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.action.value)
def test_nothing_is_done_twice_or_dropped_that_may_have_happened(
    systems: ScriptedSystems, repair: Repair, doubt: Callable[[ScriptedSystems], Order]
) -> None:
    order = doubt(systems)
    task = desk.tasks_of(order)["one@1"]
    state = str(task.state)
    names = {"task": task.pk, "order": order.reference, "plan": task.plan_id}
    olga = scenes.operator("olga")
    action, values = repair.action, told(repair.action, order)
    for kind in sorted({repair.about, *repair.also_about} & ABOUT):
        asked = by_hand.request(action, f"{kind}:{names[kind]}", **values)
        error = OutcomeInDoubt if doubt is on_the_wire and action is SAYS_SO else None
        before = by_hand.everything()
        if refused := error or REFUSED.get(action):
            with pytest.raises(refused):
                scenes.done(asked, actor=olga)
            assert by_hand.differing(before) == []
            continue
        done = scenes.done(asked, actor=olga)
        if action in WAITS:
            assert "one@1" in done.told
        task.refresh_from_db()
        if action is SAYS_SO:  # A new command, with a key of its own.
            keys = Command.objects.filter(task=task).values_list("idempotency_key", flat=True)
            assert (str(task.state), len(set(keys))) == ("READY", 2)
        else:
            assert str(task.state) == state
            assert Command.objects.count() == 1
    assert by_hand.is_intact(order)
