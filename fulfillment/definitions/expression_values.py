"""JSON in and out of expressions, within limits.

The library crashes on very deep JSON, cuts texts at \\0 and takes whole numbers beyond 64 bits
for another type: none of these reaches it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fulfillment.definitions import dialect
from fulfillment.definitions.effort import SMALL, Shape

MAXIMUM_RESULT = 1_000_000
"""Characters; a number, and what holds others, counts as four."""
_MEMBER = 4
MAXIMUM_DEPTH = 64
_INTEGERS = range(-(2**63), 2**63)


def bound(*, name: str, value: Any, type_: str) -> tuple[Any, Shape]:
    """The value as the library takes it, and its shape. Raises dialect.Failed."""
    if type_.startswith("number") and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if value in _INTEGERS else value
    elif type_.startswith("list(number") and isinstance(value, list | tuple):
        value = [float(one) if type(one) is int and one in _INTEGERS else one for one in value]
    return _json(value, name, MAXIMUM_DEPTH)


def _json(value: Any, name: str, depth: int) -> tuple[Any, Shape]:
    if value is None or value is True or value is False:
        return value, SMALL
    if isinstance(value, str):
        if not _is_text(value):
            raise dialect.Failed(f"{name} holds characters that no text may have")
        return value, Shape(len(value) + 1, 1, len(value) + 1)
    if isinstance(value, int):
        if value not in _INTEGERS:
            raise dialect.Failed(f"{name} holds a whole number beyond 64 bits")
        return value, SMALL
    if isinstance(value, float):
        if not math.isfinite(value):
            raise dialect.Failed(f"{name} holds an infinite number, or none")
        return value, SMALL
    if depth == 0:
        raise dialect.Failed(f"{name} is nested more than {MAXIMUM_DEPTH} levels deep")
    if isinstance(value, Mapping):
        entries, keys = {}, 0
        shapes = []
        for key, member in value.items():
            if not isinstance(key, str) or not _is_text(key):
                raise dialect.Failed(f"{name} holds a key that is not a text")
            entries[key], shape = _json(member, name, depth - 1)
            keys += len(key) + 1
            shapes += [shape, Shape(len(key) + 1, 1, 1)]
        return entries, _joint(shapes, len(entries))
    if isinstance(value, list | tuple):
        members = [_json(member, name, depth - 1) for member in value]
        return [one for one, _ in members], _joint([shape for _, shape in members], len(members))
    raise dialect.Failed(f"{name} holds a {type(value).__name__}, which is not JSON")


def _joint(shapes: Sequence[Shape], count: int) -> Shape:
    size = 1 + sum(shape.size for shape in shapes)
    return Shape(size, count, max((shape.size for shape in shapes), default=1))


def _is_text(value: str) -> bool:
    if value.isascii():
        return "\0" not in value
    return "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)


def result(found: Any) -> Any:
    """What an evaluation came to, as JSON; instants are RFC 3339 texts. Raises dialect.Failed."""
    return _Result().plain(found)


class _Result:
    """Turns one result into JSON, and stops when it gets too large."""

    def __init__(self) -> None:
        self._left = MAXIMUM_RESULT

    def plain(self, found: Any, depth: int = MAXIMUM_DEPTH) -> Any:
        value = dialect.plain(found)
        self._take(_MEMBER)
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, str):
            self._take(len(value))
            if not _is_text(value):
                raise dialect.Failed("its result holds characters that no text may have")
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise dialect.Failed("its result is not a finite number (a division by zero?)")
            return value
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if depth == 0:
            raise dialect.Failed(f"its result is nested more than {MAXIMUM_DEPTH} levels deep")
        if isinstance(value, list):
            return [self.plain(member, depth - 1) for member in value]
        if isinstance(value, dict):
            return dict(self._entries(value.items(), depth))
        raise dialect.Failed("its result is of a kind that JSON does not have")

    def _entries(self, entries: Iterable[tuple[Any, Any]], depth: int) -> Iterator[tuple[str, Any]]:
        for key, member in entries:
            if not isinstance(key, str):
                raise dialect.Failed("its result has a key that is not a text")
            self._take(len(key))
            yield key, self.plain(member, depth - 1)

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise dialect.Failed(f"its result has more than {MAXIMUM_RESULT:,} characters")
