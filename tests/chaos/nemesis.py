"""Whoever strikes: one fault after another, drawn and timed by a seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.chaos.strikes import Strike, World


@dataclass(slots=True, kw_only=True)
class Struck:
    """One fault of a run. Times are monotonic seconds."""

    name: str
    began: float
    ended: float | None = None
    trouble: str = ""
    """What went wrong with the strike itself."""


class Nemesis:
    """Never two faults at once: each has its own recovery."""

    def __init__(
        self,
        *,
        world: World,
        strikes: Mapping[str, Strike],
        pauses: tuple[float, float],
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        """`pauses` are the shortest and the longest time between two strikes, in seconds."""
        self._world = world
        self._strikes = strikes
        self._dice = random.Random(seed)
        self._say = say
        self._deck: list[str] = []
        self._running: Iterator[float] | None = None
        self._pauses = pauses
        self._next_at = time.monotonic() + pauses[0]
        self.struck: list[Struck] = []

    def tick(self) -> None:
        """To be called often; does what is due."""
        if not self._strikes or time.monotonic() < self._next_at:
            return
        if self._running is None:
            self._begin()
        self._go_on()

    def end(self) -> None:
        """Make whole what the strike under way has broken."""
        if self._running is not None:
            self._close()

    def _begin(self) -> None:
        # All of them once, in any order, before one comes again.
        if not self._deck:
            self._deck = self._dice.sample(list(self._strikes), len(self._strikes))
        name = self._deck.pop()
        self.struck.append(Struck(name=name, began=time.monotonic()))
        self._say(f"strike {len(self.struck)}: {name}")
        # Dice of its own: how often one strike throws must not change those after it.
        dice = random.Random(self._dice.random())
        self._running = self._strikes[name](self._world, dice)

    def _go_on(self) -> None:
        assert self._running is not None
        try:
            self._next_at = time.monotonic() + next(self._running)
        except StopIteration:
            self._close()
        except Exception as error:
            self.struck[-1].trouble = f"{type(error).__name__}: {error}"
            self._close()

    def _close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            try:
                running.close()  # type: ignore[attr-defined]
            except Exception as error:
                self.struck[-1].trouble = f"{type(error).__name__}: {error}"
        if self.struck[-1].trouble:
            self._say(f"  it failed: {self.struck[-1].trouble}")
        self.struck[-1].ended = time.monotonic()
        self._next_at = time.monotonic() + self._dice.uniform(*self._pauses)
