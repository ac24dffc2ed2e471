"""One look at something: what is found for it is found once, however many operations ask.

A page asks a dozen operations about one order, and each of them would read the order again. Only
what shows may look like this: what is done finds anew, and looks again under its locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_seen: ContextVar[dict[Any, Any] | None] = ContextVar("seen", default=None)


@contextmanager
def one_look() -> Iterator[None]:
    """Until it ends, what `found_once` finds is remembered; within another look, until that ends.

    Never around anything that changes what is looked at.
    """
    if _seen.get() is not None:
        yield
        return
    before = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(before)


def found_once(find: Callable[P, T]) -> Callable[P, T]:
    """A function that finds the same for the same values, which can be keys of a mapping."""

    @wraps(find)
    def found(*values: P.args, **named: P.kwargs) -> T:
        seen = _seen.get()
        if seen is None:
            return find(*values, **named)
        asked = (find, values, tuple(sorted(named.items())))
        if asked not in seen:
            seen[asked] = find(*values, **named)
        answer: T = seen[asked]
        return answer

    return found
