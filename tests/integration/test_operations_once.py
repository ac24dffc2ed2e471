"""An operation whose commit got through and whose reply was lost is not done twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError

from fulfillment import operations
from fulfillment.engine.work import running
from fulfillment.models import Hold, HoldScope
from tests import desk
from tests.desk import ScriptedSystems, by


def test_a_hold_whose_commit_lost_its_reply_is_placed_once(
    committed_db: str, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.target("alpha")
    lost: list[str] = []

    def reach(name: str) -> None:
        if name == "unit.after_commit" and not lost:
            lost.append(name)
            raise OperationalError("the connection was cut at COMMIT")

    monkeypatch.setattr(running.failpoints, "reach", reach)
    operations.place_hold(
        scope=HoldScope.CUSTOMER,
        name="C-1",
        reason="x",
        actor=by("x"),
        patience=timedelta(0),
    )
    assert lost
    assert Hold.objects.count() == 1
