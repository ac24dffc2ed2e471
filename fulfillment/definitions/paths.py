"""Following a dotted path through JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MISSING: Any = object()


def look_up(value: Any, path: Sequence[str], *, optional: bool) -> Any:
    """What `path` leads to, or MISSING.

    A list on the way is looked into member by member (`items.price` is the list of prices)
    unless the next name is a position. A member without a value makes the whole list MISSING,
    or, when `optional`, is null.
    """
    for position, name in enumerate(path):
        if isinstance(value, Mapping):
            value = value.get(name, MISSING)
        elif isinstance(value, list | tuple):
            if name.isdecimal() and len(name) < 10:
                value = value[int(name)] if int(name) < len(value) else MISSING
            else:
                members = [look_up(one, path[position:], optional=optional) for one in value]
                if MISSING not in members:
                    return members
                return [None if m is MISSING else m for m in members] if optional else MISSING
        else:
            return MISSING
        if value is MISSING:
            return MISSING
    return value
