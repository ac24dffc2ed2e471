"""Values of reports as people read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from fulfillment.definitions.signs import in_words
from oms.admin.report_period import written_day
from oms.figures.reading import Step
from oms.reports.tables import Column, Kind, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownValue:
    text: str
    sorts_as: str
    is_number: bool
    address: str = ""


def shown_value(value: Value, column: Column, address: str = "") -> ShownValue:
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
            return f"{week}{written_day(at.date())}"
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
