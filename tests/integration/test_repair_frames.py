"""Waiving what holds other tasks together: decisions, lists and sub-processes."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment.actions import Action
from fulfillment.errors import NotPossible
from fulfillment.models import CaseState, FalloutCase
from fulfillment.states import TaskState
from oms.models import Order
from tests import desk, repairs
from tests.desk import ScriptedSystems
from tests.integration.test_sub_processes import account, register

pytestmark = pytest.mark.django_db
WAIVE = Action.TASK_WAIVE
WAIVED = TaskState.WAIVED_BY_AUTHORIZED_USER


def completed(order: Order) -> dict[str, str]:
    desk.finish()
    assert desk.plan_of(order).state == "COMPLETED"
    assert not FalloutCase.objects.filter(state=CaseState.OPEN).exists()
    repairs.sound(order)
    return desk.states_of(order)


@pytest.mark.parametrize("begun", [False, True])
def test_of_a_waived_decision_no_branch_comes_to_exist(
    systems: ScriptedSystems, begun: bool
) -> None:
    desk.target("alpha")
    decide: list[dict[str, Any]] = [
        {"when": "item.characteristics.big == true", "create": ["more"]},
        {"otherwise": ["less"]},
    ]
    desk.workflow(
        {
            "first": desk.task(),
            "choose": desk.step(after=["first"], decide=decide),
            "more": desk.task(),
            "less": desk.task(),
            "close": desk.task(after=["more", "less"], join="deferred"),
        }
    )
    order = desk.order(desk.item(characteristics={}))
    if begun:
        desk.finish()
    task = desk.tasks_of(order)["choose@1"]
    assert task.state == (TaskState.AWAITING_MANUAL if begun else TaskState.PENDING)
    done = repairs.repair(WAIVE, task)
    assert set(done.after["left_out"]) == {"less@1", "more@1"}
    assert completed(order) == {
        "first@1": "SUCCEEDED",
        "choose@1": WAIVED,
        "close@1": "SUCCEEDED",
    }


def test_a_decision_of_a_person_is_waived_with_the_outcome_that_counts(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    ask = {
        "queue": "desk",
        "role": "clerk",
        "instructions": "Look.",
        "outcomes": {"dry": "proceed", "wet": "proceed", "no": "refuse"},
        "within": "P1D",
        "otherwise": "escalate",
    }
    desk.workflow(
        {
            "survey": desk.step(manual=ask),
            "lay": desk.task(depends_on=[{"human": "survey", "outcomes": ["dry"]}]),
            "drain": desk.task(depends_on=[{"human": "survey", "outcomes": ["wet"]}]),
        }
    )
    order = desk.order()
    task = desk.tasks_of(order)["survey@1"]
    repairs.refused(NotPossible, "does not go on", WAIVE, task, outputs={"outcome": "no"})
    repairs.repair(WAIVE, task, outputs={"outcome": "dry"})
    assert completed(order) == {"survey@1": WAIVED, "lay@1": "SUCCEEDED"}


def test_a_list_that_is_none_is_waived_with_its_end(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "port": desk.task(for_each={"over": "${item.characteristics.numbers}"}),
            "two": desk.task(after=["port"]),
        }
    )
    order = desk.order(desk.item(characteristics={"numbers": "12"}))
    repairs.repair(WAIVE, desk.tasks_of(order)["port~each@1"])
    states = completed(order)
    assert states["port~each@1"] == WAIVED
    assert states["two@1"] == "SUCCEEDED"
    assert sorted(states.values()) == ["SKIPPED_BY_POLICY", "SUCCEEDED", WAIVED]


def test_the_end_of_a_list_that_goes_on_is_not_waived(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"port": desk.task(for_each={"over": "${item.characteristics.numbers}"})})
    order = desk.order(desk.item(characteristics={"numbers": ["1"]}))
    end = next(task for task in desk.tasks_of(order).values() if task.state == TaskState.PENDING)
    repairs.refused(NotPossible, "ends with its elements", WAIVE, end)


def test_a_sub_process_is_waived_as_a_whole(systems: ScriptedSystems) -> None:
    """Not what stands inside alone; and nobody is left without a value of it."""
    desk.target("alpha")
    account()
    desk.workflow(register())
    systems.sends["check"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    tasks = desk.tasks_of(order)
    begin = next(task for task in tasks.values() if task.depth == 1)
    repairs.refused(NotPossible, "id is needed by welcome@1", WAIVE, begin)
    repairs.repair(WAIVE, tasks["welcome@1"])
    done = repairs.repair(WAIVE, begin)
    assert len(done.after["left_out"]) == 4
    assert desk.plan_of(order).state == "RUNNING"  # What comes before it is under way.
    repairs.repair(Action.TASK_RECONCILE, tasks["check@1"], happened=True, outputs={"name": "A"})
    completed(order)
    assert systems.actions() == ["check"]


def test_an_element_in_the_middle_that_is_waived_lets_the_next_follow(
    systems: ScriptedSystems,
) -> None:
    """A sub-process for each element: the order of its tasks is kept, and it counts once."""
    desk.target("alpha")
    each = {"over": "${item.characteristics.numbers}", "at_once": 1}
    desk.workflow({"port": desk.task(for_each=each), "two": desk.task(after=["port"])})
    systems.sends["port"] = [desk.rejected(), desk.rejected()]
    order = desk.order(desk.item(characteristics={"numbers": ["1", "2"]}))
    desk.finish()
    while failed := [
        task
        for task in desk.tasks_of(order).values()
        if task.element and task.state == TaskState.FAILED_FINAL
    ]:
        repairs.repair(WAIVE, failed[0])
        desk.finish()
    states = completed(order)
    assert [states[key] for key in ("port@1[1]", "port@1[2]", "two@1")] == [
        WAIVED,
        WAIVED,
        "SUCCEEDED",
    ]
