"""Commands that are claimed behind a call: one slot all the same, and held back like others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from adapters.contract import Command, Outcome
from fulfillment.engine.dispatch import sending
from fulfillment.models import Attempt, TargetSystem
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
TASKS = 6


@pytest.fixture(autouse=True)
def far_away(systems: ScriptedSystems) -> None:
    systems.in_process = False
    sending._drains.clear()


class Calls:
    """How many are under way at the same time."""

    def __init__(self, systems: ScriptedSystems) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        for number in range(TASKS):
            systems.sends[f"t{number}"] = [self._answer]

    def _answer(self, _: Command) -> Outcome:
        with self._count():
            return desk.succeeded()

    @contextmanager
    def _count(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        yield
        with self._lock:
            self._now -= 1


def run(systems: ScriptedSystems, **row: object) -> Calls:
    """Six tasks that may go at once, at a target with these limits."""
    desk.target("alpha", **{"sender_slots": 1, "concurrency_limit": 1, **row})
    calls = Calls(systems)
    desk.workflow({f"t{number}": desk.task() for number in range(TASKS)})
    order = desk.order()
    desk.drain()
    assert set(desk.states_of(order).values()) == {"SUCCEEDED"}
    assert len(systems.sent) == TASKS
    return calls


def overlapping() -> int:
    """Attempts that had been claimed before the one in front of them was settled."""
    attempts = list(Attempt.objects.order_by("started_at", "id"))
    return sum(second.started_at < first.finished_at for first, second in pairwise(attempts))


def test_the_next_command_is_there_when_a_call_ends(systems: ScriptedSystems) -> None:
    calls = run(systems)
    assert calls.most == 1
    assert overlapping() > 0
    assert set(Attempt.objects.values_list("slot", flat=True)) == {0}


def test_a_rate_that_is_far_away_changes_nothing(systems: ScriptedSystems) -> None:
    run(systems, rate_per_second=1000.0, rate_burst=1000)
    assert overlapping() > 0


def test_more_slots_than_may_be_under_way(systems: ScriptedSystems) -> None:
    """One behind another is one; in a slot of its own it would be another."""
    calls = run(systems, sender_slots=4)
    assert calls.most == 1


@pytest.mark.parametrize(
    "row",
    [
        {"rate_per_second": 1000.0, "rate_burst": 2},
        {"idempotent": False, "status_query": False},
        {"accepted_holds_slot": True},
    ],
    ids=["a rate", "nobody could tell", "accepted ones keep their slot"],
)
def test_where_each_call_is_asked_for(systems: ScriptedSystems, row: dict[str, object]) -> None:
    run(systems, **row)
    assert overlapping() == 0


def test_behind_a_failure_nothing_goes(systems: ScriptedSystems) -> None:
    """It is given back, as if it had not been claimed."""
    desk.target("alpha", sender_slots=1, concurrency_limit=1, breaker_failures=1)
    desk.workflow({f"t{number}": desk.task() for number in range(TASKS)})
    for number in range(1, TASKS):
        systems.sends[f"t{number}"] = [desk.failed()]
    order = desk.order()
    desk.drain()
    row = TargetSystem.objects.get(pk="alpha")
    assert row.condition.breaker == "OPEN"
    assert len(systems.sent) == 2
    assert "SUCCEEDED" in desk.states_of(order).values()
    assert not Attempt.objects.filter(finished_at__isnull=True).exists()


def test_a_slot_counts_once(systems: ScriptedSystems) -> None:
    """Three attempts in two slots leave one of three free."""
    from fulfillment.engine.dispatch import claiming

    target = desk.target("alpha", sender_slots=3, concurrency_limit=3)
    desk.workflow({f"t{number}": desk.task() for number in range(TASKS)})
    desk.order()
    room = claiming.Room(calls=2, slots=[0, 1], soon=[0])
    assert len(claiming.claim(target=target, room=room, worker="w")) == 2
    Attempt.objects.update(slot=0)
    assert len(claiming.claim(target=target, room=claiming.Room(calls=9), worker="v")) == 2
