"""The engine against the model, in whatever order things may happen."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from hypothesis import given
from pytest_django import DjangoDbBlocker

from fulfillment import stuck
from fulfillment.engine.dispatch import sending
from fulfillment.engine.work import audit
from fulfillment.models import Transition
from tests import desk
from tests.properties.scenarios import (
    LONG,
    Advance,
    Answer,
    Asked,
    Begin,
    Deliver,
    Drain,
    EndJob,
    Part,
    Scenario,
    Sweep,
    scenarios,
)
from tests.properties.search import search
from tests.properties.side_by_side import Run
from tests.properties.world import Ending, Fate
from tests.turns import also_turning


def play(scenario: Scenario, blocker: DjangoDbBlocker, *, kind: type[Run] = Run) -> None:
    """Everything that must hold, in a transaction of its own that leaves nothing behind."""
    with (
        blocker.unblock(),
        override_settings(OMS_FAST_PATH=scenario.fast_path),
        also_turning(len(scenario.steps) % 2 == 1),
        transaction.atomic(),
    ):
        sending._drains.clear()
        run = kind(scenario)
        for step in scenario.steps:
            run.take(step)
        run.finish()
        everything_ended(run)
        run.tell_the_truth_late()
        run.finish()
        history_is_whole(run)
        transaction.set_rollback(True)


def everything_ended(run: Run) -> None:
    """Liveness: completed, or blocked and shown to a person with the reason."""
    stuck.detect_stuck()
    for order in run.orders:
        order.refresh_from_db()
        plan = desk.plan_of(order)
        if plan.fulfillment_id in run.shop.waiting_orders:
            continue  # For what somebody keeps who waits for a person.
        assert (plan.state, order.state) in {
            ("COMPLETED", "COMPLETED"),
            ("BLOCKED", "IN_PROGRESS"),
        }
        assert (plan.stuck_at is not None) == (plan.state == "BLOCKED")
        assert plan.blocked_reason in plan.stuck_reason


def history_is_whole(run: Run) -> None:
    assert not Transition.objects.filter(name="conflicting_outcome").exists()
    last: dict[tuple[int, str, str], str] = {}
    for row in Transition.objects.order_by("fulfillment_id", "sequence"):
        entity = (row.fulfillment_id, row.entity, row.entity_id)
        assert row.from_state == last.get(entity, "PENDING" if row.entity == "task" else "")
        last[entity] = row.to_state
    for order in run.orders:
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []
        order.refresh_from_db()
        plan = desk.plan_of(order)
        assert last[plan.fulfillment_id, "order", order.reference] == order.state
        assert last[plan.fulfillment_id, "plan", str(plan.pk)] == plan.state
        for task in plan.tasks.all():
            assert last.get((plan.fulfillment_id, "task", str(task.pk)), "PENDING") == task.state


@search(quick=100)
@given(scenario=scenarios())
def test_the_engine_does_what_the_model_says(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, scenario: Scenario
) -> None:
    play(scenario, django_db_blocker)


# --- what the search has found, or must be able to find ---------------------------------------

SILENCE = (Drain(0, (Fate.LOST,)), Advance(LONG))
SWEPT = (Advance(LONG), Sweep(), Advance(LONG))
ANSWERED = Answer((0,))
FOUND = {
    "a late report of an earlier failure says nothing about the send that had its effect": (
        "asks",
        *(Begin(0, (Fate.TAKEN,)), ANSWERED, EndJob(0, Ending.FAILED), *SWEPT),
        *(Drain(0, (Fate.DONE,)), Advance(LONG), Begin(0, (Fate.DONE,))),
        *(Deliver(0), Advance(LONG), Begin(0, (Fate.DONE,))),
    ),
    "two silent queries about a job that then failed don't count against the next send": (
        "asks",
        *(Begin(0, (Fate.TAKEN,)), ANSWERED, *SWEPT, *SILENCE, *SILENCE),
        *(EndJob(0, Ending.FAILED), Deliver(0), Advance(LONG)),
        *(Begin(0, (Fate.DONE_UNHEARD,)), ANSWERED, Advance(LONG), *SILENCE),
    ),
    "a failure after a lost answer does not mean that nothing happened": (
        "keys",
        *(Begin(0, (Fate.DONE_UNHEARD,)), ANSWERED, Advance(LONG)),
        *(Begin(0, (Fate.TURNED_AWAY,)), ANSWERED),
    ),
    "a failure that an overtaken call tells late says nothing about the call after it": (
        "asks",
        *(Begin(0, (Fate.BUSY,)), *SWEPT, Drain(0, (Fate.DONE,)), Advance(LONG)),
        *(Begin(0, (Fate.DONE,)), ANSWERED, Advance(LONG), Begin(0, (Fate.DONE,))),
    ),
    "a send that the target had not seen when asked may still arrive, and fail": (
        "asks",
        *(Begin(0, (Fate.LOST,)), *SWEPT, Drain(0, (Fate.DONE,)), Advance(LONG)),
        *(Begin(0, (Fate.TAKEN,)), ANSWERED, EndJob(0, Ending.FAILED), Deliver(0)),
    ),
    "a send that never left is not the one that a report of a failure speaks of": (
        "asks",
        *(Drain(0, (Fate.NOT_SENT,)), Advance(LONG), Begin(0, (Fate.TAKEN,))),
        *(EndJob(0, Ending.FAILED), Deliver(0)),
    ),
}


@pytest.mark.parametrize("found", FOUND.values(), ids=FOUND)
def test_the_engine_does_it_here_too(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, found: tuple[Any, ...]
) -> None:
    target, *steps = found
    workflow = (Part(target, maximum_attempts=4),)
    scenario = Scenario(workflow=workflow, orders=(Asked(),), fast_path=True, steps=tuple(steps))
    play(scenario, django_db_blocker)
