"""Whether the search would notice bugs of clocks, deadlines and jeopardy; see `test_planted_bugs`.

Examples that don't have in them what the bug is about are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, Verbosity, find, settings
from hypothesis.errors import NoSuchExample
from pytest_django import DjangoDbBlocker

from fulfillment.definitions.estimates import Standing, Usual
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.structure import priorities
from fulfillment.engine.tasks import timing_out
from fulfillment.engine.timing import clocks, jeopardy, standing
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Task
from fulfillment.states import TASK_SENDABLE, TaskState
from tests.properties.scenarios import TARGETS, Advance, Drain, Scan, Sweep
from tests.properties.search import AT_RANDOM, FOUND
from tests.properties.test_engine_model import play
from tests.properties.timed_run import TimedRun
from tests.properties.timed_scenarios import (
    STEP,
    HoldStill,
    Look,
    Rerun,
    ShowLife,
    TimedOrder,
    TimedPart,
    TimedScenario,
    TimedStep,
    timed_scenarios,
)
from tests.properties.world import Fate

QUICK, LONG = 25, 600
"""Examples that may be played until the bug is found."""

Plant = Callable[[pytest.MonkeyPatch], None]
About = Callable[[TimedScenario], bool]


@dataclass(frozen=True)
class Bug:
    plant: Plant
    about: About
    """What a scenario has to have in it for the bug to matter."""
    first: tuple[TimedStep, ...]
    """What its scenarios begin with, so that it does not take many."""
    shape: Callable[[TimedScenario], TimedScenario]
    """What is made of those that are drawn, where chance is too slow."""
    quick: bool


BUGS: dict[str, Bug] = {}
TAKEN = tuple(Drain(0, (Fate.TAKEN,) * 3) for _ in TARGETS)
TURNED_AWAY = tuple(Drain(0, (Fate.TURNED_AWAY,) * 3) for _ in TARGETS)
LOST = tuple(Drain(0, (Fate.LOST,) * 3) for _ in TARGETS)


def bug(
    *about: About,
    first: tuple[TimedStep, ...] = (),
    shape: Callable[[TimedScenario], TimedScenario] = lambda scenario: scenario,
    quick: bool = True,
) -> Callable[[Plant], Plant]:
    def remember(plant: Plant) -> Plant:
        every = lambda scenario: all(one(scenario) for one in about)  # noqa: E731
        BUGS[plant.__name__.replace("_", " ")] = Bug(plant, every, first, shape, quick)
        return plant

    return remember


def some(part: Callable[[TimedPart], object]) -> About:
    """A task that is there from the beginning is like that."""
    return lambda scenario: any(
        part(one) for one in scenario.workflow if isinstance(one, TimedPart) and not one.after
    )


def says(name: str, *values: str) -> About:
    """The first tasks have this clock, or follow up its end in one of these ways."""
    return some(
        lambda part: getattr(part.limits, name) in values if values else getattr(part.limits, name)
    )


def has(*kinds: type) -> About:
    return lambda scenario: all(
        any(isinstance(step, kind) for step in scenario.steps) for kind in kinds
    )


def is_promised(scenario: TimedScenario) -> bool:
    return any(isinstance(order, TimedOrder) and order.promise for order in scenario.orders)


def is_urgent(scenario: TimedScenario) -> bool:
    return scenario.urgent is not None


def has_a_deadline(scenario: TimedScenario) -> bool:
    return scenario.deadline is not None


def takes_its_time(scenario: TimedScenario) -> bool:
    """What is done one after the other takes longer than any of it."""
    parts = scenario.workflow
    return any(
        isinstance(part, TimedPart)
        and part.required
        and part.usual
        and any(getattr(parts[before], "usual", 0) for before in part.after)
        for part in parts
    )


def late_only_at_first(scenario: TimedScenario) -> TimedScenario:
    """Once the first task is done there is time enough for the second."""
    first = TimedPart("both", usual=60)
    second = TimedPart("asks", after=frozenset({0}), usual=10)
    return replace(
        scenario,
        workflow=(first, second),
        orders=(TimedOrder(promise=45),),
        at_once=1,
        fast_path=False,
        locks=(),
        steps=(Scan(), Look(), Drain(0, ()), Advance(60.0 * STEP), Look(), *scenario.steps),
    )


def late_at_once(scenario: TimedScenario) -> TimedScenario:
    """Everything takes an hour, and nobody has one."""
    return replace(
        scenario,
        workflow=tuple(
            replace(part, usual=60) for part in scenario.workflow if isinstance(part, TimedPart)
        ),
        orders=tuple(
            replace(order, promise=5) for order in scenario.orders if isinstance(order, TimedOrder)
        ),
        steps=(Scan(), Look(), *scenario.steps),
    )


def held_in_time(scenario: TimedScenario) -> TimedScenario:
    """Without the hold it would be late."""
    return replace(
        scenario,
        workflow=(TimedPart("both", usual=30),),
        orders=(TimedOrder(promise=45),),
        at_once=1,
        locks=(),
        steps=(HoldStill(0), Advance(60.0 * STEP * 2), Look(), *scenario.steps),
    )


# --- the clocks of a task -------------------------------------------------------------------------


@bug(says("schedule_to_close"))
def what_has_to_end_never_falls_due(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweeping, "_LOOKS", sweeping._LOOKS[:-1])


@bug(says("schedule_to_start"))
def what_has_to_be_sent_never_falls_due(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweeping, "_LOOKS", (*sweeping._LOOKS[:-2], sweeping._LOOKS[-1]))


@bug(says("start_to_close"), first=TAKEN)
def a_result_may_take_as_long_as_a_report(patch: pytest.MonkeyPatch) -> None:
    sent = clocks.sent

    def careless(unit: Unit, *, task: Task, node: Any, at: datetime) -> None:
        sent(unit, task=task, node=node, at=at)
        task.report_by = None

    patch.setattr(clocks, "sent", careless)


@bug(says("heartbeat"), first=TAKEN)
def nobody_listens_for_signs_of_life(patch: pytest.MonkeyPatch) -> None:
    of = clocks.of
    patch.setattr(clocks, "of", lambda **given: replace(of(**given), heartbeat=None))


@bug(says("heartbeat"), first=(*TAKEN, *(Advance(60.0 * STEP), ShowLife(0)) * 5))
def a_sign_of_life_puts_off_the_report(patch: pytest.MonkeyPatch) -> None:
    heard = clocks.heard

    def generous(unit: Unit, *, task: Task, node: Any, **told: Any) -> bool:
        is_news = heard(unit, task=task, node=node, **told)
        heartbeat = clocks.of(task=task, node=node).heartbeat
        if task.state == TaskState.ACCEPTED and heartbeat is not None:
            task.not_before = unit.now + heartbeat
        return is_news

    patch.setattr(clocks, "heard", generous)


@bug(says("heartbeat"), has(ShowLife), first=TAKEN)
def a_sign_of_life_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(clocks, "heard", lambda *_, **__: False)


@bug(has(Rerun), says("schedule_to_close"), first=TURNED_AWAY)
def what_is_tried_again_by_hand_keeps_its_old_clocks(patch: pytest.MonkeyPatch) -> None:
    begin = clocks.begin

    def careless(unit: Unit, *, task: Task, node: Any, resumes: bool = False) -> None:
        if task.state != TaskState.FAILED_FINAL:
            begin(unit, task=task, node=node, resumes=resumes)

    patch.setattr(clocks, "begin", careless)


@bug(has(ShowLife, Rerun), quick=False)
def what_is_tried_again_by_hand_begins_from_nothing(patch: pytest.MonkeyPatch) -> None:
    begin = clocks.begin

    def forgetful(unit: Unit, *, task: Task, node: Any, resumes: bool = False) -> None:
        begin(unit, task=task, node=node)

    patch.setattr(clocks, "begin", forgetful)


# --- what follows ---------------------------------------------------------------------------------


@bug(
    some(
        lambda part: (
            part.limits.schedule_to_close
            and part.limits.when_unsent == "cancel"
            and TARGETS[part.target].status_query
        )
    ),
    first=(*TAKEN, Advance(60.0 * STEP * 10), Sweep()),
)
def what_was_sent_is_given_up(patch: pytest.MonkeyPatch) -> None:
    close = timing_out._close

    def rash(unit: Unit, task: Task, node: Any) -> None:
        close(unit, task, node)
        if task.state == TaskState.OUTCOME_UNKNOWN:
            timing_out._cancel(unit, task, node, "It had to end.")

    patch.setattr(timing_out, "_close", rash)


@bug(says("schedule_to_close"), says("when_unsent", "cancel"), quick=False, first=LOST)
def what_was_lost_before_is_given_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(timing_out, "lost_track_before", lambda *_: False)


@bug(says("when_unsent", "cancel"))
def what_was_never_sent_is_not_given_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(timing_out, "_cancel", lambda *_: None)


@bug(says("when_unsent", "escalate"), some(lambda part: part.limits.schedule_to_start))
def nobody_is_told_of_what_is_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(timing_out, "_tell", lambda *_: None)


@bug(says("when_sent", "escalate", "retry"), first=TAKEN)
def a_time_that_is_up_is_like_any_other_silence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(clocks, "is_timeout", lambda _: False)


@bug(says("when_sent", "escalate", "retry"), quick=False, first=TAKEN)
def any_other_silence_is_like_a_time_that_is_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(clocks, "is_timeout", lambda _: True)


# --- the clocks of an order, and holds ------------------------------------------------------------


@bug(has_a_deadline)
def a_deadline_passes_unnoticed(patch: pytest.MonkeyPatch) -> None:
    statement = sweeping._LATE_PLANS.replace("WHERE", "WHERE false AND")
    patch.setattr(sweeping, "_LATE_PLANS", statement)


@bug(has_a_deadline, has(HoldStill))
def a_hold_stops_no_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "_stops", lambda *_: {})


@bug(has_a_deadline)
def every_hold_stops_the_clocks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "_STOPS", standing._STOPS.replace("AND clock_policy = 'STOP'", ""))


@bug(has_a_deadline, has(HoldStill))
def the_time_held_is_not_given_back(patch: pytest.MonkeyPatch) -> None:
    go_on = standing._go_on

    def mean(unit: Unit, clocked: Any, stop: Any, until: datetime) -> None:
        go_on(unit, clocked, stop, clocked.stopped_at)

    patch.setattr(standing, "_go_on", mean)


@bug(has(HoldStill), says("schedule_to_close"), quick=False)
def what_was_under_way_does_not_get_back_all_of_the_time_held(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "_began", lambda _, task: standing._kept_since(task))


@bug(has(HoldStill), says("when_unsent", "cancel"), quick=False)
def a_clock_that_stands_still_gives_something_up(patch: pytest.MonkeyPatch) -> None:
    holds_still = standing.holds_still

    def hasty(unit: Unit, *, task: Task) -> bool:
        return task.state in TASK_SENDABLE and holds_still(unit, task=task)

    patch.setattr(standing, "holds_still", hasty)


# --- jeopardy -------------------------------------------------------------------------------------


@bug(is_promised, takes_its_time, has(Look))
def what_stands_behind_other_tasks_takes_no_longer(patch: pytest.MonkeyPatch) -> None:
    finish = jeopardy.finish

    def shallow(*, graph: Any, usual: Usual, **given: Any) -> datetime:
        alone = dict.fromkeys(range(len(graph.nodes)), ())
        return finish(graph=_Seen(graph, predecessors=alone), usual=usual, **given)

    patch.setattr(jeopardy, "finish", shallow)


@bug(is_promised, takes_its_time, has(Look), quick=False)
def the_shortest_path_counts(patch: pytest.MonkeyPatch) -> None:
    def hopeful(
        *, graph: Any, standing: Mapping[int, Standing], usual: Usual, now: datetime
    ) -> Any:
        left = [usual(graph.nodes[index]) for index in graph.mandatory]
        return now + min(left, default=timedelta(0))

    patch.setattr(jeopardy, "finish", hopeful)


@bug(is_promised, has(Look))
def jeopardy_is_raised_when_it_is_too_late(patch: pytest.MonkeyPatch) -> None:
    too_late = "WHERE due_at <= (SELECT fulfillment_now()) AND"
    patch.setattr(jeopardy, "_DUE", jeopardy._DUE.replace("WHERE", too_late))


@bug(shape=late_only_at_first)
def jeopardy_is_never_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jeopardy, "_clear", lambda *_: None)


@bug(shape=held_in_time)
def a_promise_does_not_stand_still(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "promised", lambda _, *, plan: plan.due_at)


@bug(shape=late_at_once)
def what_is_done_is_still_in_jeopardy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jeopardy, "over", lambda *_, **__: None)


@bug(is_urgent, shape=late_at_once)
def priorities_are_not_evaluated_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(priorities, "renew", lambda *_, **__: None)


@bug(is_urgent, shape=late_at_once, quick=False)
def tasks_keep_the_priority_that_they_had(patch: pytest.MonkeyPatch) -> None:
    statement = priorities._OF_TASKS.replace("WHERE", "WHERE false AND")
    patch.setattr(priorities, "_OF_TASKS", statement)


@bug(
    some(
        lambda part: part.limits.schedule_to_close and len(set(part.limits.schedule_to_close)) > 1
    ),
    shape=late_at_once,
)
def clocks_are_not_computed_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(clocks, "renew", lambda *_, **__: None)


class _Seen:
    """A graph, but for what is told otherwise."""

    def __init__(self, graph: Any, **otherwise: Any) -> None:
        self._graph = graph
        vars(self).update(otherwise)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)


# --- the search -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BUGS if BUGS[name].quick or AT_RANDOM])
def test_the_search_finds_that(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    record_property: Callable[[str, object], None],
    name: str,
) -> None:
    planted = BUGS[name]
    played, most = 0, LONG if AT_RANDOM else QUICK
    noticed: list[TimedScenario] = []

    def is_noticed(scenario: TimedScenario) -> bool:
        nonlocal played
        if scenario in noticed:
            return True
        if played == most or not planted.about(scenario):
            return False
        played += 1
        try:
            with pytest.MonkeyPatch.context() as patch:
                planted.plant(patch)
                play(scenario, django_db_blocker, kind=TimedRun)
        except AssertionError:
            noticed.append(scenario)
            return True
        return False

    try:
        found = find(
            timed_scenarios(shortest=10, first=planted.first).map(planted.shape),
            is_noticed,
            settings=settings(
                max_examples=40 * most,
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
    play(found, django_db_blocker, kind=TimedRun)  # Without the bug it is right.
