"""What cancellation promises (reference §19.2), each promise under its own name."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from adapters.contract import Outcome
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import rest
from fulfillment.engine.work import audit
from fulfillment.models import Attempt, Command, Hold, Plan, Task, Transition
from oms.changes import cancelling
from oms.models import Milestone, Notification, Order
from tests import desk
from tests.api import Api
from tests.desk import ScriptedSystems
from tests.integration.test_cancellation import undone_by

pytestmark = pytest.mark.django_db

RESERVED = ("number", "port", "router", "slot")


def reservations() -> None:
    """number → (port, router) → slot: each reserves something, and each can be released."""
    desk.target("alpha", reconcile_after=timedelta(minutes=1))
    after = {"port": ["number"], "router": ["number"], "slot": ["port", "router"]}
    desk.workflow(
        {
            name: desk.task(after=after.get(name, ()), compensation=undone_by(f"release_{name}"))
            for name in RESERVED
        }
        | {"last": desk.task(after=["slot"])},
        milestones={"kept": {"title": "It is kept", "reached_by": "number", "tell": "Kept."}},
    )


def cancelled(order: Order) -> Order:
    """After whatever is under way has been asked for, and everything is undone."""
    cancelling.cancel(order=order, requested_by="a client", reason="Enough.")
    for _ in range(4):
        desk.advance(3600)
        sweeping.sweep()
        desk.finish()
        rest.look()
    order.refresh_from_db()
    return order


@pytest.mark.parametrize("outcome", ["accepted", "unknown", "refused", "had no effect"])
@pytest.mark.parametrize("stops", [*RESERVED, "last"])
def test_no_orphans(systems: ScriptedSystems, stops: str, outcome: str) -> None:
    """Wherever it stands: what was reserved is released, once, and nothing else is."""
    reservations()
    answers: dict[str, Outcome] = {
        "accepted": desk.accepted(),
        "unknown": desk.unknown(),
        "refused": desk.rejected(),
        "had no effect": desk.failed(retryable=False),
    }
    systems.sends[stops] = [answers[outcome]]
    # What is in doubt turns out to be done.
    systems.queries[stops] = [desk.unknown(), desk.succeeded()]
    order = desk.order()
    desk.drain()
    state = {"accepted": "ACCEPTED", "unknown": "OUTCOME_UNKNOWN"}.get(outcome, "FAILED_FINAL")
    assert desk.states_of(order)[f"{stops}@1"] == state
    assert str(cancelled(order).state) == "CANCELLED"
    sent = Counter(systems.actions())
    done = {name for name in RESERVED if sent[name]}
    if outcome in ("refused", "had no effect"):
        done.discard(stops)
    assert {name: sent[f"release_{name}"] for name in RESERVED} == {
        name: int(name in done) for name in RESERVED
    }
    assert not Hold.objects.filter(released_at=None).exists()
    assert not Plan.objects.filter(state__in=["RUNNING", "BLOCKED", "COMPENSATING"]).exists()
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def _history(order: Order) -> dict[str, list[object]]:
    mine = {"fulfillment_id": order.fulfillment_id}
    return {
        "audit": list(Transition.objects.filter(**mine).order_by("sequence").values()),
        "commands": list(Command.objects.filter(**mine).order_by("pk").values()),
        "attempts": list(
            Attempt.objects.filter(command__fulfillment_id=order.fulfillment_id)
            .order_by("pk")
            .values()
        ),
        "done": list(Task.objects.filter(**mine, state="SUCCEEDED").order_by("pk").values()),
    }


def test_history_kept_by_a_cancellation(systems: ScriptedSystems) -> None:
    """It adds to what has happened, and rewrites nothing of it."""
    reservations()
    systems.sends["slot"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    before = _history(order)
    graph = Plan.objects.get().graph_id
    assert str(cancelled(order).state) == "CANCELLED"
    after = _history(order)
    for name, rows in before.items():
        kept = after[name][: len(rows)]
        if name == "done":
            ids = {row["id"] for row in rows}  # type: ignore[index]
            kept = [row for row in after[name] if row["id"] in ids]  # type: ignore[index]
        assert kept == rows, name
        assert len(after[name]) > len(rows), name
    first = Plan.objects.get(version=1)
    assert (first.state, first.graph_id) == ("SUPERSEDED", graph)


def test_committed_state_kept(systems: ScriptedSystems) -> None:
    """What the customer was told stays told, and they are told that it is cancelled."""
    reservations()
    systems.sends["slot"] = [desk.rejected()]
    order = desk.order(customer_email="c@x.example")
    desk.finish()
    milestones = list(Milestone.objects.values())
    told = list(Notification.objects.order_by("pk").values())
    assert [one["name"] for one in milestones] == ["kept"]
    assert {one["occasion"] for one in told} == {"accepted", "milestone:kept"}
    assert str(cancelled(order).state) == "CANCELLED"
    assert list(Milestone.objects.values()) == milestones
    now = list(Notification.objects.order_by("pk").values())
    assert now[: len(told)] == told
    assert {one["occasion"] for one in now[len(told) :]} == {"cancelled"}
    seen = Api().get(f"/orders/{order.reference}").json()
    assert [(one["name"], one["reached_at"] is not None) for one in seen["milestones"]] == [
        ("kept", True)
    ]
    quote = order.cancellations.get().quote
    assert [one["name"] for one in quote["milestones"]] == ["kept"]
