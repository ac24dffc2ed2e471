"""The audit trail of an order: complete, chained, and tampering with it is found."""

from __future__ import annotations

import pytest

from fulfillment.engine.work import chain
from fulfillment.engine.work.audit import verify
from fulfillment.models import Fulfillment, Transition
from oms.models import Order
from tests import desk
from tests.by_force import as_owner
from tests.desk import ScriptedSystems


@pytest.mark.django_db
def test_an_order_tells_its_whole_story(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    desk.drain()
    rows = Transition.objects.filter(fulfillment_id=order.fulfillment_id)
    assert [(row.entity, row.name, row.from_state, row.to_state) for row in rows] == [
        ("order", "submit", "", "SUBMITTED"),
        ("order", "validate", "SUBMITTED", "VALIDATING"),
        ("order", "accept", "VALIDATING", "READY_FOR_FULFILLMENT"),
        ("plan", "create", "", "CREATED"),
        ("plan", "graph_validated", "CREATED", "READY"),
        ("plan", "start", "READY", "RUNNING"),
        ("task", "make_ready", "PENDING", "READY"),
        ("order", "start", "READY_FOR_FULFILLMENT", "IN_PROGRESS"),
        ("task", "dispatch", "READY", "DISPATCHED"),
        ("task", "succeed", "DISPATCHED", "SUCCEEDED"),
        ("plan", "complete", "RUNNING", "COMPLETED"),
        ("order", "complete", "IN_PROGRESS", "COMPLETED"),
    ]
    assert [row.sequence for row in rows] == list(range(1, 13))
    assert all(row.cause for row in rows)
    actors = {row.actor.partition(" ")[0] for row in rows}
    assert actors == {"a", "worker"}  # "a test" submitted it


@pytest.mark.django_db
def test_the_chain_holds_after_a_messy_run(systems: ScriptedSystems) -> None:
    for order in desk.messy_run(seed=5):
        assert verify(fulfillment_id=order.fulfillment_id) == []
        rows = list(Transition.objects.filter(fulfillment_id=order.fulfillment_id))
        fulfillment = Fulfillment.objects.get(pk=order.fulfillment_id)
        assert len(rows) == fulfillment.audit_sequence > 10
        # Once more without the function under test: each hash from the stored values.
        previous = ""
        for row in rows:
            assert row.hash == chain.link(
                previous=previous,
                sequence=row.sequence,
                entity=row.entity,
                entity_id=row.entity_id,
                name=row.name,
                from_state=row.from_state,
                to_state=row.to_state,
                actor=row.actor,
                cause=row.cause,
                details=row.details,
                occurred_at=row.occurred_at,
            )
            previous = row.hash
        assert previous == fulfillment.audit_head


@pytest.mark.django_db
def test_the_chain_holds_with_text_of_every_kind(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    client = desk.client()
    order = desk.order(external_id='Ünï "quoted" \\ {a,b} NULL')
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.rejected('{"\\u0041", ☃ \x00 \ud800 \n}')))
    assert verify(fulfillment_id=order.fulfillment_id) == []
    row = Transition.objects.get(name="fail")
    assert row.details == {"code": '{"\\u0041", ☃  ? \n}'}
    assert client.name in Transition.objects.get(name="submit").cause


@pytest.mark.django_db
def test_a_fulfillment_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(Fulfillment.DoesNotExist):
        verify(fulfillment_id=-1)


@pytest.fixture
def told(committed_db: str, redis_url: str, systems: ScriptedSystems) -> Order:
    """A completed order, committed."""
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    bystander = desk.order()
    desk.drain()
    for one in (order, bystander):
        assert verify(fulfillment_id=one.fulfillment_id) == []
    return order


ROW = "WHERE fulfillment_id = %s AND sequence = 5"


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        (f"UPDATE fulfillment_transition SET actor = 'nobody' {ROW}", "Row 5 "),
        (f"UPDATE fulfillment_transition SET to_state = 'COMPLETED' {ROW}", "Row 5 "),
        (f"UPDATE fulfillment_transition SET cause = cause || ' ' {ROW}", "Row 5 "),
        (f"""UPDATE fulfillment_transition SET details = '{{"a": 1}}' {ROW}""", "Row 5 "),
        (
            "UPDATE fulfillment_transition "
            f"SET occurred_at = occurred_at + interval '1 microsecond' {ROW}",
            "Row 5 ",
        ),
        (f"UPDATE fulfillment_transition SET hash = repeat('0', 64) {ROW}", "Row 5 "),
        (f"DELETE FROM fulfillment_transition {ROW}", "Rows 5 to 5 are missing"),
        (
            "DELETE FROM fulfillment_transition WHERE fulfillment_id = %s AND sequence > 9",
            "Rows 10 to ",
        ),
        (
            "UPDATE fulfillment_fulfillment SET audit_head = repeat('0', 64) WHERE id = %s",
            "head",
        ),
    ],
)
def test_tampering_is_found_where_it_happened(told: Order, statement: str, place: str) -> None:
    assert as_owner(statement, values=(told.fulfillment_id,)) > 0
    found = verify(fulfillment_id=told.fulfillment_id)
    assert found
    assert place in found[0]
    (bystander,) = Fulfillment.objects.exclude(pk=told.fulfillment_id)
    assert verify(fulfillment_id=bystander.pk) == []
