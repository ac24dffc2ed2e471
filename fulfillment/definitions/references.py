"""Input mapping: `${…}` refers to the order, its items and upstream outputs.

What stands in it is a plain path (`${order.region}`) or else an expression
(`${item.quantity * 2}`, see `expressions`) over the same names. A text that is exactly one of
them becomes its value, whatever its JSON type; inside other text the value is written out.
`$${` stands for a literal `${`, and a trailing `?` (`${order.promised_at?}`) turns a path's
missing value into null, or into nothing within text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fulfillment.definitions.canonical import canonical_json
from fulfillment.definitions.expressions import (
    ExpressionFailed,
    ExpressionInvalid,
    compile_expression,
)
from fulfillment.definitions.names import names_under
from fulfillment.definitions.paths import MISSING, look_up
from fulfillment.errors import FulfillmentError, ValueUnavailable

_START = re.compile(r"\$\$\{|\$\{")
# Texts in an expression may hold braces of their own.
_INSIDE = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[{}]")
# A minus belongs to the path: names of characteristics have them.
_PATH = re.compile(r"[^\s.{}$?()\[\]<>=!&|+*/%,:\"'`\\]+(\.[^\s.{}$?()\[\]<>=!&|+*/%,:\"'`\\]+)*")


class ValueMissing(ValueUnavailable):
    """An input mapping refers to a value that the order or an upstream task does not have."""

    code = "fulfillment.value_missing"

    def __init__(self, *, reference: str) -> None:
        self.reference = reference
        super().__init__(
            f"${{{reference}}} has no value. Supply it on the order (or, for tasks.*, have the "
            "upstream task return it), or publish a workflow version that marks it as optional: "
            f"${{{reference}?}}."
        )


class ReferenceMalformed(FulfillmentError):
    """A `${` is not followed by a dotted path or an expression and `}`."""

    code = "fulfillment.reference_malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    path: tuple[str, ...]
    """Its first member is the root: order, item, items, tasks, plan, element or inputs."""
    optional: bool = False

    @property
    def root(self) -> str:
        return self.path[0]

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """An expression within a mapping, not compiled yet: that takes the names it may read."""

    text: str

    def __str__(self) -> str:
        return self.text


Part = str | Reference | Computed


def texts_in(value: Any, *, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from texts_in(member, path=f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for position, member in enumerate(value):
            yield from texts_in(member, path=f"{path}[{position}]")


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[Part, ...]:
    """The literal, referring and computed parts of a text. Raises ReferenceMalformed."""
    parts: list[Part] = []
    literal, end = "", 0
    while start := _START.search(text, end):
        literal += text[end : start.start()]
        end = start.end()
        if start.group() == "$${":
            literal += "${"
            continue
        close = _closing(text, end)
        inside = text[end:close].strip() if close is not None else ""
        if close is None or not inside:
            raise ReferenceMalformed(
                f"{text[start.start() : (close or len(text)) + 1]!r} in {text!r} is not a "
                "reference; write ${order.region}, ${item.characteristics.<name>}, "
                "${tasks.<task>.<output>} or an expression, or $${ for a literal ${."
            )
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(_part(inside))
        end = close + 1
    literal += text[end:]
    if literal or not parts:
        parts.append(literal)
    return tuple(parts)


def resolve(value: Any, scope: Mapping[str, Any], *, names: Mapping[str, str] | None = None) -> Any:
    """The JSON value with every reference replaced by what `scope` holds under its root.

    A list on the way is looked into member by member (`items.price` is the list of prices)
    unless the next name is a position. `names` are what expressions may read, with types; by
    default what order, item, items, plan and element of the scope offer. Raises
    ValueUnavailable (ValueMissing, ExpressionFailed) and ReferenceMalformed.
    """
    if isinstance(value, str):
        return _resolved_text(parse(value), scope, names) if "${" in value else value
    if isinstance(value, Mapping):
        return {key: resolve(member, scope, names=names) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(member, scope, names=names) for member in value]
    return value


def _closing(text: str, start: int) -> int | None:
    """Where the `}` stands that closes what was opened before `start`."""
    depth = 0
    for token in _INSIDE.finditer(text, start):
        if token.group() == "{":
            depth += 1
        elif token.group() == "}":
            if not depth:
                return token.start()
            depth -= 1
    return None


def _part(inside: str) -> Reference | Computed:
    path = inside.removesuffix("?")
    if not _PATH.fullmatch(path):
        return Computed(text=inside)
    return Reference(path=tuple(path.split(".")), optional=path != inside)


def _resolved_text(
    parts: Sequence[Part], scope: Mapping[str, Any], names: Mapping[str, str] | None
) -> Any:
    if len(parts) == 1 and not isinstance(parts[0], str):
        return _value(parts[0], scope, names)
    written = []
    for part in parts:
        if isinstance(part, str):
            written.append(part)
            continue
        found = _value(part, scope, names)
        if found is not None:
            written.append(found if isinstance(found, str) else canonical_json(found))
        elif isinstance(part, Computed):
            raise ExpressionFailed(text=part.text, reason="it is null, and stands within a text")
        elif not part.optional:
            raise ValueMissing(reference=str(part))
    return "".join(written)


def _value(
    part: Reference | Computed, scope: Mapping[str, Any], names: Mapping[str, str] | None
) -> Any:
    if isinstance(part, Computed):
        if names is None:
            names = names_under(frozenset(scope))
        try:
            return compile_expression(text=part.text, names=names).evaluate(scope)
        except ExpressionInvalid as invalid:
            # Whoever published it under other rules does not stop the engine.
            raise ExpressionFailed(text=part.text, reason=str(invalid)) from invalid
    found = look_up(scope, part.path, optional=part.optional)
    if found is not MISSING:
        return found
    if part.optional:
        return None
    raise ValueMissing(reference=str(part))
