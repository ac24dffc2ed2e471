"""Whatever looks, claims or asks reads what it needs, however many wait for whatever reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from fulfillment import keeping, stuck
from fulfillment.engine.dispatch import candidates, sweeping
from fulfillment.engine.plans import circles, scanning
from fulfillment.engine.protection import fairness, locksmith
from fulfillment.engine.store.database import cursor, pin_plans
from fulfillment.engine.structure import priorities
from fulfillment.engine.timing import durations, jeopardy
from fulfillment.engine.work import locking
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import FalloutCase, Fulfillment, LockRelease, Plan, Task
from oms.models import Order
from oms.queries.reasons import reason_of
from tests import crowd, desk
from tests.api import Api
from tests.conftest import OWNER_URL, _with_database, own_database, template
from tests.desk import ScriptedSystems
from tests.integration.test_flat_detectors import explained, nodes

COPIES = 2000
SMALL = {f"fulfillment_{name}" for name in ("targetsystem", "targetcondition", "resource")}
FEW = 150
"""Rows of one table, or entries of one index: a hundredth of what waits."""


def _crowd() -> tuple[dict[str, int], float]:
    """Twelve kinds of waits, two thousand times each; and by how much their clock is ahead."""
    desk.fresh_systems()
    found = crowd.one_of_each()
    crowd.multiply(COPIES)
    database = str(connection.settings_dict["NAME"])
    with psycopg.connect(_with_database(OWNER_URL, database), autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")
    reached = desk.now()
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
    return {name: order.pk for name, order in found.items()}, (reached - desk.now()).total_seconds()


@pytest.fixture(scope="module")
def crowded(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[tuple[str, tuple[dict[str, int], float]]]:
    with django_db_blocker.unblock(), template("crowd", _crowd) as made:
        yield made


@pytest.fixture
def waiting(
    crowded: tuple[str, tuple[dict[str, int], float]], systems: ScriptedSystems
) -> Iterator[dict[str, Order]]:
    """A crowd of the test's own."""
    name, (found, ahead_seconds) = crowded
    with own_database(like=name):
        # What comes begins like a web process, at the same time; a worker says that it is one.
        desk.advance(ahead_seconds)
        yield {what: Order.objects.get(pk=pk) for what, pk in found.items()}


def reads_little(work: Callable[[], Any], *, what: str) -> None:
    read = crowd.rows_read(work)
    many = {name: rows for name, rows in read.items() if rows > FEW}
    assert not many, (what, many)


def test_the_crowd_waits_for_what_it_says(waiting: dict[str, Order]) -> None:
    causes = {
        name: str(reason_of(order).why.chain[0].wait.cause) for name, order in waiting.items()
    }
    assert causes == {
        "time": "TIME",
        "milestone": "MILESTONE",
        "person": "HUMAN",
        "window": "WINDOW",
        "retry": "RETRY",
        "report": "REPORT",
        "doubt": "UNKNOWN_OUTCOME",
        "failed": "REPAIR",
        "hold": "HOLD",
        "target": "PAUSED",
        "order": "OTHER_ORDER",
        "lock": "LOCK",
    }
    sendable = Task.objects.filter(state__in=["READY", "FAILED_RETRYABLE"])
    stored = set(sendable.values_list("waits_for", flat=True))
    assert stored == {"WINDOW", "RETRY", "LOCK", "HOLD", "TARGET"}


def test_every_look_reads_only_what_is_due(waiting: dict[str, Order]) -> None:
    pin_plans()
    looks: dict[str, Callable[[], Any]] = {
        "scan": scanning.scan,
        "sweep": sweeping.sweep,
        "stuck": stuck.detect_stuck,
        "circles": circles.break_circles,
        "jeopardy": jeopardy.look,
        "durations": durations.measure,
        "wake": locking.wake,
        "claim": desk.claim,
    }
    for name, look in looks.items():
        reads_little(look, what=name)


def test_an_order_passes_a_crowd_that_waits(
    waiting: dict[str, Order], systems: ScriptedSystems
) -> None:
    """Submitted, claimed, settled and completed beside thousands that wait at the same target."""
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])}, offering="quick")

    def pass_by() -> None:
        order = desk.order(desk.item("quick"), customer_id="LOCKED")
        assert desk.drain(["alpha"]) == 2
        order.refresh_from_db()
        assert order.state == "COMPLETED"

    pass_by()
    reads_little(pass_by, what="an order")


@pytest.mark.parametrize("pinned", [False, True])
def test_why_reads_the_orders_on_the_way_to_the_root(
    waiting: dict[str, Order], pinned: bool
) -> None:
    if pinned:
        pin_plans()
    api = Api()
    for name, order in waiting.items():
        reads_little(lambda order=order: reason_of(order), what=f"why {name}")
        path = f"/orders/{order.reference}/why"
        assert api.get(path).status_code == 200
        reads_little(lambda path=path: api.get(path), what=f"GET why {name}")


@pytest.mark.parametrize("pinned", [False, True])
def test_a_lock_that_thousands_wait_for_is_passed_on_to_one(
    waiting: dict[str, Order], pinned: bool
) -> None:
    if pinned:
        pin_plans()
    assert Task.objects.filter(waits_for_lock="customer:LOCKED").count() > COPIES
    first = desk.tasks_of(waiting["lock"])["begin@1"].pk
    plan = Plan.objects.filter(is_locked=True).earliest("pk")

    def let_go(unit: Unit) -> None:
        unit.letting_go.add("customer:LOCKED")
        unit._freed_plans.add(plan.pk)

    def pass_on() -> None:
        run_unit(let_go, fulfillment_ids=[plan.fulfillment_id], actor="a test")
        assert locking.wake() == {"alpha"}
        assert Task.objects.get(pk=first).waits_for_lock == ""

    reads_little(pass_on, what="a release")

    def make_room() -> None:
        with cursor() as raw:
            locking.call_up_for(raw, resource="customer")
        assert LockRelease.objects.get().name == "customer:LOCKED"

    reads_little(make_room, what="more room")


def test_the_statements_read_by_index(waiting: dict[str, Order]) -> None:
    """The same one by one, as their plans tell."""
    pin_plans()
    plan, fulfillment = Plan.objects.latest("pk"), Fulfillment.objects.latest("pk")
    statements: dict[str, tuple[str, list[Any]]] = {
        "stuck": (stuck._DUE, [1000]),
        "unattended": (stuck._UNATTENDED, [stuck.LOOK_FOR_CASE, 1000]),
        "jeopardy": (jeopardy._DUE, [100]),
        "circles": (circles._BEGUN, [desk.now(), desk.now(), 0, 1000]),
        "edges": (circles._EDGES, [[fulfillment.pk], [fulfillment.pk]]),
        "runnable": (candidates._RUNNABLE, ["alpha", 16]),
        "called up": (candidates._CALL_UP, ["alpha", desk.now()]),
        "in doubt": (candidates._IN_DOUBT, ["beta", desk.now(), 16]),
        "claimable": (scanning._CLAIMABLE_TARGETS, []),
        "needs": (locksmith._NEEDS, [[1, 2, 3]]),
        "taken": (locksmith._TAKEN, [["customer:LOCKED"]]),
        "release": (locking._RELEASE, [[], [plan.pk]]),
        "next turn": (locking._NEXT_TURN, [["customer:LOCKED"]]),
        "wake": (locking._WAKE, [["customer:LOCKED"]]),
        "done": (locking._DONE, [["customer:LOCKED"], []]),
        "take over": (locking._TAKE_OVER, [plan.pk, plan.pk]),
        "locked": (locksmith._LOCKED, [[plan.pk]]),
        "line up": (locksmith._LINE_UP, [[1, 2], ["a:1", "a:2"]]),
        "line up together": (locksmith._LINE_UP_TOGETHER, [[1, 2], ["a:1", "a:2"], [1, 2]]),
        "more room": (locking._MORE_ROOM, ["customer:"]),
        "keepers": (keeping._KEEPERS, [["customer:LOCKED"], 5]),
        "another priority": (priorities._OF_TASKS, [7, plan.pk, 7]),
        "latest rank": (fairness._LATEST, [["LOCKED", "nobody"]]),
    }
    for name, (statement, values) in statements.items():
        connection.set_autocommit(False)
        try:
            found = list(nodes(explained(statement, values)))
        finally:
            connection.rollback()
            connection.set_autocommit(True)
        read = sum(
            (one["Actual Rows"] + one.get("Rows Removed by Filter", 0)) * one["Actual Loops"]
            for one in found
        )
        assert read < FEW, (name, json.dumps(found[0], indent=1))
        through = {one["Relation Name"] for one in found if one["Node Type"] == "Seq Scan"}
        assert through <= SMALL, name


def test_those_who_wait_for_one_order_are_looked_at_as_one(waiting: dict[str, Order]) -> None:
    """Also when all waits are looked at: they are read, but nothing is looked up for each."""
    pin_plans()
    waits = Task.objects.filter(waits_for__in=["OTHER_ORDER", "LOCK"]).count()
    read = crowd.rows_read(lambda: circles.break_circles(lately=None))
    assert read.pop("fulfillment_task") <= 2 * waits
    assert read.pop("task_by_cause") <= 2 * waits
    assert max(read.values()) < FEW, read


def test_what_has_a_case_is_not_asked_about_in_every_run(waiting: dict[str, Order]) -> None:
    """But now and then, as somebody may have closed it by hand."""
    pin_plans()
    assert Plan.objects.filter(stuck_at__isnull=False).count() > COPIES
    cases = FalloutCase.objects.filter(state="OPEN").count()
    assert "fulfillment_falloutcase" not in crowd.rows_read(stuck.detect_stuck)
    desk.advance(stuck.LOOK_FOR_CASE.total_seconds())
    assert stuck.detect_stuck() == 0
    assert FalloutCase.objects.filter(state="OPEN").count() == cases
