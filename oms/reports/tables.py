"""Tables of reports: columns of one kind each, rows, their total, and what is drawn of them."""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from oms.figures import durations
from oms.figures.counting import Cell
from oms.figures.reading import Step
from oms.models import Measure

Value = str | int | float | Decimal | datetime | None
Cells = Mapping[Cell, int]
SHOWN = 200
"""Rows of a table that a page shows; the file has all of them."""


class Kind(enum.StrEnum):
    """What the values of a column are, and so how they are written."""

    TEXT = "text"
    WORDS = "words"
    """A name such as FAILED_FINAL, to be read by people."""
    COUNT = "count"
    SHARE = "share"
    """From 0 to 1."""
    SECONDS = "seconds"
    MONEY = "money"
    WHEN = "when"
    STEP = "step"
    """When a step of the time begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`name` heads it in files, `words` on pages."""

    name: str
    words: str
    kind: Kind = Kind.COUNT

    @property
    def is_number(self) -> bool:
        return self.kind in (Kind.COUNT, Kind.SHARE, Kind.SECONDS, Kind.MONEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(Column):
    """A column that is told from what has been counted."""

    of: Callable[[Cells], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Column):
    """A column that says what a row is about."""

    of: Callable[[Cell], str]
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    values: tuple[Value, ...]
    about: str = ""
    """A subject such as `order:O-17` or `target:billing`; its page is where the row leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    total: tuple[Value, ...] = ()
    """One value per column, empty where nothing can be added up; none: the table has no total."""
    plotted: tuple[str, ...] = ()
    """Names of the columns that are drawn over the first one."""
    step: Step | None = None
    note: str = ""
    empty: str = "Nothing in this time."


def by_what(
    cells: Cells,
    *,
    name: str,
    title: str,
    names: Sequence[Named],
    columns: Sequence[Told],
    about: str = "",
) -> Table:
    """A row for each kind that `names` tell apart, those of the largest first column first.

    `about` is the kind of subject that the first column names: `target`, say.
    """
    groups: dict[tuple[str, ...], Counter[Cell]] = defaultdict(Counter)
    for cell, number in cells.items():
        groups[tuple(one.of(cell) for one in names)][cell] += number
    rows = [
        Row(
            values=(*key, *(column.of(found) for column in columns)),
            about=f"{about}:{key[0]}" if about and key[0] else "",
        )
        for key, found in groups.items()
    ]
    at = len(names)
    rows.sort(key=lambda row: (_largest(row.values[at]), row.values[:at]))
    return Table(
        name=name,
        title=title,
        columns=(*names, *columns),
        rows=rows,
        total=(*("" for _ in names), *(column.of(cells) for column in columns)),
    )


def by_time(
    steps: Mapping[datetime, Cells], *, step: Step, columns: Sequence[Told], plotted: Sequence[str]
) -> Table:
    """A row for each step of the time, the first one first, those in which nothing happened too."""
    everything: Counter[Cell] = Counter()
    for cells in steps.values():
        everything.update(cells)
    first = Column(name=step.value, words=step.value.capitalize(), kind=Kind.STEP)
    rows = [
        Row(values=(at, *(column.of(cells) for column in columns)))
        for at, cells in sorted(steps.items())
    ]
    return Table(
        name="by-time",
        title=f"By {step.value}",
        columns=(first, *columns),
        rows=rows,
        total=("", *(column.of(everything) for column in columns)),
        plotted=tuple(plotted),
        step=step,
    )


def number(measure: Measure, *outcomes: str) -> Callable[[Cells], int]:
    """How often that happened, with one of these outcomes; none: with any."""
    wanted = frozenset(outcomes)

    def of(cells: Cells) -> int:
        return sum(
            count
            for cell, count in cells.items()
            if cell.measure is measure and (not wanted or cell.outcome in wanted)
        )

    return of


def share(part: Callable[[Cells], int], whole: Callable[[Cells], int]) -> Callable[[Cells], Value]:
    """One in the other; None where there is no whole."""

    def of(cells: Cells) -> Value:
        all_of_them = whole(cells)
        return part(cells) / all_of_them if all_of_them else None

    return of


def within(measure: Measure, part: float) -> Callable[[Cells], Value]:
    """The seconds within which this part of them was done."""

    def of(cells: Cells) -> Value:
        counts: Counter[int] = Counter()
        for cell, count in cells.items():
            if cell.measure is measure:
                counts[cell.bucket] += count
        return durations.quantile(counts, part)

    return of


def _largest(value: Value) -> float:
    return -float(value) if isinstance(value, int | float) else 0.0
