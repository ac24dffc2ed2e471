"""A hold that would hold nothing is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from fulfillment import operations
from fulfillment.errors import NothingToHold
from fulfillment.models import HoldScope
from tests import desk
from tests.desk import by

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def test_a_hold_on_an_item_that_does_not_exist_is_refused() -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    for position in ("01", "2", "0"):
        with pytest.raises(NothingToHold):
            operations.place_hold(
                scope=HoldScope.ITEM,
                name=f"{order.reference}/{position}",
                reason="x",
                actor=by("x"),
                patience=timedelta(0),
            )


def test_a_hold_names_plans_and_tasks_as_the_claim_does() -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    plan = desk.plan_of(order)
    with pytest.raises(NothingToHold):
        operations.place_hold(scope=HoldScope.PLAN, name=f"0{plan.pk}", reason="x", actor=by("x"))
