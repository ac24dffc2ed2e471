"""Plots of reports: what Chart.js is told. Their values stand in the table beside them as well.

Colours are Okabe and Ito's; lines differ by their dashes and points, bars by their edges, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from oms.figures.reading import Step
from oms.reports.tables import Kind, Table

_LOOKS: tuple[Mapping[str, Any], ...] = (
    {"color": "#0072b2", "dash": [], "point": "circle"},
    {"color": "#d55e00", "dash": [6, 4], "point": "rectRot"},
    {"color": "#009e73", "dash": [2, 3], "point": "triangle"},
)
_SOFT = "#9ca3af"
_UNITS = (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    kind: str
    """`line` or `bar`."""
    data: str
    options: str
    words: str
    """What is drawn, and in which unit."""


def plot_of(table: Table) -> Plot | None:
    """What `table` has drawn; None when there is nothing to see."""
    drawn = [
        (at, column) for at, column in enumerate(table.columns) if column.name in table.plotted
    ]
    if table.step is None or not any(row.values[at] for row in table.rows for at, _ in drawn):
        return None
    is_time = drawn[0][1].kind is Kind.SECONDS
    is_share = drawn[0][1].kind is Kind.SHARE
    unit, length = ("%", 0.01) if is_share else ("", 1.0)
    if is_time:
        most = max(float(row.values[at] or 0) for row in table.rows for at, _ in drawn)  # type: ignore[arg-type]
        unit, length = next((one for one in _UNITS if most >= 2 * one[1]), _UNITS[-1])
    kind = "line" if is_time or is_share else "bar"
    datasets = [
        {
            "label": column.words + (f" ({unit})" if unit else ""),
            "data": [_drawn(row.values[at], length) for row in table.rows],
            **_look(kind, number),
        }
        for number, (at, column) in enumerate(drawn)
    ]
    near_all = is_share and all(
        value is None or float(value) > 0.8  # type: ignore[arg-type]
        for value in (row.values[at] for row in table.rows for at, _ in drawn)
    )
    labels = [_label(row.values[0], table.step) for row in table.rows]
    names = " and ".join(column.words for _, column in drawn)
    return Plot(
        kind=kind,
        data=json.dumps({"labels": labels, "datasets": datasets}),
        options=json.dumps(_options(unit, near_all=near_all)),
        words=f"{names} by {table.step.value}" + (f", in {unit}" if unit else ""),
    )


def _drawn(value: Any, length: float) -> float | None:
    return None if value is None else round(float(value) / length, 3)


def _label(value: Any, step: Step) -> str:
    assert isinstance(value, datetime)
    at = value.astimezone(UTC)
    return f"{at:%H}:00" if step is Step.HOUR else f"{at.day} {at:%b}"


def _look(kind: str, number: int) -> dict[str, Any]:
    look = _LOOKS[number % len(_LOOKS)]
    if kind == "line":
        return {
            "borderColor": look["color"],
            "backgroundColor": look["color"],
            "borderDash": look["dash"],
            "pointStyle": look["point"],
            "pointRadius": 4,
            "spanGaps": True,
        }
    # The second and third are outlined, so that they differ without colour as well.
    return {
        "backgroundColor": look["color"] if number == 0 else f"{look['color']}40",
        "borderColor": look["color"],
        "borderWidth": 2,
        "maxBarThickness": 28,
    }


def _options(unit: str, *, near_all: bool) -> dict[str, Any]:
    """`near_all`: a share that differs only close to 100 %."""
    return {
        "responsive": True,
        "maintainAspectRatio": False,
        "animation": False,
        "plugins": {
            "legend": {
                "display": True,
                "position": "top",
                "align": "start",
                "labels": {"color": _SOFT, "usePointStyle": True, "boxHeight": 8},
            }
        },
        "scales": {
            "x": {"grid": {"display": False}, "ticks": {"color": _SOFT, "maxRotation": 0}},
            "y": {
                "beginAtZero": not near_all,
                **({"max": 100} if near_all else {}),
                "ticks": {"color": _SOFT, "maxTicksLimit": 6, **({} if unit else {"precision": 0})},
                "grid": {"color": "rgba(156, 163, 175, 0.25)"},
                "title": {"display": bool(unit), "text": unit, "color": _SOFT},
            },
        },
    }
