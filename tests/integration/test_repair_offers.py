"""Which repairs of an order are offered, by how it stands."""

from __future__ import annotations

import pytest

from fulfillment import operations
from fulfillment.authority.authorizing import Reach
from oms.models import Order
from tests import by_hand, desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

WHILE_IT_RUNS = {"plan.regenerate", "plan.terminate", "order.force_complete", "order.cancel"}


def possible(order: Order) -> set[str]:
    found = operations.offers(reach=Reach(actor=desk.by("ops")), subject=by_hand.of(order))
    return {str(one.repair.action) for one in found if one.is_possible}


def test_what_is_offered_of_an_order_follows_its_state(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    assert possible(order) >= {*WHILE_IT_RUNS, "order.change"}
    failed = desk.tasks_of(order)["one@1"]
    operations.retry(task_id=failed.pk, actor=desk.by("ops"), reason="Mended.")
    desk.finish()
    assert possible(order).isdisjoint(WHILE_IT_RUNS)
    assert "order.change" in possible(order)
