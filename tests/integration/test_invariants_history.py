"""Invariants of history: every state change leaves its row, and no row ever changes."""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django_fsm import TransitionNotAllowed

from fulfillment.engine.work.rows import plans_by_id, tasks_by_plan
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ConcurrentChange
from fulfillment.models import Command, FalloutCase, Fulfillment, ManualTask, Plan, Task, Transition
from fulfillment.states import TASK_MOVING, TASK_SUCCESSFUL, TASK_TERMINAL
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.together import closing

APPEND_ONLY = [
    "fulfillment_transition",
    "fulfillment_workflowversion",
    "fulfillment_plangraph",
    "fulfillment_command",
]
CHANGES = {
    "UPDATE": "UPDATE {} SET id = id",
    "UPDATE of nothing": "UPDATE {} SET id = id WHERE false",
    "DELETE": "DELETE FROM {}",
    "TRUNCATE": "TRUNCATE {} CASCADE",
}


def as_owner() -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        settings.ENVIRONMENT.database_owner_url,
        dbname=connection.settings_dict["NAME"],
        autocommit=True,
    )


@pytest.fixture
def some_history(committed_db: str, redis_url: str, systems: ScriptedSystems) -> Order:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    desk.drain()
    return order


def test_history_kept(some_history: Order) -> None:
    def rows() -> list[int]:
        with connection.cursor() as raw:
            counts = []
            for table in APPEND_ONLY:
                raw.execute(f"SELECT count(*), sum(hashtext(t::text)) FROM {table} t")
                counts.append(raw.fetchone())
            return counts

    before = rows()
    assert all(count > 0 for count, _ in before)  # type: ignore[misc]
    with connection.cursor() as raw:
        raw.execute("SELECT current_user")
        assert raw.fetchone() == ("oms_app",)
    for table in APPEND_ONLY:
        for change in CHANGES.values():
            statement = change.format(table)
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                with connection.cursor() as raw:
                    raw.execute(statement)
            with as_owner() as owner:
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                    owner.execute(statement)
    assert rows() == before


def test_the_application_owns_no_table(some_history: Order) -> None:
    with connection.cursor() as raw:
        raw.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tableowner = "
            "current_user"
        )
        assert raw.fetchall() == []
        with pytest.raises(ProgrammingError):
            raw.execute("ALTER TABLE fulfillment_transition DISABLE TRIGGER append_only")


@pytest.mark.django_db
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_raw_state_writes(systems: ScriptedSystems, seed: int) -> None:
    orders = desk.messy_run(seed=seed)
    tasks = [task for order in orders for task in desk.tasks_of(order).values()]
    plans = [desk.plan_of(order) for order in orders]
    for order in orders:
        order.refresh_from_db()
    assert len({task.state for task in tasks}) >= 3  # it was a mess indeed
    stored = {
        **{("task", str(task.pk)): str(task.state) for task in tasks},
        **{("plan", str(plan.pk)): str(plan.state) for plan in plans},
        **{("order", order.reference): str(order.state) for order in orders},
        **{("case", str(case.pk)): str(case.state) for case in FalloutCase.objects.all()},
        **{("manual", str(one.pk)): str(one.state) for one in ManualTask.objects.all()},
    }
    told: dict[tuple[str, str], str] = defaultdict(
        str, {("task", str(task.pk)): "PENDING" for task in tasks}
    )
    for row in Transition.objects.order_by("fulfillment_id", "sequence"):
        entity = (row.entity, row.entity_id)
        # Each row begins where the one before it ended: none is missing in between.
        assert row.from_state == told[entity]
        told[entity] = row.to_state
    assert told == stored


@pytest.mark.django_db
def test_counters_of_a_plan_are_those_of_its_tasks(systems: ScriptedSystems) -> None:
    for order in desk.messy_run(seed=4):
        plan, tasks = desk.plan_of(order), desk.tasks_of(order).values()
        assert plan.tasks_total == len(tasks)
        assert plan.tasks_open == sum(task.state not in TASK_TERMINAL for task in tasks)
        assert plan.moving == sum(task.state in TASK_MOVING for task in tasks)
        mandatory = [task for task in tasks if task.required]
        assert plan.mandatory_total == len(mandatory)
        assert plan.mandatory_open == sum(task.state not in TASK_SUCCESSFUL for task in mandatory)


def everything() -> list[list[dict[str, Any]]]:
    models = (Fulfillment, Order, Plan, Task, Command, Transition)
    return [list(model.objects.order_by("pk").values()) for model in models]


def a_claimed_order() -> Order:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    assert len(desk.claim()) == 1
    return order


def succeeding(order: Order, then: Any) -> Any:
    """Work for a unit: the order's first task succeeds, and then something happens."""

    def work(unit: Unit) -> None:
        plan = desk.plan_of(order)
        unit.adopt_plans(plans_by_id(unit.raw, [plan.pk]))
        tasks = tasks_by_plan(unit.raw, [plan.pk])
        unit.adopt_tasks(tasks)
        (task,) = [task for task in tasks if task.key == "one@1"]
        unit.change_task(task, Task.succeed, cause="a test")
        then(task)

    return work


@pytest.mark.django_db
def test_a_unit_that_fails_leaves_neither_state_nor_audit_row(systems: ScriptedSystems) -> None:
    def fails(_: Task) -> None:
        raise RuntimeError("in the middle")

    order = a_claimed_order()
    before = everything()
    with pytest.raises(RuntimeError, match="in the middle"):
        run_unit(succeeding(order, fails), fulfillment_ids=[order.fulfillment_id], actor="a test")
    assert everything() == before


@pytest.mark.django_db
def test_a_write_behind_the_back_of_a_unit_is_noticed(systems: ScriptedSystems) -> None:
    def raw_write(task: Task) -> None:
        Task.objects.filter(pk=task.pk).update(state="ACCEPTED")

    order = a_claimed_order()
    before = everything()
    with pytest.raises(ConcurrentChange):
        run_unit(
            succeeding(order, raw_write), fulfillment_ids=[order.fulfillment_id], actor="a test"
        )
    assert everything() == before


@pytest.mark.django_db
def test_an_illegal_transition_in_a_unit_is_refused(systems: ScriptedSystems) -> None:
    def again(task: Task) -> None:
        task.fail()

    order = a_claimed_order()
    before = everything()
    with pytest.raises(TransitionNotAllowed):
        run_unit(succeeding(order, again), fulfillment_ids=[order.fulfillment_id], actor="a test")
    assert everything() == before


@pytest.mark.django_db
@pytest.mark.parametrize("table", ["fulfillment_task", "fulfillment_plan", "oms_order"])
def test_the_database_knows_only_legal_states(systems: ScriptedSystems, table: str) -> None:
    a_claimed_order()
    with pytest.raises(IntegrityError, match="state_is_legal"), transaction.atomic():
        with connection.cursor() as raw:
            raw.execute(f"UPDATE {table} SET state = 'DONE'")


def test_a_refresh_in_one_thread_does_not_unprotect_the_state_for_another(
    some_history: Order,
) -> None:
    """The protection sits on a field object that all threads share."""
    refreshing, written = threading.Event(), threading.Event()

    def while_it_reads(execute: Any, *arguments: Any) -> Any:
        refreshing.set()
        assert written.wait(30)
        return execute(*arguments)

    def refresh() -> str:
        task = Task.objects.order_by("pk")[0]
        with connection.execute_wrapper(while_it_reads):
            task.refresh_from_db()
        return str(task.state)

    with ThreadPoolExecutor(1) as threads:
        refreshed = threads.submit(closing(refresh))
        assert refreshing.wait(30)
        other = Task()
        try:
            with pytest.raises(AttributeError):
                other.state = "SUCCEEDED"
        finally:
            written.set()
        assert refreshed.result(timeout=30) == "SUCCEEDED"
    assert other.state == "PENDING"


@pytest.mark.django_db
def test_a_refresh_reads_the_state_anew_and_leaves_it_protected(systems: ScriptedSystems) -> None:
    order = a_claimed_order()
    task = desk.tasks_of(order)["two@1"]
    Task.objects.filter(pk=task.pk).update(state="READY", sends=7)
    task.refresh_from_db(fields=["sends"])
    assert (task.state, task.sends) == ("PENDING", 7)
    task.refresh_from_db(None, ["state"])
    assert task.state == "READY"
    with pytest.raises(AttributeError):
        task.state = "SUCCEEDED"
