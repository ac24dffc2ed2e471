"""What belongs to a task comes to exist, is skipped and ends with it."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.publishing import publish
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def sub_process(tasks: dict[str, Any], **face: Any) -> None:
    desk.target("alpha")
    publish(
        definition=WorkflowDefinition.model_validate(
            {
                "workflow": "part",
                "version": 1,
                "title": "A part",
                "subprocess": face,
                "tasks": {
                    name: {"action": name, **spec} if "target" in spec else spec
                    for name, spec in tasks.items()
                },
            }
        ),
        published_by="a test",
    )


def planned(tasks: dict[str, Any], **characteristics: Any) -> Order:
    desk.target("alpha")
    desk.workflow(tasks)
    order = desk.order(desk.item(characteristics=characteristics))
    desk.finish()
    order.refresh_from_db()
    return order


@pytest.mark.parametrize("chosen", [True, False])
def test_a_wait_that_is_written_in_a_branch_exists_only_with_it(
    systems: ScriptedSystems, chosen: bool
) -> None:
    order = planned(
        {
            "route": desk.step(
                decide=[
                    {"when": "item.characteristics.chosen == true", "create": ["branch"]},
                    {"otherwise": []},
                ]
            ),
            "branch": desk.task(
                depends_on=[{"milestone": "ready", "within": "P1D", "otherwise": "escalate"}]
            ),
        },
        chosen=chosen,
    )
    assert set(desk.states_of(order)) == (
        {"route@1", "branch~ready@1", "branch@1"} if chosen else {"route@1"}
    )
    assert order.state == ("IN_PROGRESS" if chosen else "COMPLETED")


def test_a_decision_that_is_skipped_creates_nothing(systems: ScriptedSystems) -> None:
    order = planned(
        {
            "route": desk.step(
                decide=[{"otherwise": ["branch"]}], only_if="item.characteristics.size > 5"
            ),
            "branch": desk.task(),
            "end": desk.task(after=["branch"], join="deferred"),
        },
        size=1,
    )
    assert order.state == "COMPLETED"
    assert desk.states_of(order) == {"route@1": "SKIPPED_BY_POLICY", "end@1": "SUCCEEDED"}


def test_what_depends_on_an_outcome_does_not_exist_when_nobody_is_asked(
    systems: ScriptedSystems,
) -> None:
    manual = {
        "queue": "desk",
        "role": "clerk",
        "instructions": "Which one?",
        "outcomes": {"dry": "proceed", "wet": "proceed"},
        "within": "P1D",
        "otherwise": "escalate",
    }
    order = planned(
        {
            "survey": desk.step(manual=manual, only_if="item.characteristics.size > 5"),
            "drain": desk.task(depends_on=[{"human": "survey", "outcomes": ["wet"]}]),
            "end": desk.task(after=["drain"], join="deferred"),
        },
        size=1,
    )
    assert order.state == "COMPLETED"
    assert desk.states_of(order) == {"survey@1": "SKIPPED_BY_POLICY", "end@1": "SUCCEEDED"}


def test_a_fan_out_that_is_skipped_is_skipped_as_a_whole(systems: ScriptedSystems) -> None:
    order = planned(
        {
            "each": desk.task(
                for_each={"over": "${item.characteristics.list}"},
                only_if="item.characteristics.size > 5",
            ),
            "end": desk.task(after=["each"]),
        },
        size=1,
        list=[1, 2],
    )
    assert order.state == "COMPLETED"
    assert systems.actions() == ["end"]
    assert desk.states_of(order) == {
        "each~each@1": "SKIPPED_BY_POLICY",
        "each@1": "SKIPPED_BY_POLICY",
        "end@1": "SUCCEEDED",
    }


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "scanner"])
def test_a_sub_process_that_is_skipped_is_skipped_as_a_whole(
    systems: ScriptedSystems, settings: Any, fast_path: bool
) -> None:
    settings.OMS_FAST_PATH = fast_path
    sub_process(
        {
            "first": desk.task(),
            "route": desk.step(after=["first"], decide=[{"otherwise": ["second"]}]),
            "second": desk.task(),
            "each": desk.task(for_each={"over": "${inputs.list}"}),
            "last": desk.task(after=["first", "second"], join="deferred"),
        },
        inputs={"list": "list"},
    )
    order = planned(
        {
            "part": desk.step(
                use="part",
                input={"list": "${item.characteristics.list}"},
                only_if="item.characteristics.size > 5",
            ),
            "end": desk.task(after=["part"]),
        },
        size=1,
        list=[1, 2],
    )
    assert order.state == "COMPLETED"
    assert systems.actions() == ["end"]
    states = desk.states_of(order)
    assert states.pop("end@1") == "SUCCEEDED"
    assert set(states.values()) == {"SKIPPED_BY_POLICY"}
    assert "part/second@1" not in states


def test_a_fan_out_behind_a_branch_exists_only_with_it(systems: ScriptedSystems) -> None:
    order = planned(
        {
            "route": desk.step(
                decide=[
                    {"when": "item.characteristics.size > 5", "create": ["each"]},
                    {"otherwise": []},
                ]
            ),
            "each": desk.task(
                after=["route"], join="deferred", for_each={"over": "${item.characteristics.list}"}
            ),
            "end": desk.task(after=["each"], join="deferred"),
        },
        size=1,
        list=[1],
    )
    assert set(desk.states_of(order)) == {"route@1", "end@1"}
    assert order.state == "COMPLETED"


def test_a_sub_process_ends_only_when_everything_that_it_needs_has(
    systems: ScriptedSystems,
) -> None:
    sub_process(
        {
            "slow": desk.task(),
            "route": desk.step(decide=[{"otherwise": []}]),
            "branch": desk.task(after=["slow", "route"]),
            "other": desk.step(
                decide=[{"when": "inputs.n > 5", "create": ["branch"]}, {"otherwise": []}]
            ),
        },
        inputs={"n": "integer"},
    )
    systems.sends["slow"] = [desk.accepted()]
    order = planned(
        {"part": desk.step(use="part", input={"n": 1}), "end": desk.task(after=["part"])}
    )
    states = desk.states_of(order)
    assert (states["part/slow@1"], states["part@1"], states["end@1"]) == (
        "ACCEPTED",
        "PENDING",
        "PENDING",
    )


def test_a_task_of_a_sub_process_begins_after_it_even_if_it_depends_on_nothing_for_sure(
    systems: ScriptedSystems,
) -> None:
    sub_process(
        {
            "one": desk.task(),
            "two": desk.task(depends_on=[{"success": "one", "when": "inputs.n > 5"}]),
        },
        inputs={"n": "integer"},
    )
    systems.sends["first"] = [desk.accepted()]
    order = planned(
        {"first": desk.task(), "part": desk.step(use="part", after=["first"], input={"n": 1})}
    )
    assert desk.states_of(order)["part/two@1"] == "PENDING"


@pytest.mark.parametrize("size", [1, 9])
def test_what_a_fan_out_or_a_sub_process_returns_may_be_missing_where_it_may_be_skipped(
    systems: ScriptedSystems, size: int
) -> None:
    sub_process(
        {"make": desk.task(outputs={"n": "integer"})},
        outputs={"n": {"type": "integer", "value": "${tasks.make.n}"}},
    )
    big = "item.characteristics.size > 5"
    systems.sends["make"] = [desk.succeeded(n=3)]
    order = planned(
        {
            "part": desk.step(use="part", outputs={"n": "integer"}, only_if=big),
            "each": desk.task(for_each={"over": "${item.characteristics.list}"}, only_if=big),
            "end": desk.task(
                depends_on=[{"output": "part.n"}, {"output": "each.succeeded"}],
                only_if="tasks.part.n != null && tasks.each.succeeded != null",
            ),
        },
        size=size,
        list=[1, 2],
    )
    assert order.state == "COMPLETED"
    assert desk.states_of(order)["end@1"] == ("SUCCEEDED" if size > 5 else "SKIPPED_BY_POLICY")


def test_an_element_does_not_fail_with_what_its_sub_process_does_not_need(
    systems: ScriptedSystems,
) -> None:
    sub_process({"inner": desk.task()})
    publish(
        definition=WorkflowDefinition.model_validate(
            {
                "workflow": "outer",
                "version": 1,
                "title": "A sub-process that uses another",
                "subprocess": {},
                "tasks": {
                    "main": desk.task(action="main"),
                    "extra": desk.step(use="part", required=False),
                },
            }
        ),
        published_by="a test",
    )
    systems.sends["inner"] = [desk.rejected()]
    order = planned(
        {"each": desk.step(use="outer", for_each={"over": "${item.characteristics.list}"})},
        list=[1],
    )
    assert order.state == "COMPLETED"
    assert desk.states_of(order)["each@1"] == "SUCCEEDED"


def test_a_conditional_dependency_without_its_condition_waits_for_no_decision(
    systems: ScriptedSystems,
) -> None:
    systems.sends["slow"] = [desk.accepted()]
    order = planned(
        {
            "slow": desk.task(),
            "route": desk.step(after=["slow"], decide=[{"otherwise": ["branch"]}]),
            "branch": desk.task(),
            "end": desk.task(
                join="deferred",
                depends_on=[{"success": "branch", "when": "item.characteristics.size > 5"}],
            ),
        },
        size=1,
    )
    assert desk.states_of(order)["end@1"] == "SUCCEEDED"


def test_optional_tasks_behind_a_failed_one_are_skipped_fan_outs_included(
    systems: ScriptedSystems,
) -> None:
    systems.sends["extra"] = [desk.rejected()]
    order = planned(
        {
            "main": desk.task(),
            "extra": desk.task(required=False),
            "each": desk.task(
                after=["extra"], required=False, for_each={"over": "${item.characteristics.list}"}
            ),
            "behind": desk.task(after=["each"], required=False),
        },
        list=[1, 2],
    )
    assert order.state == "COMPLETED"
    assert {desk.states_of(order)[key] for key in ("each~each@1", "each@1", "behind@1")} == {
        "SKIPPED_BY_POLICY"
    }


def test_what_may_still_come_is_not_skipped_with_what_it_does_not_depend_on(
    systems: ScriptedSystems,
) -> None:
    systems.sends["extra"] = [desk.rejected()]
    systems.sends["open"] = [desk.succeeded()]  # and a person has to find the number
    order = planned(
        {
            "main": desk.task(),
            "extra": desk.task(required=False),
            "open": desk.task(required=False, outputs={"n": "integer"}),
            "behind": desk.task(
                after=["open"],
                depends_on=[{"success": "extra", "when": "item.characteristics.size > 5"}],
                required=False,
            ),
        },
        size=1,
    )
    assert desk.states_of(order)["behind@1"] == "PENDING"
    assert desk.plan_of(order).state == "BLOCKED"
