"""A graph without an item, or without what can't be done any more."""

from __future__ import annotations

from fulfillment.definitions.graph import Graph, validate_graph
from fulfillment.definitions.pruning import without_items, without_what_follows
from fulfillment.definitions.revision import revise
from fulfillment.states import TaskState
from tests import desk
from tests.unit.test_revision import graph, had, undoable, waits

DONE = TaskState.SUCCEEDED
SHOP = graph(
    {
        "reserve": undoable(),
        "build": desk.task(after=["reserve"]),
        "tell": desk.task(after=["build"], scope="order"),
    },
    items=2,
)


def keys(graph_: Graph) -> set[str]:
    return {node.key for node in graph_.nodes}


def test_an_item_goes_with_its_own_tasks_and_what_serves_all_serves_the_others() -> None:
    left = without_items(SHOP, items=[2])
    assert keys(left) == {"reserve@1", "build@1", "thing/tell"}
    assert left.nodes[left.by_key["thing/tell"]].items == (1,)
    assert [one.items for one in left.workflows] == [(1,)]
    assert waits(left)["thing/tell"] == {"build@1"}
    assert validate_graph(left) == []


def test_without_all_items_nothing_is_left() -> None:
    left = without_items(SHOP, items=[1, 2])
    assert (left.nodes, left.workflows) == ((), ())


def test_what_stands_behind_a_failure_goes_and_the_rest_stays() -> None:
    failed = [SHOP.by_key["build@2"]]
    assert keys(without_what_follows(SHOP, failed=failed, of_item=False)) == {
        "reserve@1",
        "reserve@2",
        "build@1",
    }
    of_item = without_what_follows(SHOP, failed=failed, of_item=True)
    assert keys(of_item) == {"reserve@1", "reserve@2", "build@1", "thing/tell"}
    assert waits(of_item)["thing/tell"] == {"build@1"}


def test_a_fan_out_goes_as_a_whole() -> None:
    fanned = graph(
        {
            "list": desk.task(outputs={"sites": "list"}),
            "build": desk.task(
                depends_on=[{"output": "list.sites"}], for_each={"over": "${tasks.list.sites}"}
            ),
            "other": desk.task(after=["list"]),
        }
    )
    for key in ("build~element@1", "build@1"):
        left = without_what_follows(fanned, failed=[fanned.by_key[key]], of_item=False)
        assert keys(left) == {"list@1", "other@1"}
        assert validate_graph(left) == []


def test_what_an_earlier_change_undoes_is_no_part_of_what_is_left() -> None:
    """It goes on in any case: the next plan carries it."""
    alone = without_items(SHOP, items=[2])
    tasks = had(SHOP, {"reserve@1": DONE, "reserve@2": DONE})
    changed = revise(before=SHOP, tasks=tasks, after=alone, version=2).graph
    assert "undo.v2/reserve@2" in keys(changed)
    assert keys(without_items(changed, items=[3])) == keys(alone)
    failed = [changed.by_key["build@1"]]
    assert keys(without_what_follows(changed, failed=failed, of_item=False)) == {"reserve@1"}
