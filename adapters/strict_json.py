"""JSON as it crosses the border: what PostgreSQL could not store, or two parsers could read
differently, is refused here rather than found later."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MAXIMUM_DEPTH = 64
_INFINITE_WORDS = "NaN and Infinity are not JSON"


class NotStrictJson(ValueError):
    """The text is not JSON, or is JSON that is refused; the message says why."""


def loads(data: bytes) -> Any:
    """Parse UTF-8 JSON (RFC 8259).

    Raises NotStrictJson for anything else, and for NaN, infinities (also `1e999`), duplicate
    names, NUL, lone surrogates, and nesting deeper than MAXIMUM_DEPTH.
    """
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text,
            parse_constant=_constant,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise NotStrictJson("it is nested too deeply") from None
    except ValueError as error:
        raise NotStrictJson(str(error)) from None
    # Both can only come from escapes, and no depth without that many brackets.
    if "\\u" in text or text.count("{") + text.count("[") > MAXIMUM_DEPTH:
        _inspect(value)
    return value


def dumps(value: Mapping[str, Any]) -> bytes:
    """The one compact UTF-8 spelling of `value`: same content, same bytes.

    Raises NotStrictJson for what JSON can't express.
    """
    try:
        return json.dumps(
            dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise NotStrictJson(str(error)) from None


def _constant(_: str) -> float:
    raise NotStrictJson(_INFINITE_WORDS)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NotStrictJson(f"the number {text[:40]} is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise NotStrictJson("a name occurs twice in one object")
    return value


def _inspect(value: Any) -> None:
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        inner, depth = waiting.pop()
        if isinstance(inner, str):
            _inspect_text(inner)
        elif isinstance(inner, dict | list):
            if depth > MAXIMUM_DEPTH:
                raise NotStrictJson(f"it is nested deeper than {MAXIMUM_DEPTH}")
            children = inner
            if isinstance(inner, dict):
                for name in inner:
                    _inspect_text(name)
                children = list(inner.values())
            waiting += [(child, depth + 1) for child in children]


def _inspect_text(text: str) -> None:
    if "\x00" in text:
        raise NotStrictJson("a text contains NUL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise NotStrictJson("a text contains half of a surrogate pair")
