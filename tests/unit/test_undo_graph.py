"""Undo tasks as nodes of the next plan: their order, their names and their size."""

from __future__ import annotations

from typing import Any

from fulfillment.definitions.graph import Graph, validate_graph
from fulfillment.definitions.node_parts import EdgeType, NodeKind
from fulfillment.definitions.revision import Revision, revise
from fulfillment.definitions.undo_graph import undone_by, undone_nodes
from fulfillment.states import TaskState
from tests import desk
from tests.unit.test_revision import again, graph, had, undoable, waits

DONE = TaskState.SUCCEEDED


def given_up(before: Graph, *, elements: int = 0, **states: TaskState) -> Revision:
    """Everything is done, unless said otherwise."""
    all_done = {node.key: DONE for node in before.nodes} | {
        f"{name}@1": state for name, state in states.items()
    }
    return revise(before=before, tasks=had(before, all_done, elements), after=None, version=2)


def fan(over: str, **more: Any) -> dict[str, Any]:
    return undoable(for_each={"over": over}, **more)


def two_fan_outs() -> Graph:
    return graph(
        {
            "list": undoable(outputs={"sites": "list"}),
            "build": fan("${tasks.list.sites}", depends_on=[{"output": "list.sites"}]),
            "paint": fan(
                "${tasks.list.sites}",
                depends_on=[{"output": "list.sites"}, {"success": "build"}],
            ),
        }
    )


def test_each_waits_for_the_nearest_undo_on_every_way() -> None:
    before = graph(
        {
            "one": undoable(),
            "left": undoable("one"),
            "right": desk.task(after=["one"]),
            "last": undoable("left", "right"),
        }
    )
    assert waits(given_up(before).graph) == {
        "undo.v2/last@1": set(),
        "undo.v2/left@1": {"undo.v2/last@1"},
        "undo.v2/one@1": {"undo.v2/left@1", "undo.v2/last@1"},
    }


def test_an_undo_of_an_element_is_named_after_it_and_knows_it() -> None:
    before = two_fan_outs()
    found = given_up(before, elements=2)
    undo = next(node for node in found.graph.nodes if node.key == "undo.v2/build@1[2]")
    assert (undo.undoes, undo.task, undo.title) == ("build@1[2]", "undo_build", "Undo: A task")
    about = undone_by(undo, among=undone_nodes(before))
    assert about == before.by_key["build~element@1"]


def test_an_undo_is_not_taken_for_that_of_the_fan_out_as_a_whole() -> None:
    before = two_fan_outs()
    names = undone_nodes(before)
    assert names["build@1"] != names["build@1[]"]


def test_within_an_element_the_order_is_its_own() -> None:
    found = given_up(two_fan_outs(), elements=2)
    assert waits(found.graph)["undo.v2/build@1[1]"] == {
        "undo.v2/paint@1[1]",
        "undo.v2/paint@1[2]",
    }
    assert waits(found.graph)["undo.v2/list@1"] >= {"undo.v2/build@1[1]", "undo.v2/build@1[2]"}


def test_two_long_fan_outs_do_not_need_an_edge_for_each_pair() -> None:
    before = two_fan_outs()
    found = given_up(before, elements=400)
    assert len(found.graph.edges) < 5 * 400
    assert validate_graph(found.graph) == []
    (between,) = [node for node in found.graph.nodes if not node.undoes]
    assert between.kind is NodeKind.ENTER
    mine = waits(found.graph)
    assert mine[between.key] == {f"undo.v2/paint@1[{n}]" for n in range(1, 401)}
    assert all(mine[f"undo.v2/build@1[{n}]"] == {between.key} for n in range(1, 401))
    assert found.graph.undoing == set(range(len(found.graph.nodes)))


def test_what_stands_between_two_fan_outs_is_carried_over_with_what_still_runs() -> None:
    first = given_up(two_fan_outs(), elements=400)
    states = {f"undo.v2/paint@1[{n}]": DONE for n in range(1, 400)}
    second = revise(before=first.graph, tasks=again(first, states), after=None, version=3)
    (between,) = [node for node in second.graph.nodes if not node.undoes]
    assert waits(second.graph)[between.key] == {"undo.v2/paint@1[400]"}
    assert waits(second.graph)["undo.v2/build@1[7]"] == {between.key}


def test_somebody_agrees_before_and_after_everything_that_comes_first() -> None:
    approval = {"queue": "finance", "role": "clerk", "within": "PT1H"}
    before = graph(
        {
            "pay": desk.task(compensation={"action": "refund", "approval": approval}),
            "ship": undoable("pay"),
        }
    )
    found = given_up(before).graph
    assert waits(found) == {
        "undo.v2/ship@1": set(),
        "undo.v2/pay@1~approval": {"undo.v2/ship@1"},
        "undo.v2/pay@1": {"undo.v2/pay@1~approval"},
    }
    (agreed,) = [edge for edge in found.edges if edge.type is EdgeType.HUMAN]
    assert agreed.labels == ("undo_it",)
    assert found.undoing == {0, 1, 2}


def test_the_same_shape_is_the_same_graph_whatever_the_orders_are() -> None:
    before = two_fan_outs()
    first, second = given_up(before, elements=3), given_up(two_fan_outs(), elements=3)
    assert first.graph.sha256 == second.graph.sha256
    assert Graph.from_document(first.graph.document()) == first.graph
