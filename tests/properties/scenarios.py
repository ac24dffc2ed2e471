"""What may happen to a few orders, in any order: generated, and printable as it is.

Numbers in a step point at one of what is there at that moment, counted round and round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.properties import model
from tests.properties.world import Ending, Fate

TARGETS = {
    "both": model.Target(idempotent=True, status_query=True),
    "asks": model.Target(idempotent=False, status_query=True),
    "keys": model.Target(idempotent=True, status_query=False),
    "none": model.Target(idempotent=False, status_query=False),
}
LONG = 4000.0
"""Seconds after which every lease, pause and report is due."""


@dataclass(frozen=True)
class Part:
    """One task of a workflow template, by its position; `after` names earlier positions."""

    target: str
    after: frozenset[int] = frozenset()
    required: bool = True
    per_item: bool = True
    maximum_attempts: int = 3


def expanded(workflow: Sequence[Part], *, items: int) -> dict[str, model.Task]:
    """The tasks of an order with so many items: a part per item, or once for the order."""

    def keys(position: int, only: str = "") -> list[str]:
        if not workflow[position].per_item:
            return [f"thing/t{position}"]
        return [f"t{position}@{item}" for item in [only] if only] or [
            f"t{position}@{item}" for item in range(1, items + 1)
        ]

    return {
        key: model.Task(
            target=TARGETS[part.target],
            after=frozenset(
                name for earlier in part.after for name in keys(earlier, key.partition("@")[2])
            ),
            required=part.required,
            maximum_attempts=part.maximum_attempts,
        )
        for position, part in enumerate(workflow)
        for key in keys(position)
    }


@dataclass(frozen=True)
class Begin:
    """A worker claims and calls; nothing of it has been answered yet."""

    target: int
    fates: tuple[Fate, ...]


@dataclass(frozen=True)
class Answer:
    """Calls under way are answered, together; those that are never named are lost."""

    calls: tuple[int, ...]


@dataclass(frozen=True)
class Drain:
    """A worker works off what there is; the fates are those of its first requests."""

    target: int
    fates: tuple[Fate, ...]


@dataclass(frozen=True)
class EndJob:
    job: int
    ending: Ending


@dataclass(frozen=True)
class Deliver:
    """Any report so far arrives, be it for the first time or again."""

    event: int


@dataclass(frozen=True)
class Advance:
    seconds: float


@dataclass(frozen=True)
class Sweep:
    pass


@dataclass(frozen=True)
class Scan:
    pass


@dataclass(frozen=True)
class Hold:
    """Somebody holds an order, or releases it."""

    order: int


@dataclass(frozen=True)
class Pause:
    """Somebody pauses a target system, or resumes it."""

    target: int


Step = Begin | Answer | Drain | EndJob | Deliver | Advance | Sweep | Scan | Hold | Pause


@dataclass(frozen=True)
class Scenario:
    workflow: tuple[Part, ...]
    items: tuple[int, ...]
    """Items of each order."""
    fast_path: bool
    steps: tuple[Step, ...]


@st.composite
def workflows(draw: st.DrawFn) -> tuple[Part, ...]:
    workflow: list[Part] = []
    # Few tasks in much trouble find more than many in little.
    for position in range(draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 6, 8]))):
        after = draw(st.frozensets(st.integers(0, position - 1), max_size=3)) if position else ()
        needed = all(workflow[earlier].required for earlier in after)
        workflow.append(
            Part(
                target=draw(st.sampled_from(sorted(TARGETS))),
                after=frozenset(after),
                # The first is; and what is required waits for nothing that is not.
                required=needed and (position == 0 or draw(st.booleans())),
                per_item=draw(st.booleans()),
                maximum_attempts=draw(st.integers(1, 4)),
            )
        )
    return tuple(workflow)


_which = st.integers(0, 7)
_fates = st.lists(st.sampled_from(Fate), min_size=1, max_size=4).map(tuple)
_calls = st.lists(_which, min_size=1, max_size=3).map(tuple)
_begin = st.builds(Begin, _which, _fates)
_answer = st.builds(Answer, _calls)
_advance = st.builds(Advance, st.sampled_from([3.0, 30.0, 400.0, LONG, LONG]))
_deliver = st.builds(Deliver, _which)
_steps = st.one_of(
    *(_begin, _advance, st.builds(Sweep)) * 3,
    *(_answer, _deliver) * 2,
    st.builds(Drain, _which, _fates),
    st.builds(EndJob, _which, st.sampled_from(Ending)),
    st.builds(Scan),
    st.builds(Hold, _which),
    st.builds(Pause, _which),
)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    # Lists of hypothesis' own choice are short, and trouble takes a while to pile up.
    length = draw(st.integers(0, 60))
    return Scenario(
        workflow=draw(workflows()),
        items=draw(st.sampled_from([(1,), (2,), (1, 1), (1, 2)])),
        fast_path=draw(st.booleans()),
        steps=tuple(draw(st.lists(_steps, min_size=length, max_size=length))),
    )
