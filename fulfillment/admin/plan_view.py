"""What a plan's page shows above its fields: its states summed up, and its picture, or its stages
where it is too large for one; and on a task's page where that stands in its plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fulfillment.admin.picture import Picture, plan_picture
from fulfillment.admin.picture_parts import task_address, tasks_address
from fulfillment.admin.reading import Badge, badge_of
from fulfillment.definitions.drawing import LARGEST
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.signs import TASK_SIGNS
from fulfillment.models import Plan, Task
from fulfillment.queries.plan_neighbours import Neighbour, neighbours
from fulfillment.queries.stages import stages, states_of
from fulfillment.states import PLAN_SELECTABLE, TaskState

_SECONDS = 15
_TONES: Mapping[str, Badge] = {
    tone: Badge(sign=sign, tone=tone, words=words)
    for tone, sign, words in (
        ("waiting", "○", "before their turn"),
        ("moving", "◑", "under way"),
        ("trouble", "⚠", "in trouble"),
        ("done", "✓", "done"),
        ("failed", "✗", "ended without success"),
    )
}
"""States summed up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many tasks are in a state, or in states of one tone, and where they are listed."""

    badge: Badge
    number: int
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownStage:
    steps: str
    what: str
    planned: int
    counts: tuple[Count | None, ...]
    """One for each of `PlanView.tones`; None: no task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    counts: tuple[Count, ...]
    all_address: str
    """The list of its tasks."""
    picture: Picture | None
    stages: tuple[ShownStage, ...]
    """Only where there is no picture."""
    tones: tuple[Badge, ...]
    """Columns of the table of stages."""
    size: int
    """Tasks of the graph."""
    largest: int
    live_seconds: int
    """So often it is looked at again; 0: never, as it is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownNeighbour:
    neighbour: Neighbour
    badge: Badge | None
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What stands before a task, or behind it."""

    title: str
    neighbours: tuple[ShownNeighbour, ...]
    more: int
    nothing: str


def sides_of(task: Task) -> tuple[Side, Side]:
    """What it waits for, and what waits for it; one query."""
    found = neighbours(task=task)
    return (
        Side(
            title="Before it",
            neighbours=_shown(found.before),
            more=found.more_before,
            nothing="No other task: it begins with the plan.",
        ),
        Side(
            title="After it",
            neighbours=_shown(found.behind),
            more=found.more_behind,
            nothing="No other task: nothing in the plan comes after it.",
        ),
    )


def _shown(found: Iterable[Neighbour]) -> tuple[ShownNeighbour, ...]:
    return tuple(
        ShownNeighbour(
            neighbour=one,
            badge=None if one.state is None else badge_of(one.state, TASK_SIGNS),
            address="" if one.task_id is None else task_address(one.task_id),
        )
        for one in found
    )


def plan_view(*, plan: Plan, graph: Graph) -> PlanView:
    """A fixed number of queries."""
    picture = plan_picture(plan=plan, graph=graph)
    return PlanView(
        counts=tuple(
            Count(
                badge=badge_of(state, TASK_SIGNS),
                number=number,
                address=tasks_address(plan.pk, state__exact=state.value),
            )
            for state, number in states_of(plan=plan).items()
        ),
        all_address=tasks_address(plan.pk),
        picture=picture,
        stages=_stages(plan, graph) if picture is None else (),
        tones=tuple(_TONES.values()),
        size=len(graph.nodes),
        largest=LARGEST,
        live_seconds=_SECONDS if plan.state in PLAN_SELECTABLE else 0,
    )


def _stages(plan: Plan, graph: Graph) -> tuple[ShownStage, ...]:
    found = []
    for stage in stages(plan=plan, graph=graph):
        by_tone: Counter[str] = Counter()
        for state, number in stage.states.items():
            by_tone[TASK_SIGNS[state][1]] += number
        more = f" and {stage.more} more" if stage.more else ""
        first, last = stage.first + 1, stage.last + 1
        found.append(
            ShownStage(
                steps=f"{first}" if first == last else f"{first}–{last}",
                what=", ".join(stage.titles) + more,
                planned=stage.planned,
                counts=tuple(
                    Count(
                        badge=shown,
                        number=by_tone[tone],
                        address=tasks_address(
                            plan.pk,
                            depth__gte=stage.first,
                            depth__lte=stage.last,
                            state__in=",".join(_states(tone)),
                        ),
                    )
                    if by_tone[tone]
                    else None
                    for tone, shown in _TONES.items()
                ),
            )
        )
    return tuple(found)


def _states(tone: str) -> list[str]:
    return [TaskState(state).value for state, (_, one) in TASK_SIGNS.items() if one == tone]
