"""An operation whose commit got through and whose reply was lost is not done twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.work import running
from fulfillment.models import Hold, HoldScope, Operation
from tests import by_hand, desk, people
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


def test_an_approval_whose_commit_lost_its_reply_is_told_as_done(
    committed_db: str, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.target("alpha", domain="logistics")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    asked = by_hand.request(Action.TASK_SKIP, f"task:{order.reference}/one@1")
    approval = by_hand.asked_for(asked, actor=people.anybody("anna", Action.TASK_SKIP))
    lost: list[str] = []

    def reach(name: str) -> None:
        if name == "unit.after_commit" and not lost:
            lost.append(name)
            raise OperationalError("the connection was cut at COMMIT")

    senior = people.senior()
    monkeypatch.setattr(running.failpoints, "reach", reach)
    row, done = operations.approve(approval_id=approval.pk, actor=senior, reason="Agreed.")
    assert lost
    assert (str(row.state), done.record) == ("EXECUTED", Operation.objects.get(kind="skip").pk)
