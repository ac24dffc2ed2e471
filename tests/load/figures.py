"""What is said of many measured values: medians, spread, percentiles, ratios. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Figures = dict[str, Any]


def spread(values: Sequence[float]) -> Figures:
    """The median of the rounds, the smallest and the largest, and every round as it was."""
    return {
        "median": tidy(statistics.median(values)),
        "min": tidy(min(values)),
        "max": tidy(max(values)),
        "rounds": [tidy(value) for value in values],
    }


def percentiles(values: Sequence[float]) -> Figures:
    """p50, p90, p99 by nearest rank, the worst of all, and how many values they are of."""
    ordered = sorted(values)
    found = {f"p{share}": tidy(_nearest(ordered, share)) for share in (50, 90, 99)}
    return {**found, "worst": tidy(ordered[-1]), "count": len(ordered)}


def ratio(of: float, to: float) -> float:
    """How many times `to` that is; raises ValueError when `to` is nothing."""
    if to <= 0:
        raise ValueError(f"{of} can't be compared with {to}.")
    return round(of / to, 3)


def tidy(value: float) -> float:
    """Four significant digits: nothing that is measured here is worth more."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, 3 - math.floor(math.log10(abs(value))))


def table(rows: Mapping[str, Mapping[str, object]]) -> str:
    """Rows of words and figures below their headings, for a terminal or a log."""
    headings = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [["", *headings]]
    lines += [[name, *(_shown(row.get(h)) for h in headings)] for name, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in lines
    )


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _nearest(ordered: Sequence[float], share: int) -> float:
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]
