"""The time that a report is asked for, as its address says it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from urllib.parse import urlencode

from django.http import HttpRequest

from oms.figures import reading
from oms.figures.reading import Span

_DAYS = {"today": 1, "7": 7, "30": 30}
PERIODS = {"today": "Today", "7": "7 days", "30": "30 days"}
_LONGEST_DAYS = 400
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The time that somebody asked for, and what of it could not be used."""

    span: Span
    period: str
    """One of `PERIODS`, or `range`."""
    complaint: str = ""

    @property
    def query(self) -> str:
        """How its pages and files are asked for it."""
        asked = {"period": self.period}
        if self.period == "range":
            asked |= {"from": self.span.first.isoformat(), "to": self.span.last.isoformat()}
        return urlencode(asked)

    @property
    def words(self) -> str:
        first, last = (written_day(one) for one in (self.span.first, self.span.last))
        if self.span.days == 1:
            return f"{first}, UTC"
        return f"{first} to {last}, UTC"

    @property
    def offers(self) -> list[tuple[str, str, bool]]:
        """The periods to choose from: query, words, and whether it is the one that is shown."""
        return [
            (urlencode({"period": name}), words, name == self.period)
            for name, words in PERIODS.items()
        ]


def chosen_by(request: HttpRequest) -> Chosen:
    """The time that the address asks for; 30 days unless it does, or if it can't be used."""
    now = reading.now()
    today = now.date()
    period = request.GET.get("period", "30")
    if period in _DAYS:
        first = today - timedelta(days=_DAYS[period] - 1)
        return Chosen(span=Span(first=first, last=today, now=now), period=period)
    usual = Span(first=today - timedelta(days=29), last=today, now=now)
    if period != "range":
        return Chosen(span=usual, period="30")
    try:
        first, last = (date.fromisoformat(request.GET.get(name, "")) for name in ("from", "to"))
    except ValueError:
        return Chosen(span=usual, period="30", complaint="Choose a first and a last day.")
    if last < first:
        return Chosen(span=usual, period="30", complaint="The last day is before the first one.")
    if first > today:
        return Chosen(span=usual, period="30", complaint="The first day has not come yet.")
    last = min(last, today)
    if (last - first).days >= _LONGEST_DAYS:
        return Chosen(
            span=usual, period="30", complaint=f"Choose {_LONGEST_DAYS} days or fewer at once."
        )
    return Chosen(span=Span(first=first, last=last, now=now), period="range")


def written_day(day: date) -> str:
    """Such as 3 Nov 2026."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
