"""When a plan will be done, and which way through it decides that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from fulfillment.definitions.decomposition import sketch
from fulfillment.definitions.estimates import Standing, Usual, critical_path, finish, longest_way
from fulfillment.definitions.graph import Graph, Node
from fulfillment.definitions.schema import WorkflowDefinition
from tests import desk
from tests.unit.test_outlines import graph_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DONE = Standing(is_over=True)
DIAMOND = graph_of(
    start=desk.task(),
    quick=desk.task(after=["start"]),
    slow=desk.task(after=["start"]),
    end=desk.task(after=["quick", "slow"]),
    extra=desk.task(after=["end"], required=False),
)
LIST = graph_of(
    fetch=desk.task(outputs={"lines": "list"}),
    each=desk.task(
        depends_on=[{"output": "fetch.lines"}],
        for_each={"over": "tasks.fetch.lines", "at_once": 3},
    ),
    end=desk.task(after=["each"]),
)


def minutes(**each: float) -> Usual:
    def of(node: Node) -> timedelta:
        return timedelta(minutes=each.get(node.task, 0))

    return of


def way(graph: Graph, usual: Usual, standing: Mapping[str, Standing] | None = None) -> list[str]:
    found = longest_way(graph=graph, standing=by_node(graph, standing or {}), usual=usual, now=NOW)
    return [graph.nodes[one].task for one in found]


def by_node(graph: Graph, standing: Mapping[str, Standing]) -> dict[int, Standing]:
    return {graph.by_key[f"{task}@1"]: one for task, one in standing.items()}


def test_the_longest_way_is_that_of_what_takes_longest() -> None:
    assert way(DIAMOND, minutes(slow=5, quick=4)) == ["start", "slow", "end"]
    assert way(DIAMOND, minutes(slow=4, quick=5)) == ["start", "quick", "end"]


def test_what_is_over_is_not_on_it_and_what_is_late_still_is() -> None:
    usual = minutes(slow=5, quick=4, end=1)
    done = {"start": DONE, "slow": DONE}
    assert way(DIAMOND, usual, done) == ["quick", "end"]
    began = Standing(is_over=False, began_at=NOW - timedelta(minutes=9))
    assert way(DIAMOND, usual, {"start": DONE, "slow": began}) == ["quick", "end"]
    long_wait = Standing(is_over=False, until=NOW + timedelta(hours=1))
    assert way(DIAMOND, usual, {"start": DONE, "slow": long_wait}) == ["slow", "end"]


def test_nothing_is_ahead_of_what_is_done_whatever_optional_is_left() -> None:
    assert way(DIAMOND, minutes(), dict.fromkeys(("start", "quick", "slow", "end"), DONE)) == []


def test_where_nothing_was_measured_it_is_the_way_of_most_steps() -> None:
    graph = graph_of(
        one=desk.task(),
        two=desk.task(after=["one"]),
        alone=desk.task(),
        end=desk.task(after=["two", "alone"]),
    )
    assert way(graph, minutes()) == ["one", "two", "end"]


def test_it_is_as_long_as_the_estimate_says() -> None:
    usual = minutes(start=1, quick=4, slow=5, end=2)
    assert critical_path(graph=DIAMOND, usual=usual) == timedelta(minutes=8)
    began = Standing(is_over=False, began_at=NOW - timedelta(minutes=2))
    standing = by_node(DIAMOND, {"start": DONE, "slow": began})
    found = finish(graph=DIAMOND, standing=standing, usual=usual, now=NOW)
    assert found == NOW + timedelta(minutes=6)


def test_what_stands_before_a_list_counts() -> None:
    """Its elements have no time of their own here, but their list has to be there first."""
    usual = minutes(fetch=30, end=1)
    assert critical_path(graph=LIST, usual=usual) == timedelta(minutes=31)
    assert way(LIST, usual) == ["fetch", "each~each", "each~element", "each", "end"]


def test_of_a_list_that_has_ended_nothing_is_ahead() -> None:
    done: dict[str, Any] = dict.fromkeys(("fetch", "each~each", "each"), DONE)
    assert way(LIST, minutes(fetch=30), done) == ["end"]


def test_a_sub_process_has_a_graph_of_its_own() -> None:
    definition = WorkflowDefinition.model_validate(
        {
            "workflow": "part",
            "version": 1,
            "title": "A part",
            "subprocess": {"inputs": {"amount": {"type": "number"}}},
            "tasks": {"one": {**desk.task(), "action": "one"}},
        }
    )
    graph = sketch(definition, library={})
    assert [node.task for node in graph.nodes] == ["one"]
