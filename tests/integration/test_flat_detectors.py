"""What looks for what is due reads what is due, however much waits patiently beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from fulfillment import operations, stuck
from fulfillment.engine.dispatch import suggesting, sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.protection import holds
from fulfillment.engine.store.database import cursor, pin_plans
from fulfillment.engine.timing import standing
from fulfillment.models import (
    ClockPolicy,
    FalloutCase,
    Fulfillment,
    Hold,
    HoldScope,
    ManualTask,
    Plan,
    Task,
)
from tests import by_force, desk
from tests.conftest import OWNER_URL, _with_database
from tests.desk import ScriptedSystems, by
from tests.manual_work import an_approval

COPIES = 5000
LOOKS = {
    "stuck": (stuck._DUE, [1000]),
    "overdue": (sweeping._OVERDUE_REPORTS, ["-infinity", 0, 500]),
    "leases": (sweeping._LOST_LEASES, ["-infinity", 0, 500]),
    "decisions": (sweeping._UNDECIDED, ["-infinity", 0, 500]),
    "selection": (scanning._DUE, [100]),
    "starts": (sweeping._UNSTARTED, ["-infinity", 0, 500]),
    "ends": (sweeping._UNCLOSED, ["-infinity", 0, 500]),
    "deadlines": (sweeping._LATE_PLANS, ["-infinity", 0, 500]),
    "tasks left standing": (standing._LEFT[0], [[], 200]),
    "plans left standing": (standing._LEFT[1], [[], 200]),
}


@pytest.fixture
def many_who_wait(committed_db: str, systems: ScriptedSystems) -> None:
    """Plans that wait for a time, for a report, for a person, or for all of them."""
    desk.target("alpha")
    waits: dict[str, Any] = {
        "rest": desk.step(wait={"delay": "P9D"}),
        "paid": desk.step(wait={"milestone": "paid", "within": "P9D", "otherwise": "escalate"}),
        "approve": desk.step(manual=an_approval(within="P9D")),
    }
    for name, tasks in [*((name, {name: one}) for name, one in waits.items()), ("all", waits)]:
        desk.workflow(tasks, offering=name)
        desk.order(desk.item(name))
    desk.finish()
    multiply(COPIES)
    tidy_up()


@pytest.fixture
def many_with_clocks(committed_db: str, systems: ScriptedSystems) -> None:
    """Commands that have time left: unsent, accepted, and with clocks that a hold stops."""
    desk.target("alpha", asynchronous=True)
    timeouts = {
        "schedule_to_start": "P9D",
        "schedule_to_close": "P90D",
        "heartbeat": "P9D",
        "callback": "P30D",
    }
    systems.sends["one"] = [desk.accepted()]
    deadline = {"within": "P90D"}
    desk.workflow({"one": desk.task(timeouts=timeouts)}, offering="timed", deadline=deadline)
    desk.order(desk.item("timed"))
    desk.drain()
    desk.order(desk.item("timed"))
    desk.order(desk.item("timed"), customer_id="C-9")
    hold = operations.place_hold(
        scope=HoldScope.CUSTOMER,
        name="C-9",
        reason="x",
        actor=by("ann"),
        clock_policy=ClockPolicy.STOP,
        patience=timedelta(0),
    )
    standing.note_all(hold=Hold.objects.get(pk=hold.hold_id))
    assert set(Task.objects.values_list("state", "stopped_by")) == {
        ("ACCEPTED", None),
        ("READY", None),
        ("READY", hold.hold_id),
    }
    multiply(COPIES)
    tidy_up()


def tidy_up() -> None:
    database = str(connection.settings_dict["NAME"])
    with psycopg.connect(_with_database(OWNER_URL, database), autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")


def multiply(copies: int) -> None:
    """Each order so many times more, with all that it waits for: ids move on by their tops."""
    refers = {"fulfillment_id": Fulfillment, "plan_id": Plan, "task_id": Task}
    with by_force.unguarded(), cursor() as raw:
        tops = {}
        for model in (Fulfillment, Plan, Task, ManualTask):
            raw.execute(f"SELECT coalesce(max(id), 0) FROM {model._meta.db_table}")
            ((tops[model],),) = raw.fetchall()
        for model, top in tops.items():
            names = [field.attname for field in model._meta.concrete_fields]
            values = {name: f'"{name}"' for name in names}
            values |= {name: f"{name} + n * {tops[refers[name]]}" for name in refers.keys() & names}
            values["id"] = f"id + n * {top}"
            if model is Fulfillment:
                values["order_reference"] = "order_reference || '-' || n"
            raw.execute(
                f"INSERT INTO {model._meta.db_table} ({', '.join(map(_quoted, names))}) "
                f"SELECT {', '.join(values.values())} "
                f"FROM {model._meta.db_table}, generate_series(1, {copies}) n"
            )


def _quoted(name: str) -> str:
    return f'"{name}"'


@pytest.mark.usefixtures("many_who_wait")
def test_whoever_waits_in_time_is_not_even_looked_at() -> None:
    # Each is looked at once, when its order has had its usual time, and not again.
    desk.advance(3600)
    assert stuck._look(1_000_000) == (3 * COPIES + 3, 0)  # who decides had been asked until when
    assert stuck.detect_stuck() == 0
    assert not FalloutCase.objects.exists()
    nothing_else_is_read()


@pytest.mark.usefixtures("many_with_clocks")
def test_clocks_that_have_not_run_out_are_not_even_looked_at() -> None:
    desk.advance(600)
    nothing_else_is_read()
    assert (sweeping.sweep(), standing.set_all_going()) == (0, 0)


def nothing_else_is_read() -> None:
    for pinned in (False, True):
        if pinned:
            pin_plans()
        for name, (statement, values) in LOOKS.items():
            found = list(nodes(explained(statement, values)))
            read = sum(
                node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in found
            )
            assert read < 20, (name, pinned, json.dumps(found[0], indent=1))
            assert not [node for node in found if node["Node Type"] == "Seq Scan"], name


@pytest.mark.usefixtures("many_who_wait")
def test_the_look_at_one_plan_reads_that_plan() -> None:
    plan = Plan.objects.latest("pk")
    for pinned in (False, True):
        if pinned:
            pin_plans()
        found = list(nodes(explained(stuck._LOOK, [[plan.pk]])))
        assert {node["Node Type"] for node in found}.isdisjoint({"Seq Scan", "Hash Join"})
        assert sum(node["Actual Rows"] for node in found) < 50


@pytest.mark.usefixtures("many_with_clocks")
def test_a_suggestion_reads_what_is_open_at_its_own_target() -> None:
    with cursor() as raw:
        raw.execute(
            "INSERT INTO fulfillment_attempt (id, command_id, task_id, fulfillment_id, "
            "target_id, number, purpose, worker, started_at, lease_expires_at, outcome, code, "
            "message) SELECT a.id + n, command_id, task_id, fulfillment_id, target_id, "
            "number + n, purpose, worker, started_at, started_at, '', '', '' "
            "FROM fulfillment_attempt a, generate_series(1, %s) n",
            [COPIES],
        )
    tidy_up()
    given = {"target": "beta", "reference": "R", "action": "one", "names": ["O-1"]}
    found = list(nodes(explained(suggesting.AMONG_OPEN, given)))
    assert sum(n["Actual Rows"] + n.get("Rows Removed by Filter", 0) for n in found) == 0
    assert not [node for node in found if node["Node Type"] == "Seq Scan"]


def test_letting_go_reads_nothing_of_what_is_still_held(
    committed_db: str, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    hold = operations.place_hold(scope=HoldScope.CUSTOMER, name="C-1", reason="x", actor=by("ann"))
    desk.order(customer_id="C-1")
    assert desk.claim() == []
    assert Task.objects.get().held_by_id == hold.hold_id
    multiply(COPIES)
    tidy_up()
    for pinned in (False, True):
        if pinned:
            pin_plans()
        found = list(nodes(explained(holds._UNPARK, [1000])))
        assert sum(n["Actual Rows"] + n.get("Rows Removed by Filter", 0) for n in found) < 20
    operations.release_hold(hold_id=hold.hold_id, reason="y", actor=by("ann"))
    holds.unpark()
    assert not Task.objects.filter(held_by__isnull=False).exists()


def explained(statement: str, values: list[Any] | dict[str, Any]) -> dict[str, Any]:
    with cursor() as raw:
        raw.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        ((plan,),) = raw.fetchall()
    found = json.loads(plan) if isinstance(plan, str) else plan
    root: dict[str, Any] = found[0]["Plan"]
    return root


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)
