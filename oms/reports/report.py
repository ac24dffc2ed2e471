"""What a report is: a question in plain words, how it is counted, and its tables for a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from oms.figures import reading
from oms.figures.reading import Span
from oms.models import Measure
from oms.reports.tables import Cells, Kind, Named, Table, Told, Value, by_time, by_what


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The one number of a report."""

    value: Value
    kind: Kind
    words: str


@dataclass(frozen=True, kw_only=True)
class Report(ABC):
    name: str
    title: str
    told: str
    """What it says, in one sentence."""
    counted: tuple[str, ...]
    """How it is counted, exactly."""
    is_of_now: bool = False
    """Its first table is as it stands now; only what is beside that is of the time asked for."""

    @abstractmethod
    def tables(self, span: Span, *, whole: bool = False) -> list[Table]:
        """A fixed number of queries. `whole`: for a file, so that nothing is left out."""

    @abstractmethod
    def headline(self, cells: Cells) -> Headline:
        """From `oms.figures.reading.outcomes`; at most one query more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """One more table of a report, by other names."""

    name: str
    title: str
    measure: Measure
    names: tuple[Named, ...]
    columns: tuple[Told, ...]
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class CountedReport(Report):
    """The same columns by time, and by what it was."""

    measures: tuple[Measure, ...]
    by: str
    """The title of the table by what it was."""
    names: tuple[Named, ...]
    columns: tuple[Told, ...]
    plotted: tuple[str, ...]
    head: str
    """The name of the column that is its headline."""
    head_words: str
    about: str = ""
    breakdowns: tuple[Breakdown, ...] = ()

    def tables(self, span: Span, *, whole: bool = False) -> list[Table]:
        others = {one.measure for one in self.breakdowns}
        cells = reading.totals({*self.measures, *others}, span)
        own = {cell: number for cell, number in cells.items() if cell.measure in self.measures}
        steps = reading.by_step(self.measures, span)
        return [
            by_what(
                own,
                name="by-kind",
                title=self.by,
                names=self.names,
                columns=self.columns,
                about=self.about,
            ),
            *(
                by_what(
                    {cell: number for cell, number in cells.items() if cell.measure is one.measure},
                    name=one.name,
                    title=one.title,
                    names=one.names,
                    columns=one.columns,
                    about=one.about,
                )
                for one in self.breakdowns
            ),
            by_time(steps, step=span.step, columns=self.columns, plotted=self.plotted),
        ]

    def headline(self, cells: Cells) -> Headline:
        (column,) = (one for one in self.columns if one.name == self.head)
        return Headline(value=column.of(cells), kind=column.kind, words=self.head_words)


def table_named(tables: Sequence[Table], name: str) -> Table | None:
    return next((table for table in tables if table.name == name), None)
