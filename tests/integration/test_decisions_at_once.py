"""Decisions that are made in one unit: what hangs on several of them is counted once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.dispatch import sweeping
from fulfillment.models import Task
from fulfillment.publishing import publish
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def asked(otherwise: str) -> dict[str, Any]:
    return desk.step(
        manual={
            "queue": "desk",
            "role": "clerk",
            "instructions": "Decide.",
            "within": "PT1H",
            "otherwise": otherwise,
            "outcomes": {"yes": "proceed", "no": "proceed"},
        }
    )


def publish_part(tasks: dict[str, Any]) -> None:
    document = {
        "workflow": "part",
        "version": 1,
        "title": "A part",
        "subprocess": {"inputs": {}, "outputs": {}},
        "tasks": {
            name: {"action": name, **spec} if "target" in spec else spec
            for name, spec in tasks.items()
        },
    }
    publish(definition=WorkflowDefinition.model_validate(document), published_by="a test")


@pytest.mark.parametrize(("otherwise", "states"), [("no", []), ("yes", ["SUCCEEDED"])])
def test_of_several_people_who_miss_their_deadline_each_is_followed_on_its_own(
    systems: ScriptedSystems, clock: Clock, otherwise: str, states: list[str]
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "ask": asked(otherwise),
            "celebrate": desk.task(
                scope="order", depends_on=[{"human": "ask", "outcomes": ["yes"]}]
            ),
            "finish": desk.task(after=["ask"]),
        }
    )
    order = desk.order(desk.item(), desk.item(item_id="2"))
    clock(3601)
    sweeping.sweep()
    desk.drain()
    plan = desk.plan_of(order)
    assert [str(one.state) for one in Task.objects.filter(key__endswith="celebrate")] == states
    assert (plan.tasks_open, plan.mandatory_open, plan.state) == (0, 0, "COMPLETED")
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_what_hangs_on_two_people_is_left_out_with_the_sub_process_of_both(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    publish_part(
        {
            "one": asked("yes"),
            "two": asked("yes"),
            "both": desk.task(
                depends_on=[
                    {"human": "one", "outcomes": ["yes"]},
                    {"human": "two", "outcomes": ["yes"]},
                ]
            ),
        }
    )
    desk.workflow(
        {
            "approval": desk.step(use="part", input={}, only_if="order.priority > 4"),
            "finish": desk.task(after=["approval"]),
        }
    )
    order = desk.order()
    desk.drain()
    plan = desk.plan_of(order)
    assert (plan.tasks_open, plan.mandatory_open, plan.state) == (0, 0, "COMPLETED")
