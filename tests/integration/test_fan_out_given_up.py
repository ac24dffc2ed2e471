"""A failed element of an optional fan-out, given up while others wait, is not among the results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import signals
from fulfillment.models import Fulfillment
from fulfillment.publishing import publish
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

PART: dict[str, Any] = {
    "workflow": "part",
    "version": 1,
    "title": "A part",
    "subprocess": {
        "inputs": {},
        "outputs": {"n": {"type": "integer", "value": "${tasks.work.n}"}},
    },
    "tasks": {
        "work": desk.task(action="work", outputs={"n": "integer"}),
        "signed": desk.step(
            after=["work"], wait={"milestone": "signed", "within": "PT1H", "otherwise": "escalate"}
        ),
    },
}


def test_what_was_given_up_is_not_gathered(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    desk.target("alpha")
    publish(definition=WorkflowDefinition.model_validate(PART), published_by="a test")
    desk.workflow(
        {
            "needed": desk.task(),
            "each": desk.step(
                use="part",
                input={},
                required=False,
                outputs={"n": "integer"},
                for_each={"over": "${item.characteristics.parts}", "tolerate": 0.5},
            ),
        }
    )
    systems.sends["work"] = [desk.rejected(), desk.succeeded(n=7)]
    order = desk.order(desk.item(characteristics={"parts": [1, 2]}))
    desk.drain()
    clock(3601)
    sweeping.sweep()  # Only a report can still end the second, so the first is given up.
    assert desk.states_of(order)["each@1[1]"] == "SKIPPED_BY_POLICY"
    key = Fulfillment.objects.get(pk=order.fulfillment_id).business_key
    subject = signals.of_order(business_key=key)
    signals.receive(source="a test", event_id="1", name="signed", subject=subject, payload={})
    assert desk.tasks_of(order)["each@1"].outputs == {"n": [7], "succeeded": 1, "failed": 1}
    order.refresh_from_db()
    assert order.state == "COMPLETED"
