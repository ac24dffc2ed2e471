"""Asking before an order is accepted: fair among orders, and never against a pause."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fulfillment import operations
from oms.intake import feasibility
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]
CHECK = {"target": "alpha", "action": "can_it", "scope": "order"}


def test_orders_that_nobody_can_judge_do_not_hide_a_new_one(
    systems: ScriptedSystems, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feasibility, "_BATCH", 2)
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, feasibility=[CHECK])
    systems.sends["can_it"] = [desk.unknown()] * 4
    for _ in range(4):
        desk.order()
    for _ in range(2):
        feasibility.assess()
    clock(600)
    new = desk.order()
    feasibility.assess()
    new.refresh_from_db()
    assert new.state == "IN_PROGRESS"


def test_a_paused_target_is_asked_nothing(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, feasibility=[CHECK])
    order = desk.order()
    operations.pause_target(target="alpha", reason="a test", actor=by("a test"))
    feasibility.assess()
    assert systems.sent == []
    order.refresh_from_db()
    assert (order.state, "paused" in order.waiting_reason) == ("VALIDATING", True)
    operations.resume_target(target="alpha", reason="a test", actor=by("a test"))
    clock(600)
    feasibility.assess()
    order.refresh_from_db()
    assert order.state == "IN_PROGRESS"
