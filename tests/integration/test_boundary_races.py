"""Limits, holds and pauses while several workers are at it at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from adapters.contract import Command, Outcome
from fulfillment import operations
from fulfillment.engine.dispatch import sending
from fulfillment.engine.protection import holds
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import GateBusy, TargetNamesTooAlike
from fulfillment.models import Attempt, HoldScope, TargetSystem, Task
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.together import closing, together
from tests.waiting import until


def orders(count: int, **row: Any) -> list[Order]:
    """So many orders of one task each at the target `alpha`."""
    desk.target("alpha", **row)
    desk.workflow({"one": desk.task()})
    desk.submit_all(*[desk.request(customer_id=f"C-{n % 4}") for n in range(count)])
    return list(Order.objects.order_by("id"))


def test_claims_at_the_same_moment_overrun_neither_limit(
    committed_db: str, systems: ScriptedSystems
) -> None:
    orders(60, concurrency_limit=7, rate_per_second=0.001, rate_burst=11)
    claimed = together(*[lambda n=n: len(desk.claim(limit=3, worker=f"w{n}")) for n in range(8)])
    assert sum(claimed) == 7
    for attempt in Attempt.objects.all():
        Attempt.objects.filter(pk=attempt.pk).update(finished_at=attempt.started_at)
    claimed = together(*[lambda n=n: len(desk.claim(limit=3, worker=f"w{n}")) for n in range(8)])
    assert sum(claimed) == 4


def test_the_pause_waits_for_what_is_on_the_wire(
    committed_db: str, systems: ScriptedSystems
) -> None:
    orders(1)
    (claim,) = desk.claim()
    patience = timedelta(milliseconds=50)
    still = operations.pause_target(target="alpha", reason="x", actor=by("a"), patience=patience)
    assert still.in_flight == 1
    done = together(
        lambda: operations.pause_target(target="alpha", reason="x", actor=by("a")).in_flight,
        lambda: desk.settle(desk.result(claim, desk.succeeded())) or 0,
    )
    assert done == [0, 0]
    assert Task.objects.get().state == "SUCCEEDED"


class Workers:
    """Drains of `alpha` in several threads, each with a sender side of its own, under load."""

    def __init__(self, count: int) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=closing(self._work), name=f"worker-{n}") for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        drain = sending.Drain("alpha")
        while not self._stop.is_set():
            drain.run()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def busy(
    committed_db: str, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Workers]]:
    monkeypatch.setattr(desk._ScriptedAdapter, "in_process", False)
    running: list[Workers] = []
    yield running
    for workers in running:
        workers.stop()


@pytest.mark.parametrize("scope", [HoldScope.CUSTOMER, HoldScope.TARGET, HoldScope.ACTION])
def test_when_placing_returns_nothing_more_is_sent(
    busy: list[Workers], systems: ScriptedSystems, scope: HoldScope
) -> None:
    """Under load, again and again: what is placed holds from the moment that it returns."""
    made = orders(400, sender_slots=4)
    customers = {order.reference: order.customer_id for order in made}
    name = {
        HoldScope.CUSTOMER: "C-1",
        HoldScope.TARGET: "alpha",
        HoldScope.ACTION: "alpha/one",
    }[scope]

    def concerned() -> list[Command]:
        return [
            command
            for command in list(systems.sent)
            if scope is not HoldScope.CUSTOMER or customers[command.order_reference] == "C-1"
        ]

    moved = threading.Event()

    def answer(_: Command) -> Outcome:
        moved.set()
        return desk.succeeded()

    systems.sends["one"] = [answer] * 400
    busy.append(Workers(3))
    for _ in range(6):
        moved.clear()
        assert moved.wait(20), "nothing is sent at all"
        placed = operations.place_hold(scope=scope, name=name, reason="x", actor=by("ann"))
        before = len(concerned())
        assert placed.in_flight == 0
        assert placed.hold_id is not None
        others = [Task.objects.filter(state="SUCCEEDED").count() for _ in range(20)]
        assert len(concerned()) == before
        assert others
        operations.release_hold(hold_id=placed.hold_id, reason="x", actor=by("ann"))
        if before >= (100 if scope is HoldScope.CUSTOMER else 400):
            break
    sent = [command.idempotency_key for command in systems.sent]
    assert len(sent) == len(set(sent))


def test_when_pausing_returns_nothing_more_is_sent(
    busy: list[Workers], systems: ScriptedSystems
) -> None:
    orders(300, sender_slots=4)
    busy.append(Workers(3))
    for _ in range(5):
        operations.pause_target(target="alpha", reason="x", actor=by("ann"))
        before = len(systems.sent)
        assert not Attempt.objects.filter(finished_at=None).exists()
        looks = [Task.objects.filter(state="DISPATCHED").count() for _ in range(20)]
        assert set(looks) == {0}
        assert len(systems.sent) == before
        operations.resume_target(target="alpha", reason="x", actor=by("ann"))


def test_placing_waits_for_a_claim_that_has_looked_already(
    committed_db: str, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim between its look at the holds and its commit can't slip through."""
    (order,) = orders(1)
    looked, placing = threading.Event(), threading.Event()
    look = holds.holding

    def slow_look(raw: Any, **given: Any) -> dict[int, int]:
        found = look(raw, **given)
        looked.set()
        assert placing.wait(20)
        return found

    monkeypatch.setattr(holds, "holding", slow_look)

    def place() -> int:
        assert looked.wait(20)
        monitor = threading.Thread(target=closing(let_go_when_it_waits))
        monitor.start()
        placed = operations.place_hold(
            scope=HoldScope.ORDER,
            name=order.reference,
            reason="x",
            actor=by("ann"),
            patience=timedelta(0),
        )
        monitor.join()
        return placed.in_flight

    def let_go_when_it_waits() -> None:
        try:
            until(somebody_waits_for_the_order)
        finally:
            placing.set()

    claimed, in_flight = together(lambda: len(desk.claim()), place)
    assert (claimed, in_flight) == (1, 1), "the hold knows of the call that got through before it"
    assert desk.claim() == []


def test_placing_waits_for_a_claim_of_another_order_at_the_gate(
    committed_db: str, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold on a customer locks no order: the gate alone keeps the claim and it apart."""
    orders(1)
    looked, placing = threading.Event(), threading.Event()
    look = holds.holding

    def slow_look(raw: Any, **given: Any) -> dict[int, int]:
        found = look(raw, **given)
        looked.set()
        assert placing.wait(20)
        return found

    monkeypatch.setattr(holds, "holding", slow_look)
    placed_first = threading.Event()

    def place() -> int:
        assert looked.wait(20)
        placed = operations.place_hold(
            scope=HoldScope.CUSTOMER, name="C-0", reason="x", actor=by("ann"), patience=timedelta(0)
        )
        placed_first.set()
        return placed.in_flight

    def let_go() -> int:
        assert looked.wait(20)
        try:
            until(lambda: somebody_waits_at_the_gate() or placed_first.is_set())
            return int(placed_first.is_set())
        finally:
            placing.set()

    claimed, in_flight, slipped = together(lambda: len(desk.claim()), place, let_go)
    assert (claimed, in_flight, slipped) == (1, 1, 0)


def test_a_claim_that_stands_still_keeps_nobody_waiting_for_long(
    committed_db: str, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold is refused with the reason, and other claims go on; later it can be placed."""
    orders(2)
    looked, go_on = threading.Event(), threading.Event()
    look = holds.holding

    def stopped(raw: Any, **given: Any) -> dict[int, int]:
        if not looked.is_set():
            raw.execute("SHOW idle_in_transaction_session_timeout")
            assert raw.fetchone() == ("20s",)
            raw.execute("SET LOCAL idle_in_transaction_session_timeout = '4s'")
            looked.set()
            assert go_on.wait(30)
        return look(raw, **given)

    monkeypatch.setattr(holds, "holding", stopped)
    monkeypatch.setattr(holds, "_PATIENCE", "100ms")

    def place() -> int:
        assert looked.wait(20)
        try:
            with pytest.raises(GateBusy):
                operations.pause_target(target="alpha", reason="x", actor=by("ann"))
            return len(desk.claim())
        finally:
            go_on.set()

    assert together(lambda: len(desk.claim()), place) == [1, 1]
    patience = timedelta(0)
    assert operations.pause_target(
        target="alpha", reason="x", actor=by("ann"), patience=patience
    ).in_flight


def somebody_waits_at_the_gate() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return bool(cursor.fetchone()[0])


def somebody_waits_for_the_order() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])


def test_a_unit_that_is_the_victim_of_a_deadlock_runs_again(
    committed_db: str, systems: ScriptedSystems
) -> None:
    first, second = orders(2)
    mine, theirs = threading.Event(), threading.Event()
    runs: list[str] = []

    def touch(order: Order) -> None:
        Task.objects.filter(fulfillment_id=order.fulfillment_id).update(reference="touched")

    def work(unit: Unit) -> None:
        runs.append("run")
        touch(first)
        mine.set()
        assert theirs.wait(20)
        touch(second)  # whoever waits first is the first to notice

    def somebody_else() -> None:
        with transaction.atomic():
            touch(second)
            theirs.set()
            assert mine.wait(20)
            until(somebody_waits_for_the_order)
            touch(first)

    together(
        lambda: run_unit(work, fulfillment_ids=[first.fulfillment_id], actor="a test"),
        somebody_else,
    )
    assert len(runs) == 2
    assert set(Task.objects.values_list("reference", flat=True)) == {"touched"}


@pytest.mark.usefixtures("committed_db")
def test_of_two_alike_names_that_are_added_at_once_one_is_refused() -> None:
    """Both had been checked when neither was there."""
    row: dict[str, Any] = {"queue": "crm", "adapter": "http", "idempotent": True}
    added: list[str] = []

    def the_other_is_at_it() -> bool:
        return len(added) == 2 or bool(somebody_waits_at_the_gate())

    def add(name: str) -> bool:
        try:
            with transaction.atomic():
                operations.edit_target(
                    row=TargetSystem(name=name, status_query=True, **row), actor=by("ann")
                )
                added.append(name)
                if len(added) == 1:
                    until(the_other_is_at_it)
        except TargetNamesTooAlike:
            return False
        return True

    done = together(lambda: add("stock-room"), lambda: add("stock_room"))
    assert sorted(done) == [False, True]
    assert TargetSystem.objects.count() == 1
