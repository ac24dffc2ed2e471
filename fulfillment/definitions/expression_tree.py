"""What a checked expression is made of, read from its serialised form.

The library hands a checked expression out as a protocol buffer (cel.expr.CheckedExpr) and as
nothing else; the few fields that matter here are read straight from the wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Constant:
    size: int
    """Bytes of its encoding: at least those of the text that it may be."""
    text: str | None = None
    """When it is a text."""


@dataclass(frozen=True, slots=True)
class Name:
    name: str
    """Dotted when it is one of the declared names, else a variable of a loop."""


@dataclass(frozen=True, slots=True)
class Member:
    operand: Node
    field: str


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    """`_+_`, `_==_`, `_?_:_`, `size`, …"""
    arguments: tuple[Node, ...]
    """The target of a method comes first."""


@dataclass(frozen=True, slots=True)
class Collection:
    members: tuple[Node, ...]
    """Of a list; of a map, its keys and values."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What all, exists, map and filter are: a fold over `over` into `gathered`."""

    variables: tuple[str, ...]
    over: Node
    gathered: str
    start: Node
    condition: Node
    step: Node
    result: Node


Node = Constant | Name | Member | Call | Collection | Loop


def tree_of(serialised: bytes) -> Node:
    """The tree of `Expression.serialize()`: a google.protobuf.Any around a CheckedExpr."""
    checked = _only(serialised, 2)
    return _node(_only(checked, 4))


def nodes_in(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    match node:
        case Member():
            below: tuple[Node, ...] = (node.operand,)
        case Call():
            below = node.arguments
        case Collection():
            below = node.members
        case Loop():
            below = (node.over, node.start, node.condition, node.step, node.result)
        case _:
            below = ()
    for one in below:
        yield from nodes_in(one)


def loop_depth(node: Node) -> int:
    """How many loops run inside each other at most."""
    match node:
        case Loop():
            inner = max(loop_depth(one) for one in (node.condition, node.step, node.result))
            return max(loop_depth(node.over), loop_depth(node.start), 1 + inner)
        case Member():
            return loop_depth(node.operand)
        case Call():
            return max((loop_depth(one) for one in node.arguments), default=0)
        case Collection():
            return max((loop_depth(one) for one in node.members), default=0)
        case _:
            return 0


def _node(data: bytes) -> Node:
    for number, value in _fields(data):
        match number:
            case 3:
                texts = [part for field, part in _fields(value) if field == 6]
                return Constant(len(value), texts[0].decode() if texts else None)
            case 4:
                return Name(_only(value, 1).decode())
            case 5:
                return Member(_node(_only(value, 1)), _only(value, 2).decode())
            case 6:
                arguments = [_node(part) for field, part in _fields(value) if field in (1, 3)]
                return Call(_only(value, 2).decode(), tuple(arguments))
            case 7:
                return Collection(
                    tuple(_node(part) for field, part in _fields(value) if field == 1)
                )
            case 8:
                entries = [part for field, part in _fields(value) if field == 2]
                return Collection(
                    tuple(
                        _node(part)
                        for entry in entries
                        for field, part in _fields(entry)
                        if field in (3, 4)
                    )
                )
            case 9:
                return _loop(dict(_fields(value)))
    return Constant(1)


def _loop(parts: dict[int, bytes]) -> Loop:
    return Loop(
        variables=tuple(parts[field].decode() for field in (1, 8) if field in parts),
        over=_node(parts[2]),
        gathered=parts[3].decode(),
        start=_node(parts[4]),
        condition=_node(parts[5]),
        step=_node(parts[6]),
        result=_node(parts[7]),
    )


def _only(data: bytes, wanted: int) -> bytes:
    return next((value for number, value in _fields(data) if number == wanted), b"")


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of every field; what has no length of its own is empty."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        value = b""
        if kind == 0:
            _, position = _varint(data, position)
        elif kind == 2:
            length, position = _varint(data, position)
            value = data[position : position + length]
            position += length
        else:
            position += 8 if kind == 1 else 4
        yield key >> 3, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = data[position]
        position += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, position
        shift += 7
