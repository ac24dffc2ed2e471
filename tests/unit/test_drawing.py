"""The picture of a graph: nothing overlaps, everything runs from left to right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fulfillment.definitions.drawing import BOX_HEIGHT, BOX_WIDTH, draw
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.signs import PLAN_SIGNS, TASK_SIGNS, in_words
from fulfillment.states import PlanState, TaskState
from tests.unit.test_graph import graph_of


@st.composite
def _graphs(draw_one: st.DrawFn) -> Graph:
    size = draw_one(st.integers(1, 12))
    pairs = [(a, b) for b in range(size) for a in range(b)]
    edges = draw_one(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return graph_of(size, edges)


@given(graph=_graphs())
def test_boxes_don_t_overlap_and_lie_inside_the_picture(graph: Graph) -> None:
    drawing = draw(graph)
    assert [box.node for box in drawing.boxes] == list(range(len(graph.nodes)))
    for box in drawing.boxes:
        assert 0 <= box.x <= drawing.width - BOX_WIDTH
        assert 0 <= box.y <= drawing.height - BOX_HEIGHT
        for other in drawing.boxes:
            if other.node != box.node:
                apart = abs(other.x - box.x) >= BOX_WIDTH or abs(other.y - box.y) >= BOX_HEIGHT
                assert apart


@given(graph=_graphs())
def test_every_edge_is_drawn_once_and_leads_to_the_right(graph: Graph) -> None:
    drawing = draw(graph)
    drawn = [(arrow.source, arrow.target) for arrow in drawing.arrows]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {(edge.source, edge.target) for edge in graph.edges}
    at = {box.node: box for box in drawing.boxes}
    assert all(at[arrow.source].x < at[arrow.target].x for arrow in drawing.arrows)


def test_every_state_has_a_sign_and_no_two_of_a_kind_share_one() -> None:
    for signs, states in ((TASK_SIGNS, TaskState), (PLAN_SIGNS, PlanState)):
        assert set(signs) == set(states)
    assert len({sign for sign, _ in TASK_SIGNS.values()}) == len(TaskState)
    assert in_words("OUTCOME_UNKNOWN") == "outcome unknown"
