"""Whether the search would notice that orders are given up or changed wrongly: bugs are planted.

As in `test_planted_bugs`: examples whose templates don't say what the bug is about are passed over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from fulfillment.definitions import revision
from fulfillment.definitions.assessment import Becomes
from fulfillment.definitions.nodes import EdgeType
from fulfillment.definitions.revision import Revision, _Revising
from fulfillment.definitions.undo_graph import Parts
from fulfillment.engine.plans import undoing, withholding
from fulfillment.engine.protection import holds
from fulfillment.engine.structure import undo_payloads
from fulfillment.states import TaskState
from tests.properties.search import AT_RANDOM, FOUND
from tests.properties.test_undo import play
from tests.properties.undo_scenarios import Scenario, any_scenario

QUICK, LONG = 60, 600
"""Examples that may be played until the bug is found."""

Plant = Callable[[pytest.MonkeyPatch], None]
About = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Bug:
    plant: Plant
    about: About
    """Whether a task of the template says what the bug is about."""
    begin: int
    """The example that a quick run begins with; a long one begins with the first."""


BUGS: dict[str, Bug] = {}


def bug(about: About = lambda _: True, *, begin: int = 1) -> Callable[[Plant], Plant]:
    def remember(plant: Plant) -> Plant:
        BUGS[plant.__name__.replace("_", " ")] = Bug(plant, about, begin)
        return plant

    return remember


def _of_elements(spec: Mapping[str, Any]) -> bool:
    return "for_each" in spec and "action" in spec.get("compensation", {})


def _final(spec: Mapping[str, Any]) -> bool:
    return "irreversible" in spec or "point_of_no_return" in spec


# --- what is undone, and in which order -----------------------------------------------------------


@bug(begin=9)
def what_was_done_first_is_undone_first(patch: pytest.MonkeyPatch) -> None:
    undo_parts = revision.undo_parts

    def forwards(**given: Any) -> Parts:
        parts = undo_parts(**given)
        parts.edges[:] = [
            (second, first, edge) if edge.type is EdgeType.COMPENSATION else (first, second, edge)
            for first, second, edge in parts.edges
        ]
        return parts

    patch.setattr(revision, "undo_parts", forwards)


@bug()
def everything_is_undone_twice(patch: pytest.MonkeyPatch) -> None:
    undo_parts, payload_of = revision.undo_parts, undo_payloads.payload_of

    def twice(**given: Any) -> Parts:
        parts = undo_parts(**given)
        again = [replace(one, key=f"{one.key}~again") for one in parts.nodes if one.undoes]
        parts.nodes.extend(again)
        return parts

    def of_the_first(plan: Any, *, node: Any) -> Any:
        return payload_of(plan, node=replace(node, key=node.key.removesuffix("~again")))

    patch.setattr(revision, "undo_parts", twice)
    patch.setattr(undo_payloads, "payload_of", of_the_first)


@bug(_of_elements, begin=42)
def only_the_first_element_is_undone(patch: pytest.MonkeyPatch) -> None:
    lose = _Revising._lose

    def forgetful(self: Any, task: Any, node: Any, *, again: bool) -> Becomes:
        if task.element > 1 and task.state == TaskState.SUCCEEDED:
            return Becomes.STAYS
        return lose(self, task, node, again=again)

    patch.setattr(_Revising, "_lose", forgetful)


@bug(lambda spec: any("compensation" in way for way in spec.get("fallback", ())), begin=18)
def what_was_done_by_a_fallback_is_undone_as_planned(patch: pytest.MonkeyPatch) -> None:
    undo_parts = revision.undo_parts

    def as_planned(*, undos: Any, before: Any, **rest: Any) -> Parts:
        planned = [
            replace(one, route=0) if before.nodes[one.place[0]].compensation is not None else one
            for one in undos
        ]
        return undo_parts(undos=planned, before=before, **rest)

    patch.setattr(revision, "undo_parts", as_planned)


@bug(_final, begin=41)
def a_point_of_no_return_is_passed_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undoing, "_points_of_no_return", lambda *_, **__: [])


@bug(begin=16)
def a_failure_is_left_to_a_person_although_it_compensates(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(withholding, "what_follows", lambda *_, **__: None)


# --- what is under way ----------------------------------------------------------------------------


@bug()
def nothing_that_is_under_way_is_awaited(patch: pytest.MonkeyPatch) -> None:
    revise = undoing.revise

    def hasty(**given: Any) -> Revision:
        return replace(revise(**given), unsettled=())

    patch.setattr(undoing, "revise", hasty)


@bug(begin=18)
def what_may_have_happened_counts_as_not_done(patch: pytest.MonkeyPatch) -> None:
    revise = undoing.revise
    patch.setattr(undoing, "revise", lambda **given: revise(**{**given, "doubtful": ()}))


@bug(begin=38)
def an_order_that_has_to_rest_goes_on_sending(patch: pytest.MonkeyPatch) -> None:
    subjects_of = holds.subjects_of
    patch.setattr(
        holds,
        "subjects_of",
        lambda held: [one for one in subjects_of(held) if not one.startswith("change:")],
    )


@bug(begin=217)
def a_change_forgets_what_had_to_be_given_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(withholding, "is_still_due", lambda *_, **__: False)


# --- changed orders -------------------------------------------------------------------------------


@bug(begin=8)
def what_the_change_concerns_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undoing, "concerned", lambda *_, **__: set())


@bug(begin=23)
def what_waits_to_be_sent_is_sent_as_it_was(patch: pytest.MonkeyPatch) -> None:
    concerned = undoing.concerned

    def but_not_those(unit: Any, *, tasks: Any, **rest: Any) -> Any:
        done = [task for task in tasks if task.state != TaskState.READY]
        return concerned(unit, tasks=done, **rest)

    patch.setattr(undoing, "concerned", but_not_those)


@bug(begin=15)
def everything_is_done_again(patch: pytest.MonkeyPatch) -> None:
    concerned = undoing.concerned

    def all_of_it(unit: Any, *, wanted: Any, **rest: Any) -> Any:
        return concerned(unit, wanted=replace(wanted, anew=True), **rest)

    patch.setattr(undoing, "concerned", all_of_it)


@bug(lambda spec: any("output" in one for one in spec.get("depends_on", ())), begin=53)
def what_has_used_an_old_value_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Revising, "_using", lambda *_: set())


@bug(lambda spec: "use" in spec, begin=80)
def a_sub_process_goes_on_with_what_it_was_given(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Revising, "_goes_with_its_beginning", lambda *_: False)


@bug(begin=18)
def what_is_done_again_does_not_wait_for_its_undo(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Revising, "_begin_again", lambda *_: None)


@bug(begin=21)
def a_second_change_drops_the_undo_that_still_runs(patch: pytest.MonkeyPatch) -> None:
    make = _Revising._graph
    patch.setattr(_Revising, "_graph", lambda self, _: make(self, []))


# --- the search -----------------------------------------------------------------------------------


def examples(planted: Bug) -> Iterator[tuple[int, Scenario]]:
    """Those of the search that matter, by their numbers."""
    most, begin = (LONG, 1) if AT_RANDOM else (QUICK, planted.begin)
    numbered = ((number, any_scenario(number)) for number in itertools.count(begin))
    mattering = (one for one in numbered if any(map(planted.about, one[1].template.every_task())))
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
        except AssertionError:
            record_property(FOUND, f"example {number:4}, played {played:3}")
            play(scenario, django_db_blocker)  # Without the bug it is right.
            return
    pytest.fail(f"The search does not notice that {name}.")
