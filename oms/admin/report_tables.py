"""Tables of reports with the lists of what their numbers count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from django.db.models import Model
from django.urls import reverse

from fulfillment.admin.reading import address_of
from fulfillment.models import FalloutCase, Operation
from oms.admin.report_period import Chosen
from oms.admin.report_values import ShownValue, shown_value
from oms.figures.reading import Span, Step
from oms.models import CancellationRequest, Order
from oms.reports.report import Report
from oms.reports.tables import SHOWN, Column, Row, Table, Value
from oms.states import ORDER_TERMINAL


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
class ShownTable:
    table: Table
    rows: list[list[ShownValue]]
    total: list[ShownValue]
    file: str
    """The address of all of it."""
    left_out: int
    """Rows that only the file has."""


def shown_table(report: Report, table: Table, chosen: Chosen) -> ShownTable:
    """Its first rows, with the lists that are behind them."""
    return ShownTable(
        table=table,
        rows=[_row(report, table, row, chosen.span) for row in table.rows[:SHOWN]],
        total=[
            shown_value(
                value,
                column,
                _list_of(report, table, column, (), chosen.span) if value else "",
            )
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
        found.append(shown_value(value, column, address))
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


def file_address(report: Report, table: Table) -> str:
    return reverse("desk_report_file", args=[report.name, table.name])
