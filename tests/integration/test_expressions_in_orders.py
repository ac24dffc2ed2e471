"""Expressions in the templates of orders that run."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fulfillment.models import FalloutCase
from oms.intake import feasibility
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def test_a_task_is_given_what_its_expressions_come_to(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "count": desk.task(outputs={"rows": "integer", "share": "number"}),
            "load": desk.task(
                after=["count"],
                depends_on=[{"output": "count.rows"}, {"output": "count.share"}],
                input={
                    "expensive": "${order.total >= 1000}",
                    "total": "${order.total}",
                    "currency": "${order.currency}",
                    "rows": "${tasks.count.rows * item.quantity}",
                    "half": "${tasks.count.share / 2}",
                    "version": "${plan.order_version}",
                    "later": "${timestamp(plan.created_at) + duration('1h') > "
                    "timestamp(plan.created_at)}",
                    "text": "${order.region + '-' + string(item.quantity)} of ${item.offering}",
                },
            ),
        }
    )
    systems.sends["count"] = [desk.succeeded(rows=7, share=3)]
    order = desk.order(
        desk.item(quantity=3, one_off_price=Decimal("333.34"), currency="EUR"),
        region="AT",
        billing_account="B-1",
    )
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.sent[-1].payload == {
        "expensive": True,
        "total": 1000.02,
        "currency": "EUR",
        "rows": 21,
        "half": 1.5,
        "version": 1,
        "later": True,
        "text": "AT-3 of thing",
    }


@pytest.mark.parametrize(
    ("prices", "total"),
    [
        ([("10.10", "EUR"), ("0.20", "EUR")], 10.3),
        ([("10.10", "EUR"), (None, "")], 10.1),
        ([("10.10", "EUR"), ("10.10", "USD")], None),
        ([(None, "EUR")], None),
    ],
)
def test_the_total_is_there_when_it_means_something(
    systems: ScriptedSystems, prices: list[tuple[str | None, str]], total: float | None
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(scope="order", input={"total": "${order.total?}"})})
    desk.order(
        *(
            desk.item(
                item_id=str(position),
                one_off_price=Decimal(price) if price else None,
                currency=currency,
            )
            for position, (price, currency) in enumerate(prices, 1)
        ),
        billing_account="B-1",
    )
    desk.drain()
    assert [command.payload for command in systems.sent] == [{"total": total}]


def test_an_expression_that_fails_stops_its_task_for_a_person(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input={"each": "${100 / (item.quantity - 1)}"})})
    order = desk.order(desk.item(quantity=1))
    desk.drain()
    assert desk.states_of(order)["one@1"] == "AWAITING_MANUAL"
    case = FalloutCase.objects.get()
    assert case.reason_code == "fulfillment.expression_failed"
    assert "divide by zero" in case.explanation
    assert systems.sent == []


def test_a_question_before_acceptance_may_compute(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    check = {"target": "alpha", "action": "can_it", "input": {"twice": "${item.quantity * 2}"}}
    desk.workflow({"one": desk.task()}, feasibility=[check])
    order = desk.order(desk.item(quantity=4))
    feasibility.assess()
    order.refresh_from_db()
    assert order.state == "IN_PROGRESS"
    assert systems.sent[0].payload == {"twice": 8}
