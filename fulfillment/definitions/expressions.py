"""Expressions of templates: checked when a template is published, evaluated while an order runs.

    expression = compile_expression(text="order.total < 1000", names={"order.total": "number?"})
    expression.evaluate({"order": {"total": 99.5}})  # True

An expression has no effect, always ends, and depends on nothing but the values it is given.
`dialect` says which language it is, docs/expressions.md teaches it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fulfillment.definitions import dialect
from fulfillment.definitions.effort import MAXIMUM_STEPS, SMALL, effort_of
from fulfillment.definitions.expression_tree import (
    Call,
    Constant,
    Loop,
    Name,
    Node,
    loop_depth,
    nodes_in,
    tree_of,
)
from fulfillment.definitions.expression_values import bound, result
from fulfillment.definitions.loop_members import unknown_members
from fulfillment.definitions.paths import MISSING, look_up
from fulfillment.errors import FulfillmentError, ValueUnavailable

MAXIMUM_LENGTH = 2_000
MAXIMUM_LOOP_DEPTH = 3
MAXIMUM_WORK = 20_000_000
"""In the units of `effort`: some tens of megabytes, less than a second."""
MAXIMUM_READ = 1_000_000
"""Size of everything read, as `Shape.size` counts it."""
_GROWING = frozenset({"_+_", "replace", "join"})
_FORBIDDEN = {"format": "join texts with +, and write numbers with string()"}

_TEXT = r"[rRbB]{0,2}(?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')"
_COMMENT = r"//[^\n]*"
_DOTTED = r"[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*"
_WORDS = re.compile(rf"{_TEXT}|{_COMMENT}|({_DOTTED})", re.ASCII)
_HAS = re.compile(rf"{_TEXT}|{_COMMENT}|\bhas\s*\(\s*({_DOTTED})\s*\)", re.ASCII)


class ExpressionInvalid(FulfillmentError):
    """A text is not an expression over the names that it may read, or could take for ever."""

    code = "fulfillment.expression_invalid"


class ExpressionFailed(ValueUnavailable):
    """An expression came to no usable value with the values that it was given."""

    code = "fulfillment.expression_failed"

    def __init__(self, *, text: str, reason: str) -> None:
        self.text = text
        self.reason = reason
        super().__init__(
            f"The expression {_shortened(text)!r} has no usable value: {reason.rstrip('.')}. "
            "Correct the data that it reads, or publish a workflow version whose expression "
            "allows for it."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    text: str
    names: frozenset[str]
    """The declared names that it reads."""
    returns: str
    """string, integer, number, boolean, list, object, null or any; with ? when it is a name that
    may be null. What is composed of such names may be null all the same."""
    _types: Mapping[str, str] = field(repr=False)
    _program: Any = field(repr=False, compare=False)
    _tree: Node = field(repr=False, compare=False)
    _measured: bool = field(repr=False)

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The JSON value with the names looked up in nested `values` ({"order": {...}, ...}).

        Raises ExpressionFailed.
        """
        try:
            return self._evaluated(values)
        except dialect.Failed as failed:
            raise ExpressionFailed(text=self.text, reason=str(failed)) from failed

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Its truth as a condition; anything but true and false raises ExpressionFailed."""
        found = self.evaluate(values)
        if found is True or found is False:
            return found
        what = "null" if found is None else f"of type {type(found).__name__}"
        reason = f"a condition is true or false, but this is {what}"
        raise ExpressionFailed(text=self.text, reason=reason)

    def _evaluated(self, values: Mapping[str, Any]) -> Any:
        given, shapes, total = {}, {}, 0
        for name, spelled in self._types.items():
            found = look_up(values, name.split("."), optional=True)
            nullable = spelled.endswith("?") or spelled == "any"
            if (found is MISSING or found is None) and not nullable:
                raise dialect.Failed(f"{name} has no value")
            given[name], shapes[name] = bound(
                name=name, value=None if found is MISSING else found, type_=spelled
            )
            total += shapes[name].size
        if total > MAXIMUM_READ:
            raise dialect.Failed(f"it reads values of more than {MAXIMUM_READ:,} characters")
        if self._measured and effort_of(self._tree, shapes).work > MAXIMUM_WORK:
            raise dialect.Failed(
                "it would take too long on values of this size; copy less within its loops"
            )
        return result(dialect.evaluate(self._program, given))


def compile_expression(*, text: str, names: Mapping[str, str]) -> Expression:
    """The checked expression; compiling the same again costs next to nothing.

    `names` maps every dotted name that may be read (`order.region`, `tasks.extract.partitions`,
    `element`) to its type: string, integer, number, boolean, list, object, any, or list(<type>);
    with ? at the end the value may be null, and a missing one is null. Raises ExpressionInvalid.
    """
    try:
        return _compiled(text, _needed(text, names))
    except dialect.Refused as refused:
        reasons = [_explained(text, fault, names) for fault in refused.faults[:3]]
        message = f"{_shortened(text)!r} is not a valid expression: {'; '.join(reasons)}"
        raise ExpressionInvalid(f"{message.rstrip('.')}.") from refused


def compile_condition(*, text: str, names: Mapping[str, str]) -> Expression:
    """The same for what must be true or false. Raises ExpressionInvalid."""
    expression = compile_expression(text=text, names=names)
    if expression.returns not in ("boolean", "any"):
        hint = " Write … == true." if expression.returns == "boolean?" else ""
        raise ExpressionInvalid(
            f"{_shortened(text)!r} is used as a condition, which is true or false, but it is "
            f"{expression.returns.replace('?', ' or null')}.{hint}"
        )
    return expression


@lru_cache(maxsize=4096)
def _compiled(text: str, names: tuple[tuple[str, str], ...]) -> Expression:
    if len(text) > MAXIMUM_LENGTH:
        _refuse(f"it has {len(text):,} characters; at most {MAXIMUM_LENGTH:,} are allowed")
    known = dict(names)
    for match in _HAS.finditer(text):
        asked = _without_spaces(match[1] or "")
        if asked in known:
            # The library would take has(name) for the name itself.
            _refuse(f"has() is for members of objects; write {asked} != null")
    checked = dialect.check(text=text, names=known)
    if not checked.returns:
        _refuse("its result is of a kind that JSON does not have (use string() or int() on it)")
    tree = tree_of(checked.serialised)
    nodes = list(nodes_in(tree))
    for member in unknown_members(tree, known):
        _refuse(_unknown(member, known))
    calls = {node.function for node in nodes if isinstance(node, Call)}
    for name in calls & _FORBIDDEN.keys():
        _refuse(f"{name}() is not allowed here; {_FORBIDDEN[name]}")
    loops = any(isinstance(node, Loop) for node in nodes)
    if loop_depth(tree) > MAXIMUM_LOOP_DEPTH:
        _refuse(f"more than {MAXIMUM_LOOP_DEPTH} loops run inside each other")
    read = {node.name for node in nodes if isinstance(node, Name)} & known.keys()
    least = effort_of(tree, dict.fromkeys(read, SMALL))
    if least.steps > MAXIMUM_STEPS or least.work > MAXIMUM_WORK:
        _refuse(f"its loops take more than {MAXIMUM_STEPS:,} steps whatever the values are")
    expression = Expression(
        text=text,
        names=frozenset(read),
        returns=_returned(checked.returns, tree, known),
        _types={name: known[name] for name in sorted(read)},
        _program=dialect.program(checked.serialised),
        _tree=tree,
        _measured=loops or bool(calls & _GROWING),
    )
    if not read:
        try:
            expression.evaluate({})
        except ExpressionFailed as failed:
            _refuse(f"whatever the values are, it fails: {failed.reason}")
    else:
        for part in _constant_parts(nodes):
            _compiled(part, ())
    return expression


def _constant_parts(nodes: Iterable[Node]) -> Iterator[str]:
    """Patterns and times that stand in the text, as expressions that read nothing."""
    for node in nodes:
        match node:
            case Call(function="matches", arguments=(_, Constant(text=str() as text))):
                yield f"''.matches({json.dumps(text, ensure_ascii=False)})"
            case Call(
                function="timestamp" | "duration" as kind,
                arguments=(Constant(text=str() as text),),
            ):
                same = f"{kind}({json.dumps(text, ensure_ascii=False)})"
                yield f"{same} == {same}"


def _returned(returns: str, tree: Node, names: Mapping[str, str]) -> str:
    # The library's result types don't say that a name alone may be null.
    if isinstance(tree, Name) and names.get(tree.name, "").endswith("?") and returns != "any":
        return f"{returns}?"
    return returns


def _needed(text: str, names: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The names that the text may mean; for a list of objects, with those of its members."""
    found = {name: names[name] for name in _mentioned(text) if name in names}
    for name, spelled in tuple(found.items()):
        if spelled == "list(object)":
            below = f"{name}."
            found.update({one: names[one] for one in names if one.startswith(below)})
    return tuple(sorted(found.items()))


def _refuse(reason: str) -> None:
    raise dialect.Refused([(0, 0, reason)])


def paths_in(text: str) -> frozenset[tuple[str, ...]]:
    """Every dotted path that the text mentions; some may be variables of its loops."""
    found = (match[1] for match in _WORDS.finditer(text[: MAXIMUM_LENGTH + 1]))
    return frozenset(tuple(_without_spaces(one).split(".")) for one in found if one)


@lru_cache(maxsize=4096)
def _mentioned(text: str) -> frozenset[str]:
    """The same as dotted names: each with its beginnings."""
    return frozenset(
        ".".join(path[:length]) for path in paths_in(text) for length in range(1, len(path) + 1)
    )


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _explained(text: str, fault: tuple[int, int, str], names: Mapping[str, str]) -> str:
    line, column, message = fault
    unknown = re.search(r"undeclared reference to '([^']*)'", message)
    if unknown:
        name = unknown[1]
        called = re.search(rf"(?<![\w.]){re.escape(name)}\s*\(|\.\s*{re.escape(name)}\s*\(", text)
        message = f"there is no function {name}()" if called else _unknown(name, names)
    if not line:
        return message
    return f"{message} (at {f'line {line}, ' if chr(10) in text else ''}character {column})"


def _unknown(name: str, names: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    root = name.partition(".")[0]
    known = sorted(one for one in names if one.partition(".")[0] == root)
    if not known:
        known = sorted({one.partition(".")[0] for one in names})
    listed = ", ".join(known) or "nothing"
    return f"there is no {name!r} here; {hint}known: {listed}"


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
