"""Revenue leakage: active without billing, and billed without service (reference §31.4, §35)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.engine import audit, stuck
from fulfillment.engine.port import Notice, PlanChange
from fulfillment.models import FalloutCase
from oms import leakage
from oms.intake.requests import ItemRequest
from oms.lifecycle import OrderLifecycle
from oms.models import BillingMatch, Leak, Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

ACTIVE, BILLED = Leak.ACTIVE_WITHOUT_BILLING, Leak.BILLED_WITHOUT_SERVICE
HOURS = 3600
PRICED: dict[str, Any] = {"recurring_price": Decimal(49), "currency": "EUR", "quantity": 2}


def a_service(**more: Any) -> None:
    """activate and bill stand side by side: either may be the first."""
    desk.target("alpha")
    desk.workflow(
        **{
            "tasks": {"activate": desk.task(), "bill": desk.task()},
            "fulfils": [{"offering": "thing", "actions": ["add", "modify", "disconnect"]}],
            "billing_trigger": "order_submit",
            "activation": "activate",
            "billing": {"task": "bill", "within": "PT4H"},
            **more,
        }
    )


def an_order(*items: Any, **fields: Any) -> Order:
    """Drained."""
    order = desk.order(*items, billing_account="BA-1", **fields)
    desk.drain()
    return order


def changed(action: str, asset: str) -> Order:
    return an_order(ItemRequest(item_id="1", action=action, offering="thing", asset=asset))


def leaks() -> list[str]:
    """What open cases are about."""
    rows = FalloutCase.objects.filter(category="LEAKAGE", state="OPEN").order_by("pk")
    return [case.reason_code for case in rows]


def gaps() -> list[tuple[str, Leak | None]]:
    rows = BillingMatch.objects.filter(due_at__isnull=False).select_related("item")
    return [(row.item.item_id, row.leak) for row in rows.order_by("pk")]


def look_after(hours: float) -> int:
    desk.advance(hours * HOURS)
    return leakage.find_leaks()


def test_what_is_active_and_not_billed_in_time_has_a_case(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["bill"] = [desk.rejected()]
    order = an_order(desk.item(**PRICED))
    assert gaps() == [("1", ACTIVE)]
    assert look_after(3.9) == 0
    assert look_after(0.2) == 1
    case = FalloutCase.objects.get(category="LEAKAGE")
    assert (case.severity, case.owner_queue) == ("HIGH", "billing")
    assert case.revenue_impact == "98.00 EUR recurring"
    assert case.fulfillment_id == order.fulfillment_id
    assert case.task_id == desk.tasks_of(order)["bill@1"].pk
    assert "bill@1 is FAILED_FINAL" in case.explanation
    assert "is active and not billed" in case.title


def test_what_is_billed_and_not_active_in_time_has_a_case(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["activate"] = [desk.rejected()]
    an_order(desk.item(**PRICED))
    assert gaps() == [("1", BILLED)]
    assert look_after(4.1) == 1
    case = FalloutCase.objects.get(category="LEAKAGE")
    assert case.reason_code == "billed_without_service"
    assert case.customer_impact == "The customer pays for what is not there."
    assert case.revenue_impact == ""
    assert "activate@1 is FAILED_FINAL" in case.explanation


@pytest.mark.parametrize("late", ["activate", "bill"])
def test_the_case_closes_by_itself_when_the_other_follows(
    systems: ScriptedSystems, late: str
) -> None:
    a_service()
    systems.sends[late] = [desk.rejected()]
    order = an_order()
    assert look_after(5) == 1
    operations.retry(task_id=desk.tasks_of(order)[f"{late}@1"].pk, reason="again", actor="me")
    desk.drain()
    assert leakage.find_leaks() == 0
    assert (leaks(), gaps()) == ([], [])
    assert FalloutCase.objects.get(category="LEAKAGE").resolved_by == "leakage detector"
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    assert look_after(100) == 0


def test_both_in_time_open_nothing(systems: ScriptedSystems) -> None:
    a_service()
    an_order()
    assert BillingMatch.objects.get().leak is None
    assert gaps() == []
    assert look_after(100) == 0
    assert not FalloutCase.objects.exists()
