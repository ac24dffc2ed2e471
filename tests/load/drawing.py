"""Draws the plots from a results folder. Run by the competitors' interpreter, which has matplotlib.

python drawing.py FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

_OURS, _THEIRS, _LINE = "#1f6f8b", "#b9c4c9", "#33404a"
_NAMES = {
    "engine": "this engine",
    "celery": "Celery canvas\n2 × solo",
    "celery_prefork": "Celery canvas\nprefork 2",
    "celery_threads": "Celery canvas\n2 × threads",
    "dbos": "DBOS",
    "prefect": "Prefect",
}


def main() -> None:
    folder = Path(sys.argv[1])
    document = json.loads((folder / "latest.json").read_text())
    if "w" in document:
        _throughput(document["w"]["sides"], folder / "throughput.png")
        _latency(document["w"]["sides"], folder / "latency.png")
    if "filling" in document:
        _filling(document["filling"], folder / "filling.png")


def _throughput(sides: Mapping[str, Any], path: Path) -> None:
    """Bars of medians, with the smallest and largest round as whiskers."""
    figure, axes = _figure("Workload W under backlog", "tasks per second")
    names = list(sides)
    found = [sides[name]["tasks_per_second"] for name in names]
    medians = [each["median"] for each in found]
    below = [each["median"] - each["min"] for each in found]
    above = [each["max"] - each["median"] for each in found]
    axes.bar(
        [_NAMES.get(name, name) for name in names],
        medians,
        yerr=[below, above],
        color=_colours(names),
        ecolor=_LINE,
        capsize=4,
    )
    for place, value in enumerate(medians):
        axes.annotate(
            f"{value:,.0f}", (place, value), (0, 6), textcoords="offset points", ha="center"
        )
    _save(figure, path)


def _latency(sides: Mapping[str, Any], path: Path) -> None:
    """p50, p90 and p99 of one order on an idle system; seconds and milliseconds side by side."""
    figure, axes = _figure("One order of eight tasks, alone", "milliseconds")
    names, width = list(sides), 0.27
    for number, share in enumerate(("p50", "p90", "p99")):
        values = [sides[name]["latency_ms"][share] for name in names]
        places = [place + (number - 1) * width for place in range(len(names))]
        bars = axes.bar(places, values, width * 0.92, color=_colours(names))
        for bar, value in zip(bars, values, strict=True):
            bar.set_alpha(1.0 - 0.28 * number)
            axes.annotate(
                f"{share}\n{value:,.3g}",
                (bar.get_x() + bar.get_width() / 2, value),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_xticks(range(len(names)), [_NAMES.get(name, name) for name in names])
    _save(figure, path)


def _filling(filling: Mapping[str, Any], path: Path) -> None:
    """What each look and step takes in the empty and in the full system."""
    looks = filling["looks_ms"]
    figure, axes = _figure("Cost as the system fills", "milliseconds", wide=True)
    names = list(looks)
    for shift, key, colour in ((-0.2, "empty", _THEIRS), (0.2, "full", _OURS)):
        places = [place + shift for place in range(len(names))]
        axes.barh(places, [looks[name][key] for name in names], 0.38, color=colour, label=key)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("")
    axes.legend(frameon=False)
    _save(figure, path)


def _figure(title: str, unit: str, *, wide: bool = False) -> tuple[Any, Any]:
    figure, axes = pyplot.subplots(figsize=(9, 6) if wide else (8, 4.5), layout="constrained")
    axes.set_title(title, loc="left", color=_LINE)
    axes.set_ylabel(unit, color=_LINE)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _colours(names: list[str]) -> list[str]:
    return [_OURS if name == "engine" else _THEIRS for name in names]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
