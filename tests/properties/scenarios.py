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
CAPACITY = {"asset": 1, "pool": 3, "customer": 1, "fleet": 3}
"""Of each resource: tasks lock the first two, whole orders the others."""
KEYS = {
    "asset": "${item.asset?}",
    "pool": "${order.region}",
    "customer": "${order.customer.id}",
    "fleet": "${order.region}",
}
REGION = "AT"
STEP_WITHIN_MS = 20
Locks = tuple[tuple[str, int], ...]
"""Resources, with how many units of each."""
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
    locks: Locks = ()


@dataclass(frozen=True)
class Asked:
    """One order: an item per asset, where an empty one is new."""

    assets: tuple[str, ...] = ("",)
    customer: str = "C-1"
    priority: int = 0


def locks_of(locks: Locks, *, order: Asked, item: str = "") -> dict[str, int]:
    """Name -> units, of those that have a key."""
    keys = {"pool": REGION, "fleet": REGION, "customer": order.customer}
    keys["asset"] = order.assets[int(item) - 1] if item else ""
    return {f"{resource}:{keys[resource]}": n for resource, n in locks if keys[resource]}


def expanded(workflow: Sequence[Part], *, order: Asked) -> dict[str, model.Task]:
    """The tasks of an order: a part per item, or once for the order."""
    items = len(order.assets)

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
            locks=locks_of(part.locks, order=order, item=key.partition("@")[2]),
            behind=STEP_WITHIN_MS * (int(key.partition("@")[2] or 1) - 1),
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


@dataclass(frozen=True)
class Submit:
    """The next of the orders comes, if one is left."""


@dataclass(frozen=True)
class CallUp:
    """Whoever has released locks says whose turn it is."""


Step = (
    Begin
    | Answer
    | Drain
    | EndJob
    | Deliver
    | Advance
    | Sweep
    | Scan
    | Hold
    | Pause
    | Submit
    | CallUp
)


@dataclass(frozen=True)
class Scenario:
    workflow: tuple[Part, ...]
    orders: tuple[Asked, ...]
    fast_path: bool
    steps: tuple[Step, ...]
    at_once: int = 1
    """So many of the orders come first, in one batch."""
    locks: Locks = ()
    """Of each order as a whole."""


LOCKS_OF_TASKS: tuple[Locks, ...] = (
    *((), (("asset", 1),), (("pool", 1),), (("pool", 2),)),
    *((("asset", 1), ("pool", 1)), (("pool", 2), ("asset", 1))),
)
LOCKS_OF_ORDERS: tuple[Locks, ...] = (
    *((), (("customer", 1),), (("fleet", 2),), (("customer", 1), ("fleet", 2))),
)


def _lockable(per_item: bool) -> list[Locks]:
    """What has to do with all items knows no asset."""
    return [
        locks
        for locks in LOCKS_OF_TASKS
        if per_item or all(resource != "asset" for resource, _ in locks)
    ]


@st.composite
def workflows(draw: st.DrawFn, *, locks: bool) -> tuple[Part, ...]:
    """With `locks`, some of the tasks keep what others need."""
    workflow: list[Part] = []
    # Few tasks in much trouble find more than many in little.
    for position in range(draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 6, 8]))):
        after = draw(st.frozensets(st.integers(0, position - 1), max_size=3)) if position else ()
        needed = all(workflow[earlier].required for earlier in after)
        per_item = draw(st.booleans())
        workflow.append(
            Part(
                target=draw(st.sampled_from(sorted(TARGETS))),
                after=frozenset(after),
                # The first is; and what is required waits for nothing that is not.
                required=needed and (position == 0 or draw(st.booleans())),
                per_item=per_item,
                maximum_attempts=draw(st.integers(1, 4)),
                locks=draw(st.sampled_from(_lockable(per_item))) if locks else (),
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
_steps_with_locks = st.one_of(_steps, _steps, st.builds(CallUp), st.builds(Submit))
_orders = st.builds(
    Asked,
    assets=st.sampled_from([("A-1",), ("A-1",), ("A-1", "A-2"), ("",)]),
    customer=st.sampled_from(["C-1", "C-1", "C-2"]),
    priority=st.sampled_from([0, 0, 5]),
)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    # Lists of hypothesis' own choice are short, and trouble takes a while to pile up.
    length = draw(st.integers(0, 60))
    if draw(st.booleans()):
        return draw(in_line(length=length))
    return Scenario(
        workflow=draw(workflows(locks=False)),
        orders=draw(
            st.sampled_from(
                [
                    *((Asked(),), (Asked(("", "")),)),
                    *((Asked(), Asked(priority=1)), (Asked(), Asked(("", ""), priority=1))),
                ]
            )
        ),
        at_once=2,
        fast_path=draw(st.booleans()),
        steps=tuple(draw(st.lists(_steps, min_size=length, max_size=length))),
    )


@st.composite
def in_line(draw: st.DrawFn, *, length: int, orders: tuple[Asked, ...] = ()) -> Scenario:
    """Several orders of several customers, who want the same at the same time.

    Those that are given come all at once.
    """
    all_at_once = bool(orders) or draw(st.booleans())
    orders = orders or draw(st.lists(_orders, min_size=2, max_size=5).map(tuple))
    return Scenario(
        workflow=draw(workflows(locks=True)),
        orders=orders,
        at_once=len(orders) if all_at_once else draw(st.integers(1, 2)),
        locks=draw(st.sampled_from(LOCKS_OF_ORDERS)),
        fast_path=draw(st.booleans()),
        steps=tuple(draw(st.lists(_steps_with_locks, min_size=length, max_size=length))),
    )
