"""Random schedules in which orders are given up and changed at any moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from tests.properties import language_scenarios as plain
from tests.properties.language_scenarios import Item
from tests.properties.templates import MILESTONES, Dice, template
from tests.properties.undo_templates import UndoTemplate, with_undo

FATES = ("refused", "busy", "busy", "broken", "accepted", "accepted", "lost", "done, unheard")
MOODS = (40, 16, 8, 3)
SIZES = (2, 3, 4, 4, 5, 5, 6, 7)


@dataclass(frozen=True)
class Begin:
    """A worker claims and calls, and has not told the answers yet."""

    target: int
    limit: int


@dataclass(frozen=True)
class Answer:
    """What the oldest calls under way were answered is settled."""

    count: int


@dataclass(frozen=True)
class GiveUp:
    which: int


@dataclass(frozen=True)
class Amend:
    which: int
    what: str
    position: int
    item: Item


WHATS = ("characteristics",) * 4 + ("item comes", "item goes", "anew")
Step = plain.Step | Begin | Answer | GiveUp | Amend


@dataclass(frozen=True, repr=False)
class Scenario:
    seed: int
    template: UndoTemplate
    orders: tuple[tuple[int, tuple[Item, ...]], ...]
    fast_path: bool
    fates: tuple[tuple[str, int], ...]
    steps: tuple[Step, ...]
    moves: int

    def __repr__(self) -> str:
        """What makes it anew."""
        tasks, steps = len(self.template.tasks), self.moves
        return f"scenario(seed={self.seed}, tasks={tasks}, steps={steps})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def scenario(*, seed: int, tasks: int, steps: int) -> Scenario:
    """With fewer tasks or steps it is the beginning of the same."""
    dice = Dice(f"{seed} undo")
    written = template(seed=f"{seed} template", tasks=tasks)
    fates = ("done",) * dice.one_of(*MOODS) + FATES
    return Scenario(
        seed=seed,
        template=with_undo(written, seed=f"{seed} undone"),
        fast_path=dice.maybe(67),
        fates=tuple((dice.one_of(*fates), dice.one_of(*range(10))) for _ in range(80)),
        orders=((0, tuple(_item(dice) for _ in range(dice.one_of(1, 2)))),),
        moves=steps,
        steps=tuple(step for _ in range(steps) for step in _move(dice)),
    )


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    return scenario(
        seed=draw(st.integers(0, 2**40)),
        tasks=draw(st.sampled_from(SIZES)),
        steps=draw(st.integers(5, 50)),
    )


def any_scenario(number: int) -> Scenario:
    """One of a sequence that is the same every time."""
    dice = Dice(f"{number} any")
    return scenario(seed=number, tasks=dice.one_of(*SIZES), steps=dice.random.randint(10, 45))


def _item(dice: Dice) -> Item:
    numbers = tuple(dice.one_of(*range(10)) for _ in range(dice.one_of(2, 3, 0)))
    return Item(
        n=dice.one_of(*range(10)),
        list=7 if dice.maybe(5) else numbers,
        soon=dice.one_of(0.5, 2.5, -1.5),
    )


def changed(item: Item, said: Item, which: int) -> Item:
    """One of its characteristics is what `said` says."""
    name = ("n", "n", "list", "soon")[which % 4]
    return replace(item, **{name: getattr(said, name)})


def _move(dice: Dice) -> tuple[Step, ...]:
    """What means little by itself comes with what makes it matter: something under way."""
    if dice.maybe(85):
        return (_step(dice),)
    which = dice.one_of(0, 1)
    amend = Amend(0, dice.one_of(*WHATS), dice.one_of(1, 2), _item(dice))
    return (
        dice.one_of(Begin(which, 2), plain.Work(which, 4), plain.Work(which, 4), plain.Sweep()),
        dice.one_of(*[amend] * 9, GiveUp(0)),
        *dice.one_of((), (Answer(4), plain.Scan())),
    )


def _step(dice: Dice) -> Step:
    which, number = dice.one_of(*range(6)), dice.one_of(*range(10))
    likely: Mapping[str, int] = {
        "Work": 36,
        "Begin": 15,
        "Answer": 15,
        "Report": 9,
        "Again": 3,
        "Amend": 6,
        "GiveUp": 1,
        "Decide": 12,
        "Tell": 6,
        "Retry": 6,
        "Wait": 6,
        "Sweep": 6,
        "Scan": 12,
    }
    match dice.random.choices([*likely], [*likely.values()])[0]:
        case "Work":
            return plain.Work(which, dice.one_of(1, 2, 3, 4), dice.maybe(50))
        case "Begin":
            return Begin(which, dice.one_of(1, 2))
        case "Answer":
            return Answer(dice.one_of(1, 2, 4))
        case "Report":
            return plain.Report(which, dice.maybe(75), number)
        case "Again":
            return plain.Again(which, dice.maybe(50))
        case "Amend":
            return Amend(which, dice.one_of(*WHATS), dice.one_of(1, 2), _item(dice))
        case "GiveUp":
            return GiveUp(which)
        case "Decide":
            return plain.Decide(which, dice.one_of(0, 0, 0, 1, 2), dice.one_of(1, 7, None))
        case "Tell":
            return plain.Tell(dice.one_of(*MILESTONES), 0, dice.one_of(0, 1, 2), number)
        case "Retry":
            return plain.Retry(which)
        case "Wait":
            return plain.Wait(dice.one_of(1, 3))
        case "Sweep":
            return plain.Sweep()
        case _:
            return plain.Scan()
