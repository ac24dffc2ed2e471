"""Input mapping: `${path}` references into the order, its items and upstream outputs.

A text that is exactly one reference becomes the value it points at, whatever its JSON type;
inside other text the value is written out. `$${` stands for a literal `${`, and a trailing
`?` (`${order.promised_at?}`) turns a missing value into null, or into nothing within text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fulfillment.definitions.canonical import canonical_json
from fulfillment.definitions.graph import Graph
from fulfillment.errors import FulfillmentError

ORDER_FIELDS: Mapping[str, frozenset[str] | None] = {
    "id": frozenset(),
    "external_id": frozenset(),
    "version": frozenset(),
    "customer": frozenset({"id", "name", "tier"}),
    "billing_account": frozenset(),
    "region": frozenset(),
    "channel": frozenset(),
    "requested_at": frozenset(),
    "promised_at": frozenset(),
    "priority": frozenset(),
}
"""What `order.` offers; the members of a field, or None when they are free."""
ITEM_FIELDS: Mapping[str, frozenset[str] | None] = {
    "item_id": frozenset(),
    "position": frozenset(),
    "action": frozenset(),
    "offering": frozenset(),
    "quantity": frozenset(),
    "characteristics": None,
    "price": frozenset({"one_off", "recurring", "currency"}),
    "place": None,
    "asset": None,
}
"""What `item.`, and for order-level tasks `items.`, offers."""

_TOKEN = re.compile(r"\$\$\{|\$\{([^{}]*)\}?")
_PATH = re.compile(r"[^\s.{}$?]+(\.[^\s.{}$?]+)*")
_MISSING = object()


class ValueMissing(FulfillmentError):
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
    """A `${` is not followed by a dotted path and `}`."""

    code = "fulfillment.reference_malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    path: tuple[str, ...]
    """Its first member is the root: order, item, items or tasks."""
    optional: bool = False

    @property
    def root(self) -> str:
        return self.path[0]

    def __str__(self) -> str:
        return ".".join(self.path)


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
def parse(text: str) -> tuple[str | Reference, ...]:
    """The literal and referring parts of a text. Raises ReferenceMalformed."""
    if "${" not in text:
        return (text,)
    parts: list[str | Reference] = []
    literal, end = "", 0
    for token in _TOKEN.finditer(text):
        literal += text[end : token.start()]
        end = token.end()
        if token.group() == "$${":
            literal += "${"
            continue
        path = token.group(1).removesuffix("?")
        if not token.group().endswith("}") or not _PATH.fullmatch(path):
            raise ReferenceMalformed(
                f"{token.group()!r} in {text!r} is not a reference; write ${{order.region}}, "
                "${item.characteristics.<name>} or ${tasks.<task>.<output>}, or $${ for a "
                "literal ${."
            )
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(Reference(path=tuple(path.split(".")), optional=token.group(1).endswith("?")))
    literal += text[end:]
    if literal or not parts:
        parts.append(literal)
    return tuple(parts)


def resolve(value: Any, scope: Mapping[str, Any]) -> Any:
    """The JSON value with every reference replaced by what `scope` holds under its root.

    A list on the way is looked into member by member (`items.price` is the list of prices)
    unless the next name is a position. Raises ValueMissing and ReferenceMalformed.
    """
    if isinstance(value, str):
        return _resolved_text(parse(value), scope) if "${" in value else value
    if isinstance(value, Mapping):
        return {key: resolve(member, scope) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(member, scope) for member in value]
    return value


def node_input(
    *,
    graph: Graph,
    index: int,
    order: Mapping[str, Any],
    items: Mapping[int, Mapping[str, Any]],
    outputs: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
    """The payload of one node's command.

    `items` maps positions to item snapshots, `outputs` maps node indexes to what those tasks
    returned; only `graph.output_sources[index]` are looked up. Raises ValueMissing.
    """
    node = graph.nodes[index]
    if not node.input:
        return {}
    scope: dict[str, Any] = {"order": order}
    if node.item is not None:
        scope["item"] = items[node.item]
    else:
        scope["items"] = [items[position] for position in node.items]
    sources = graph.output_sources[index]
    if sources:
        scope["tasks"] = {
            task: (
                [outputs.get(one, {}) for one in source]
                if isinstance(source, tuple)
                else outputs.get(source, {})
            )
            for task, source in sources.items()
        }
    return {key: resolve(value, scope) for key, value in node.input.items()}


def _resolved_text(parts: Sequence[str | Reference], scope: Mapping[str, Any]) -> Any:
    if len(parts) == 1 and isinstance(parts[0], Reference):
        reference = parts[0]
        found = _look_up(scope, reference.path, optional=reference.optional)
        if found is not _MISSING:
            return found
        if reference.optional:
            return None
        raise ValueMissing(reference=str(reference))
    written = []
    for part in parts:
        if isinstance(part, str):
            written.append(part)
            continue
        found = _look_up(scope, part.path, optional=part.optional)
        if found is _MISSING or found is None:
            if not part.optional:
                raise ValueMissing(reference=str(part))
        else:
            written.append(found if isinstance(found, str) else canonical_json(found))
    return "".join(written)


def _look_up(value: Any, path: Sequence[str], *, optional: bool) -> Any:
    for position, name in enumerate(path):
        if isinstance(value, Mapping):
            value = value.get(name, _MISSING)
        elif isinstance(value, list | tuple):
            if name.isdecimal() and len(name) < 10:
                value = value[int(name)] if int(name) < len(value) else _MISSING
            else:
                members = [_look_up(one, path[position:], optional=optional) for one in value]
                if _MISSING not in members:
                    return members
                return [None if m is _MISSING else m for m in members] if optional else _MISSING
        else:
            return _MISSING
        if value is _MISSING:
            return _MISSING
    return value
