"""What an order document carries is what expressions read, from its first task on."""

from __future__ import annotations

from typing import Any

import pytest

from oms.api.requests import OrdersIn
from oms.intake.submission import submit
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def submitted(**body: Any) -> Order:
    """An order as the API takes it in."""
    document = {"external_id": "W-1", "customer": {"id": "C-1"}, **body}
    (order,) = OrdersIn.model_validate({"orders": [document]}).orders
    (answer,) = submit(client=desk.client(), requests=[order.request()], actor="a test")
    assert not answer.faults, answer.faults
    return Order.objects.get(reference=answer.reference)


def test_the_lines_of_an_order_document_can_be_read_by_an_expression(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "pack": desk.task(
                scope="order",
                input={"lines": "${items.map(i, {'what': i.offering, 'how': i.action})}"},
            ),
            "mark": desk.task(input={"new": "${item.action == 'add'}"}),
        }
    )
    order = submitted(items=[{"item_id": "1", "action": "add", "offering": "thing"}])
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    sent = {command.action: command.payload for command in systems.sent}
    assert sent == {
        "pack": {"lines": [{"what": "thing", "how": "add"}]},
        "mark": {"new": True},
    }
