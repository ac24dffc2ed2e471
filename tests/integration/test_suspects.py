"""A suspect keeps nobody waiting for longer than it takes to be alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fulfillment.engine.dispatch import sweeping
from fulfillment.models import Task
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def test_one_suspect_and_a_stream_of_doubts_do_not_stop_the_sends(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha", maximum_queries=1000)
    desk.workflow({"one": desk.task()})
    for _ in range(6):
        desk.order()
    doubtful = desk.claim(limit=4)
    desk.settle(*[desk.result(c, desk.unknown()) for c in doubtful])
    suspect = Task.objects.filter(state="READY").order_by("id")[0]
    Task.objects.filter(pk=suspect.pk).update(lost_leases=2)
    sent = []
    # As a drain does: something is claimed whenever one answer has arrived.
    flying = desk.claim(limit=16)
    for _ in range(40):
        sent += [c.task_id for c in flying if c.purpose == "SEND"]
        if len(set(sent)) == 2:
            break
        if flying:
            done = flying.pop(0)
            outcome = desk.succeeded() if done.purpose == "SEND" else desk.unknown()
            desk.settle(desk.result(done, outcome))
        flying += desk.claim(limit=16 - len(flying), alone=not flying)
    assert suspect.pk in sent
    assert len(set(sent)) == 2


def test_a_lost_question_counts_although_another_has_been_asked_since(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    desk.target("alpha", lost_leases_limit=3)
    desk.workflow({"one": desk.task()})
    desk.order()
    desk.claim()
    clock(30)
    sweeping.sweep()  # the send is lost
    clock(10)
    assert len(desk.claim()) == 1
    clock(30)
    assert len(desk.claim()) == 1
    sweeping.sweep()  # the first question is lost while the second is under way
    assert Task.objects.get().lost_leases == 2
    clock(30)
    sweeping.sweep()
    task = Task.objects.get()
    assert (task.lost_leases, task.state) == (3, "AWAITING_MANUAL")
