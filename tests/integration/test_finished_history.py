"""Copies of finished orders, with which a full system is measured, are like any other order."""

from __future__ import annotations

import pytest
from django.db import connection

from fulfillment.engine.work import audit
from fulfillment.models import Attempt, Command, Fulfillment, OutboxEvent, Task, Transition
from oms.models import Milestone, Order
from tests import api, by_force, desk
from tests.conftest import OWNER_URL, _with_database
from tests.desk import ScriptedSystems
from tests.load import history
from tests.load.parts import BenchFailed

COPIES = 7


@pytest.fixture
def seeds(
    committed_db: str, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Two orders that are done, one after a failed try."""

    name = str(connection.settings_dict["NAME"])
    monkeypatch.setenv("DATABASE_OWNER_URL", _with_database(OWNER_URL, name))
    api.a_workflow()
    systems.sends["one"] = [desk.failed(), *[desk.succeeded(number='ß "7"')] * 2]
    orders = [desk.order(), desk.order(customer_id="C-2")]
    desk.drain()
    desk.advance(3600)
    desk.finish()
    return [order.fulfillment_id for order in orders]


def test_every_copy_has_a_trail_that_verifies(seeds: list[int]) -> None:
    told: list[int] = []
    history.copy(of=seeds, copies=COPIES, tell=told.append)
    assert told[-1] == 2 * COPIES
    copies = Fulfillment.objects.exclude(pk__in=seeds)
    assert copies.count() == 2 * COPIES
    assert {pk: audit.verify(fulfillment_id=pk) for pk in copies.values_list("pk", flat=True)} == {
        pk: [] for pk in copies.values_list("pk", flat=True)
    }
    for model in (Task, Command, Attempt, Transition, OutboxEvent):
        own = model._default_manager.filter(fulfillment_id__in=seeds).count()
        assert model._default_manager.count() == own * (COPIES + 1) > 0, model
    assert Milestone.objects.count() == 2 * (COPIES + 1)
    entities = set(Transition.objects.values_list("fulfillment_id", "entity", "entity_id"))
    assert {(pk, "order", f"O-{order}") for pk, order in _orders()} <= entities
    tasks = set(Task.objects.values_list("fulfillment_id", "pk"))
    assert {(pk, int(name)) for pk, entity, name in entities if entity == "task"} == tasks


def test_a_copy_is_read_over_the_api_like_its_original(seeds: list[int]) -> None:
    history.copy(of=seeds, copies=COPIES, tell=lambda _: None)
    client = api.Api()
    for order in Order.objects.all():
        told = client.get(f"/orders/{order.reference}").json()
        assert (told["id"], told["state"]) == (f"O-{order.pk}", "COMPLETED")
        entries = client.get(f"/orders/{order.reference}/timeline").json()["entries"]
        assert len(entries) >= Transition.objects.filter(fulfillment=order.fulfillment_id).count()


def test_the_engine_goes_on_beside_copies(seeds: list[int], systems: ScriptedSystems) -> None:
    for _ in range(2):
        history.copy(of=seeds, copies=COPIES, tell=lambda _: None)
    systems.sends["one"] = [desk.succeeded(number="8")]
    order = desk.order()
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_a_changed_copy_is_noticed(seeds: list[int]) -> None:
    history.check(of=seeds)
    forged = f"UPDATE fulfillment_fulfillment SET audit_head = '{'0' * 64}' WHERE id = %s"
    by_force.as_owner(forged, values=(seeds[0],))
    with pytest.raises(BenchFailed, match=f"fulfillment {seeds[0]}: The head"):
        history.check(of=seeds)


def _orders() -> list[tuple[int, int]]:
    return list(Order.objects.values_list("fulfillment_id", "pk"))
