"""What becomes of a running plan under another graph: the pure comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.migration import Comparison, Had, compare
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.states import TaskState
from tests import desk

DONE = TaskState.SUCCEEDED
OPEN = sorted(set(TaskState) - {TaskState.PENDING, TaskState.CANCELLED})


def graph(tasks: Mapping[str, Mapping[str, Any]], version: int = 1) -> Graph:
    definition = WorkflowDefinition.model_validate(
        {
            "workflow": "thing",
            "version": version,
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
            ItemSelection(position=1, offering="thing", action="add", definition=definition),
            ItemSelection(position=2, offering="thing", action="add", definition=definition),
        ]
    )


def chain(*names: str, **specs: Any) -> dict[str, Any]:
    return {
        name: desk.task(after=[before] if before else [], **specs.get(name, {}))
        for before, name in zip(["", *names], names, strict=False)
    }


def had(before: Graph, **states: TaskState) -> list[Had]:
    """The tasks of the first item in these states, those of the second PENDING."""
    return [
        Had(
            node=node.index,
            element=0,
            state=states.get(node.task, TaskState.PENDING) if node.item == 1 else TaskState.PENDING,
            attempts=int(states.get(node.task, TaskState.PENDING) != TaskState.PENDING),
        )
        for node in before.nodes
    ]


def between(before: Mapping[str, Any], after: Mapping[str, Any], **states: TaskState) -> Comparison:
    old = graph(before)
    return compare(before=old, after=graph(after, 2), tasks=had(old, **states))


def fates(found: Comparison) -> dict[str, str]:
    return {change.key: str(change.fate) for change in found.changes}


@pytest.mark.parametrize("state", OPEN)
def test_the_same_graph_keeps_everything_whatever_its_state(state: TaskState) -> None:
    old = graph(chain("one", "two", "three"))
    tasks = had(old, one=DONE, two=state)
    found = compare(before=old, after=graph(chain("one", "two", "three"), 2), tasks=tasks)
    assert found.unsafe == ()
    assert set(fates(found).values()) == {"kept"}
    assert found.moved == {task.place: task.node for task in tasks}
    assert (found.left, found.born) == (frozenset(), ())


def test_titles_and_positions_change_nothing() -> None:
    later = {"new": desk.task(), **chain("one", "two", one={"title": "Another title"})}
    found = between(chain("one", "two"), later, one=TaskState.DISPATCHED)
    assert found.unsafe == ()
    assert fates(found) == {
        "new@1": "added",
        "new@2": "added",
        "one@1": "kept",
        "one@2": "kept",
        "two@1": "kept",
        "two@2": "kept",
    }


@pytest.mark.parametrize("state", OPEN)
def test_what_has_begun_is_refused_when_it_is_missing(state: TaskState) -> None:
    found = between(chain("one", "two"), chain("two"), one=state)
    harmless = state in (TaskState.FAILED_FINAL, TaskState.SKIPPED_BY_POLICY)
    assert bool(found.unsafe) is not harmless
    if not harmless:
        assert found.unsafe[0] == f"one@1 is {state}, and would not exist."


def test_each_item_is_looked_at_by_itself() -> None:
    found = between(chain("one"), chain("one", one={"target": "beta"}), one=DONE)
    assert found.unsafe == ("one@1 is SUCCEEDED, and would have other target.",)


@pytest.mark.parametrize("state", [TaskState.READY, TaskState.AWAITING_MANUAL])
def test_what_was_never_sent_begins_anew_when_it_is_changed(state: TaskState) -> None:
    old = graph(chain("one"))
    tasks = [Had(node=node.index, element=0, state=state) for node in old.nodes]
    found = compare(before=old, after=graph(chain("one", one={"target": "beta"}), 2), tasks=tasks)
    assert found.unsafe == ()
    assert found.left == {task.place for task in tasks}
    assert found.born == (0, 1)


def test_a_task_in_front_of_what_waits_to_be_sent_takes_it_back() -> None:
    old = graph(chain("one"))
    tasks = [Had(node=node.index, element=0, state=TaskState.READY) for node in old.nodes]
    found = compare(before=old, after=graph(chain("zero", "one"), 2), tasks=tasks)
    assert found.unsafe == ()
    assert not found.moved
    assert len(found.born) == 4


def test_a_task_in_front_of_what_has_begun_is_refused_unless_it_has_succeeded() -> None:
    before = {"a": desk.task(), "b": desk.task()}
    after = {"a": desk.task(), "b": desk.task(after=["a"])}
    assert between(before, after, b=DONE).unsafe == (
        "b@1 is SUCCEEDED, and a@1 would have to run before it.",
    )
    assert between(before, after, a=DONE, b=DONE).unsafe == ()


def test_every_reason_is_named() -> None:
    later = chain("zero", "one", "three", one={"input": {"a": 1}})
    found = between(chain("one", "two", "three"), later, one=DONE, two=TaskState.ACCEPTED)
    assert set(found.unsafe) == {
        "one@1 is SUCCEEDED, and would have other input.",
        "one@1 is SUCCEEDED, and zero@1 would have to run before it.",
        "two@1 is ACCEPTED, and would not exist.",
    }


def test_a_decision_to_come_leaves_open_what_exists() -> None:
    decide = {"choose": desk.step(decide=[{"otherwise": ["left"]}])}
    found = between(chain("left", "end"), {**decide, **chain("left", "end")})
    assert found.unsafe == ()
    # What a decision may yet create is left behind with the old plan, and comes by the decision.
    assert {change.what for change in found.changes if change.key == "end@1"} == {
        ("waits for a decision",)
    }
    old = graph(chain("left", "end"))
    assert {old.nodes[node].task for node, _ in found.left} == {"left", "end"}
    assert found.unneeded == frozenset()
