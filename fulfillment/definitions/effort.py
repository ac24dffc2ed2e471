"""How much work an expression may be at most, before it is run.

The library stops loops after 10,000 steps, but says nothing about what one step builds:
thirty chained `map(x, x + x)` would fill the memory within a second. So the sizes of the values
that an expression reads are carried through its tree, upwards rounded, and it runs only when
the sum is bearable. One unit is about one character or one member of a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fulfillment.definitions.expression_tree import (
    Call,
    Collection,
    Constant,
    Loop,
    Member,
    Name,
    Node,
)

MAXIMUM_STEPS = 10_000
"""Of all loops of one evaluation together; the library's own limit."""


class Shape(NamedTuple):
    """The size of a value: everything in it, its direct members, and the largest of those."""

    size: int
    members: int
    widest: int


SMALL = Shape(1, 1, 1)
_NUMBER_AS_TEXT = 64
_COPIED_MEMBER = 2
_ADDED_MEMBER = 40
"""Work of handing one member of a list out and adding it; about a microsecond."""
_REGULAR_EXPRESSION = 20_000
"""Work of preparing one, in units; about a millisecond for the largest that are allowed."""
# What gives a number, a truth value or an instant, however large its arguments.
_SMALL_RESULTS = frozenset(
    {"_&&_", "_||_", "!_", "-_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in"}
    | {"_-_", "_*_", "_/_", "_%_", "int", "uint", "double", "bool", "timestamp", "duration"}
    | {"size", "contains", "startsWith", "endsWith", "matches", "indexOf", "lastIndexOf"}
    | {"hasValue", "@not_strictly_false"}
)


class Effort(NamedTuple):
    shape: Shape
    work: int
    """Upper bound, in units."""
    steps: int
    """Upper bound of the steps of all loops; it may be more than are allowed."""


def effort_of(node: Node, shapes: Mapping[str, Shape]) -> Effort:
    """The effort of evaluating `node`, given the shapes of the names that it reads."""
    match node:
        case Constant():
            return Effort(Shape(node.size, 1, node.size), 0, 0)
        case Name():
            return Effort(shapes.get(node.name, SMALL), 0, 0)
        case Member():
            operand = effort_of(node.operand, shapes)
            return Effort(_part(operand.shape), operand.work + 1, operand.steps)
        case Collection():
            return _collection([effort_of(one, shapes) for one in node.members])
        case Call():
            return _call(node.function, [effort_of(one, shapes) for one in node.arguments])
        case Loop():
            return _loop(node, shapes)


def _collection(members: list[Effort]) -> Effort:
    size = 1 + sum(one.shape.size for one in members)
    widest = max((one.shape.size for one in members), default=1)
    return Effort(Shape(size, len(members), widest), *_together(members, plus=size))


def _call(function: str, arguments: list[Effort]) -> Effort:
    shapes = [one.shape for one in arguments]
    size = 1 + sum(shape.size for shape in shapes)
    totals = _together(arguments, plus=size)
    if function == "sum":
        return Effort(SMALL, *_together(arguments, plus=_ADDED_MEMBER * size))
    if function in _SMALL_RESULTS:
        work, steps = totals
        return Effort(SMALL, work + (_REGULAR_EXPRESSION if function == "matches" else 0), steps)
    if function in ("_[_]", "_[?_]", "_?._"):
        work, steps = _together(arguments, plus=1)
        return Effort(_part(shapes[0]), work, steps)
    if function in ("_?_:_", "or", "orValue"):
        # Nothing is copied: the result is one of the arguments.
        work, steps = _together(arguments, plus=1)
        return Effort(_largest(shapes), work, steps)
    members, widest = sum(s.members for s in shapes), max((s.widest for s in shapes), default=1)
    if function == "_+_":
        return Effort(Shape(size, members, widest), *totals)
    if function == "replace":
        size *= shapes[-1].size if len(shapes) < 4 else max(s.size for s in shapes)
    elif function == "join" and len(shapes) > 1:
        size += shapes[0].members * shapes[1].size
    else:
        size = 2 * size + _NUMBER_AS_TEXT
    return Effort(Shape(size, size, size), *_together(arguments, plus=size))


def _loop(node: Loop, shapes: Mapping[str, Shape]) -> Effort:
    over = effort_of(node.over, shapes)
    start = effort_of(node.start, shapes)
    times = over.shape.members
    inside = {**shapes, **{name: _part(over.shape) for name in node.variables}}
    # A step adds to what was gathered before and reads it once, so what it adds is found by
    # letting it start from nothing.
    inside[node.gathered] = Shape(0, 0, 0)
    once = [effort_of(one, inside) for one in (node.condition, node.step)]
    added = once[1].shape
    run = min(times, MAXIMUM_STEPS)
    gathered = Shape(
        start.shape.size + run * added.size,
        start.shape.members + run * added.members,
        max(start.shape.widest, added.widest),
    )
    result = effort_of(node.result, {**shapes, node.gathered: gathered})
    work, steps = _together(once, plus=1)
    if added.members and isinstance(node.start, Collection):
        # map and filter copy what they have gathered so far at every step.
        work += _COPIED_MEMBER * run * added.members // 2
    outside_work, outside_steps = _together([over, start, result], plus=gathered.size)
    return Effort(result.shape, outside_work + run * work, outside_steps + times * (1 + steps))


def _part(shape: Shape) -> Shape:
    return Shape(shape.widest, shape.widest, shape.widest)


def _largest(shapes: list[Shape]) -> Shape:
    return Shape(
        max((s.size for s in shapes), default=1),
        max((s.members for s in shapes), default=1),
        max((s.widest for s in shapes), default=1),
    )


def _together(efforts: list[Effort], *, plus: int) -> tuple[int, int]:
    return plus + sum(one.work for one in efforts), sum(one.steps for one in efforts)
