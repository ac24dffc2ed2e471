"""What becomes of every task when its plan is given up or its order changes: the pure part."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from fulfillment.definitions.assessment import Becomes
from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph, validate_graph
from fulfillment.definitions.migration import Had
from fulfillment.definitions.readiness import Place
from fulfillment.definitions.revision import Revision, revise
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.states import TaskState
from tests import desk

DONE = TaskState.SUCCEEDED
OPEN = TaskState.PENDING


def graph(tasks: Mapping[str, Mapping[str, Any]], items: int = 1) -> Graph:
    definition = WorkflowDefinition.model_validate(
        {
            "workflow": "thing",
            "version": 1,
            "title": "A workflow",
            "fulfils": [{"offering": "thing", "actions": ["add"]}],
            "billing_trigger": "shipment",
            "tasks": {
                name: {"action": name, **spec} if "target" in spec else spec
                for name, spec in tasks.items()
            },
        }
    )
    return decompose(
        items=[
            ItemSelection(position=at, offering="thing", action="add", definition=definition)
            for at in range(1, items + 1)
        ]
    )


def undoable(*after: str, **more: Any) -> dict[str, Any]:
    return desk.task(after=after, compensation={"action": "undo"}, **more)


def had(before: Graph, states: Mapping[str, TaskState], elements: int = 0) -> list[Had]:
    """Every task of the graph; of fan-outs so many elements. By key, `build@1[2]` for an element;
    what is not named is PENDING."""
    found = []
    for node in before.nodes:
        for element in range(1, elements + 1) if node.group is not None else [0]:
            key = node.key.replace("~element", "") + (f"[{element}]" if element else "")
            state = states.get(key, states.get(node.key, OPEN))
            found.append(Had(node=node.index, element=element, state=state))
    return found


def place(graph_: Graph, key: str, element: int = 0) -> Place:
    return graph_.by_key[key], element


def becomes(before: Graph, found: Revision) -> dict[str, Becomes]:
    return {
        before.nodes[node].key + (f"[{element}]" if element else ""): what
        for (node, element), what in found.becomes.items()
    }


def waits(graph_: Graph) -> dict[str, set[str]]:
    """Key -> keys of what it waits for."""
    return {
        node.key: {graph_.nodes[one].key for one in graph_.predecessors[node.index]}
        for node in graph_.nodes
    }


def redo(before: Graph, tasks: list[Had], *keys: str, version: int = 2, **more: Any) -> Revision:
    """The same order, but these tasks ask for something else now."""
    after = more.pop("after", None) or before
    places: Collection[Place] = [(before.by_key[key], 0) for key in keys]
    return revise(
        before=before, tasks=tasks, after=after, version=version, concerned=places, **more
    )


def again(found: Revision, states: Mapping[str, TaskState], elements: int = 0) -> list[Had]:
    """The tasks of the next plan."""
    done = {f"{node.key}": OPEN for node in found.graph.nodes}
    return had(found.graph, {**done, **states}, elements)


CHAIN = graph({"one": undoable(), "two": desk.task(after=["one"]), "three": undoable("two")})


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TaskState.PENDING, Becomes.WITHDRAWN),
        (TaskState.READY, Becomes.WITHDRAWN),
        (TaskState.FAILED_RETRYABLE, Becomes.WITHDRAWN),
        (TaskState.AWAITING_MANUAL, Becomes.WITHDRAWN),
        (TaskState.FAILED_FINAL, Becomes.WITHDRAWN),
        (TaskState.SKIPPED_BY_POLICY, Becomes.WITHDRAWN),
        (TaskState.DISPATCHED, Becomes.UNDONE),
        (TaskState.ACCEPTED, Becomes.UNDONE),
        (TaskState.OUTCOME_UNKNOWN, Becomes.UNDONE),
        (TaskState.SUCCEEDED, Becomes.UNDONE),
        (TaskState.WAIVED_BY_AUTHORIZED_USER, Becomes.STAYS),
    ],
)
def test_of_a_plan_that_is_given_up_every_state_has_its_fate(
    state: TaskState, expected: Becomes
) -> None:
    tasks = had(CHAIN, {"one@1": state})
    found = revise(before=CHAIN, tasks=tasks, after=None, version=2)
    assert becomes(CHAIN, found)["one@1"] is expected
    on_the_wire = {TaskState.DISPATCHED, TaskState.ACCEPTED, TaskState.OUTCOME_UNKNOWN}
    assert found.unsettled == ((place(CHAIN, "one@1"),) if state in on_the_wire else ())
    assert [undo.key for undo in found.undos] == (["undo.v2/one@1"] if state == DONE else [])


def test_what_may_have_happened_although_it_waits_is_found_out_first() -> None:
    tasks = had(CHAIN, {"one@1": TaskState.FAILED_RETRYABLE})
    doubt = [place(CHAIN, "one@1")]
    found = revise(before=CHAIN, tasks=tasks, after=None, version=2, doubtful=doubt)
    assert found.unsettled == tuple(doubt)


def test_undos_stand_in_reverse_order_across_what_has_none() -> None:
    tasks = had(CHAIN, {"one@1": DONE, "two@1": DONE, "three@1": DONE})
    found = revise(before=CHAIN, tasks=tasks, after=None, version=2)
    assert waits(found.graph) == {
        "undo.v2/three@1": set(),
        "undo.v2/one@1": {"undo.v2/three@1"},
    }
    assert becomes(CHAIN, found)["two@1"] is Becomes.STAYS
    assert validate_graph(found.graph) == []


def test_only_what_is_named_is_undone() -> None:
    tasks = had(CHAIN, {"one@1": DONE, "two@1": DONE, "three@1": DONE})
    found = revise(before=CHAIN, tasks=tasks, after=None, version=2, only=["three"])
    assert [node.key for node in found.graph.nodes] == ["undo.v2/three@1"]
    assert becomes(CHAIN, found)["one@1"] is Becomes.STAYS


def test_what_is_not_concerned_is_kept_and_nothing_is_undone() -> None:
    tasks = had(CHAIN, {"one@1": DONE, "two@1": TaskState.ACCEPTED})
    found = redo(CHAIN, tasks)
    assert set(becomes(CHAIN, found).values()) == {Becomes.KEPT}
    assert (found.given_up, found.undos, found.graph) == (frozenset(), (), CHAIN)


def test_what_is_done_again_waits_for_its_undo() -> None:
    tasks = had(CHAIN, {"one@1": DONE, "two@1": DONE})
    found = redo(CHAIN, tasks, "one@1")
    assert becomes(CHAIN, found) == {
        "one@1": Becomes.REDONE,
        "two@1": Becomes.KEPT,
        "three@1": Becomes.KEPT,
    }
    assert waits(found.graph)["one@1"] == {"undo.v2/one@1"}


def test_what_has_used_an_output_that_is_made_anew_is_done_again() -> None:
    before = graph(
        {
            "one": undoable(outputs={"id": "string"}),
            "two": desk.task(depends_on=[{"output": "one.id"}], input={"id": "${tasks.one.id}"}),
        }
    )
    tasks = had(before, {"one@1": DONE, "two@1": DONE})
    assert becomes(before, redo(before, tasks, "one@1"))["two@1"] is Becomes.REDONE


def test_an_undo_goes_on_whatever_changes_and_is_there_once() -> None:
    first = redo(CHAIN, had(CHAIN, {"one@1": DONE}), "one@1")
    for state in sorted(set(TaskState) - {DONE, TaskState.WAIVED_BY_AUTHORIZED_USER}):
        tasks = again(first, {"undo.v2/one@1": state})
        found = revise(before=first.graph, tasks=tasks, after=CHAIN, version=3)
        assert becomes(first.graph, found)["undo.v2/one@1"] is Becomes.KEPT
        assert waits(found.graph)["one@1"] == {"undo.v2/one@1"}
        assert validate_graph(found.graph) == []


def test_an_undo_that_is_over_stays_with_the_plan_before() -> None:
    first = redo(CHAIN, had(CHAIN, {"one@1": DONE}), "one@1")
    tasks = again(first, {"undo.v2/one@1": DONE, "one@1": DONE})
    found = revise(before=first.graph, tasks=tasks, after=None, version=3)
    assert [node.key for node in found.graph.nodes] == ["undo.v3/one@1"]


def test_what_is_upstream_of_an_undo_that_still_runs_is_undone_behind_it() -> None:
    first = redo(CHAIN, had(CHAIN, {"one@1": DONE, "two@1": DONE, "three@1": DONE}), "three@1")
    tasks = again(first, {"one@1": DONE, "two@1": DONE, "undo.v2/three@1": TaskState.ACCEPTED})
    found = revise(before=first.graph, tasks=tasks, after=None, version=3)
    assert waits(found.graph)["undo.v3/one@1"] == {"undo.v2/three@1"}


def test_the_undo_of_an_item_that_is_gone_comes_before_that_of_what_served_it() -> None:
    tasks = {"all": undoable(scope="order"), "one": undoable("all")}
    both, alone = graph(tasks, items=2), graph(tasks)
    done = had(both, {"one@1": DONE, "one@2": DONE, "thing/all": DONE})
    first = revise(before=both, tasks=done, after=alone, version=2)
    assert becomes(both, first)["one@2"] is Becomes.UNDONE
    assert becomes(both, first)["thing/all"] is Becomes.KEPT
    states = {"one@1": DONE, "thing/all": DONE, "undo.v2/one@2": TaskState.READY}
    found = revise(before=first.graph, tasks=again(first, states), after=None, version=3)
    assert waits(found.graph) == {
        "undo.v2/one@2": set(),
        "undo.v3/one@1": set(),
        "undo.v3/thing/all": {"undo.v2/one@2", "undo.v3/one@1"},
    }


FANNED = graph(
    {
        "list": desk.task(outputs={"sites": "list"}),
        "build": undoable(
            depends_on=[{"output": "list.sites"}], for_each={"over": "${tasks.list.sites}"}
        ),
        "last": desk.task(after=["build"]),
    }
)
BEGUN = {"list@1": DONE, "build~each@1": DONE, "build@1[1]": DONE, "build@1[2]": DONE}


def test_elements_that_have_not_begun_do_not_outlive_a_fan_out_that_begins_anew() -> None:
    """Its successor makes elements of its own at the same places."""
    states = {**BEGUN, "build@1": OPEN, "build@1[2]": OPEN}
    tasks = had(FANNED, states, elements=2)
    found = redo(FANNED, tasks, "list@1")
    element = FANNED.by_key["build~element@1"]
    assert {(element, 1), (element, 2)} <= found.given_up
    assert [undo.key for undo in found.undos] == ["undo.v2/build@1[1]"]
    assert waits(found.graph)["build~each@1"] == {"list@1", "undo.v2/build@1[1]"}


def test_a_fan_out_begins_anew_only_behind_the_undo_of_its_elements_also_after_another_change() -> (
    None
):
    tasks = had(FANNED, {**BEGUN, "build@1": DONE}, elements=2)
    first = redo(FANNED, tasks, "list@1")
    undos = {"undo.v2/build@1[1]", "undo.v2/build@1[2]"}
    assert undos <= waits(first.graph)["build~each@1"]
    states = {"undo.v2/build@1[1]": TaskState.ACCEPTED}
    after_first = [task for task in again(first, states) if not task.element]
    second = revise(before=first.graph, tasks=after_first, after=FANNED, version=3)
    assert undos <= waits(second.graph)["build~each@1"]


def test_what_a_decision_that_is_made_anew_has_created_is_done_again() -> None:
    before = graph(
        {
            "choose": desk.step(
                decide=[{"when": "item.quantity > 1", "create": ["left"]}, {"otherwise": []}]
            ),
            "left": undoable(),
            "behind": undoable("left"),
        }
    )
    tasks = had(before, {"choose@1": DONE, "left@1": DONE, "behind@1": DONE})
    found = redo(before, tasks, "choose@1")
    assert {undo.key for undo in found.undos} == {"undo.v2/left@1", "undo.v2/behind@1"}
    assert becomes(before, found)["behind@1"] is Becomes.REDONE


def test_what_has_gone_another_way_is_undone_as_that_way_says() -> None:
    before = graph(
        {
            "one": undoable(
                fallback=[
                    {"target": "beta", "action": "other", "compensation": {"action": "take_back"}}
                ]
            )
        }
    )
    tasks = [Had(node=0, element=0, state=DONE, route=1)]
    (undo,) = revise(before=before, tasks=tasks, after=None, version=2).graph.nodes
    assert (undo.target, undo.action) == ("beta", "take_back")
