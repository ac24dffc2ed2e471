"""Reading what has been counted: over a time as a whole, and step by step."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db.models import QuerySet, Sum
from django.db.models.functions import Trunc

from fulfillment.engine.store.database import cursor
from oms.figures.counting import Cell
from oms.models import CountedDay, Figure, Measure

_BY_DAY_AT_MOST = 62
"""Days; a longer time is told by the week."""


class Step(enum.StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Days, the last one too, in UTC."""

    first: date
    last: date
    now: datetime

    @property
    def today(self) -> date:
        return self.now.date()

    @property
    def since(self) -> datetime:
        return _midnight(self.first)

    @property
    def until(self) -> datetime:
        return _midnight(self.last + timedelta(days=1))

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def step(self) -> Step:
        """The hours of a day are known while it is not over."""
        if self.first == self.last == self.today:
            return Step.HOUR
        return Step.DAY if self.days <= _BY_DAY_AT_MOST else Step.WEEK

    def steps(self) -> Iterator[datetime]:
        """When each step begins, the first one with the span; none lies ahead."""
        long = {Step.HOUR: timedelta(hours=1), Step.DAY: timedelta(days=1)}
        step, until = self.step, min(self.until, self.now)
        at = self.since
        if step is Step.WEEK:
            at -= timedelta(days=at.weekday())
        while at <= until and at < self.until:
            yield at
            at += long.get(step, timedelta(days=7))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How up to date the figures of a span are."""

    as_of: datetime | None
    """What had happened by then is counted; None: nothing of this span yet."""
    missing: int
    """Days of the span, up to today, that have not been counted."""


def now() -> datetime:
    """By the database's clock, in UTC."""
    with cursor() as raw:
        raw.execute("SELECT fulfillment_now()")
        row = raw.fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment.astimezone(UTC)


def counted(span: Span) -> Counted:
    """One query."""
    rows = CountedDay.objects.filter(day__gte=span.first, day__lte=span.last)
    # The newest day's: that an older one was counted anew says nothing of what is new.
    known = list(rows.order_by("-day").values_list("counted_at", flat=True))
    expected = (min(span.last, span.today) - span.first).days + 1
    return Counted(as_of=known[0] if known else None, missing=max(0, expected - len(known)))


def totals(measures: Collection[Measure], span: Span, **only: str) -> Counter[Cell]:
    """Over the whole span; one query. `only` are columns of figures."""
    rows = _rows(measures, span, only).values_list(
        "measure", "subject", "action", "outcome", "bucket"
    )
    return Counter(
        {
            Cell(Measure(measure), subject, action, outcome, bucket): number
            for measure, subject, action, outcome, bucket, number in rows.annotate(
                number=Sum("count")
            ).order_by()
        }
    )


def by_step(
    measures: Collection[Measure], span: Span, **only: str
) -> dict[datetime, Counter[Cell]]:
    """Step by step, of all subjects and actions together; one query."""
    rows = (
        _rows(measures, span, only)
        .annotate(step=Trunc("starts_at", span.step.value, tzinfo=UTC))
        .values_list("step", "measure", "outcome", "bucket")
        .annotate(number=Sum("count"))
        .order_by()
    )
    found: dict[datetime, Counter[Cell]] = {at: Counter() for at in span.steps()}
    for at, measure, outcome, bucket, number in rows:
        cell = Cell(Measure(measure), "", "", outcome, bucket)
        found.setdefault(at, Counter())[cell] += number
    return found


def outcomes(span: Span) -> Counter[Cell]:
    """Of everything over the whole span, all subjects and actions together; one query."""
    rows = (
        _rows(list(Measure), span, {})
        .values_list("measure", "outcome", "bucket")
        .annotate(number=Sum("count"))
        .order_by()
    )
    return Counter(
        {
            Cell(Measure(measure), "", "", outcome, bucket): number
            for measure, outcome, bucket, number in rows
        }
    )


def _rows(measures: Collection[Measure], span: Span, only: Mapping[str, str]) -> QuerySet[Figure]:
    return Figure.objects.filter(
        measure__in=measures, starts_at__gte=span.since, starts_at__lt=span.until, **only
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
