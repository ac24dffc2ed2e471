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
