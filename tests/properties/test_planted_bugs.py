"""Whether the search would notice: bugs are planted in the engine, and have to be found.

Examples whose templates don't say what the bug is about are passed over, because they would run
as they do without it. The rest are the examples of the search, in a sequence that never changes.
"""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import ProgrammingError
from pytest_django import DjangoDbBlocker

from adapters.contract import OutcomeKind
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.node_parts import Milestone, NodeKind
from fulfillment.engine.dispatch import candidates
from fulfillment.engine.plans import completion, progress, rerunning, selection, settlement, signals
from fulfillment.engine.store import windows
from fulfillment.engine.structure import branching, fanning, milestones, places
from fulfillment.engine.tasks import beginning, expiring, falling_back, manual, outcomes, waits
from fulfillment.engine.work import causes, unit
from fulfillment.states import Cause, TaskState
from tests.properties.census import WRITTEN
from tests.properties.language_scenarios import Scenario, any_scenario
from tests.properties.search import AT_RANDOM, FOUND
from tests.properties.test_language import play

QUICK, LONG = 60, 600
"""Examples that may be played until the bug is found."""

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    plant: Plant
    about: str
    """What a template has to say (`census.WRITTEN`) for the bug to matter."""
    begin: int
    """The example that a quick run begins with; a long one begins with the first."""


BUGS: dict[str, Bug] = {}


def bug(about: str = "", *, begin: int = 1) -> Callable[[Plant], Plant]:
    def remember(plant: Plant) -> Plant:
        BUGS[plant.__name__.replace("_", " ")] = Bug(plant, about, begin)
        return plant

    return remember


# --- joins, branches, conditions ------------------------------------------------------------------


@bug("a deferred join")
def a_deferred_join_waits_for_nothing(patch: pytest.MonkeyPatch) -> None:
    runnable = selection.runnable

    def hasty(*, graph: Graph, place: Any, **rest: Any) -> bool:
        return graph.nodes[place[0]].deferred or runnable(graph=graph, place=place, **rest)

    patch.setattr(selection, "runnable", hasty)


@bug("a deferred join")
def a_deferred_join_waits_only_for_what_exists_already(patch: pytest.MonkeyPatch) -> None:
    runnable = selection.runnable

    def hasty(**given: Any) -> bool:
        if given["graph"].nodes[given["place"][0]].deferred:
            given["graph"] = replace(
                given["graph"],
                edges=tuple(
                    edge
                    for edge in given["graph"].edges
                    if edge.target != given["place"][0] or (edge.source, 0) in given["states"]
                ),
            )
        return runnable(**given)

    patch.setattr(selection, "runnable", hasty)


@bug("decides by rules")
def an_unchosen_branch_is_created(patch: pytest.MonkeyPatch) -> None:
    existence = branching.existence

    def generous(**given: Any) -> dict[int, bool | None]:
        return {
            node: True if verdict is False else verdict
            for node, verdict in existence(**given).items()
        }

    patch.setattr(branching, "existence", generous)


@bug("needs an outcome of a person")
def what_stands_behind_an_outcome_exists_with_every_outcome(patch: pytest.MonkeyPatch) -> None:
    chosen_by = places.chosen_by

    def everything(*, kind: NodeKind, outputs: Any) -> frozenset[str]:
        if kind is NodeKind.MANUAL:
            return frozenset({"yes", "maybe", "no"})
        return chosen_by(kind=kind, outputs=outputs)

    patch.setattr(places, "chosen_by", everything)


@bug("needs something under a condition")
def a_conditional_dependency_is_ignored(patch: pytest.MonkeyPatch) -> None:
    runnable = selection.runnable
    patch.setattr(
        selection, "runnable", lambda **given: runnable(**{**given, "holds": lambda _: False})
    )


@bug("needs something under a condition")
def a_conditional_dependency_always_exists(patch: pytest.MonkeyPatch) -> None:
    runnable = selection.runnable
    patch.setattr(
        selection, "runnable", lambda **given: runnable(**{**given, "holds": lambda _: True})
    )


@bug("preconditions")
def a_precondition_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(beginning, "_meets_preconditions", lambda *_: True)


@bug("a sub-process", begin=22)
def what_belongs_to_a_skipped_sub_process_goes_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(progress, "_left_out", lambda *_: set())


@bug("optional")
def an_optional_failure_blocks_its_plan(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(completion, "_skip_unreachable", lambda *_: None)


# --- fan-outs -------------------------------------------------------------------------------------


@bug("a fan-out")
def as_many_elements_as_there_are_run_at_once(patch: pytest.MonkeyPatch) -> None:
    declared = fanning._declared
    patch.setattr(fanning, "_declared", lambda *given: replace(declared(*given), at_once=1000))


@bug("a fan-out")
def one_failure_more_is_tolerated(patch: pytest.MonkeyPatch) -> None:
    off_by_one = types.SimpleNamespace(floor=lambda share: math.floor(share) + 1)
    patch.setattr(fanning, "math", off_by_one)


@bug("a fan-out")
def one_failure_less_is_tolerated(patch: pytest.MonkeyPatch) -> None:
    off_by_one = types.SimpleNamespace(floor=lambda share: max(0, math.floor(share) - 1))
    patch.setattr(fanning, "math", off_by_one)


@bug("a fan-out")
def lists_are_gathered_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    gathered = fanning._gathered

    def backwards(*given: Any) -> dict[str, Any]:
        return {
            name: value[::-1] if isinstance(value, list) else value
            for name, value in gathered(*given).items()
        }

    patch.setattr(fanning, "_gathered", backwards)


@bug("a fan-out", begin=85)
def a_rerun_redoes_finished_elements(patch: pytest.MonkeyPatch) -> None:
    send_anew = rerunning.send_anew

    def everything(unit: Any, *, task: Any, **how: Any) -> None:
        send_anew(unit, task=task, **how)
        for one in list(unit.tasks.values()):
            beside = (one.plan_id, one.node) == (task.plan_id, task.node)
            if beside and one.element and one.state == TaskState.SUCCEEDED:
                vars(one)["state"] = TaskState.FAILED_FINAL
                send_anew(unit, task=one, **how)

    patch.setattr(rerunning, "send_anew", everything)


# --- commands -------------------------------------------------------------------------------------


@bug("a fallback")
def a_fallback_is_taken_though_the_outcome_is_unknown(patch: pytest.MonkeyPatch) -> None:
    lose_track = outcomes.lose_track

    def impatient(unit: Any, task: Any, node: Any, outcome: Any) -> None:
        if not falling_back.fall_back(unit, task=task, node=node, outcome=outcome):
            lose_track(unit, task, node, outcome)

    patch.setattr(outcomes, "lose_track", impatient)


@bug("a fallback", begin=30)
def a_fallback_is_taken_for_every_code(patch: pytest.MonkeyPatch) -> None:
    fall_back = falling_back.fall_back

    def stubborn(unit: Any, *, task: Any, node: Any, outcome: Any) -> bool:
        ways = tuple(replace(way, unless=()) for way in node.fallbacks)
        return fall_back(unit, task=task, node=replace(node, fallbacks=ways), outcome=outcome)

    patch.setattr(falling_back, "fall_back", stubborn)


@bug()
def attempts_are_never_used_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outcomes, "may_retry", lambda *, retryable, **_: retryable)


@bug(begin=11)
def a_result_that_comes_twice_counts_twice(patch: pytest.MonkeyPatch) -> None:
    settle_task = settlement.settle_task

    def twice(unit: Any, *, task: Any, node: Any, result: Any) -> None:
        if task.state == TaskState.SUCCEEDED and result.outcome.kind is OutcomeKind.SUCCEEDED:
            vars(task)["state"] = TaskState.ACCEPTED
        settle_task(unit, task=task, node=node, result=result)

    patch.setattr(settlement, "settle_task", twice)


@bug("needs an output")
def outputs_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outcomes, "output_faults", lambda **_: [])


@bug()
def orders_of_low_priority_go_first(patch: pytest.MonkeyPatch) -> None:
    for name in ("_RUNNABLE", "_CLAIM"):
        statement = getattr(candidates, name)
        patch.setattr(candidates, name, statement.replace("t.priority DESC", "t.priority"))


@bug()
def later_tasks_go_first_among_equals(patch: pytest.MonkeyPatch) -> None:
    for name in ("_RUNNABLE", "_CLAIM"):
        statement = getattr(candidates, name)
        patch.setattr(candidates, name, statement.replace("t.depth, t.id", "t.depth, t.id DESC"))


@bug()
def deep_tasks_go_first(patch: pytest.MonkeyPatch) -> None:
    for name in ("_RUNNABLE", "_CLAIM"):
        statement = getattr(candidates, name)
        patch.setattr(candidates, name, statement.replace("t.depth, t.id", "t.depth DESC, t.id"))


@bug("a window")
def a_window_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(windows, "opening", lambda *, at, **_: at)
    patch.setattr(windows, "is_shut", lambda **_: False)


@bug("an output that expires", begin=29)
def what_has_expired_is_used(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expiring, "set_aside", lambda *_, **__: None)


# --- waits and people -----------------------------------------------------------------------------


@bug("waits for a while")
def a_delay_is_ignored(patch: pytest.MonkeyPatch) -> None:
    begin = waits.begin

    def at_once(unit: Any, *, node: Any, **rest: Any) -> None:
        begin(unit, node=replace(node, wait=replace(node.wait, delay_seconds=0)), **rest)

    patch.setattr(waits, "begin", at_once)


@bug("needs a milestone", begin=11)
def a_report_that_comes_early_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(waits, "_LATEST", waits._LATEST.replace("ORDER", "AND false ORDER"))


@bug("a wait that escalates", begin=143)
def a_report_after_the_deadline_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(signals, "_WAITING", signals._WAITING.replace(", 'AWAITING_MANUAL'", ""))


@bug("waits for another order")
def other_orders_hear_of_no_milestone(patch: pytest.MonkeyPatch) -> None:
    reached = milestones._reached

    def to_nobody(unit: Any, plan: Any, milestone: Milestone) -> None:
        reached(unit, plan, replace(milestone, shared=False))

    patch.setattr(milestones, "_reached", to_nobody)


@bug("a wait that goes on")
def a_wait_that_may_go_on_without_is_given_to_a_person(patch: pytest.MonkeyPatch) -> None:
    fall_due = waits.fall_due

    def strict(unit: Any, *, task: Any, node: Any) -> None:
        if node.wait.otherwise == "continue":
            node = replace(node, wait=replace(node.wait, otherwise="escalate"))
        fall_due(unit, task=task, node=node)

    patch.setattr(waits, "fall_due", strict)


@bug("a person", begin=16)
def the_deadline_of_a_decision_is_an_hour_late(patch: pytest.MonkeyPatch) -> None:
    fall_due = manual.fall_due

    def late(unit: Any, *, manual: Any, **rest: Any) -> None:
        if manual.due_at + timedelta(hours=1) < unit.now:
            fall_due(unit, manual=manual, **rest)

    patch.setattr("fulfillment.engine.plans.deciding.manual.fall_due", late)


# --- why it waits ---------------------------------------------------------------------------------


@bug("a person")
def who_has_to_decide_is_told_as_what_is_broken(patch: pytest.MonkeyPatch) -> None:
    broken = types.SimpleNamespace(HUMAN=Cause.REPAIR, CUSTOMER=Cause.REPAIR)
    patch.setattr(manual, "Cause", broken)


@bug()
def what_waits_for_a_report_does_not_say_so(patch: pytest.MonkeyPatch) -> None:
    cause_of = causes.cause_of

    def silent(task: Any, **rest: Any) -> Cause:
        cause = cause_of(task, **rest)
        return Cause.NONE if cause is Cause.REPORT else cause

    patch.setattr(unit, "cause_of", silent)


# --- the search -----------------------------------------------------------------------------------


def matters(scenario: Scenario, about: str) -> bool:
    return not about or any(map(WRITTEN[about], scenario.template.every_task()))


def examples(planted: Bug) -> Iterator[tuple[int, Scenario]]:
    """Those of the search that matter, by their numbers."""
    most, begin = (LONG, 1) if AT_RANDOM else (QUICK, planted.begin)
    numbered = ((number, any_scenario(number)) for number in itertools.count(begin))
    mattering = (one for one in numbered if matters(one[1], planted.about))
    return itertools.islice(mattering, most)


@pytest.mark.parametrize("name", BUGS)
def test_the_search_finds_that(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    record_property: Callable[[str, object], None],
    name: str,
) -> None:
    planted = BUGS[name]
    for played, (number, scenario) in enumerate(examples(planted), 1):
        try:
            with pytest.MonkeyPatch.context() as patch:
                planted.plant(patch)
                play(scenario, django_db_blocker)
        except (AssertionError, ProgrammingError):  # The database refuses ways that are none.
            record_property(FOUND, f"example {number:4}, played {played:3}")
            play(scenario, django_db_blocker)  # Without the bug it is right.
            return
    pytest.fail(f"The search does not notice that {name}.")
