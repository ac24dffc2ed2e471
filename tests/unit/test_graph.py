from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.definitions.graph import (
    Edge,
    EdgeType,
    Graph,
    Node,
    Output,
    PlannedWorkflow,
    Retry,
    arrange,
    validate_graph,
)
from fulfillment.definitions.readiness import in_selection_order, runnable
from fulfillment.errors import DefinitionInvalid
from fulfillment.states import TASK_SUCCESSFUL, TaskState

WORKFLOW = PlannedWorkflow(
    name="test", version=1, title="Test", billing_trigger="order_submit", stalls_after_seconds=900
)


def runnable_among(
    *, graph: Graph, candidates: Iterable[int], states: Mapping[int, TaskState]
) -> list[int]:
    """The candidates whose dependencies are met, in the order of selection."""
    at = {(index, 0): state for index, state in states.items()}
    waiting = [(one, 0) for one in candidates if states[one] == TaskState.PENDING]
    return [
        place[0]
        for place in in_selection_order(graph=graph, places=waiting)
        if runnable(graph=graph, place=place, states=at, choices={}, holds=bool)
    ]


def node(index: int, *, required: bool = True) -> Node:
    return Node(
        index=index,
        key=f"task_{index}@1",
        task=f"task_{index}",
        title=f"Task {index}",
        item=1,
        items=(1,),
        workflow="test",
        workflow_version=1,
        target="inventory",
        action="do",
        input={"value": [1, 2.5, "${order.region}"]},
        outputs={"value": Output(type="string")},
        required=required,
        irreversible=False,
        retry=Retry(
            initial_interval_seconds=1,
            backoff_coefficient=2,
            maximum_interval_seconds=60,
            maximum_attempts=3,
            non_retryable=("E1",),
        ),
        call_timeout_seconds=10,
        callback_timeout_seconds=300,
        compensation=None,
        no_compensation="Test.",
    )


def graph_of(size: int, pairs: Sequence[tuple[int, int]]) -> Graph:
    edges = [Edge(source=a, target=b, type=EdgeType.SUCCESS) for a, b in pairs]
    return arrange(workflows=[WORKFLOW], nodes=[node(i) for i in range(size)], edges=edges)


@st.composite
def acyclic_graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(min_value=1, max_value=14))
    order = draw(st.permutations(range(size)))
    pairs = [(order[a], order[b]) for b in range(size) for a in range(b)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return graph_of(size, chosen)


@st.composite
def graphs_with_a_cycle(draw: st.DrawFn) -> tuple[Graph, set[str]]:
    size = draw(st.integers(min_value=2, max_value=10))
    length = draw(st.integers(min_value=1, max_value=size))
    ring = draw(st.permutations(range(size)))[:length]
    pairs = {(ring[i], ring[(i + 1) % length]) for i in range(length)}
    some = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    pairs |= set(draw(st.lists(some, max_size=12)))
    return graph_of(size, sorted(pairs)), {f"task_{i}@1" for i in ring}


@given(acyclic_graphs(), st.data())
def test_running_what_is_runnable_in_any_order_reaches_every_node_once_and_in_time(
    graph: Graph, data: st.DataObject
) -> None:
    states = dict.fromkeys(range(len(graph.nodes)), TaskState.PENDING)
    success = st.sampled_from(sorted(TASK_SUCCESSFUL))
    ran: list[int] = []
    while runnable := runnable_among(graph=graph, candidates=states, states=states):
        chosen = data.draw(st.sampled_from(runnable))
        assert all(source in ran for source in graph.predecessors[chosen])
        states[chosen] = data.draw(success)
        ran.append(chosen)
    assert sorted(ran) == list(range(len(graph.nodes)))


@given(acyclic_graphs(), st.data())
def test_asking_only_successors_of_what_finished_finds_everything_that_became_runnable(
    graph: Graph, data: st.DataObject
) -> None:
    states = dict.fromkeys(range(len(graph.nodes)), TaskState.PENDING)
    known = set(runnable_among(graph=graph, candidates=states, states=states))
    while known:
        done = data.draw(st.sampled_from(sorted(known)))
        states[done] = TaskState.SUCCEEDED
        known.discard(done)
        after = graph.successors[done]
        known |= set(runnable_among(graph=graph, candidates=after, states=states))
        assert known == set(runnable_among(graph=graph, candidates=states, states=states))


@given(acyclic_graphs())
def test_deterministic_selection_is_by_depth_then_index(graph: Graph) -> None:
    states = dict.fromkeys(range(len(graph.nodes)), TaskState.PENDING)
    first = runnable_among(graph=graph, candidates=states, states=states)
    assert first == runnable_among(graph=graph, candidates=reversed(states), states=states)
    assert first == sorted(first, key=lambda i: (graph.depth[i], i))


def test_deterministic_selection_prefers_the_lesser_depth_over_the_lesser_index() -> None:
    edge = Edge(source=2, target=0, type=EdgeType.SUCCESS)
    nodes = tuple(node(index) for index in range(10))
    graph = Graph(workflows=(WORKFLOW,), nodes=nodes, edges=(edge,))
    states = {**dict.fromkeys(range(10), TaskState.PENDING), 2: TaskState.SUCCEEDED}
    assert runnable_among(graph=graph, candidates=[0, 8, 1], states=states) == [1, 8, 0]


@given(acyclic_graphs())
def test_nodes_stand_in_topological_order_with_their_longest_depth(graph: Graph) -> None:
    for index, sources in enumerate(graph.predecessors):
        assert all(source < index for source in sources)
        expected = 1 + max((graph.depth[source] for source in sources), default=-1)
        assert graph.depth[index] == expected
        assert all(index in graph.successors[source] for source in sources)
    assert list(graph.depth) == sorted(graph.depth)


@given(acyclic_graphs())
def test_an_acyclic_graph_has_no_faults(graph: Graph) -> None:
    assert validate_graph(graph, {"inventory": frozenset({"do"})}) == []


@given(acyclic_graphs())
def test_the_document_round_trip_keeps_content_and_hash(graph: Graph) -> None:
    stored = json.loads(json.dumps(graph.document(), sort_keys=True))
    restored = Graph.from_document(stored)
    assert restored == graph
    assert restored.sha256 == graph.sha256
    assert restored.depth == graph.depth


@given(graphs_with_a_cycle())
def test_a_cycle_is_always_found_and_its_members_are_named(case: tuple[Graph, set[str]]) -> None:
    graph, ring = case
    messages = [f.message for f in validate_graph(graph) if f.code == "graph.cycle"]
    assert any(all(key in message for key in ring) for message in messages)
    stuck = [node.key for node in graph.nodes if graph.depth[node.index] == -1]
    reported = " ".join(
        f"{f.path} {f.message}"
        for f in validate_graph(graph)
        if f.code in ("graph.cycle", "graph.unreachable")
    )
    assert all(key in reported for key in stuck)


@given(graphs_with_a_cycle())
def test_nothing_on_a_cycle_is_ever_runnable(case: tuple[Graph, set[str]]) -> None:
    graph, ring = case
    states = dict.fromkeys(range(len(graph.nodes)), TaskState.PENDING)
    while runnable := runnable_among(graph=graph, candidates=states, states=states):
        states.update(dict.fromkeys(runnable, TaskState.SUCCEEDED))
    waiting = {graph.nodes[i].key for i, state in states.items() if state == TaskState.PENDING}
    assert ring <= waiting


@pytest.mark.parametrize("state", sorted(set(TaskState) - TASK_SUCCESSFUL))
def test_a_predecessor_that_is_not_terminal_successful_holds_its_successors(
    state: TaskState,
) -> None:
    graph = graph_of(2, [(0, 1)])
    states = {0: state, 1: TaskState.PENDING}
    assert runnable_among(graph=graph, candidates=[1], states=states) == []


@pytest.mark.parametrize("state", sorted(set(TaskState) - {TaskState.PENDING}))
def test_only_pending_tasks_are_runnable(state: TaskState) -> None:
    assert runnable_among(graph=graph_of(1, []), candidates=[0], states={0: state}) == []


def _edge(graph: Graph, **changes: object) -> Graph:
    edge = Edge(**{"source": 0, "target": 1, "type": EdgeType.SUCCESS, **changes})  # type: ignore[arg-type]
    return replace(graph, edges=(*graph.edges, edge))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda graph: _edge(graph, source=9, target=2), "graph.missing_dependency"),
        (lambda graph: _edge(graph, target=-1), "graph.missing_dependency"),
        (lambda graph: _edge(graph), "graph.duplicate_edge"),
        (
            lambda graph: _edge(graph, type=EdgeType.OUTPUT, output="weight"),
            "graph.undeclared_output",
        ),
        (
            lambda graph: replace(graph, nodes=(node(0, required=False), *graph.nodes[1:])),
            "graph.required_after_optional",
        ),
        (
            lambda graph: replace(graph, nodes=(replace(node(0), target="x"), *graph.nodes[1:])),
            "graph.unknown_target",
        ),
        (
            lambda graph: replace(graph, nodes=(replace(node(0), action="x"), *graph.nodes[1:])),
            "graph.unknown_target",
        ),
        (
            lambda graph: replace(graph, nodes=(*graph.nodes[:2], replace(node(1), index=2))),
            "graph.duplicate_node",
        ),
        (lambda graph: replace(graph, nodes=(*graph.nodes[:2], node(5))), "graph.index"),
        (
            lambda graph: replace(
                graph, nodes=tuple(replace(n, required=False) for n in graph.nodes)
            ),
            "graph.nothing_required",
        ),
    ],
)
def test_graph_before_run_each_kind_of_damage_is_named(
    damage: Callable[[Graph], Graph], code: str
) -> None:
    sound = graph_of(3, [(0, 1), (1, 2)])
    targets = {"inventory": frozenset({"do"})}
    assert validate_graph(sound, targets) == []
    assert [fault.code for fault in validate_graph(damage(sound), targets)] == [code]


def test_graph_before_run_all_faults_are_named_together() -> None:
    pairs = [(0, 1), (1, 0), (1, 2)]
    edges = [Edge(source=a, target=b, type=EdgeType.SUCCESS) for a, b in pairs]
    edges.append(Edge(source=99, target=3, type=EdgeType.SUCCESS))
    edges.append(Edge(source=3, target=4, type=EdgeType.OUTPUT, output="weight"))
    graph = Graph(workflows=(WORKFLOW,), nodes=tuple(node(i) for i in range(5)), edges=tuple(edges))
    assert sorted((fault.code, fault.path) for fault in validate_graph(graph, {})) == [
        ("graph.cycle", "nodes.task_0@1"),
        ("graph.missing_dependency", "nodes.task_3@1"),
        ("graph.undeclared_output", "nodes.task_4@1"),
        *(("graph.unknown_target", f"nodes.task_{i}@1") for i in range(5)),
        ("graph.unreachable", "nodes.task_2@1"),
        ("graph.unreachable", "nodes.task_4@1"),
    ]


def test_a_long_chain_is_no_problem() -> None:
    size = 5_000
    graph = graph_of(size, [(i, i + 1) for i in range(size - 1)])
    assert graph.depth[-1] == size - 1
    assert validate_graph(graph) == []


def test_a_document_of_an_unknown_format_is_refused() -> None:
    document = {**graph_of(1, []).document(), "format": 99}
    with pytest.raises(DefinitionInvalid, match="graph.format"):
        Graph.from_document(document)
