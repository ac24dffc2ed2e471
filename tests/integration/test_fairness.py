"""Fair shares: who sends a thousand orders does not keep others waiting, and is not forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fulfillment.engine.protection import fairness
from fulfillment.engine.store.database import cursor
from fulfillment.models import Fulfillment, Task
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def ranks_of(*orders: Order) -> list[int]:
    rows = dict(Fulfillment.objects.values_list("id", "rank"))
    return [rows[order.fulfillment_id] for order in orders]


def served() -> list[int]:
    """Whose orders are sent, one after the other."""
    found = []
    while claims := desk.claim():
        found.append(claims[0].fulfillment_id)
    return found


def test_one_customer_s_many_orders_do_not_keep_another_s_one_waiting(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    requests = [desk.request(customer_id="BIG") for _ in range(40)]
    desk.submit_all(*requests)
    single = desk.order(customer_id="SMALL")
    # Behind the very first of the many, and before all the others.
    assert served().index(single.fulfillment_id) == 1


def test_priority_goes_before_fairness(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order(customer_id="BIG")
    urgent = desk.order(customer_id="BIG", priority=5)
    desk.order(customer_id="SMALL")
    assert served()[0] == urgent.fulfillment_id


def test_whoever_has_waited_goes_before_who_is_new(systems: ScriptedSystems) -> None:
    """The hundredth order of one customer: nobody overtakes it for ever."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.submit_all(*(desk.request(customer_id="BIG") for _ in range(100)))
    last = Fulfillment.objects.order_by("rank").last()
    assert last is not None
    desk.advance(100)
    desk.order(customer_id="SMALL")
    assert served()[-1] != last.pk


def test_a_customer_who_comes_back_later_starts_anew(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order(customer_id="C-1"), desk.order(customer_id="C-1")
    desk.advance(3600)
    again, other = desk.order(customer_id="C-1"), desk.order(customer_id="C-2")
    first, second = ranks_of(again, other)
    assert first <= second < first + fairness.STEP_MS


def test_a_wide_order_lets_others_by(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    wide = desk.order(*(desk.item(item_id=str(n)) for n in range(60)), customer_id="WIDE")
    other = desk.order(customer_id="OTHER")
    order = served()
    assert order.index(other.fulfillment_id) < 50
    assert set(order) == {wide.fulfillment_id, other.fulfillment_id}
    assert Task.objects.filter(state="DISPATCHED").count() == 61


def test_ranks_are_times_at_an_even_pace(db: None) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    at = int(now.timestamp() * 1000)
    with cursor() as raw:
        found = fairness.ranks(raw, customers=["A", "B", "A", "", "A", ""], now=now)
    step = fairness.STEP_MS
    assert found == [at, at, at + step, at, at + 2 * step, at]
    assert timedelta(milliseconds=step) == timedelta(seconds=1)


def test_nobody_stands_more_than_an_hour_behind(db: None) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    at = int(now.timestamp() * 1000)
    with cursor() as raw:
        found = fairness.ranks(raw, customers=["A"] * 5000, now=now)
    assert found == sorted(found)
    assert found[-1] == at + fairness.FARTHEST_MS


def test_a_large_batch_goes_through_in_groups(db: None) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    at = int(now.timestamp() * 1000)
    count = 2 * fairness.ABREAST + 1
    with cursor() as raw:
        found = fairness.ranks(raw, customers=[f"C-{n}" for n in range(count)], now=now)
    assert found == [at] * fairness.ABREAST + [at + 1] * fairness.ABREAST + [at + 2]
