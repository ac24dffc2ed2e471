"""The checker knows what it means to undo: bugs planted in what is given up, changed and asked."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from fulfillment.definitions import revision, undo_graph
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import rest
from fulfillment.engine.work.running import run_unit
from fulfillment.models import Command
from oms.changes import amending, cancelling
from oms.changes.requesting import Wish
from oms.intake.feasibility import request_of
from oms.models import AmendmentRequest, CancellationRequest, Order
from tests import desk
from tests.chaos import checker, rules_undo
from tests.chaos.books import Run, books

TARGETS = {"one": "crm", "two": "payment", "three": "inventory"}


@pytest.fixture
def run(books_run: Run) -> Run:
    """one → two → three, each undone by undo_<name>; what two asks for follows the quantity."""
    publish()
    return books_run


def publish(**more: Any) -> None:
    before: list[str] = []
    tasks: dict[str, Any] = {}
    for name, target in TARGETS.items():
        undo = {"action": f"undo_{name}", "input": {}}
        asked = {"n": "${item.quantity}"} if name == "two" else {}
        tasks[name] = desk.task(target, after=before, compensation=undo, input=asked)
        before = [name]
    desk.workflow(tasks, **more)


def halfway(run: Run, systems: Any, *, items: int = 1) -> Order:
    """Whose last task can't be done yet."""
    systems.sends["three"] = [desk.failed("not_done")] * items
    order = run.order(*(desk.item(item_id=str(n + 1), quantity=1) for n in range(items)))
    desk.drain()
    return order


def cancelled(run: Run, order: Order) -> CancellationRequest:
    request = cancelling.cancel(order=order, requested_by="ann", reason="a test").request
    run.told(cancelled=order.reference, number=request.number, state=str(request.state))
    run.finish()
    return request


def amended(run: Run, order: Order, *, quantity: int = 5, items: int = 1) -> AmendmentRequest:
    order.refresh_from_db()
    before = request_of(order)
    first = replace(before.items[0], quantity=quantity)
    wish = Wish(
        order=replace(before, items=(first, *before.items[1:items])),
        version=order.version + 1,
        reason="a test",
    )
    request = run_unit(
        partial(amending.amend, order_id=order.pk, wish=wish),
        fulfillment_ids=[order.fulfillment_id],
        actor="ann",
    )
    run.told(amended=order.reference, number=request.number, state=str(request.state))
    desk.advance(60)
    run.finish()
    return request


def without_its_undo(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision._Revising, "_is_undone", lambda self, node: node.task != name)


def test_orders_that_are_cancelled_amended_and_undone_break_nothing(run: Run, systems: Any) -> None:
    assert cancelled(run, halfway(run, systems)).state == "UNDOING"
    amended(run, halfway(run, systems, items=2))
    amended(run, halfway(run, systems))
    waiting = halfway(run, systems)
    systems.sends["three"] = [desk.accepted()]
    desk.advance(60)
    desk.drain()
    assert cancelled(run, waiting).state == "ASSESSING"
    assert run.broken(at_the_end=False) == set()
    desk.advance(400)
    sweeping.sweep()
    desk.drain()
    rest.look()
    run.finish()
    assert run.violations() == []
    states = Order.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == ["CANCELLED", "COMPLETED", "COMPLETED", "CANCELLED"]
    assert Command.objects.filter(action__startswith="undo_").count() == 2 + 3 + 1 + 3


def test_an_order_that_is_undone_because_it_failed_breaks_nothing(run: Run, systems: Any) -> None:
    publish(version=2, on_failure="compensate")
    systems.sends["three"] = [desk.rejected("not_done")]
    order = run.order()
    desk.drain()
    rest.look()
    run.finish()
    assert run.violations() == []
    order.refresh_from_db()
    assert order.state == "FAILED"


def test_an_effect_that_a_cancellation_forgets(
    run: Run, systems: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_its_undo("one", monkeypatch)
    cancelled(run, halfway(run, systems))
    found = run.violations()
    assert {violation.rule for violation in found} == {"not-undone"}
    assert rules_undo.orphans(found) == 1


def test_an_effect_that_an_amendment_forgets(
    run: Run, systems: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_its_undo("one", monkeypatch)
    order = halfway(run, systems, items=2)
    amended(run, order, quantity=1, items=1)
    assert run.broken() == {"left-over"}


def test_a_charge_that_is_made_again_and_not_taken_back(
    run: Run, systems: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_its_undo("two", monkeypatch)
    amended(run, halfway(run, systems))
    assert run.broken(at_the_end=False) == {"undone-once"}
    assert checker.counted(run.violations())["duplicates"] == 1


def test_an_undo_that_is_done_twice(run: Run, systems: Any) -> None:
    cancelled(run, halfway(run, systems))
    books[-1].execute(
        "INSERT INTO executions (target, action, idempotency_key, order_reference, "
        "correlation_id, attempt, executed_at, payload_sha256, reference) "
        "SELECT target, action, idempotency_key, order_reference, correlation_id, attempt, "
        "executed_at, payload_sha256, 'again' FROM executions WHERE action = 'undo_two'"
    )
    assert run.broken() == {"one-effect-per-key", "one-effect-per-place", "undone-once"}


def test_an_undo_in_the_wrong_order(
    run: Run, systems: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo_graph, "_undone_after", lambda *_: {})
    order = halfway(run, systems)
    cancelling.cancel(order=order, requested_by="ann", reason="a test")
    desk.drain(["crm"])
    run.finish()
    assert run.broken() == {"undone-too-early"}


def test_what_was_kept_and_undone_all_the_same(run: Run, systems: Any) -> None:
    amended(run, halfway(run, systems))
    last = "(SELECT max(id) FROM executions WHERE action = 'two')"
    books[-1].execute(f"DELETE FROM executions WHERE id = {last}")
    assert run.broken() == {"success-on-evidence", "undone-though-kept"}


def test_an_effect_after_its_order_was_given_up(run: Run, systems: Any) -> None:
    cancelled(run, halfway(run, systems))
    late = "executed_at = '2999-01-01T00:00:00+00:00' WHERE action = "
    books[-1].execute(f"UPDATE executions SET {late} 'two'")
    assert run.broken(at_the_end=False) == {"effect-after-decision"}


def test_something_new_is_sent_while_a_cancellation_waits(run: Run, systems: Any) -> None:
    systems.sends["one"] = [desk.accepted()]
    order = run.order()
    desk.drain()
    cancelled(run, order)
    assert "sent-under-hold" not in run.broken(at_the_end=False)
    assert {"undecided", "stuck"} <= run.broken()
    run.as_owner("UPDATE fulfillment_hold SET placed_at = placed_at - interval '60 s'")
    assert "sent-under-hold" in run.broken(at_the_end=False)


def test_what_is_held_back_for_ever(run: Run, systems: Any) -> None:
    order = halfway(run, systems)
    systems.sends["three"] = [desk.accepted()]
    desk.advance(60)
    desk.drain()
    cancelled(run, order)
    desk.advance(400)
    sweeping.sweep()
    desk.drain()
    rest.look()
    run.finish()
    assert run.broken() == set()
    run.as_owner("UPDATE fulfillment_hold SET released_at = NULL WHERE scope = 'CHANGE'")
    assert "held-for-ever" in run.broken()


def test_a_request_that_was_acknowledged_and_is_gone(run: Run, systems: Any) -> None:
    order = halfway(run, systems)
    cancelled(run, order)
    run.told(cancelled=order.reference, number=2, state="UNDOING")
    run.told(amended=order.reference, number=1, state="APPLIED")
    assert run.broken() == {"lost"}
    assert checker.counted(run.violations())["lost"] == 2


def test_a_request_that_was_denied_after_all(run: Run, systems: Any) -> None:
    cancelled(run, halfway(run, systems))
    run.as_owner("UPDATE oms_cancellationrequest SET state = 'DENIED'")
    assert run.broken() == {"request-turned", "request-and-order", "audit-missing"}


def test_an_order_that_does_not_end_as_its_plan(run: Run, systems: Any) -> None:
    cancelled(run, halfway(run, systems))
    run.as_owner("UPDATE oms_order SET state = 'FAILED'")
    assert {"order-and-plan", "request-and-order"} <= run.broken(at_the_end=False)


def test_a_revision_that_is_overtaken_by_an_older_one(run: Run, systems: Any) -> None:
    order = halfway(run, systems)
    amended(run, order)
    assert run.broken() == set()
    run.as_owner("UPDATE oms_amendmentrequest SET version = 3")
    assert run.broken(at_the_end=False) == {"newest-wins"}
    run.as_owner("UPDATE oms_order SET version = 3")
    assert run.broken(at_the_end=False) == {"order-and-plan"}


def test_two_plans_at_a_time(run: Run, systems: Any) -> None:
    cancelled(run, halfway(run, systems))
    run.as_owner("UPDATE fulfillment_plan SET state = 'CANCELLED' WHERE version = 1")
    assert "one-active-plan" in run.broken(at_the_end=False)
