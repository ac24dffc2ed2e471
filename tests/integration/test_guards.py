"""What the database refuses about states, whoever asks (invariant no-raw-state-writes)."""

from __future__ import annotations

import re

import psycopg
import pytest
from django.apps import apps
from django.conf import settings
from django.db import ProgrammingError, connection

from fulfillment.engine.store import guards
from fulfillment.engine.store.database import pin_plans
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Approval, FalloutCase, Fulfillment, ManualTask, Plan, Task
from fulfillment.models.base import StatefulModel
from oms.models import AmendmentRequest, CancellationRequest, Notification, Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.unit.test_states import AMENDMENT, CANCELLATION, ORDER, PLAN, TASK

MACHINES = [
    model
    for label in ("fulfillment", "oms")
    for model in guards.stateful(apps.get_app_config(label))
]


def definition(model: type[StatefulModel], trigger: str) -> str:
    with connection.cursor() as raw:
        raw.execute(
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger "
            "WHERE tgrelid = to_regclass(%s) AND tgname = %s AND tgenabled = 'O'",
            [model._meta.db_table, trigger],
        )
        row = raw.fetchone()
    assert row is not None, f"{model.__name__} has no {trigger}"
    return str(row[0])


def test_every_machine_is_known() -> None:
    known = {Approval, FalloutCase, ManualTask, Plan, Task, Order}
    assert known | {AmendmentRequest, CancellationRequest, Notification} <= set(MACHINES)


@pytest.mark.django_db
@pytest.mark.parametrize("model", MACHINES, ids=lambda model: model.__name__)
def test_the_database_allows_what_the_machine_declares(model: type[StatefulModel]) -> None:
    edges = re.findall(r"\b([A-Z_]+)>([A-Z_]+)\b", definition(model, "lawful_state"))
    assert set(edges) == guards.ways(model)
    assert ("fulfillment.unit" in definition(model, "lawful_first_state")) is model.moves_in_units


@pytest.mark.parametrize(
    ("model", "declared"),
    [
        (Order, ORDER),
        (Plan, PLAN),
        (Task, TASK),
        (CancellationRequest, CANCELLATION),
        (AmendmentRequest, AMENDMENT),
    ],
)
def test_ways_are_declared_transitions_one_after_the_other(
    model: type[StatefulModel], declared: dict[str, tuple[set[str], str]]
) -> None:
    steps = {(begin, end) for begins, end in declared.values() for begin in begins}
    ways = set(steps)
    while more := {(a, d) for a, b in ways for c, d in steps if b == c} - ways:
        ways |= more
    assert guards.ways(model) == {(a, b) for a, b in ways if a != b}


@pytest.fixture
def done(committed_db: str, redis_url: str, systems: ScriptedSystems) -> Order:
    """One that is complete, and committed."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    desk.drain()
    return order


RAW = [
    "UPDATE fulfillment_task SET state = 'READY'",
    "UPDATE fulfillment_plan SET state = 'RUNNING'",
    "UPDATE oms_order SET state = 'IN_PROGRESS'",
    "UPDATE oms_order SET state = 'CANCELLED'",
]


@pytest.mark.parametrize("statement", RAW)
def test_what_is_over_goes_nowhere_even_in_a_unit(done: Order, statement: str) -> None:
    def work(unit: Unit) -> None:
        unit.raw.execute(statement.encode())

    with pytest.raises(ProgrammingError, match="is refused"):
        run_unit(work, fulfillment_ids=[done.fulfillment_id], actor="a test")


def test_no_state_changes_outside_of_a_unit(committed_db: str, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    now = order.submitted_at
    for refused in (
        lambda: Task.objects.update(state="DISPATCHED"),
        lambda: Plan.objects.update(state="BLOCKED"),
        lambda: Order.objects.update(state="ASSESSING_CANCELLATION"),
        lambda: FalloutCase.objects.create(sla_due_at=now, opened_at=now),
    ):
        with pytest.raises(ProgrammingError, match="is refused"):
            refused()
    # What is no state may be written as ever.
    assert Order.objects.update(region="ID") == 1


def test_a_connection_on_which_units_run_changes_no_state_outside_of_one(
    committed_db: str, systems: ScriptedSystems
) -> None:
    """Workers keep theirs for as long as they live."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order()
    pin_plans()
    with pytest.raises(ProgrammingError, match="is refused"):
        Task.objects.update(state="DISPATCHED")


def test_a_row_begins_where_its_machine_begins(done: Order) -> None:
    now = done.submitted_at

    def work(unit: Unit) -> None:
        FalloutCase.objects.create(state="RESOLVED", sla_due_at=now, opened_at=now)

    with pytest.raises(ProgrammingError, match="is refused"):
        run_unit(work, fulfillment_ids=[done.fulfillment_id], actor="a test")


def test_the_owner_is_refused_as_well(done: Order) -> None:
    with (
        psycopg.connect(
            settings.ENVIRONMENT.database_owner_url, dbname=connection.settings_dict["NAME"]
        ) as owner,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="is refused"),
    ):
        owner.execute("UPDATE fulfillment_task SET state = 'FAILED_FINAL'")


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE fulfillment_task DISABLE TRIGGER lawful_state",
        "ALTER TABLE fulfillment_transition DISABLE TRIGGER append_only",
        "DROP TRIGGER append_only ON fulfillment_auditseal",
        "CREATE TABLE mine (id int)",
        "SET session_replication_role = replica",
        "DELETE FROM fulfillment_task",
        "DELETE FROM oms_order",
        "DELETE FROM fulfillment_fulfillment",
        "TRUNCATE fulfillment_sealedrow",
        "UPDATE fulfillment_auditseal SET seal = ''",
        "DELETE FROM fulfillment_sealedrow",
        "UPDATE fulfillment_operation SET reason = ''",
        "DELETE FROM fulfillment_authoritydecision",
        "UPDATE fulfillment_fulfillment SET audit_sequence = audit_sequence - 1",
        "UPDATE fulfillment_fulfillment SET audit_head = repeat('0', 64)",
    ],
)
def test_the_application_can_not_take_its_guards_away(done: Order, statement: str) -> None:
    with pytest.raises(ProgrammingError), connection.cursor() as raw:
        raw.execute(statement)
    assert Fulfillment.objects.get(pk=done.fulfillment_id).audit_sequence == 12
