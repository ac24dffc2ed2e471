"""The Common Expression Language as templates have it; all that is known of its library.

Standard CEL with its string, number and optional extensions, and one liberty: whole numbers and
others may be compared and reckoned with each other (`order.total < 1000`, `item.quantity * 1.5`),
because JSON has only one kind of number.

A text is checked with exact types, then run on whatever JSON the names hold: a value that may be
null is checked as CEL's wrapper type, which the library would not let one bind to null.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_math, ext_optional, ext_strings

TYPES: Mapping[str, str] = {
    "string": "string",
    "integer": "int",
    "number": "double",
    "boolean": "bool",
    "list": "list<dyn>",
    "object": "map<string,dyn>",
    "any": "dyn",
}
"""Our words for types, and CEL's."""
_NULLABLE = {
    "string": "google.protobuf.StringValue",
    "integer": "google.protobuf.Int64Value",
    "number": "google.protobuf.DoubleValue",
    "boolean": "google.protobuf.BoolValue",
}
_OWN_WORDS = {
    "wrapper(string)": "string or null",
    "wrapper(int)": "integer or null",
    "wrapper(double)": "number or null",
    "wrapper(bool)": "boolean or null",
    "google.protobuf.Timestamp": "timestamp",
    "google.protobuf.Duration": "duration",
    "null_type": "null",
    "int64": "integer",
    "double": "number",
    "bool": "boolean",
    "dyn": "any",
    "int": "integer",
    "map": "object",
}
_OWN_WORD = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in _OWN_WORDS))
_RETURNS = {
    "STRING": "string",
    "INT": "integer",
    "UINT": "integer",
    "DOUBLE": "number",
    "BOOL": "boolean",
    "NULL": "null",
    "TIMESTAMP": "string",
    "LIST": "list",
    "MAP": "object",
    "DYN": "any",
}
_FAULT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)
_WHOLE = range(-(2**63), 2**63)
_OPERATOR = re.compile(r"'?(?<![\w.])(_\?_:_|_\[\??_\]|_\?\._|_[-+*/%<>=!&|]+_|[!-]_|@in)'?")
_NOT_JSON = "its result is of a kind that JSON does not have"
_REWORDED = [
    (re.compile(theirs), ours)
    for theirs, ours in (
        (r"^found no matching overload for '?(.*?)'? applied to '(.*)'$", r"\1 can't take \2"),
        (r"^No matching overloads found : (.*?)(\(.*\))?$", r"\1 can't take \2"),
        (r"^expression of type '(.*)' cannot be the operand of a select.*$", r"\1 has no members"),
        (r"^(?:mismatched|extraneous) input '<EOF>'.*$", "it ends too early"),
        (r"^(?:mismatched|extraneous) input (.*?) expecting .*$", r"\1 is unexpected"),
        (r"^token recognition error at: (.*)$", r"\1 is not understood"),
        (r"^Applying SELECT to non-message type$", "what is not an object has no members"),
        (r"^Index error: index=(-?\d+) size=(\d+)$", r"there is no [\1] in a list of \2"),
        (r" can't take $", " can't take what it is given"),
    )
]
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")


class Refused(Exception):
    """The text is not an expression over these names; (line, column, message) of each fault."""

    def __init__(self, faults: list[tuple[int, int, str]]) -> None:
        self.faults = faults
        super().__init__("; ".join(message for _, _, message in faults))


class Failed(Exception):
    """The evaluation came to no value; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    serialised: bytes
    returns: str
    """One of TYPES, "null", or "" for what JSON can't hold."""


def check(*, text: str, names: Mapping[str, str]) -> Checked:
    """`names` maps dotted names to types, see `compile_expression`. Raises Refused."""
    variables = {name: _cel_type(spelled) for name, spelled in names.items()}
    environment = cel.NewEnv(config=_checking(), variables=variables, extensions=_extensions())
    try:
        expression = environment.compile(text)
        serialised = bytes(expression.serialize())
        name = expression.return_type().name()
    except (RuntimeError, TypeError, ValueError) as error:
        raise Refused(list(_faults(str(error)))) from error
    return Checked(serialised=serialised, returns=_RETURNS.get(name.partition("<")[0], ""))


@lru_cache(maxsize=4096)
def program(serialised: bytes) -> Any:
    """What `evaluate` runs."""
    return _running().deserialize(serialised)


def evaluate(running: Any, values: Mapping[str, Any]) -> Any:
    """The result as the library's value, for `plain`. Raises Failed."""
    try:
        found = running.eval(data=values)
        if found.type() == cel.Type.ERROR:
            raise Failed(_reason(str(found.value())))
    except (RuntimeError, TypeError, ValueError) as error:
        raise Failed(_reason(str(error))) from error
    return found


def plain(value: Any) -> Any:
    """A value of the library as Python's: lists and maps still hold values of the library."""
    try:
        # Version 0.1.3 hands None out without counting the reference: a few thousand nulls later
        # Python 3.11 dies of it. So it is never asked for one.
        return None if value.type() == cel.Type.NULL else value.value()
    except (RuntimeError, TypeError, ValueError) as error:
        raise Failed(_NOT_JSON) from error


def _cel_type(spelled: str) -> Any:
    if spelled.startswith("list(") and spelled.endswith(")"):
        return cel.Type.List(_cel_type(spelled[5:-1]))
    if spelled.endswith("?"):
        # CEL has no lists and objects that may be null.
        return cel.Type(_NULLABLE.get(spelled[:-1], "dyn"))
    return cel.Type(TYPES[spelled])


_COMPARED = ["int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration"]
_MIXED = (("double", "int"), ("int", "double"))
_RECKONED: Mapping[str, Callable[[float, float], float]] = {
    "_+_": operator.add,
    "_-_": operator.sub,
    "_*_": operator.mul,
    "_/_": operator.truediv,
}
_INSTANTS = {
    "_+_": [
        ("timestamp", "duration", "timestamp"),
        ("duration", "timestamp", "timestamp"),
        ("duration", "duration", "duration"),
    ],
    "_-_": [
        ("timestamp", "timestamp", "duration"),
        ("timestamp", "duration", "timestamp"),
        ("duration", "duration", "duration"),
    ],
}


def _overloads() -> Mapping[str, list[tuple[str, str, str]]]:
    """The operators whose signatures differ from the standard: (left, right, result)."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for compared in ("_<_", "_<=_", "_>_", "_>=_"):
        pairs = [*((one, one) for one in _COMPARED), *_MIXED]
        found[compared] = [(left, right, "bool") for left, right in pairs]
    for equal in ("_==_", "_!=_"):
        found[equal] = [("A", "A", "bool"), *((*pair, "bool") for pair in _MIXED)]
    for reckoned in _RECKONED:
        found[reckoned] = [
            *((one, one, one) for one in ("int", "uint", "double")),
            *((*pair, "double") for pair in _MIXED),
            *_INSTANTS.get(reckoned, ()),
        ]
    found["_+_"] += [(one, one, one) for one in ("string", "bytes", "list<A>")]
    return found


def _excluding(names: Mapping[str, Any]) -> str:
    listed = "".join(f'    - name: "{name}"\n' for name in names)
    return f"stdlib:\n  exclude_functions:\n{listed}"


_ADDED_UP = ("int", "double")
_DECIMALS = Context(prec=60)


def _sum(members: Sequence[Any]) -> int | float:
    """Added up as the decimals that they are written as: 0.1 and 0.2 are 0.3."""
    for one in members:
        if isinstance(one, bool) or not isinstance(one, int | float):
            what = "null" if one is None else f"what is no number ({type(one).__name__})"
            raise ValueError(f"sum() can't take {what}")
    if all(isinstance(one, int) for one in members):
        whole = int(sum(members))
        if whole not in _WHOLE:
            raise ValueError("the sum is a whole number beyond 64 bits")
        return whole
    total = Decimal(0)
    for one in members:
        total = _DECIMALS.add(total, Decimal(repr(one)))
    return float(total)


def _spelled_type(name: str) -> str:
    if name == "A":
        return "{type_name: A, is_type_param: true}"
    if name.startswith("list<"):
        return f"{{type_name: list, params: [{_spelled_type(name[5:-1])}]}}"
    return f"{{type_name: {name}}}"


@lru_cache(maxsize=1)
def _checking() -> Any:
    overloads = _overloads()
    lines = [_excluding(overloads), "functions:\n"]
    for number, (name, signatures) in enumerate(overloads.items()):
        lines.append(f'  - name: "{name}"\n    overloads:\n')
        for position, (left, right, result) in enumerate(signatures):
            arguments = f"[{_spelled_type(left)}, {_spelled_type(right)}]"
            lines.append(
                f"      - id: operator_{number}_{position}\n        args: {arguments}\n"
                f"        return: {_spelled_type(result)}\n"
            )
    lines.append('  - name: "sum"\n    overloads:\n')
    for member in _ADDED_UP:
        lines.append(
            f"      - id: sum_{member}\n        args: [{_spelled_type(f'list<{member}>')}]\n"
            f"        return: {_spelled_type(member)}\n"
        )
    return cel.NewEnvConfigFromYaml("".join(lines))


@lru_cache(maxsize=1)
def _running() -> Any:
    """Where checked expressions run: every name is of any type, and the library does at run
    time all that it can do, save reckoning with both kinds of number."""
    functions = [
        cel.FunctionDecl(name, [_mixed(name, left, right) for left, right in _MIXED])
        for name in _RECKONED
    ]
    functions.append(cel.FunctionDecl("sum", [_adding()]))
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(_excluding(_RECKONED)),
        extensions=_extensions(),
        functions=functions,
    )


def _adding() -> Any:
    members = cel.Type.List(cel.Type.DYN)
    return cel.Overload("sum", return_type=cel.Type.DYN, parameters=[members], impl=_sum)


def _mixed(name: str, left: str, right: str) -> Any:
    reckon = _RECKONED[name]

    def reckoned(one: float, other: float) -> float:
        try:
            return reckon(float(one), float(other))
        except ZeroDivisionError:
            return float("nan")

    return cel.Overload(
        f"{name}_{left}_{right}",
        return_type=cel.Type.DOUBLE,
        parameters=[cel.Type(left), cel.Type(right)],
        impl=reckoned,
    )


@lru_cache(maxsize=1)
def _extensions() -> list[Any]:
    return [ext_math.ExtMath(), ext_strings.ExtStrings(), ext_optional.ExtOptional()]


def _faults(text: str) -> Iterator[tuple[int, int, str]]:
    found = _FAULT.findall(text)
    if not found:
        message = _reason(text.partition("\n")[0])
        if "recursion" in message:
            message = "it is nested too deeply"
        yield 1, 1, message
    for line, column, message in found:
        if "<<nil>>" in message:
            continue
        if "recursion depth" in message:
            message = "it is nested too deeply"
        message = re.sub(r" \[[A-Z_]+\]$", "", message)
        yield max(int(line), 1), max(int(column), 1), _worded(message)


def _reason(text: str) -> str:
    """The library's own words without its status codes."""
    text = _STATUS.sub("", _STATUS.sub("", text.strip()))
    if "Iteration budget" in text:
        return "its loops take more than 10,000 steps"
    if text.startswith("Unable to convert"):
        return _NOT_JSON
    if text.startswith("Key not found in map : "):
        return f"there is no {text.removeprefix('Key not found in map : ')}"
    worded = _worded(text)
    if "null" in worded:
        worded += "; something is null here, so test that first (x != null && …)"
    return worded


def _worded(message: str) -> str:
    message = message.removeprefix("Syntax error: ").removesuffix(" (in container '')")
    for theirs, ours in _REWORDED:
        message = theirs.sub(ours, message)
    message = _OPERATOR.sub(lambda match: _bare(match[1]), message)
    return _OWN_WORD.sub(lambda match: _OWN_WORDS[match[0]], message)


def _bare(spelled: str) -> str:
    known = {"_?_:_": "? :", "_[_]": "[ ]", "_[?_]": "[? ]", "_?._": ".?", "@in": "in"}
    return f"'{known.get(spelled, spelled.replace('_', ''))}'"
