"""Scenarios in which time matters: tasks with clocks, orders with a deadline and a promise.

Time goes on in steps of ten minutes and every clock runs for some tens and five, so that what has
run out is never in doubt, however slow the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hypothesis import strategies as st

from tests.properties import model_clocks, scenarios
from tests.properties.model_clocks import Limits
from tests.properties.scenarios import (
    TARGETS,
    Advance,
    Answer,
    Asked,
    Begin,
    CallUp,
    Deliver,
    Drain,
    EndJob,
    Hold,
    Part,
    Scan,
    Scenario,
    Step,
    Submit,
    Sweep,
)
from tests.properties.world import Ending, Fate

STEP = 10
"""Minutes by which time goes on; every clock runs for some of these and a half."""
URGENT = 50


@dataclass(frozen=True)
class TimedPart(Part):
    limits: Limits = field(default_factory=Limits)
    usual: int = 0
    """Minutes that it has always taken."""


@dataclass(frozen=True)
class TimedOrder(Asked):
    promise: int | None = None
    """Minutes after which it is promised to be done."""


@dataclass(frozen=True)
class TimedScenario(Scenario):
    steps: tuple[TimedStep, ...]  # type: ignore[assignment]
    deadline: int | None = None
    """Minutes that each order has."""
    urgent: int | None = None
    """The priority of an order in jeopardy, where that makes a difference."""


@dataclass(frozen=True)
class HoldStill:
    """Somebody holds an order and stops its clocks, or releases it."""

    order: int


@dataclass(frozen=True)
class Look:
    """The orders whose time to be estimated has come are."""


@dataclass(frozen=True)
class ShowLife:
    """A target system at work gives a sign of life."""

    job: int


@dataclass(frozen=True)
class Rerun:
    """Somebody has a task that has failed for good tried again."""

    task: int


TimedStep = Step | HoldStill | Look | ShowLife | Rerun


def expanded(workflow: Sequence[Part], *, order: Asked) -> dict[str, model_clocks.Task]:
    """The tasks of an order, with their clocks."""
    return {
        key: model_clocks.Task(
            **{one.name: getattr(task, one.name) for one in fields(task)},
            limits=part_of(workflow, key).limits,
        )
        for key, task in scenarios.expanded(workflow, order=order).items()
    }


def usual(workflow: Sequence[Part], *, order: Asked) -> dict[str, int]:
    """Minutes that each task of an order usually takes."""
    return {key: part_of(workflow, key).usual for key in scenarios.expanded(workflow, order=order)}


def part_of(workflow: Sequence[Part], key: str) -> TimedPart:
    """What a task is made of: t3@1, or thing/t3."""
    part = workflow[int(key.partition("@")[0].rpartition("t")[2])]
    assert isinstance(part, TimedPart)
    return part


# --- as a workflow writes it ----------------------------------------------------------------------


def timeouts(limits: Limits) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "callback": _text(limits.callback),
        "when_sent": limits.when_sent,
        "when_unsent": limits.when_unsent,
    }
    for name in ("start_to_close", "heartbeat"):
        if (minutes := getattr(limits, name)) is not None:
            spec[name] = _text(minutes)
    for name in ("schedule_to_start", "schedule_to_close"):
        if (pair := getattr(limits, name)) is not None:
            calm, urgent = map(_text, pair)
            spec[name] = (
                calm if calm == urgent else f"${{plan.in_jeopardy ? '{urgent}' : '{calm}'}}"
            )
    return spec


def _text(minutes: int) -> str:
    return f"PT{minutes}M"


# --- the search -----------------------------------------------------------------------------------


def _pairs(shortest: int, longest: int) -> st.SearchStrategy[tuple[int, int] | None]:
    length = st.integers(shortest, longest).map(lambda steps: STEP * steps + STEP // 2)
    same = length.map(lambda one: (one, one))
    return st.one_of(st.none(), same, same, st.tuples(length, length))


@st.composite
def limits(draw: st.DrawFn, *, target: str) -> Limits:
    heartbeat = draw(st.sampled_from([None, 15, 25]))
    start_to_close = draw(st.sampled_from([None, 35, 55]))
    to_start = draw(_pairs(1, 4))
    to_close = draw(_pairs(6, 9) if start_to_close else _pairs(4, 9))
    may_cancel = to_start is not None or to_close is not None
    return Limits(
        callback=draw(st.sampled_from([25, 45, 105])),
        start_to_close=start_to_close,
        heartbeat=heartbeat,
        schedule_to_start=to_start,
        schedule_to_close=to_close,
        when_sent=draw(
            st.sampled_from(
                ["resolve", "resolve", "escalate", *["retry"] * TARGETS[target].idempotent]
            )
        ),
        when_unsent=draw(st.sampled_from(["escalate", *["cancel"] * may_cancel])),
    )


@st.composite
def workflows(draw: st.DrawFn) -> tuple[TimedPart, ...]:
    parts = draw(scenarios.workflows(locks=draw(st.sampled_from([False, False, True]))))
    return tuple(
        TimedPart(
            **{one.name: getattr(part, one.name) for one in fields(part)},
            limits=draw(limits(target=part.target)),
            usual=STEP * draw(st.sampled_from([0, 1, 2, 3, 6])),
        )
        for part in parts[:5]
    )


_promises = st.one_of(st.none(), st.integers(0, 20).map(lambda steps: STEP * steps + STEP // 2))
_orders = st.builds(
    TimedOrder,
    assets=st.sampled_from([("A-1",), ("A-1",), ("A-1", "A-2")]),
    priority=st.sampled_from([0, 0, 5]),
    promise=_promises,
)
_which = st.integers(0, 7)
_fates = st.lists(
    st.sampled_from([*Fate, *[Fate.TAKEN] * 7, *[Fate.DONE] * 3]), min_size=1, max_size=3
).map(tuple)
_calls = st.lists(_which, min_size=1, max_size=3).map(tuple)
_advance = st.sampled_from([1, 1, 2, 3, 6]).map(lambda steps: Advance(60.0 * STEP * steps))
_one_step = st.builds(Advance, st.just(60.0 * STEP))
_sweep, _look = st.builds(Sweep), st.builds(Look)
_begin = st.builds(Begin, _which, _fates)
_answer = st.builds(Answer, _calls)
_hold = st.builds(HoldStill, _which)
_rerun = st.builds(Rerun, _which)
_show_life = st.builds(ShowLife, _which)
_end_job = st.builds(EndJob, _which, st.sampled_from(Ending))
_deliver = st.builds(Deliver, _which)
# What means little by itself comes with what makes it matter.
_moves = st.one_of(
    *(st.tuples(_advance, _sweep),) * 5,
    *(st.tuples(st.builds(Drain, _which, _fates)),) * 6,
    *(st.tuples(_advance, _look),) * 3,
    *(st.tuples(_begin, _answer), st.tuples(_begin, _one_step, _answer)),
    *(st.tuples(_begin), st.tuples(_answer)),
    *(st.tuples(_one_step, _show_life), st.tuples(_show_life, _one_step, _sweep)),
    *(st.tuples(_end_job), st.tuples(_end_job, _deliver), st.tuples(_deliver)),
    *(
        st.tuples(_show_life, _end_job, _deliver, _rerun),
        st.tuples(_begin, _hold, _one_step, _answer),
    ),
    *(st.tuples(_hold, _advance, _sweep), st.tuples(_hold, _advance, _sweep, _look)),
    *(st.tuples(_rerun), st.tuples(_one_step, _rerun, _one_step, _begin)),
    *(st.tuples(st.builds(Hold, _which)), st.tuples(st.builds(Scan))),
    *(st.tuples(st.builds(CallUp)), st.tuples(st.builds(Submit))),
)


@st.composite
def timed_scenarios(
    draw: st.DrawFn, *, shortest: int = 0, first: tuple[TimedStep, ...] = ()
) -> TimedScenario:
    """At least so many moves after the `first` steps."""
    orders = draw(st.lists(_orders, min_size=1, max_size=3).map(tuple))
    moves = draw(st.integers(shortest, 25))
    return TimedScenario(
        workflow=draw(workflows()),
        orders=orders,
        at_once=draw(st.integers(1, len(orders))),
        fast_path=draw(st.booleans()),
        deadline=draw(_promises),
        urgent=draw(st.sampled_from([None, URGENT])),
        steps=first
        + tuple(
            step for move in draw(st.lists(_moves, min_size=moves, max_size=moves)) for step in move
        ),
    )
