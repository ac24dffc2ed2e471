"""The picture of a graph: nothing overlaps, everything runs from left to right."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.definitions.drawing import BOX_HEIGHT, BOX_WIDTH, COMPACT, _spaced, draw
from fulfillment.definitions.graph import Graph, NodeKind
from fulfillment.definitions.outlines import outline
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


def _large(items: int) -> Graph:
    """A chain of five for every item, behind a common beginning and before a common end."""
    size = 5 * items + 2
    edges = []
    for item in range(items):
        chain = [0, *range(1 + 5 * item, 6 + 5 * item), size - 1]
        edges += list(pairwise(chain))
        edges.append((chain[1], chain[4]))
    return graph_of(size, edges)


@pytest.mark.parametrize("items", [100, 1000])
def test_a_large_graph_is_drawn_compactly_and_nothing_overlaps(items: int) -> None:
    graph = _large(items)
    drawing = draw(graph)
    assert drawing.size is COMPACT
    assert len(drawing.boxes) == 5 * items + 2
    columns: dict[float, list[float]] = {}
    for box in drawing.boxes:
        assert 0 <= box.x <= drawing.width - COMPACT.box_width
        assert 0 <= box.y <= drawing.height - COMPACT.box_height
        columns.setdefault(box.x, []).append(box.y)
    assert len(columns) == 7
    for rows in columns.values():
        for above, below in pairwise(sorted(rows)):
            assert below - above > COMPACT.box_height
    drawn = {(arrow.source, arrow.target) for arrow in drawing.arrows}
    assert drawn == {(edge.source, edge.target) for edge in graph.edges}


def test_arrows_of_a_large_graph_share_lanes_and_those_of_a_small_one_do_not() -> None:
    """From one root over a chain to all of its end: many arrows pass by the same columns."""

    def rows(size: int) -> float:
        chain = [(at, at + 1) for at in range(size - 1)]
        drawing = draw(graph_of(size, [*chain, *((0, at) for at in range(2, size))]))
        return drawing.height / (drawing.size.box_height + drawing.size.row_gap)

    assert rows(60) > 50
    assert rows(150) < 4


def test_where_everything_waits_for_everything_arrows_run_straight() -> None:
    size = 120
    drawing = draw(graph_of(size, [(a, b) for b in range(size) for a in range(b)]))
    assert drawing.height < 2 * (COMPACT.box_height + COMPACT.row_gap)
    assert len(drawing.arrows) == size * (size - 1) // 2


@given(rows=st.integers(1, 12), data=st.data())
def test_rows_keep_their_order_their_distance_and_the_picture(
    rows: int, data: st.DataObject
) -> None:
    wanted = data.draw(st.lists(st.floats(-3, 15, width=16), max_size=rows))
    found = _spaced(sorted(wanted), rows=rows)
    assert len(found) == len(wanted)
    assert all(-1e-9 <= row <= rows - 1 + 1e-9 for row in found)
    assert all(below - above >= 1 - 1e-9 for above, below in pairwise(found))


def test_rows_that_are_free_are_taken_as_they_are_wanted() -> None:
    assert _spaced([1.0, 4.0, 6.5], rows=10) == [1.0, 4.0, 6.5]
    assert _spaced([5.0, 5.0, 5.0], rows=10) == [4.0, 5.0, 6.0]
    assert _spaced([9.0, 9.0], rows=10) == [8.0, 9.0]


def test_what_undoes_something_points_back() -> None:
    sizes = {"width": BOX_WIDTH, "height": BOX_HEIGHT, "optional": False}
    back = outline(NodeKind.COMMAND, undoes=True, **sizes)
    assert back.endswith(f"L0 {BOX_HEIGHT // 2}z")
    assert back not in {outline(kind, **sizes) for kind in NodeKind}
