from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.definitions import dialect
from fulfillment.definitions.effort import effort_of
from fulfillment.definitions.expression_tree import loop_depth, tree_of
from fulfillment.definitions.expression_values import bound, result
from fulfillment.definitions.expressions import ExpressionFailed, compile_expression

NAMES = {"t": "string", "l": "list", "d": "any"}
GROWING = [
    "t + t",
    "t + string(l.size()) + t",
    "[t, t, t]",
    "{'a': l, 'b': {'c': [l, t]}}",
    "l.map(x, x)",
    "l.map(x, [x, x])",
    "l.map(x, t)",
    "l.map(x, l.map(y, [x, y]))",
    "l.map(x, [x, x]).map(x, [x, x]).map(x, [x, x])",
    "[t].map(x, x + x).map(x, x + x).map(x, x + x)",
    "l.filter(x, x != 3)",
    "l.filter(x, x != 3).map(x, {'k': x})",
    "l + l + [t]",
    "l.map(x, l + l)",
    "t.replace('a', 'bcd')",
    "[t].map(x, x.replace('a', 'aaa')).map(x, x.replace('a', 'aaa'))",
    "l.map(x, t).join(t)",
    "t.split('a')",
    "t.split('')",
    "t.upperAscii().lowerAscii().trim()",
    "t.replace('', t)",
    "d",
    "d == l ? [d, d] : [l]",
    "[l, d].map(x, [x])",
    "{'x': l}.map(key, key + t)",
    "optional.of(t).optMap(x, x + x).orValue(t)",
    "[d].map(x, [x, x])[0]",
    "l.exists(x, x == d) ? t : t + t",
    "l.map(x, sum(l))",
    "[sum(l), sum([1, 2.5])]",
]


def size_of(value: Any) -> int:
    return bound(name="it", value=value, type_="any")[1].size


@pytest.mark.parametrize("text", GROWING)
@given(
    t=st.text("ab", max_size=30),
    l=st.lists(st.integers(0, 5), max_size=12),
    d=st.recursive(
        st.integers(0, 9) | st.text("ab", max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("ab", max_size=4), inner),
        max_leaves=12,
    ),
)
def test_no_result_is_larger_than_foreseen(text: str, t: str, l: list[int], d: Any) -> None:  # noqa: E741
    checked = dialect.check(text=text, names=NAMES)
    given_, shapes = {}, {}
    for name, value in {"t": t, "l": l, "d": d}.items():
        given_[name], shapes[name] = bound(name=name, value=value, type_="any")
    effort = effort_of(tree_of(checked.serialised), shapes)
    found = result(dialect.evaluate(dialect.program(checked.serialised), given_))
    assert size_of(found) <= effort.shape.size
    assert effort.work >= 0


def effort_on(text: str, length: int) -> tuple[int, int]:
    tree = tree_of(dialect.check(text=text, names=NAMES).serialised)
    shape = bound(name="l", value=list(range(length)), type_="list")[1]
    effort = effort_of(tree, {"l": shape})
    return effort.work, effort.steps


def test_steps_of_loops_inside_each_other_multiply() -> None:
    assert effort_on("l.all(x, x > 0)", 50)[1] == 50
    assert effort_on("l.all(x, l.all(y, y > x))", 50)[1] == 50 * 51
    assert effort_on("l.all(x, x > 0) && l.all(y, y > 1)", 50)[1] == 100


def test_copying_in_every_step_shows_in_the_work() -> None:
    once, often = (effort_on(text, 100)[0] for text in ("l.all(x, x > 0)", "l.all(x, l == [x])"))
    assert often > 10 * once
    # What is gathered is copied at every step: twice as long a list costs four times as much.
    short, long = effort_on("l.map(x, x)", 1_000)[0], effort_on("l.map(x, x)", 2_000)[0]
    assert 3.5 < long / short < 4.5


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("t", 0),
        ("l.all(x, true)", 1),
        ("l.map(x, x).map(x, x)", 1),
        ("[l.all(x, l.all(y, y == x)), l.all(x, true)]", 2),
        ("l.all(x, {'a': l.map(y, l.filter(z, z == y))} == d.m)", 3),
    ],
)
def test_the_depth_of_loops_is_known(text: str, depth: int) -> None:
    assert loop_depth(tree_of(dialect.check(text=text, names=NAMES).serialised)) == depth


def test_adding_up_the_same_list_again_and_again_costs_what_it_takes() -> None:
    """Four thousand times four thousand members would take a quarter of a minute."""
    expression = compile_expression(text="l.map(x, sum(l))", names={"l": "list(integer)"})
    assert expression.evaluate({"l": [1] * 100}) == [100] * 100
    with pytest.raises(ExpressionFailed, match="it would take too long"):
        expression.evaluate({"l": [1] * 4000})
