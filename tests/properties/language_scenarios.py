"""Random schedules: what workers, targets, clocks and people do to orders of random templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.properties.templates import MILESTONES, SIGNAL, Dice, Template, template

FATES = ("refused", "busy", "busy", "broken", "accepted", "lost", "done, unheard", "done, odd")
"""What becomes of a request; a target that can be asked tells the truth about it."""
MOODS = (50, 20, 8)
"""Requests that are simply done, beside one of each fate."""
SIZES = (1, 2, 3, 4, 4, 5, 5, 6, 7, 8)
"""Tasks of a template."""


@dataclass(frozen=True)
class Work:
    """A worker claims and calls; the answers are settled together or one by one."""

    target: int
    limit: int
    together: bool = True


@dataclass(frozen=True)
class Report:
    """A target system reports on a job that it has taken."""

    job: int
    done: bool
    value: int


@dataclass(frozen=True)
class Again:
    """A report comes once more; or, as another event, a result that has been told before."""

    which: int
    same: bool


@dataclass(frozen=True)
class Tell:
    """A milestone of an order, or a signal with a key."""

    name: str
    about: int
    event: int
    value: int | None


@dataclass(frozen=True)
class Decide:
    which: int
    outcome: int
    value: int | None = 1


@dataclass(frozen=True)
class Retry:
    which: int


@dataclass(frozen=True)
class Wait:
    hours: int


@dataclass(frozen=True)
class Sweep:
    pass


@dataclass(frozen=True)
class Scan:
    """What beat asks for: select what is due, tell what is to be told."""


Step = Work | Report | Again | Tell | Decide | Retry | Wait | Sweep | Scan


@dataclass(frozen=True)
class Item:
    n: int = 5
    list: tuple[int, ...] | int = (1, 2)
    """Sometimes it is none."""
    soon: float = 2.5

    def as_list(self) -> Any:
        return self.list if isinstance(self.list, int) else list(self.list)


@dataclass(frozen=True, repr=False)
class Scenario:
    seed: int
    template: Template
    orders: tuple[tuple[int, tuple[Item, ...]], ...]
    """Priority and items of each."""
    fast_path: bool
    fates: tuple[tuple[str, int], ...]
    """Of the requests, one after the other; those after them are done."""
    steps: tuple[Step, ...]
    retries: int = 0
    """How often somebody tries again what has failed, at the end."""

    def __repr__(self) -> str:
        """What makes it anew."""
        tasks, orders, steps = len(self.template.tasks), len(self.orders), len(self.steps)
        return f"scenario(seed={self.seed}, tasks={tasks}, orders={orders}, steps={steps})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Not the whole template, as Hypothesis would.


def scenario(*, seed: int, tasks: int, orders: int, steps: int) -> Scenario:
    """With fewer tasks, orders or steps it is the beginning of the same."""
    dice = Dice(f"{seed} schedule")
    fates = ("done",) * dice.one_of(*MOODS) + FATES
    return Scenario(
        seed=seed,
        template=template(seed=f"{seed} template", tasks=tasks),
        fast_path=dice.maybe(67),
        fates=tuple((dice.one_of(*fates), dice.one_of(*range(10))) for _ in range(60)),
        retries=dice.one_of(0, 1, 3),
        orders=tuple(
            (dice.one_of(0, 5), tuple(_item(dice) for _ in range(dice.one_of(1, 2))))
            for _ in range(2)
        )[:orders],
        steps=tuple(_step(dice) for _ in range(steps)),
    )


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    return scenario(
        seed=draw(st.integers(0, 2**40)),
        tasks=draw(st.sampled_from(SIZES)),
        orders=draw(st.sampled_from((1, 2))),
        steps=draw(st.integers(0, 40)),
    )


def any_scenario(number: int) -> Scenario:
    """One of a sequence that is the same every time."""
    dice = Dice(f"{number}")
    return scenario(
        seed=number,
        tasks=dice.one_of(*SIZES),
        orders=dice.one_of(1, 2),
        steps=dice.random.randint(0, 40),
    )


def _item(dice: Dice) -> Item:
    numbers = tuple(dice.one_of(*range(10)) for _ in range(dice.one_of(2, 3, 5, 0)))
    return Item(
        n=dice.one_of(*range(10)),
        list=7 if dice.maybe(5) else numbers,
        soon=dice.one_of(2.5, 0.5, -1.5, 6.5),
    )


def _step(dice: Dice) -> Step:
    which, number = dice.one_of(*range(6)), dice.one_of(*range(10))
    likely: Mapping[type, int] = {
        Work: 8,
        Decide: 3,
        Wait: 2,
        Sweep: 2,
        Scan: 2,
        Report: 1,
        Again: 1,
        Tell: 2,
        Retry: 1,
    }
    match dice.random.choices([*likely], [*likely.values()])[0].__name__:
        case "Work":
            return Work(which, dice.one_of(1, 2, 3, 4), dice.maybe(50))
        case "Decide":
            return Decide(which, dice.one_of(0, 0, 1, 2), dice.one_of(1, 7, None, None))
        case "Wait":
            return Wait(dice.one_of(1, 2, 4))
        case "Report":
            return Report(which, dice.maybe(67), number)
        case "Again":
            return Again(which, dice.maybe(50))
        case "Tell":
            name = dice.one_of(*MILESTONES, SIGNAL)
            return Tell(name, dice.one_of(0, 1), dice.one_of(0, 1, 2), dice.one_of(number, None))
        case "Retry":
            return Retry(which)
        case "Sweep":
            return Sweep()
        case _:
            return Scan()
