"""Settling an answer and claiming what comes next in one unit of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fulfillment import operations
from fulfillment.engine.dispatch import candidates
from fulfillment.models import Attempt, HoldScope, ResourceLock, Task, Transition
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.turns import also_turning

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


@pytest.fixture(autouse=True)
def turns() -> Iterator[list[Exception]]:
    with also_turning() as failures:
        yield failures


def moments(order: object, task: str) -> dict[str, object]:
    """When the task changed its state, by transition."""
    row = desk.tasks_of(order)[task]
    found = Transition.objects.filter(entity="task", entity_id=str(row.pk))
    return dict(found.values_list("name", "occurred_at"))


def test_an_answer_and_the_next_claim_are_one_unit(systems: ScriptedSystems) -> None:
    desk.target("alpha", sender_slots=1)
    desk.workflow({"one": desk.task(), "two": desk.task()})
    order = desk.order()
    desk.drain()
    assert moments(order, "two@1")["dispatch"] == moments(order, "one@1")["succeed"]
    assert set(desk.states_of(order).values()) == {"SUCCEEDED"}


def test_what_becomes_runnable_at_the_same_target_is_sent_at_once(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha", sender_slots=1)
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    desk.drain()
    at = moments(order, "two@1")
    assert at["make_ready"] == at["dispatch"] == moments(order, "one@1")["succeed"]
    assert systems.actions() == ["one", "two"]
    assert Attempt.objects.count() == 2


def test_the_more_urgent_goes_first(systems: ScriptedSystems) -> None:
    """Of what is in the database and what this unit has made runnable."""
    desk.target("alpha", sender_slots=1)
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    urgent = desk.order(priority=5)
    desk.order()
    desk.drain()
    sent = [command.order_reference for command in systems.sent]
    assert sent[:2] == [urgent.reference] * 2
    assert len(sent) == 4


def test_a_slot_that_an_answer_frees_counts_as_free(systems: ScriptedSystems) -> None:
    desk.target("alpha", sender_slots=5, concurrency_limit=1)
    desk.workflow({"one": desk.task(), "two": desk.task()})
    order = desk.order()
    desk.drain()
    assert moments(order, "two@1")["dispatch"] == moments(order, "one@1")["succeed"]


def test_a_hold_keeps_what_comes_next(systems: ScriptedSystems) -> None:
    desk.target("alpha", sender_slots=1)
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    two = str(desk.tasks_of(order)["two@1"].pk)
    operations.place_hold(scope=HoldScope.TASK, name=two, reason="Wait.", actor=by("ann"))
    desk.drain()
    assert systems.actions() == ["one"]
    assert desk.states_of(order) == {"one@1": "SUCCEEDED", "two@1": "READY"}
    assert Task.objects.get(held_by__isnull=False).key == "two@1"


def test_a_lock_passes_from_one_order_to_the_next(systems: ScriptedSystems) -> None:
    desk.target("alpha", sender_slots=1)
    locks = [{"resource": "customer", "key": "C"}]
    desk.workflow({"one": desk.task(locks=locks), "two": desk.task(locks=locks)})
    orders = [desk.order(), desk.order()]
    desk.drain()
    assert len(systems.sent) == 4
    assert not ResourceLock.objects.exists()
    assert all(set(desk.states_of(order).values()) == {"SUCCEEDED"} for order in orders)


def test_what_is_in_doubt_goes_first(systems: ScriptedSystems, clock: Clock) -> None:
    """A turn claims nothing while there is a question."""
    desk.target("alpha", sender_slots=1)
    desk.workflow({"one": desk.task(), "two": desk.task(), "three": desk.task()})
    systems.sends["one"] = [desk.unknown()]
    desk.order()
    desk.drain()
    clock(600)
    desk.drain()
    assert [command.action for command in systems.queried] == ["one"]
    assert sorted(systems.actions()) == ["one", "three", "two"]


def test_an_answer_is_settled_though_the_next_can_not_be_claimed(
    systems: ScriptedSystems,
    turns: list[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk.target("alpha", sender_slots=1)
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    order = desk.order()
    asked = []

    def refuse(*_: object, **__: object) -> None:
        asked.append(1)
        raise RuntimeError("no")

    monkeypatch.setattr(candidates, "just_made_ready", refuse)
    desk.drain()
    assert desk.states_of(order) == {"one@1": "SUCCEEDED", "two@1": "SUCCEEDED"}
    assert asked
    assert [str(failure) for failure in turns] == ["no"] * len(asked)
    turns.clear()
