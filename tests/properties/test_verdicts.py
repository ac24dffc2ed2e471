"""Whatever happens in whatever order, every task ends as its target system's deeds demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.engine.dispatch import sending, sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.work import audit
from fulfillment.models import Plan, Task, Transition
from fulfillment.states import TASK_MOVING, TASK_SUCCESSFUL, TASK_TERMINAL, TaskState
from oms.models import Order
from tests import desk
from tests.properties.scripted import Died, World
from tests.properties.search import search
from tests.properties.verdicts import Deed, Step, System, outcome

pytestmark = pytest.mark.django_db

ATTEMPTS = 3
RETRY = {"initial_interval": "PT1S", "maximum_interval": "PT5S", "maximum_attempts": ATTEMPTS}
_ROUNDS = 60


@dataclass(frozen=True, kw_only=True)
class Story:
    """A plan, its target systems, and what the engine's parts are asked to do in which order."""

    systems: dict[str, System]
    steps: tuple[Step, ...]
    moves: tuple[tuple[str, int], ...]
    fast_path: bool


@st.composite
def stories(draw: st.DrawFn) -> Story:
    systems = {
        f"system{number}": System(idempotent=draw(st.booleans()), status_query=draw(st.booleans()))
        for number in range(draw(st.integers(1, 3)))
    }
    steps = []
    for number in range(draw(st.integers(1, 7))):
        system = draw(st.sampled_from(sorted(systems)))
        after = draw(st.lists(st.sampled_from([s.name for s in steps]), unique=True, max_size=3)
                     if steps else st.just([]))  # fmt: skip
        # What the order needs may only wait for what it needs.
        needed = {step.name for step in steps if step.required}
        required = not steps or (needed.issuperset(after) and draw(st.integers(0, 3)) > 0)
        steps.append(
            Step(
                name=f"t{number}",
                after=tuple(sorted(after)),
                required=required,
                system=system,
                script=tuple(draw(st.lists(_deeds(systems[system]), max_size=4))),
            )
        )
    move = st.tuples(st.sampled_from(sorted(_MOVES)), st.integers(0, 5))
    return Story(
        systems=systems,
        steps=tuple(steps),
        moves=tuple(draw(st.lists(move, max_size=25))),
        fast_path=draw(st.booleans()),
    )


def _deeds(system: System) -> st.SearchStrategy[Deed]:
    # Who accepts, and then neither reports in time nor can be asked, is sent to once more, and
    # then it depends on the clock which deed of the script is the last.
    askable = system.status_query or not system.idempotent
    return st.sampled_from([deed for deed in Deed if askable or deed is not Deed.ACCEPTED])


def _drain(world: World, number: int) -> None:
    names = sorted(world.systems)
    try:
        sending.drain(target=names[number % len(names)])
    except Died:
        sending._drains.clear()  # what it had in memory went with it


_MOVES = {
    "drain": _drain,
    "scan": lambda _, number: scanning.scan(),
    "sweep": lambda _, number: sweeping.sweep(),
    "wait": lambda _, number: desk.advance(10.0**number / 100),
    "report": lambda world, number: world.report(number),
}


@search(quick=170)
@given(story=stories())
def test_the_engine_ends_where_the_model_says(systems: Any, story: Story) -> None:
    with transaction.atomic(), override_settings(OMS_FAST_PATH=story.fast_path):
        _live(story)
        transaction.set_rollback(True)


def _live(story: Story) -> None:
    sending._drains.clear()
    desk.systems = world = World(
        steps={step.name: step for step in story.steps}, systems=story.systems
    )
    for name, system in story.systems.items():
        # One call at a time: whoever dies has exactly one in hand.
        desk.target(
            name, idempotent=system.idempotent, status_query=system.status_query, sender_slots=1
        )
    desk.workflow(
        {
            step.name: desk.task(step.system, after=step.after, required=step.required, retry=RETRY)
            for step in story.steps
        }
    )
    order = desk.order()
    for name, number in story.moves:
        _MOVES[name](world, number)
        _holds_at_any_time(order, world)
    _until_nothing_moves(order, world)
    _holds_at_any_time(order, world)
    _ended_as_the_model_says(order, story)


def _until_nothing_moves(order: Order, world: World) -> None:
    """Time passes, and everybody does what they always do."""
    for _ in range(_ROUNDS):
        desk.advance(400)
        for number in range(len(world.to_report)):
            world.report(number)
        sweeping.sweep()
        scanning.scan()
        for number in range(len(world.systems)):
            _drain(world, number)
        if desk.plan_of(order).state in ("COMPLETED", "BLOCKED") and not world.to_report:
            return
        if desk.plan_of(order).state == "COMPLETED":
            return
    plan = desk.plan_of(order)
    assert plan.state == "BLOCKED", f"it hangs: {plan.state}, {desk.states_of(order)}"


def _holds_at_any_time(order: Order, world: World) -> None:
    plan = Plan.objects.get(fulfillment_id=order.fulfillment_id)
    tasks = list(Task.objects.filter(plan=plan))
    _counters_are_true(plan, tasks)
    assert max(world.effects.values(), default=0) <= 1, "one effect per key"
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    last = {
        (row.entity, row.entity_id): row.to_state
        for row in Transition.objects.filter(fulfillment_id=order.fulfillment_id)
    }
    order.refresh_from_db()
    assert last["order", order.reference] == order.state
    assert last["plan", str(plan.pk)] == plan.state
    for task in tasks:
        assert last.get(("task", str(task.pk)), "PENDING") == task.state
    if plan.state == "BLOCKED":
        assert plan.blocked_reason


def _counters_are_true(plan: Plan, tasks: Sequence[Task]) -> None:
    states = Counter(TaskState(task.state) for task in tasks)
    needed = [TaskState(task.state) for task in tasks if task.required]
    assert plan.tasks_open == sum(n for s, n in states.items() if s not in TASK_TERMINAL)
    assert plan.mandatory_open == sum(state not in TASK_SUCCESSFUL for state in needed)
    assert plan.moving == sum(n for s, n in states.items() if s in TASK_MOVING)


def _ended_as_the_model_says(order: Order, story: Story) -> None:
    completes, states = outcome(steps=story.steps, systems=story.systems, attempts=ATTEMPTS)
    assert desk.states_of(order) == {f"{name}@1": state.value for name, state in states.items()}
    assert desk.plan_of(order).state == ("COMPLETED" if completes else "BLOCKED")
    assert order.state == ("COMPLETED" if completes else "IN_PROGRESS")
