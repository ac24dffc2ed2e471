"""The pages of reports: all of them with their one number, and each with its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse

from fulfillment.admin.pages import Page, may_see
from fulfillment.admin.reading import address_of
from fulfillment.definitions.signs import in_words
from fulfillment.models import FalloutCase, Operation
from oms.admin.report_plots import plot_of
from oms.figures import reading
from oms.figures.reading import Span, Step
from oms.models import CancellationRequest, Order
from oms.reports import files
from oms.reports.catalog import GROUPS, REPORTS
from oms.reports.report import Report, table_named
from oms.reports.tables import SHOWN, Column, Kind, Row, Table, Value
from oms.states import ORDER_TERMINAL

PERMISSIONS = ("oms.view_order",)
"""Whoever sees the orders may count them."""
_DAYS = {"today": 1, "7": 7, "30": 30}
PERIODS = {"today": "Today", "7": "7 days", "30": "30 days"}
_LONGEST_DAYS = 400
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """The list of what a number counts: rows that have these values, within the number's time."""

    model: type[Model]
    at: str
    """The column that says when."""
    has: Mapping[str, str] = field(default_factory=dict)
    """`$0` is the value of the row's first column, and so on."""


def _ended(*states: str) -> _List:
    name = "state__exact" if len(states) == 1 else "state__in"
    return _List(model=Order, at="finished_at", has={name: ",".join(states)} if states else {})


def _cases(**has: str) -> _List:
    return _List(model=FalloutCase, at="opened_at", has=has)


def _cancellations(**has: str) -> _List:
    return _List(model=CancellationRequest, at="finished_at", has=has)


# By report, table and column. Where there is none, a list of them would have to look at everything.
_BY_TIME, _BY_KIND = "by-time", "by-kind"
_LISTS: Mapping[tuple[str, str, str], _List] = {
    ("cycle-times", _BY_TIME, "completed"): _ended("COMPLETED", "PARTIALLY_COMPLETED"),
    ("cycle-times", _BY_TIME, "failed"): _ended("FAILED"),
    ("cycle-times", _BY_TIME, "cancelled"): _ended("CANCELLED"),
    ("cycle-times", _BY_TIME, "rejected"): _ended("REJECTED"),
    ("fallout", _BY_TIME, "orders_ended"): _ended(*sorted(ORDER_TERMINAL)),
    ("manual", _BY_TIME, "orders_ended"): _ended(*sorted(ORDER_TERMINAL)),
    ("fallout", "by-reason", "cases"): _cases(
        category__exact="$0", reason_code__exact="$1", target__exact="$2"
    ),
    ("manual", "by-operation", "times"): _List(
        model=Operation,
        at="happened_at",
        has={"kind__exact": "$0", "order_reference__isempty": "0"},
    ),
    ("cancellations", _BY_TIME, "ended"): _cancellations(),
    ("cancellations", _BY_TIME, "cancelled"): _cancellations(state__exact="DONE"),
    ("cancellations", _BY_TIME, "denied"): _cancellations(state__exact="DENIED"),
    ("stuck", _BY_TIME, "found"): _cases(category__exact="STUCK"),
    ("unbilled", _BY_TIME, "found"): _cases(reason_code__exact="active_without_billing"),
    ("unserved", _BY_TIME, "found"): _cases(reason_code__exact="billed_without_service"),
}
_LONG = {Step.HOUR: timedelta(hours=1), Step.DAY: timedelta(days=1), Step.WEEK: timedelta(days=7)}


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
        first, last = (_day(one) for one in (self.span.first, self.span.last))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownValue:
    text: str
    sorts_as: str
    is_number: bool
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTable:
    table: Table
    rows: list[list[ShownValue]]
    total: list[ShownValue]
    file: str
    """The address of all of it."""
    left_out: int
    """Rows that only the file has."""


class Reports(Page):
    name = "reports"
    title = "Reports"
    told = "What happened in a time, counted: for each question one number, and behind it a table."
    permissions = PERMISSIONS
    live_seconds = 0
    template_name = "desk/reports/reports.html"

    def content(self) -> Mapping[str, Any]:
        chosen = chosen_by(self.request)
        cells = reading.outcomes(chosen.span)
        groups = []
        for title, reports in GROUPS.items():
            shown = []
            for report in reports:
                head = report.headline(cells)
                shown.append(
                    {
                        "report": report,
                        "number": written(head.value, head.kind),
                        "words": head.words,
                        "address": f"{report_address(report)}?{chosen.query}",
                    }
                )
            groups.append({"title": title, "reports": shown})
        return {"chosen": chosen, "counted": reading.counted(chosen.span), "groups": groups}


class OneReport(Page):
    name = "report"
    title = "Report"
    permissions = PERMISSIONS
    live_seconds = 0
    template_name = "desk/reports/report.html"

    def content(self) -> Mapping[str, Any]:
        report = asked_for(self.kwargs["report"])
        chosen = chosen_by(self.request)
        tables = report.tables(chosen.span)
        return {
            "title": report.title,
            "told": report.told,
            "report": report,
            "chosen": chosen,
            "counted": reading.counted(chosen.span),
            "tables": [_shown(report, table, chosen) for table in tables],
            "plot": next((plot for table in tables if (plot := plot_of(table))), None),
            "all_reports": f"{reverse('desk_reports')}?{chosen.query}",
            "others": [
                (f"{report_address(other)}?{chosen.query}", other.title, other is report)
                for other in REPORTS.values()
            ],
        }


def report_file(request: HttpRequest, report: str, table: str) -> HttpResponseBase:
    """A table of a report as a file, with all of its rows."""
    if not may_see(request, *PERMISSIONS):
        raise PermissionDenied("You may not see reports.")
    chosen = chosen_by(request)
    found = table_named(asked_for(report).tables(chosen.span, whole=True), table)
    if found is None:
        raise Http404("There is no such table.")
    name = f"{report}-{table}-{chosen.span.first}-{chosen.span.last}.csv"
    return StreamingHttpResponse(
        files.lines(found),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def report_paths() -> list[URLPattern]:
    """The addresses of all reports, of each, and of their files."""
    return [
        path(
            "admin/desk/reports/<slug:report>/<slug:table>.csv",
            admin.site.admin_view(report_file),
            name="desk_report_file",
        ),
        path(
            "admin/desk/reports/<slug:report>",
            admin.site.admin_view(OneReport.as_view()),
            name="desk_report",
        ),
    ]


def report_address(report: Report) -> str:
    return reverse("desk_report", args=[report.name])


def file_address(report: Report, table: Table) -> str:
    return reverse("desk_report_file", args=[report.name, table.name])


def asked_for(name: str) -> Report:
    """Raises Http404."""
    if name not in REPORTS:
        raise Http404("There is no such report.")
    return REPORTS[name]


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


def _shown(report: Report, table: Table, chosen: Chosen) -> ShownTable:
    return ShownTable(
        table=table,
        rows=[_row(report, table, row, chosen.span) for row in table.rows[:SHOWN]],
        total=[
            _value(value, column, _list_of(report, table, column, (), chosen.span) if value else "")
            for value, column in zip(table.total, table.columns, strict=False)
        ],
        file=f"{file_address(report, table)}?{chosen.query}",
        left_out=max(0, len(table.rows) - SHOWN),
    )


def _row(report: Report, table: Table, row: Row, span: Span) -> list[ShownValue]:
    found = []
    for at, (value, column) in enumerate(zip(row.values, table.columns, strict=True)):
        address = ""
        if at == 0 and row.about:
            address = address_of(row.about)
        elif column.name == "case" and value:
            address = address_of(str(value))
        elif value and column.is_number:
            address = _list_of(report, table, column, row.values, span)
        found.append(_value(value, column, address))
    return found


def _list_of(
    report: Report, table: Table, column: Column, values: Sequence[Value], span: Span
) -> str:
    """The address of the list of what a number of this row counts; of a total without `values`."""
    found = _LISTS.get((report.name, table.name, column.name))
    if found is None:
        return ""
    asked = {}
    for name, value in found.has.items():
        if value.startswith("$"):
            if not values:
                return ""
            value = str(values[int(value[1:])])
        asked[name] = value
    since, until = span.since, span.until
    if values and isinstance(values[0], datetime) and table.step:
        since, until = max(since, values[0]), min(until, values[0] + _LONG[table.step])
    asked |= {f"{found.at}__gte": _moment(since), f"{found.at}__lt": _moment(until)}
    meta = found.model._meta
    return f"{reverse(f'admin:{meta.app_label}_{meta.model_name}_changelist')}?{urlencode(asked)}"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _value(value: Value, column: Column, address: str = "") -> ShownValue:
    sorts_as = value.isoformat() if isinstance(value, datetime) else str(value)
    return ShownValue(
        text=written(value, column.kind, column.name),
        sorts_as="" if value is None else sorts_as,
        is_number=column.is_number,
        address=address,
    )


def written(value: Value, kind: Kind, name: str = "") -> str:
    """A value as people read it."""
    if value is None or value == "":
        return "" if value == "" else "–"
    if isinstance(value, datetime):
        at = value.astimezone(UTC)
        if kind is Kind.STEP and name == Step.HOUR:
            return f"{at:%H}:00"
        if kind is Kind.STEP:
            week = "week of " if name == Step.WEEK else f"{at:%a} "
            return f"{week}{_day(at.date())}"
        return f"{at:%Y-%m-%d %H:%M}"
    if kind is Kind.SECONDS and isinstance(value, int | float):
        return in_time(float(value))
    if kind is Kind.SHARE and isinstance(value, int | float):
        return _percent(float(value))
    if kind is Kind.MONEY and isinstance(value, int | float | Decimal):
        return f"{value:,.2f}"
    if kind is Kind.WORDS:
        return in_words(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def in_time(seconds: float) -> str:
    """Two units at most: `3 min 20 s`, `2 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    whole = round(seconds)
    for at, (unit, length) in enumerate(units):
        if whole >= length:
            number, rest = divmod(whole, length)
            below = units[at + 1] if at + 1 < len(units) else None
            more = f" {rest // below[1]} {below[0]}" if below and rest >= below[1] else ""
            return f"{number} {unit}{more}"
    return "0 s"


def _percent(part: float) -> str:
    """Never 0 % of something, or 100 % of what is not all."""
    if 0 < part < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= part < 1:
        return "> 99.9 %"
    return f"{100 * part:.1f} %"


def _day(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
