"""The safety nets go on, whatever one row does to them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations, tasks
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning, settlement
from fulfillment.engine.protection import holds
from fulfillment.engine.tasks import outcomes
from fulfillment.errors import GateBusy
from fulfillment.models import Attempt, FalloutCase, HoldScope, Task
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def test_a_hold_that_can_not_be_released_does_not_stop_the_scan(
    systems: ScriptedSystems, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.target("alpha")
    operations.place_hold(
        scope=HoldScope.CUSTOMER,
        name="C-1",
        reason="a test",
        actor=by("a test"),
        until=desk.now() + timedelta(seconds=5),
    )
    clock(10)

    def busy(_: Any) -> None:
        raise GateBusy("a test")

    scans: list[int] = []
    monkeypatch.setattr(holds, "close_gate", busy)
    monkeypatch.setattr(scanning, "scan", lambda: scans.append(1) or 1)
    tasks.scan_runnable()
    assert scans == [1]


def test_leases_that_can_not_be_settled_hide_no_others(
    systems: ScriptedSystems, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.submit_all(*[desk.request() for _ in range(5)])
    claims = desk.claim(limit=5)
    poisoned = {claim.task_id for claim in claims[:2]}
    whole = outcomes.settle_task

    def settle_task(unit: Any, *, task: Any, node: Any, result: Any) -> None:
        if task.pk in poisoned:
            raise ZeroDivisionError
        whole(unit, task=task, node=node, result=result)

    monkeypatch.setattr(settlement, "settle_task", settle_task)
    clock(60)
    with pytest.raises(ZeroDivisionError):
        sweeping.sweep(limit=2)
    left = Attempt.objects.filter(finished_at=None).values_list("task_id", flat=True)
    assert set(left) == poisoned


def test_whatever_is_put_off_is_in_the_way_of_nobody_behind_it(systems: ScriptedSystems) -> None:
    """However many there are: the worker takes one at a time, and goes on when there is none."""
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task()})
    poisoned = [desk.order() for _ in range(7)]
    well = desk.order(priority=-1)
    Task.objects.exclude(fulfillment_id=well.fulfillment_id).update(node=77)
    (claim,) = desk.claim(limit=10)
    assert claim.fulfillment_id == well.fulfillment_id
    assert FalloutCase.objects.filter(category="POISON").count() == len(poisoned)
