"""Wherever in a chain a row is touched, and whatever has a state: refused, or found and named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from io import StringIO

import psycopg
import pytest
from django.apps import apps
from django.core.management import CommandError, call_command

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.audit.sealing import seal_new
from fulfillment.audit.verifying import verify
from fulfillment.engine.store import guards
from fulfillment.models import (
    Approval,
    BulkJob,
    BulkRow,
    FalloutCase,
    Incident,
    ManualTask,
    Plan,
    Task,
    Transition,
)
from fulfillment.models.base import StatefulModel
from fulfillment.operations import bulk
from oms.changes.documents import as_submitted
from oms.models import AmendmentRequest, CancellationRequest, Notification, Order
from tests import by_hand, desk, manual_work, people
from tests.by_force import as_owner
from tests.desk import ScriptedSystems, by
from tests.integration.test_amendment import revision

MACHINES = [
    model
    for label in ("fulfillment", "oms")
    for model in guards.stateful(apps.get_app_config(label))
]
IN_CHAINS = {
    Approval,
    FalloutCase,
    ManualTask,
    Plan,
    Task,
    Order,
    AmendmentRequest,
    CancellationRequest,
}
NOT_IN_CHAINS = {BulkJob, BulkRow, Incident, Notification}
"""What was done through them stands in the chains of orders and in the log of operations."""
each = pytest.mark.parametrize("model", MACHINES, ids=lambda model: model.__name__)


@pytest.fixture
def history(committed_db: str, redis_url: str, systems: ScriptedSystems) -> list[Order]:
    """Something of everything that has a state: failed, waived, asked, cancelled and changed."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(compensation={"action": "release", "input": {}}),
            "ship": desk.task(after=["reserve"], input={"to": "${item.characteristics.to?}"}),
            "review": desk.step(after=["reserve"], manual=manual_work.a_question()),
        },
    )
    systems.sends["ship"] = [desk.rejected()] * 3
    orders = [desk.order(customer_email="ann@example.com") for _ in range(3)]
    desk.finish()
    operations.group_cases()
    bulk.draft(
        actor=by("anna"),
        action=Action.CASE_CLOSE,
        selection=bulk.Selection(of="case"),
        reason="They are over.",
    )
    waived, cancelled, changed = orders
    olga = people.almighty()
    ship = desk.tasks_of(waived)["ship@1"]
    by_hand.done_by_two(by_hand.request(Action.TASK_WAIVE, f"task:{ship.pk}"), actor=olga)
    operations.perform(
        actor=olga, request=by_hand.request(Action.ORDER_CANCEL, by_hand.of(cancelled))
    )
    document = as_submitted(revision(changed, desk.item(characteristics={"to": "Vienna"})))
    operations.perform(
        actor=olga,
        request=by_hand.request(
            Action.ORDER_CHANGE, by_hand.of(changed), version=2, order=document
        ),
    )
    seal_new()
    assert found() == []
    return orders


def found() -> list[str]:
    return [str(one) for one in verify()]


def told() -> str:
    """The first that the command names."""
    with pytest.raises(CommandError) as error:
        call_command("verify_audit", stderr=StringIO())
    return str(error.value).partition("The first: ")[2]


def other_states(model: type[StatefulModel], state: str) -> list[str]:
    states = sorted(str(one) for one, _ in model._meta.get_field("state").choices or ())
    return [one for one in states if one != state]


def test_every_machine_is_in_the_chains_or_known_not_to_be() -> None:
    assert set(MACHINES) == IN_CHAINS | NOT_IN_CHAINS


@each
def test_the_application_s_role_changes_no_state_raw(
    history: list[Order], committed_db: str, model: type[StatefulModel]
) -> None:
    table = model._meta.db_table
    row = model._default_manager.order_by("pk").values("pk", "state").first()
    assert row is not None, f"there is no {model.__name__} to try it with"
    statements = [
        f"UPDATE {table} SET state = '{state}' WHERE id = {row['pk']}"
        for state in other_states(model, row["state"])
        if model.moves_in_units or (row["state"], state) not in guards.ways(model)
    ]
    with psycopg.connect(committed_db, autocommit=True) as raw:
        raw.execute("SET plan_cache_mode = force_generic_plan")  # As workers do.
        for statement in (
            *statements,
            f"DELETE FROM {table} WHERE id = {row['pk']}",
            f"TRUNCATE {table} CASCADE",
        ):
            with pytest.raises(psycopg.DatabaseError):
                raw.execute(statement.encode())
    assert statements or not model.moves_in_units
    assert model._default_manager.filter(**row).exists()


@pytest.mark.parametrize("model", sorted(IN_CHAINS, key=str), ids=lambda model: model.__name__)
def test_a_state_that_the_owner_has_changed_is_named(
    history: list[Order], model: type[StatefulModel]
) -> None:
    table = model._meta.db_table
    row = model._default_manager.order_by("-pk").values("pk", "state").first()
    assert row is not None
    for other in other_states(model, row["state"]):
        with suppress(psycopg.errors.CheckViolation):  # Of the row's own: the next one, then.
            as_owner(f"UPDATE {table} SET state = '{other}' WHERE id = {row['pk']}")
            break
    first = told()
    assert first.startswith(f"{table}, O-")
    assert f"It is {other}" in first
    assert f"says {row['state']}" in first


@pytest.fixture
def chain(history: list[Order]) -> Iterator[tuple[Order, int]]:
    """An order, and how many rows its chain has; afterwards the rows are put back and it holds."""
    order = history[0]
    as_owner(
        "CREATE TABLE kept AS SELECT * FROM fulfillment_transition "
        f"WHERE fulfillment_id = {order.fulfillment_id}"
    )
    rows = Transition.objects.filter(fulfillment_id=order.fulfillment_id).count()
    assert rows > 10
    yield order, rows
    put_back(order)
    assert found() == []


def put_back(order: Order) -> None:
    as_owner(
        f"DELETE FROM fulfillment_transition WHERE fulfillment_id = {order.fulfillment_id}",
        "INSERT INTO fulfillment_transition OVERRIDING SYSTEM VALUE SELECT * FROM kept",
    )


def test_whatever_is_changed_in_the_first_a_middle_or_the_last_row_is_named(
    chain: tuple[Order, int],
) -> None:
    order, rows = chain
    for sequence in (1, rows // 2, rows):
        for change in (
            "entity = entity || 'x'",
            "entity_id = entity_id || '0'",
            "name = name || 'x'",
            "from_state = from_state || 'x'",
            "to_state = to_state || 'x'",
            "actor = actor || 'x'",
            "cause = cause || 'x'",
            "details = details || '{\"x\": 1}'",
            "occurred_at = occurred_at + interval '1 microsecond'",
            "hash = repeat('0', 64)",
        ):
            as_owner(
                f"UPDATE fulfillment_transition SET {change} "
                f"WHERE fulfillment_id = {order.fulfillment_id} AND sequence = {sequence}"
            )
            first = told()
            assert first.startswith(f"fulfillment_transition, {order.reference}"), change
            assert f"ow {sequence}" in first, (change, first)
            put_back(order)


OF_IT = "WHERE fulfillment_id = {order} AND"
COPY = (
    "INSERT INTO fulfillment_transition (fulfillment_id, sequence, entity, entity_id, name, "
    "from_state, to_state, actor, cause, details, occurred_at, hash) SELECT fulfillment_id, "
    "{to}, entity, entity_id, name, from_state, to_state, actor, cause, details, occurred_at, "
    "hash FROM fulfillment_transition " + OF_IT + " sequence = {of}"
)
MOVE = "UPDATE fulfillment_transition SET sequence = {to} " + OF_IT + " sequence = {of}"
CUT = "DELETE FROM fulfillment_transition " + OF_IT + " sequence {which}"
CLOSE_UP = (
    # Above all numbers first: each of them is there once.
    "UPDATE fulfillment_transition SET sequence = sequence + 10000 " + OF_IT + " sequence > {gap}",
    "UPDATE fulfillment_transition SET sequence = sequence - {by} " + OF_IT + " sequence > 10000",
)


def test_rows_that_are_cut_added_or_swapped_anywhere_are_named(chain: tuple[Order, int]) -> None:
    order, rows = chain
    of = order.fulfillment_id

    def named(row: int, *statements: str) -> None:
        as_owner(*statements)
        first = told()
        assert first.startswith(f"fulfillment_transition, {order.reference}"), first
        assert f"ow {row} " in first or f"ows {row} " in first, (row, first, statements)
        put_back(order)

    def cut(which: str) -> str:
        return CUT.format(order=of, which=which)

    def close_up(gap: int, by: int) -> list[str]:
        return [one.format(order=of, gap=gap, by=by) for one in CLOSE_UP]

    def move(sequence: int, to: int) -> str:
        return MOVE.format(order=of, of=sequence, to=to)

    named(1, cut("= 1"))
    named(5, cut("= 5"))
    named(rows, cut(f"= {rows}"))
    named(rows - 3, cut(f"> {rows - 4}"))
    named(1, cut("> 0"))
    # With the gap closed, so that no number is missing.
    named(1, cut("= 1"), *close_up(1, 10001))
    named(5, cut("= 5"), *close_up(5, 10001))
    named(3, move(3, 20_000), move(4, 3), move(20_000, 4))
    named(1, move(1, 20_000), move(rows, 1), move(20_000, rows))
    named(6, *close_up(5, 9999), COPY.format(order=of, of=5, to=6))
    named(rows + 1, COPY.format(order=of, of=rows, to=rows + 1))
