"""Values that templates compute, checked when they are published: what they come to, if known.

A type is known of every expression and of most references. The value itself is known of what
reads nothing, or nothing but whether the plan is in jeopardy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fulfillment.definitions.amounts import amount_of
from fulfillment.definitions.clocks import seconds_of
from fulfillment.definitions.expressions import Expression, ExpressionFailed
from fulfillment.definitions.reading import Readable, Report

_IN_JEOPARDY = "plan.in_jeopardy"


def check_clock(readable: Readable, text: str, path: str, report: Report) -> None:
    """Seconds, or ISO 8601 text."""
    _check(
        readable,
        text,
        path,
        lambda message: report("clock", path, message),
        types=("integer", "number", "string"),
        what="seconds, or a text such as PT30S",
        of=seconds_of,
    )


def check_lock_key(readable: Readable, text: str, path: str, report: Report) -> None:
    """A text or a whole number; nothing where there is nothing to lock."""
    _check(
        readable,
        text,
        path,
        lambda message: report("lock_key", path, message),
        types=("integer", "string", "null"),
        what="a text or a whole number",
    )


def check_priority(readable: Readable, text: str, path: str, report: Report) -> None:
    """One `${…}` with a whole number for its value."""
    _check(
        readable,
        text,
        path,
        lambda message: report("priority", path, message),
        types=("integer",),
        what="a whole number",
        alone=True,
    )


def check_amount(readable: Readable, text: str, path: str, report: Report) -> None:
    """A number that is no less than 0; nothing where there is nothing to pay."""
    if "${" in text:
        _check(
            readable,
            text,
            path,
            lambda message: report("amount", path, message),
            types=("integer", "number", "string", "null"),
            what="an amount of money",
            of=_amount,
            alone=True,
        )
        return
    try:
        amount_of(text)
    except ValueError as error:
        report("amount", path, f"{error}, or one ${{…}}.")


def _amount(value: Any) -> None:
    if value is not None:
        amount_of(value)


def check_rules(readable: Readable, rules: Sequence[str], path: str, report: Report) -> None:
    """The conditions of a decision; none of them hides those behind it, or can never hold."""
    seen: set[str] = set()
    for position, text in enumerate(rules):
        place = f"{path}[{position}].when"
        expression = readable.check_condition(text, place)
        always = None if expression is None else _always(expression)
        if always is True:
            message = (
                f"{text} always holds, so no rule behind it is ever asked: write `otherwise`, or "
                "a condition."
            )
            report("rule_unreachable", place, message)
        elif always is False:
            report("rule_unreachable", place, f"{text} never holds: remove the rule.")
        elif text in seen:
            message = f"A rule before it has the condition {text}: this one never decides."
            report("rule_unreachable", place, message)
        seen.add(text)


def _always(expression: Expression) -> bool | None:
    """What a condition is whatever the order is; None when that makes a difference."""
    if expression.names:
        return None
    try:
        return expression.holds({})
    except ExpressionFailed:
        return None


def _check(
    readable: Readable,
    text: str,
    path: str,
    refuse: Callable[[str], None],
    *,
    types: tuple[str, ...],
    what: str,
    of: Callable[[Any], object] | None = None,
    alone: bool = False,
) -> None:
    readable.check_mapping(text, path)
    found = readable.type_of(text)
    if found is None:  # What is wrong with it has been said.
        return
    if alone and not readable.is_one_value(text):
        refuse(f"Write one ${{…}} whose value is {what}.")
        return
    if found.removesuffix("?") not in (*types, "any"):
        refuse(f"It has to be {what}, and is {_spelled(found)}.")
        return
    expression = readable.expression(text)
    if expression is None or of is None:
        return
    for value in _values(expression):
        try:
            of(value)
        except ValueError as error:
            refuse(f"It has to be {what}: {error}.")
            return


def _spelled(type_: str) -> str:
    name = type_.removesuffix("?")
    kind = "list" if name.startswith("list") else name
    article = "an" if kind[0] in "aeio" else "a"
    return f"{article} {kind}" + (", or nothing" if type_.endswith("?") else "")


def _values(expression: Expression) -> Iterator[Any]:
    """What it may come to, where that does not depend on the order."""
    if not expression.names <= {_IN_JEOPARDY}:
        return
    for is_late in (False, True) if expression.names else (False,):
        with contextlib.suppress(ExpressionFailed):
            yield expression.evaluate({"plan": {"in_jeopardy": is_late}})
