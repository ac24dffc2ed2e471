"""How an asset is when one of its changes is taken back. Pure.

An order may be undone after another one has changed the same asset: then what it had changed goes
back, and what the other has changed since stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIELDS = ("state", "offering", "quantity", "characteristics", "place")
_ABSENT = object()

Values = dict[str, Any]
"""Fields of an asset; how it was before a change names its `order` and `position` as well."""


def without(
    *, asset: Mapping[str, Any], changes: Sequence[Mapping[str, Any]], order_id: int, position: int
) -> tuple[Values, list[Values]]:
    """The asset and the changes that are left; both as they were when there is no such change.

    `changes` has how the asset was before each, the oldest first. The first may know less of it:
    what it does not name was the same afterwards.
    """
    stages = [dict(one) for one in (*changes, asset)]
    for number in range(len(changes)):
        if (stages[number]["order"], stages[number]["position"]) == (order_id, position):
            before, later = stages[number], stages[number + 1 :]
            for name in FIELDS:
                if name == "characteristics":
                    _take_back_each(before, later)
                elif name in before:
                    _take_back(later, name, before[name])
            del stages[number]
            break
    return stages[-1], stages[:-1]


def _take_back_each(before: Mapping[str, Any], later: Sequence[Values]) -> None:
    """Each characteristic is a value of its own."""
    if "characteristics" not in before:
        return
    for stage in later:
        stage["characteristics"] = dict(stage["characteristics"])
    inner = [stage["characteristics"] for stage in later]
    for key in {*before["characteristics"], *inner[0]}:
        _take_back(inner, key, before["characteristics"].get(key, _ABSENT))


def _take_back(later: Sequence[Values], name: str, value: Any) -> None:
    """As far as nobody has changed it again."""
    changed = later[0].get(name, _ABSENT)
    for stage in later:
        if stage.get(name, _ABSENT) != changed:
            return
        if value is _ABSENT:
            stage.pop(name, None)
        else:
            stage[name] = value
