"""Whether the search would notice bugs of locks, ranks and turns; see `test_planted_bugs`.

Examples that don't have in them what the bug is about are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, Verbosity, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from pytest_django import DjangoDbBlocker

from fulfillment.engine.dispatch import candidates
from fulfillment.engine.protection import fairness, locksmith
from fulfillment.engine.tasks import outcomes
from fulfillment.engine.work import locking
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Task
from tests.properties.scenarios import Asked, Begin, Drain, Scenario, in_line
from tests.properties.search import AT_RANDOM, FOUND
from tests.properties.test_engine_model import play
from tests.properties.world import Fate

QUICK, LONG = 25, 600
"""Examples that may be played until the bug is found."""

Plant = Callable[[pytest.MonkeyPatch], None]
About = Callable[[Scenario], bool]


@dataclass(frozen=True)
class Bug:
    plant: Plant
    about: About
    """What a scenario has to have in it for the bug to matter."""
    orders: tuple[Asked, ...]
    """Those of the scenarios; any, when there are none."""
    quick: bool


BUGS: dict[str, Bug] = {}


def wants_the_same(scenario: Scenario) -> bool:
    return bool(scenario.locks or any(part.locks for part in scenario.workflow))


def has_several_units(scenario: Scenario) -> bool:
    wanted = [scenario.locks, *(part.locks for part in scenario.workflow)]
    return any(units > 1 for locks in wanted for _, units in locks)


def is_tried_again(scenario: Scenario) -> bool:
    """A task that keeps a lock is turned away by its target, which it may try again."""
    fates = [
        fate for step in scenario.steps if isinstance(step, Begin | Drain) for fate in step.fates
    ]
    first = scenario.workflow[0]
    return bool(first.locks) and first.maximum_attempts > 1 and fates.count(Fate.BUSY) > 4


def begins_with_several(scenario: Scenario) -> bool:
    """An order that waits for its locks has three commands to send."""
    first = [part for part in scenario.workflow if not part.after]
    return bool(scenario.locks) and len(first) > 2


MANY_OF_ONE = (Asked(), Asked(), Asked(customer="C-2"), Asked())
"""The single order of the other customer has its turn before the second one of the first."""
IMPORTANT = tuple(Asked(("A-1",), priority=priority) for priority in (0, 5, 5, 0))
"""Behind whoever has its turn first there are others, more and less important."""


def bug(
    about: About = wants_the_same, *, orders: tuple[Asked, ...] = (), quick: bool = True
) -> Callable[[Plant], Plant]:
    def remember(plant: Plant) -> Plant:
        BUGS[plant.__name__.replace("_", " ")] = Bug(plant, about, orders, quick)
        return plant

    return remember


@bug()
def a_lock_is_released_when_nobody_knows_what_happened(patch: pytest.MonkeyPatch) -> None:
    lose_track = outcomes.lose_track

    def careless(unit: Any, task: Any, node: Any, outcome: Any) -> None:
        lose_track(unit, task, node, outcome)
        unit.letting_go.update(task.locks or ())
        unit._freed_tasks.add(task.pk)

    patch.setattr(outcomes, "lose_track", careless)


@bug(is_tried_again)
def a_lock_is_released_while_its_task_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    change_task = Unit.change_task

    def careless(unit: Unit, task: Task, transition: Any, **details: Any) -> None:
        change_task(unit, task, transition, **details)
        if task.state == "FAILED_RETRYABLE":
            unit.letting_go.update(task.locks or ())
            unit._freed_tasks.add(task.pk)

    patch.setattr(Unit, "change_task", careless)


@bug()
def an_order_s_locks_are_released_with_its_first_task(patch: pytest.MonkeyPatch) -> None:
    change_task = Unit.change_task

    def careless(unit: Unit, task: Task, transition: Any, **details: Any) -> None:
        change_task(unit, task, transition, **details)
        if task.state == "SUCCEEDED":
            unit.letting_go.update(unit.plans[task.plan_id].locks or ())
            unit._freed_plans.add(task.plan_id)

    patch.setattr(Unit, "change_task", careless)


@bug()
def an_order_s_locks_are_never_released(patch: pytest.MonkeyPatch) -> None:
    statement = locking._RELEASE.replace("OR plan_id", "AND plan_id")
    patch.setattr(locking, "_RELEASE", statement)


@bug()
def the_capacity_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(locksmith.Locksmith, "_lacking", lambda *_: "")


@bug(quick=False)
def a_pool_has_room_for_one_more(patch: pytest.MonkeyPatch) -> None:
    statement = locksmith._CAPACITY.replace("capacity FROM", "capacity + 1 FROM")
    patch.setattr(locksmith, "_CAPACITY", statement)


@bug(has_several_units, quick=False)
def units_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(locksmith, "_TAKEN", locksmith._TAKEN.replace("units", "1"))


@bug()
def what_lacks_one_lock_takes_the_others(patch: pytest.MonkeyPatch) -> None:
    give = locksmith.Locksmith.give

    def greedy(smith: locksmith.Locksmith, task_ids: Collection[int]) -> list[int]:
        given = give(smith, task_ids)
        for need in smith._turned_away:
            lacking = smith._lacking(need, smith._free, ())
            free = {name: units for name, units in need.own.items() if name != lacking}
            taken = smith._had.get(need.task_id, set())
            locksmith._LOCKS.insert(
                smith.raw,
                [
                    (name, units, need.fulfillment_id, need.plan_id, need.task_id, smith.now)
                    for name, units in free.items()
                    if name not in taken and units <= smith._free[name]
                ],
            )
        return given

    patch.setattr(locksmith.Locksmith, "give", greedy)


@bug()
def the_line_is_not_woken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(locking, "_NEXT_TURN", locking._NEXT_TURN.replace("WHERE", "WHERE false AND"))


@bug(begins_with_several)
def who_waits_for_what_its_order_has_goes_on_waiting(patch: pytest.MonkeyPatch) -> None:
    statement = locksmith._HAVE_IT_NOW.replace("WHERE", "WHERE false AND")
    patch.setattr(locksmith, "_HAVE_IT_NOW", statement)


@bug()
def the_last_in_line_is_called_up_first(patch: pytest.MonkeyPatch) -> None:
    statement = locking._WAKE.replace("w.depth, w.id", "w.depth, w.id DESC")
    patch.setattr(locking, "_WAKE", statement.replace("w.rank,", "w.rank DESC,"))


@bug(orders=IMPORTANT)
def the_line_does_not_look_at_priorities(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(locking, "_WAKE", locking._WAKE.replace("w.priority DESC, ", ""))


@bug(orders=MANY_OF_ONE)
def a_claim_does_not_look_at_ranks(patch: pytest.MonkeyPatch) -> None:
    for name in ("_RUNNABLE", "_CLAIM"):
        patch.setattr(candidates, name, getattr(candidates, name).replace("t.rank, ", ""))


@bug(quick=False)
def whoever_sends_many_orders_has_no_later_ranks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fairness, "STEP_MS", 0)


def examples(orders: tuple[Asked, ...]) -> st.SearchStrategy[Scenario]:
    return st.integers(20, 60).flatmap(lambda length: in_line(length=length, orders=orders))


@pytest.mark.parametrize("name", [name for name in BUGS if BUGS[name].quick or AT_RANDOM])
def test_the_search_finds_that(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    record_property: Callable[[str, object], None],
    name: str,
) -> None:
    planted = BUGS[name]
    played, most = 0, LONG if AT_RANDOM else QUICK

    def is_noticed(scenario: Scenario) -> bool:
        nonlocal played
        if played == most or not planted.about(scenario):
            return False
        played += 1
        try:
            with pytest.MonkeyPatch.context() as patch:
                planted.plant(patch)
                play(scenario, django_db_blocker)
        except AssertionError:
            return True
        return False

    try:
        found = find(
            examples(planted.orders),
            is_noticed,
            settings=settings(
                max_examples=20 * most,
                phases=[Phase.generate],
                verbosity=Verbosity.quiet,
                derandomize=False,
                database=None,
            ),
            random=Random(1),
        )
    except NoSuchExample:
        pytest.fail(f"The search does not notice that {name}; {played} played.")
    record_property(FOUND, f"played {played:3}")
    play(found, django_db_blocker)  # Without the bug it is right.
