"""What an operation changes, as people read it: tables, and what is another than before. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from fulfillment.definitions.amounts import money
from fulfillment.definitions.assessment import Becomes, Fate
from fulfillment.definitions.signs import Sign, in_words

MOST_ROWS = 200
_DEPTH = 4
_LONGEST = 500
_STATES = frozenset({"state", "disposition", "outcome", "clock_policy"})
"""What is said by a word of the engine's own."""
NOTHING = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A word with a sign, so that a column of them is read at a glance."""

    words: str
    sign: str
    tone: str


Cell = str | Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    told: str = ""
    """What there is to know before it is read, and how much of it is not shown."""
    tells: tuple[str, ...] = ()
    """What of `before` and `after` is told by it, and need not be told again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    what: str
    before: str
    after: str


BECOMES_SIGNS: Mapping[Becomes, Sign] = {
    Becomes.KEPT: ("✓", "done"),
    Becomes.WITHDRAWN: ("⊘", "waiting"),
    Becomes.UNDONE: ("↶", "moving"),
    Becomes.STAYS: ("■", "waiting"),
    Becomes.REDONE: ("↻", "moving"),
    Becomes.NEW: ("+", "moving"),
}
BECOMES_WORDS: Mapping[Becomes, str] = {
    Becomes.KEPT: "goes on as it is",
    Becomes.WITHDRAWN: "is not done any more",
    Becomes.UNDONE: "is undone",
    Becomes.STAYS: "stays as it is",
    Becomes.REDONE: "is done anew",
    Becomes.NEW: "is new",
}
_FIRST = (
    Becomes.UNDONE,
    Becomes.REDONE,
    Becomes.NEW,
    Becomes.STAYS,
    Becomes.WITHDRAWN,
    Becomes.KEPT,
)


def becomes_mark(becomes: Becomes) -> Mark:
    """What becomes of a task, with its sign."""
    sign, tone = BECOMES_SIGNS[becomes]
    return Mark(words=BECOMES_WORDS[becomes], sign=sign, tone=tone)


def fates_table(*, fates: Iterable[Fate], tells: tuple[str, ...] = ("tasks",)) -> Table:
    """What becomes of each task, what is undone first; those that just go on are counted."""
    return _fates(
        [(one.title, one.key, one.becomes, one.undo, one.why) for one in fates], tells=tells
    )


def fates_table_of(
    *, tasks: Iterable[Mapping[str, Any]], tells: tuple[str, ...] = ("tasks",)
) -> Table:
    """The same of an assessment as it is stored: `task`, `title`, `becomes`, `undo`, `why`."""
    return _fates(
        [
            (one["title"], one["task"], Becomes(one["becomes"]), one["undo"] or "", one["why"])
            for one in tasks
        ],
        tells=tells,
    )


def changes(
    *, before: Mapping[str, Any], after: Mapping[str, Any], told_by: Iterable[Table] = ()
) -> list[Change]:
    """What is another afterwards, field by field.

    What only `before` says is not known to be gone, unless nothing at all is left.
    """
    told = {name for table in told_by for name in table.tells}
    left = {name: value for name, value in before.items() if name not in told}
    came = {name: value for name, value in after.items() if name not in told}
    names = [*came, *(name for name in left if name not in came)] if not after else list(came)
    found: list[Change] = []
    for name in names:
        found += _changed((name,), left.get(name), came.get(name))
    return found[:MOST_ROWS]


def amount(of: Decimal | str, currency: str = "") -> str:
    """Money as people write it: 3,704.00 EUR, and never 3704.0000."""
    return money(amount=Decimal(of), currency=currency)


def readable(value: Any) -> str:
    """A value that stands in a table: no quotes, no brackets, times to the second."""
    match value:
        case None | "" | [] | {}:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case str():
            return _cut(_text(value))
        case list() if not any(isinstance(one, list | dict) for one in value):
            return _cut(", ".join(readable(one) for one in value))
        case list() | dict():
            return _cut(json.dumps(value, ensure_ascii=False))
    return _cut(str(value))


def _fates(rows: list[tuple[str, str, Becomes, str, str]], *, tells: tuple[str, ...]) -> Table:
    rows = sorted(rows, key=lambda row: _FIRST.index(row[2]))
    moved = [row for row in rows if row[2] is not Becomes.KEPT]
    kept, shown = len(rows) - len(moved), moved[:MOST_ROWS]
    told = []
    if len(moved) > len(shown):
        told.append(f"The first {len(shown)} of {len(moved)}.")
    if kept == 1:
        told.append("One task goes on as it is.")
    elif kept:
        told.append(f"{kept} tasks go on as they are.")
    return Table(
        title="What becomes of each task",
        columns=("Task", "It …", "How, or why"),
        rows=tuple(
            (f"{title} ({key})", becomes_mark(becomes), _how(becomes, undo, why))
            for title, key, becomes, undo, why in shown
        ),
        told=" ".join(told),
        tells=tells,
    )


def _how(becomes: Becomes, undo: str, why: str) -> str:
    by = f"By {undo}." if undo and becomes in (Becomes.UNDONE, Becomes.REDONE) else ""
    return " ".join(part for part in (by, why) if part) or NOTHING


def _changed(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    one_is = isinstance(before, Mapping) or isinstance(after, Mapping)
    both_may = all(one is None or isinstance(one, Mapping) for one in (before, after))
    if one_is and both_may and len(path) < _DEPTH:
        was, now = before or {}, after or {}
        for name in dict.fromkeys((*was, *now)):
            yield from _changed((*path, str(name)), was.get(name), now.get(name))
        return
    was, now = _said(path, before), _said(path, after)
    if was != now:  # Nothing, written in another way, is no change.
        yield Change(what=_named(path), before=was, after=now)


def _named(path: tuple[str, ...]) -> str:
    return " · ".join(name.replace("_", " ") for name in path)


def _said(path: tuple[str, ...], value: Any) -> str:
    if path[-1] in _STATES and isinstance(value, str) and value:
        return in_words(value)
    return readable(value)


def _text(value: str) -> str:
    if len(value) > len("2026-01-01") and value[:2].isdigit() and "T" in value:
        with suppress(ValueError):
            at = datetime.fromisoformat(value)
            if at.tzinfo is not None:
                return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return value


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
