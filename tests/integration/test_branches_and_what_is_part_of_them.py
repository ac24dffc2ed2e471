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
