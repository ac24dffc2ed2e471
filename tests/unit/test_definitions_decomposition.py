from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.definitions import decomposition
from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph, validate_graph
from fulfillment.definitions.loading import load_workflow, parse_workflow
from fulfillment.definitions.node_parts import Clocks
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.errors import DefinitionInvalid

FIXTURES = Path(__file__).parent / "definitions" / "good"
EVERYTHING = load_workflow(path=FIXTURES / "everything.yaml")
MINIMAL = load_workflow(path=FIXTURES / "minimal.yaml")


def item(position: int, definition: WorkflowDefinition) -> ItemSelection:
    offering, action = definition.selectors[0]
    return ItemSelection(position=position, offering=offering, action=action, definition=definition)


def edges_of(graph: Graph) -> set[tuple[str, str, str]]:
    keys = [node.key for node in graph.nodes]
    return {(keys[e.source], keys[e.target], e.output or e.type.value) for e in graph.edges}


def test_order_level_tasks_exist_once_and_item_level_tasks_per_item() -> None:
    graph = decompose(items=[item(1, EVERYTHING), item(3, EVERYTHING)])
    assert [node.key for node in graph.nodes] == [
        "everything/first",
        "second@1",
        "second@3",
        "extra@1",
        "extra@3",
        "everything/last",
    ]
    assert graph.depth == (0, 1, 1, 2, 2, 2)
    assert [node.items for node in graph.nodes] == [(1, 3), (1,), (3,), (1,), (3,), (1, 3)]


def test_dependencies_between_the_levels_join_and_spread() -> None:
    graph = decompose(items=[item(1, EVERYTHING), item(3, EVERYTHING)])
    assert edges_of(graph) == {
        ("everything/first", "second@1", "case_id"),
        ("everything/first", "second@1", "note"),
        ("everything/first", "second@3", "case_id"),
        ("everything/first", "second@3", "note"),
        ("second@1", "extra@1", "SUCCESS"),
        ("second@3", "extra@3", "SUCCESS"),
        ("second@1", "everything/last", "serial"),
        ("second@3", "everything/last", "serial"),
        ("everything/first", "everything/last", "SUCCESS"),
    }


def test_workflows_of_one_order_stand_side_by_side() -> None:
    graph = decompose(items=[item(1, MINIMAL), item(2, EVERYTHING)])
    by_workflow = {node.key: node.workflow for node in graph.nodes}
    assert by_workflow["make@1"] == "minimal"
    assert by_workflow["second@2"] == "everything"
    joined = {(by_workflow[a], by_workflow[b]) for a, b, _ in edges_of(graph)}
    assert joined == {("everything", "everything")}
    assert [workflow.name for workflow in graph.workflows] == ["minimal", "everything"]
    assert graph.stalls_after == EVERYTHING.stalls_after


def test_a_node_carries_everything_that_its_template_says() -> None:
    graph = decompose(items=[item(1, EVERYTHING)])
    nodes = {node.task: node for node in graph.nodes}
    second = nodes["second"]
    assert (second.retry.initial_interval_seconds, second.retry.backoff_coefficient) == (0.5, 1.5)
    assert second.retry.non_retryable == ("E-1",)
    assert (second.call_timeout_seconds, second.callback_timeout_seconds) == (1, 300)
    assert second.clocks == Clocks(
        start_to_close_seconds=600,
        schedule_to_start_seconds=3600,
        schedule_to_close_seconds=21600,
        heartbeat_seconds=30,
        when_sent="retry",
        when_unsent="cancel",
    )
    assert nodes["first"].clocks is None
    assert second.compensation is not None
    assert (second.compensation.target, second.compensation.action) == ("logistics", "demolish")
    assert nodes["first"].compensation is None
    assert nodes["first"].no_compensation == "Nothing happened yet."
    assert nodes["first"].retry.maximum_attempts == 7
    assert nodes["first"].outputs["note"].optional
    assert [m.name for m in nodes["last"].milestones] == ["all_done"]
    assert nodes["last"].irreversible
    assert not nodes["extra"].required


@given(
    st.dictionaries(
        st.integers(min_value=1, max_value=30),
        st.sampled_from([EVERYTHING, MINIMAL]),
        min_size=1,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_decomposition_is_deterministic_and_sound(
    chosen: dict[int, WorkflowDefinition], random: Random
) -> None:
    items = [item(position, definition) for position, definition in chosen.items()]
    graph = decompose(items=items)
    random.shuffle(items)
    decomposition._decomposed.cache_clear()
    again = decompose(items=items)
    assert again == graph
    assert again.sha256 == graph.sha256
    assert validate_graph(graph) == []
    assert len({node.key for node in graph.nodes}) == len(graph.nodes)


def test_equal_shapes_share_a_hash_and_other_shapes_do_not() -> None:
    one = decompose(items=[item(1, MINIMAL)])
    assert one.sha256 == decompose(items=[item(1, MINIMAL)]).sha256
    assert one.sha256 != decompose(items=[item(2, MINIMAL)]).sha256
    assert one.sha256 != decompose(items=[item(1, MINIMAL), item(2, MINIMAL)]).sha256


def test_version_pinned_another_version_makes_another_graph() -> None:
    text = (FIXTURES / "minimal.yaml").read_text().replace("version: 1", "version: 2")
    second = parse_workflow(text=text, file="v2.yaml")
    pinned = decompose(items=[item(1, MINIMAL)])
    assert decompose(items=[item(1, second)]).sha256 != pinned.sha256
    assert {node.workflow_version for node in pinned.nodes} == {1}


def test_a_selection_that_makes_no_sense_is_refused_with_every_fault() -> None:
    text = (FIXTURES / "minimal.yaml").read_text().replace("version: 1", "version: 2")
    second = parse_workflow(text=text, file="v2.yaml")
    odd = ItemSelection(position=0, offering="other", action="add", definition=MINIMAL)
    with pytest.raises(DefinitionInvalid) as caught:
        decompose(items=[odd, item(1, MINIMAL), item(1, second)])
    assert [fault.code for fault in caught.value.faults] == [
        "selection.position",
        "selection.not_fulfilled",
        "selection.position",
        "selection.mixed_versions",
    ]
    with pytest.raises(DefinitionInvalid, match="selection.empty"):
        decompose(items=[])
