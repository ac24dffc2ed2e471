"""The parts of the benchmark: which there are, how big they are, and running them in turn.

A part is a module with a `TITLE`, a frozen dataclass `Sizes` (its defaults are those of a whole
run), `QUICK`, the sizes of a quick one, and `measure`, which returns its figures and raises
BenchFailed when the counts say that a corner was cut.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from oms.environment import CHECKOUT
from tests.load import plots, results

PARTS = {
    "w": "tests.load.workload",
    "http": "tests.load.real_http",
    "submission": "tests.load.submission",
    "filling": "tests.load.filling",
    "isolation": "tests.load.isolation",
    "drain": "tests.load.drain",
    "desk": "tests.load.pages",
    "fill": "tests.load.fill",
}
IN_QUICK = ("w",)
ON_DEMAND = frozenset({"fill"})
"""Parts of no run that does not name them."""


class BenchFailed(Exception):
    """A part can't be measured, or its counts are not what they have to be."""

    code = "bench.failed"


class Part(Protocol):
    TITLE: str
    Sizes: type[Any]
    QUICK: Any

    def measure(self, *, sizes: Any, run: Run) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a part needs to know of the run that it belongs to."""

    console: Console
    quick: bool
    folder: Path
    """Of the results."""

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str, *, total: int) -> Iterator[Tell]:
        """A bar that `tell(done)` moves; on no terminal nothing is drawn."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns,
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            # Drawn by a thread of its own; seldom enough to cost nothing.
            refresh_per_second=2,
        ) as progress:
            bar = progress.add_task(title, total=total)
            yield lambda done: progress.update(bar, completed=done)


class Tell(Protocol):
    def __call__(self, done: int, /) -> None: ...


def run_parts(
    *, names: Sequence[str], quick: bool, given: Mapping[str, str], folder: Path
) -> list[str]:
    """Measure these parts (none named: all), each in a process of its own; the failed ones.

    Django's settings and the handlers of the adapters hold for a whole process, and each part
    has a database of its own.
    """
    wanted = chosen(names, quick=quick)
    if len(wanted) == 1:
        run_part(name=wanted[0], quick=quick, given=given, folder=folder)
        return []
    known = {name: {size.name for size in fields(_part(name).Sizes)} for name in wanted}
    if nobodys := sorted(set(given).difference(*known.values())):
        raise BenchFailed(f"None of these parts has a size {', '.join(nobodys)}.")
    failed = []
    for name in wanted:
        sizes = [f"--set={key}={value}" for key, value in given.items() if key in known[name]]
        command = [sys.executable, "manage.py", "bench", name, f"--results={folder}", *sizes]
        done = subprocess.run([*command, *["--quick"] * quick], cwd=CHECKOUT, check=False)
        if done.returncode:
            failed.append(name)
    return failed


def chosen(names: Sequence[str], /, *, quick: bool) -> list[str]:
    """These parts; without any those of a whole run, or of a quick one. Pure."""
    if names or quick:
        return list(names or IN_QUICK)
    return [name for name in PARTS if name not in ON_DEMAND]


def run_part(*, name: str, quick: bool, given: Mapping[str, str], folder: Path) -> None:
    """Measure one part in this process and put its figures into the results.

    Raises BenchFailed, and whatever keeps servers or processes from starting.
    """
    part = _part(name)
    sizes = sized(part.QUICK if quick else part.Sizes(), given=given)
    run = Run(console=Console(), quick=quick, folder=folder)
    run.say(f"\n[bold]{name}[/bold]: {part.TITLE}")
    began, load = datetime.now(UTC), os.getloadavg()[0]
    figures = part.measure(sizes=sizes, run=run)
    about = results.about(now=began, settings=asdict(sizes), load=load)
    document = results.merged(results.read(folder), part=name, figures=figures, about=about)
    path = results.write(folder, document)
    run.say(f"Written to {path}.")
    plots.draw(folder=folder, run=run)


def sized(sizes: Any, *, given: Mapping[str, str]) -> Any:
    """The sizes with those that were given, as whole or decimal numbers. Raises BenchFailed."""
    kinds = {size.name: type(getattr(sizes, size.name)) for size in fields(sizes)}
    changes = {}
    for name, value in given.items():
        if name not in kinds:
            raise BenchFailed(f"There is no size {name!r}; there are {', '.join(kinds)}.")
        try:
            changes[name] = kinds[name](value)
        except ValueError:
            raise BenchFailed(f"{name}={value} is no {kinds[name].__name__}.") from None
    return replace(sizes, **changes)


def _part(name: str) -> Part:
    if name not in PARTS:
        raise BenchFailed(f"There is no part {name!r}; there are {', '.join(PARTS)}.")
    return cast("Part", import_module(PARTS[name]))
