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
from matplotlib import pyplot

_OURS, _THEIRS, _LINE = "#1f6f8b", "#9aa8b0", "#33404a"
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
    for place, each in enumerate(found):
        above_whisker = (place, each["max"])
        axes.annotate(
            f"{each['median']:,.0f}",
            above_whisker,
            (0, 6),
            textcoords="offset points",
            ha="center",
        )
    axes.margins(y=0.12)
    _save(figure, path)


def _latency(sides: Mapping[str, Any], path: Path) -> None:
    """From p50 over p90 to p99 of one order; by powers of ten, as some take seconds."""
    figure, axes = _figure("One order of eight tasks, alone", "")
    names = list(sides)
    for place, (name, colour) in enumerate(zip(names, _colours(names), strict=True)):
        found = sides[name]["latency_ms"]
        values = [found[share] for share in ("p50", "p90", "p99")]
        axes.plot(values, [place] * 3, color=colour, linewidth=3, zorder=1)
        axes.scatter(values, [place] * 3, s=[90, 50, 25], color=colour, zorder=2)
        label = f"p50 {values[0]:,.3g}   p90 {values[1]:,.3g}   p99 {values[2]:,.3g}"
        axes.annotate(label, (values[0], place), (0, 9), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("{x:,.0f}")
    axes.tick_params(axis="x", which="minor", labelsize=7)
    axes.set_xlabel("milliseconds, by powers of ten", color=_LINE)
    axes.set_yticks(range(len(names)), [_NAMES.get(name, name) for name in names])
    axes.margins(x=0.2, y=0.15)
    axes.invert_yaxis()
    _save(figure, path)


def _filling(filling: Mapping[str, Any], path: Path) -> None:
    """What each look and step takes in the empty and in the full system."""
    looks = filling["looks_ms"]
    figure, axes = _figure("Cost as the system fills", "milliseconds", wide=True)
    names = list(looks)
    figure.set_figheight(max(6, 0.3 * len(names)))
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
