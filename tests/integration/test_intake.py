"""Orders coming in: validated, kept, planned and started, a batch in one transaction."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import celery
import pytest

from fulfillment.engine.plans import scanning
from fulfillment.models import Fulfillment, OutboxEvent, Plan, Task, Transition, WorkflowVersion
from oms.intake.submission import MAXIMUM_BATCH, Disposition, submit
from oms.models import Order, OrderItem
from tests import desk
from tests.desk import ScriptedSystems

MARCH = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def shop(db: None, systems: ScriptedSystems) -> None:
    """One offering, fulfilled in two steps."""
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})


@pytest.mark.usefixtures("shop")
def test_an_order_is_kept_as_it_was_asked_for() -> None:
    nasty = 'a "quoted" {brace}, back\\slash, NULL, ünï ☃\n\ttab'
    asked: dict[str, Any] = {
        "external_id": nasty[:90],
        "customer_name": nasty,
        "customer_tier": "gold",
        "billing_account": "B-1",
        "region": "NULL",
        "channel": "",
        "requested_at": MARCH,
        "promised_at": MARCH,
        "priority": -3,
    }
    parent = desk.item(
        quantity=7,
        characteristics={"text": nasty, "deep": [1, 2.5, None, True, {"": ""}]},
        one_off_price=Decimal("0.0001"),
        recurring_price=Decimal("99999999999.9999"),
        currency="EUR",
        place={"id": "S-1"},
        parties=[{"id": "P-1", "role": "user"}],
    )
    child = desk.item(item_id="1.1", parent_id="1", relations=[{"item_id": "1"}])
    order = desk.order(parent, child, **asked)
    assert {name: getattr(order, name) for name in asked} == asked
    assert (order.state, order.version, order.faults) == ("IN_PROGRESS", 1, [])
    first, second = OrderItem.objects.filter(order=order)
    assert (first.position, second.position, second.parent_id) == (1, 2, first.pk)
    for row, item in ((first, parent), (second, child)):
        for name in ("item_id", "action", "offering", "quantity", "characteristics", "currency"):
            assert getattr(row, name) == getattr(item, name)
        assert (row.one_off_price, row.recurring_price) == (
            item.one_off_price,
            item.recurring_price,
        )
        assert (row.place, row.parties, row.relations) == (
            dict(item.place),
            list(item.parties),
            list(item.relations),
        )


@pytest.mark.usefixtures("shop")
def test_an_order_becomes_one_plan_with_a_task_for_each_node() -> None:
    order = desk.order(desk.item(), desk.item(item_id="2"))
    plan = desk.plan_of(order)
    assert (plan.state, plan.tasks_total, plan.mandatory_open) == ("RUNNING", 4, 4)
    assert desk.states_of(order) == {
        "one@1": "READY",
        "one@2": "READY",
        "two@1": "PENDING",
        "two@2": "PENDING",
    }
    assert Fulfillment.objects.get().order_reference == order.reference


@pytest.mark.usefixtures("shop")
def test_orders_of_one_shape_share_one_stored_graph() -> None:
    plans = [desk.plan_of(desk.order()) for _ in range(3)]
    other = desk.plan_of(desk.order(desk.item(), desk.item(item_id="2")))
    assert len({plan.graph_id for plan in plans}) == 1
    assert other.graph_id != plans[0].graph_id


@pytest.mark.usefixtures("shop")
def test_an_order_that_breaks_rules_is_kept_with_every_fault() -> None:
    request = desk.request(
        desk.item(offering="fax"), desk.item(asset="A"), requested_at=MARCH, priority=4
    )
    (answer,) = desk.submit_all(request)
    codes = ["offering.unknown", "asset.not_expected", "item.id_repeated"]
    assert (answer.disposition, answer.state) == (Disposition.CREATED, "REJECTED")
    assert [fault["code"] for fault in answer.faults] == codes
    order = Order.objects.get()
    assert order.state == "REJECTED"
    assert order.faults == list(answer.faults)
    assert all(fault["path"] and fault["message"] for fault in order.faults)
    assert order.finished_at == order.submitted_at
    assert OrderItem.objects.filter(order=order).count() == 2
    assert not Plan.objects.exists()
    rejected = Transition.objects.get(name="reject")
    assert all(code in rejected.cause for code in codes)
    event = OutboxEvent.objects.get()
    assert (event.event_type, event.payload["faults"]) == ("OrderRejected", order.faults)


@pytest.mark.usefixtures("shop")
def test_one_bad_order_does_not_hold_up_the_others_of_its_batch() -> None:
    requests = [desk.request(), desk.request(desk.item(offering="fax")), desk.request()]
    answers = desk.submit_all(*requests)
    assert [answer.state for answer in answers] == ["IN_PROGRESS", "REJECTED", "IN_PROGRESS"]
    assert [answer.external_id for answer in answers] == [one.external_id for one in requests]
    stored = dict(Order.objects.values_list("external_id", "state"))
    assert stored == {answer.external_id: answer.state for answer in answers}
    assert Plan.objects.count() == 2


@pytest.mark.usefixtures("shop")
def test_the_same_external_id_twice_in_a_batch_makes_one_order() -> None:
    first = desk.request(external_id="X-twice", priority=1)
    again = desk.request(external_id="X-twice", priority=2)
    other = desk.request()
    answers = desk.submit_all(first, other, again)
    assert [answer.disposition for answer in answers] == ["created", "created", "duplicate"]
    assert answers[0].reference == answers[2].reference
    assert Order.objects.get(external_id="X-twice").priority == 1
    assert Plan.objects.count() == Order.objects.count() == 2


@pytest.mark.usefixtures("shop")
def test_an_external_id_that_was_used_before_refers_to_that_order() -> None:
    order = desk.order(external_id="X-before")
    desk.drain()
    fresh, known = desk.submit_all(desk.request(), desk.request(external_id="X-before"))
    assert (fresh.disposition, fresh.state) == (Disposition.CREATED, "IN_PROGRESS")
    assert (known.disposition, known.state) == (Disposition.DUPLICATE, "COMPLETED")
    assert known.reference == order.reference
    assert Order.objects.count() == Plan.objects.count() == 2


@pytest.mark.usefixtures("shop")
def test_a_rejected_order_keeps_its_external_id() -> None:
    desk.submit_all(desk.request(desk.item(offering="fax"), external_id="X-bad"))
    (answer,) = desk.submit_all(desk.request(external_id="X-bad"))
    assert (answer.disposition, answer.state) == (Disposition.DUPLICATE, "REJECTED")


@pytest.mark.usefixtures("shop")
def test_two_clients_may_use_the_same_external_id() -> None:
    request = desk.request(external_id="X-shared")
    answers = [
        submit(client=desk.client(name), requests=[request], actor="a test")[0]
        for name in ("one", "another")
    ]
    assert {answer.disposition for answer in answers} == {Disposition.CREATED}
    assert answers[0].reference != answers[1].reference


@pytest.mark.usefixtures("shop")
def test_a_batch_has_a_limit() -> None:
    requests = [desk.request() for _ in range(MAXIMUM_BATCH + 1)]
    with pytest.raises(ValueError, match=f"{MAXIMUM_BATCH} are allowed"):
        desk.submit_all(*requests)
    assert not Order.objects.exists()
    assert len(desk.submit_all(*requests[1:])) == MAXIMUM_BATCH
    assert Order.objects.filter(state="IN_PROGRESS").count() == MAXIMUM_BATCH


@pytest.mark.usefixtures("shop")
def test_an_empty_batch_does_nothing() -> None:
    assert submit(client=desk.client(), requests=[], actor="a test") == []
    assert not Fulfillment.objects.exists()


@pytest.mark.usefixtures("shop")
def test_the_priority_reaches_every_task(systems: ScriptedSystems) -> None:
    low, high = desk.order(priority=-7), desk.order(priority=32000)
    for order in (low, high):
        assert {task.priority for task in desk.tasks_of(order).values()} == {order.priority}
        assert Fulfillment.objects.get(pk=order.fulfillment_id).priority == order.priority
    desk.drain()
    assert systems.sent[0].order_reference == high.reference


@pytest.mark.usefixtures("shop")
def test_lines_that_do_not_change_and_nested_lines_get_no_tasks() -> None:
    order = desk.order(
        desk.item(),
        desk.item(item_id="2", offering="extra", parent_id="1"),
        desk.ItemRequest(item_id="3", action="no_change", offering="thing"),
    )
    assert set(desk.tasks_of(order)) == {"one@1", "two@1"}


@pytest.mark.usefixtures("committed_db", "redis_url")
def test_a_target_without_a_worker_keeps_no_other_target_waiting(systems: ScriptedSystems) -> None:
    desk.target("alpha", queue="nobody_listens")
    desk.target("beta")
    desk.workflow({"one": desk.task("alpha"), "two": desk.task("beta")})
    (answer,) = desk.submit_all()
    # It is committed; a hint that nobody can be given makes no failure of it.
    assert answer.disposition == Disposition.CREATED
    assert set(Task.objects.values_list("state", flat=True)) == {"READY"}
    assert hinted() == ["beta"]
    scanning.scan()
    assert hinted() == ["beta", "beta"]


def hinted() -> list[str]:
    with celery.current_app.connection_for_read() as connection:
        waiting = connection.default_channel.client.lrange("crm", 0, -1)
        return [
            "beta" if "'beta'" in json.loads(raw)["headers"]["kwargsrepr"] else "?"
            for raw in waiting
        ]


@pytest.mark.django_db
def test_an_order_that_can_t_be_planned_fails_alone(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.workflow(
        {"one": desk.task()}, offering="inner", subprocess={}, fulfils=[], billing_trigger=None
    )
    desk.workflow({"all": desk.step(use="inner")}, offering="part")
    # An older release published this without asking who uses it.
    changed = WorkflowVersion.objects.get(name="inner")
    changed.pk, changed.version = None, 2
    changed.document = {**changed.document, "subprocess": None}
    changed.written = json.dumps(changed.document)
    changed.save(force_insert=True)
    mixed = desk.request(desk.item("thing"), desk.item("part", item_id="2"))
    answers = desk.submit_all(desk.request(), mixed, desk.request())
    assert [answer.state for answer in answers] == ["IN_PROGRESS", "REJECTED", "IN_PROGRESS"]
    assert answers[1].faults[0]["code"] == "offering.not_plannable"


@pytest.mark.django_db
def test_what_the_newest_version_leaves_out_no_older_one_fulfils(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    both = [{"offering": name, "actions": ["add"]} for name in ("thing", "part")]
    desk.workflow({"one": desk.task()}, fulfils=both)
    desk.workflow({"one": desk.task()}, version=2)
    (refused,) = desk.submit_all(desk.request(desk.item("part")))
    assert refused.faults[0]["code"] == "offering.unknown"
    desk.workflow({"one": desk.task()}, offering="part")
    (taken,) = desk.submit_all(desk.request(desk.item("part")))
    assert taken.state == "IN_PROGRESS"


@pytest.mark.django_db
def test_an_order_for_a_target_that_is_gone_is_rejected_with_the_reason(
    systems: ScriptedSystems,
) -> None:
    row = desk.target("alpha")
    desk.workflow({"one": desk.task()})
    row.delete()
    (answer,) = desk.submit_all()
    assert answer.state == "REJECTED"
    assert "alpha" in answer.faults[0]["message"]
