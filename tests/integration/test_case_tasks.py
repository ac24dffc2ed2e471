"""What fails in an order for the same reason is one case, with every task that it is about."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fulfillment import operations
from fulfillment.engine.work import audit
from fulfillment.models import CaseTask, FalloutCase, Transition
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

_AS_BEFORE = """
INSERT INTO fulfillment_falloutcase (
    fulfillment_id, task_id, subject, state, category, severity, reason_code, title,
    explanation, facts, repair_options, owner_queue, sla_due_at, customer_impact, revenue_impact,
    opened_by, opened_at, resolved_by, resolution)
VALUES (%s, %s, %s, 'OPEN', 'REFUSED', 'LOW', 'no_stock', '', '', '{}', '[]', 'operations',
        fulfillment_now(), '', '', 'engine', fulfillment_now(), '', '')
ON CONFLICT (subject) WHERE state = 'OPEN' DO UPDATE SET title = excluded.title
"""
PRICED = {"one_off_price": Decimal("100.00"), "currency": "EUR"}


def fan_out(count: int) -> Order:
    desk.target("alpha", idempotent=False, status_query=False)
    over = {"over": "${item.characteristics.list}", "at_once": count}
    offering = f"list-{count}"
    desk.workflow({"port": desk.task(for_each=over)}, offering=offering)
    return desk.order(desk.item(offering, characteristics={"list": list(range(count))}))


def two_items(systems: ScriptedSystems, *codes: str) -> Order:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected(code) for code in codes]
    items = (desk.item(item_id=str(number), **PRICED) for number, _ in enumerate(codes, 1))
    order = desk.order(*items, billing_account="BA-1")
    desk.drain()
    return order


def the_case() -> FalloutCase:
    return FalloutCase.objects.get()


def retry(order: Order, key: str) -> None:
    operations.retry(task_id=desk.tasks_of(order)[key].pk, actor=by("ops"), reason="again")


def test_a_fan_out_of_500_that_fails_for_one_reason_is_one_case(systems: ScriptedSystems) -> None:
    order = fan_out(500)
    systems.sends["port"] = [desk.unknown()] * 500
    desk.drain(rounds=1000)
    case = FalloutCase.objects.get(target="alpha")
    assert (case.tasks_open, case.tasks_total) == (500, 500)
    assert CaseTask.objects.filter(case=case, left_at=None).count() == 500
    elements = set(CaseTask.objects.values_list("facts__task", flat=True))
    assert len(elements) == 500
    opened = Transition.objects.filter(entity="case", entity_id=str(case.pk), name="open")
    assert opened.count() == 1
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_what_joins_a_case_costs_the_same_however_many_it_has(systems: ScriptedSystems) -> None:
    def statements(count: int) -> int:
        fan_out(count)
        systems.sends["port"] = [desk.unknown()] * count
        with CaptureQueriesContext(connection) as seen:
            desk.drain(rounds=1000)
        return len(seen)

    few, many = statements(5), statements(50)
    assert many <= few + 45 * 12


def test_items_that_fail_for_one_reason_share_a_case(systems: ScriptedSystems) -> None:
    two_items(systems, "no_stock", "no_stock")
    case = the_case()
    assert (case.tasks_open, case.fingerprint != "") == (2, True)
    assert case.revenue_impact == "200.00 EUR once"
    assert (case.revenue_amount, case.revenue_currency) == (200, "EUR")


def test_items_that_fail_for_different_reasons_have_a_case_each(systems: ScriptedSystems) -> None:
    two_items(systems, "no_stock", "no_credit")
    assert {case.reason_code: case.tasks_open for case in FalloutCase.objects.all()} == {
        "no_stock": 1,
        "no_credit": 1,
    }


def test_a_task_that_gets_on_leaves_its_case_and_stays_in_its_history(
    systems: ScriptedSystems,
) -> None:
    order = two_items(systems, "no_stock", "no_stock")
    case = the_case()
    first = desk.tasks_of(order)[CaseTask.objects.get(task_id=case.task_id).facts["task"]]
    retry(order, first.key)
    case.refresh_from_db()
    assert (case.state, case.tasks_open, case.tasks_total) == ("OPEN", 1, 2)
    left = CaseTask.objects.get(task=first)
    assert left.left_at is not None
    assert "tried again by hand" in left.left_because


def test_a_case_speaks_of_a_task_that_it_still_has(systems: ScriptedSystems) -> None:
    order = two_items(systems, "no_stock", "no_stock")
    case = the_case()
    gone = case.task_id
    retry(order, case.facts["task"])
    case.refresh_from_db()
    assert case.task_id != gone
    still = CaseTask.objects.get(case=case, left_at=None)
    assert (case.task_id, case.facts["task"]) == (still.task_id, still.facts["task"])
    assert case.title == still.title


def test_a_case_is_resolved_when_the_last_of_its_tasks_has_got_on(
    systems: ScriptedSystems,
) -> None:
    order = two_items(systems, "no_stock", "no_stock")
    for key in ("one@1", "one@2"):
        assert the_case().state == "OPEN"
        retry(order, key)
    case = the_case()
    assert (case.state, case.tasks_open) == ("RESOLVED", 0)
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_one_that_fails_again_for_the_same_reason_is_in_the_case_that_is_open(
    systems: ScriptedSystems,
) -> None:
    order = two_items(systems, "no_stock", "no_stock")
    systems.sends["one"] = [desk.rejected("no_stock")]
    retry(order, "one@1")
    desk.drain()
    case = the_case()
    assert (case.tasks_open, case.tasks_total) == (2, 3)
    assert CaseTask.objects.filter(task=desk.tasks_of(order)["one@1"]).count() == 2


def test_one_that_fails_for_another_reason_moves_to_a_case_about_that(
    systems: ScriptedSystems, clock: Any
) -> None:
    desk.target("alpha")
    retries = {"initial_interval": "PT1S", "maximum_attempts": 9, "escalate_after": 1}
    desk.workflow({"one": desk.task(retry=retries)})
    again = desk.failed(code="busy", retry_after=timedelta(seconds=20))
    systems.sends["one"] = [again, again, desk.rejected("no_stock")]
    desk.order(desk.item(item_id="1"), desk.item(item_id="2"))
    desk.drain()
    clock(30)
    shared = FalloutCase.objects.get()
    assert (shared.category, shared.tasks_open) == ("RETRYING", 2)
    desk.drain()
    assert {
        (case.category, case.state, case.tasks_open, case.tasks_total)
        for case in FalloutCase.objects.all()
    } == {("REFUSED", "OPEN", 1, 1), ("RETRYING", "RESOLVED", 0, 2)}


def test_closing_a_case_by_hand_lets_all_of_its_tasks_go(systems: ScriptedSystems) -> None:
    two_items(systems, "no_stock", "no_stock")
    operations.close_case(case_id=the_case().pk, resolution="Seen to elsewhere.", actor=by("ops"))
    assert the_case().state == "RESOLVED"
    assert set(CaseTask.objects.values_list("left_because", flat=True)) == {"Seen to elsewhere."}
    assert not CaseTask.objects.filter(left_at=None).exists()


def test_a_case_that_the_release_before_has_opened_is_closed_by_its_subject(
    systems: ScriptedSystems,
) -> None:
    order = two_items(systems, "no_stock")
    task = desk.tasks_of(order)["one@1"]
    operations.close_case(case_id=the_case().pk, resolution="Anew.", actor=by("ops"))
    with connection.cursor() as raw:
        raw.execute(_AS_BEFORE, [order.fulfillment_id, task.pk, f"task:{task.pk}"])
        raw.execute(_AS_BEFORE, [order.fulfillment_id, task.pk, f"task:{task.pk}"])
    assert FalloutCase.objects.filter(state="OPEN").count() == 1
    retry(order, "one@1")
    assert not FalloutCase.objects.filter(state="OPEN").exists()
