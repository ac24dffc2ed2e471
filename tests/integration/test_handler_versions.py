"""Handler versions: what orders in flight were planned for must stay, and is missed when not."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from adapters.contract import Command
from adapters.python_function import HANDLERS
from fulfillment.pinned import Missing, missing
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HANDLERS, "_send", {})


def handle(action: str, calls: list[str]) -> None:
    def work(command: Command) -> None:
        calls.append(command.action)

    work.__qualname__ = action
    HANDLERS.handler(target="crm", action=action)(work)


def planned(version: int, action: str) -> None:
    desk.target("crm", adapter="python")
    desk.workflow({"first": desk.task("crm", action=action)}, version=version)


def test_each_order_is_served_by_the_handler_that_it_was_planned_for(
    systems: ScriptedSystems,
) -> None:
    calls: list[str] = []
    handle("update", calls)
    planned(1, "update")
    old = desk.order(priority=9)
    handle("update_v2", calls)
    planned(2, "update_v2")
    new = desk.order()
    desk.drain()
    assert calls == ["update", "update_v2"]
    assert {desk.plan_of(order).state for order in (old, new)} == {"COMPLETED"}


def test_a_handler_that_active_orders_still_need_is_missed(systems: ScriptedSystems) -> None:
    planned(1, "update")
    order = desk.order()
    handle("update_v2", [])
    assert missing() == [
        Missing(target="crm", action="update", orders=1, why="no function handles it")
    ]
    out = StringIO()
    with pytest.raises(CommandError, match="Keep these handlers"):
        call_command("targets", "check", stdout=out)
    assert out.getvalue() == "crm.update: no function handles it; 1 active orders\n"
    handle("update", [])
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_what_nobody_needs_any_more_may_go(systems: ScriptedSystems) -> None:
    handle("update", [])
    planned(1, "update")
    desk.order()
    desk.drain()
    HANDLERS._send.clear()
    assert missing() == []
    call_command("targets", "check", stdout=(out := StringIO()))
    assert "is there" in out.getvalue()
