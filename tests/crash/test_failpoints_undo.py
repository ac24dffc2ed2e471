"""Processes die while orders are given up: what was done is undone once, in the reverse order.

The target systems' own books are the proof: what they were told to undo, how often, and in which
order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fulfillment.engine.work import audit
from fulfillment.models import Attempt, Command, Hold, Plan, TargetSystem
from fulfillment.states import PlanState
from oms.models import CancellationRequest, Order
from tests import desk
from tests.crash import desk_worker
from tests.crash.conftest import Desk
from tests.crash.test_failpoints_language import Life, fast_path
from tests.sandbox import Sandbox

__all__ = ["fast_path"]

# Answers get lost on the way there and back, so that nobody knows what became of an undo.
TROUBLE: tuple[dict[str, Any], ...] = (
    {"match": {"target": "payment", "attempt": 1}, "behaviour": {"kind": "cut_connection"}},
    {
        "match": {"target": "inventory", "action": "undo_one", "attempt": 1},
        "behaviour": {"kind": "cut_connection", "effect": False},
    },
)
TASKS = {
    "one": ("inventory", []),
    "left": ("billing", ["one"]),
    "right": ("payment", ["one"]),
    "last": ("logistics", ["left", "right"]),
}
"""Each is undone by `undo_<name>`, what depends on it before."""
ORDERS = 3
UNDONE = (
    *("unit.before_flush", "unit.before_commit", "settlement.before_successors"),
    *("settlement.inside", "sending.before_claim"),
)
HALF_DONE = ("unit.after_commit", "sending.before_send", "sending.after_send")


def diamond(*, approval: Mapping[str, Any] | None = None, **more: Any) -> None:
    """one → (left, right) → last; `left` may be undone only once somebody agrees, if at all."""
    asked = {} if approval is None else {"left": {"approval": approval}}
    desk.workflow(
        {
            name: desk.task(
                target,
                after=after,
                retry="insistent",
                compensation={
                    **{"action": f"undo_{name}", "input": {}, "retry": "insistent"},
                    **asked.get(name, {}),
                },
            )
            for name, (target, after) in TASKS.items()
        },
        # Who is killed again and again must not use up the attempts.
        retry_policies={"insistent": {"maximum_attempts": 50, "maximum_interval": "PT30S"}},
        **more,
    )


@pytest.fixture
def life(shop: Desk, fast_path: None, sandbox: Sandbox, tmp_path: Path) -> Life:
    sandbox.script(*TROUBLE)
    # Whom somebody kills on purpose again and again is no poison.
    TargetSystem.objects.update(lost_leases_limit=500, breaker_failures=None)
    return Life(shop, tmp_path / "clock")


def under_way(shop: Desk, *, before: str = "logistics") -> list[str]:
    """References of orders of which everything is done that comes before this target system."""
    made = [desk.order() for _ in range(ORDERS)]
    shop.stops_before(before)
    return [order.reference for order in made]


def done_of(sandbox: Sandbox, reference: str) -> list[str]:
    """What the target systems did for an order, in their own order."""
    rows = sandbox.get(f"/ledger/executions?order={reference}&limit=1000")["executions"]
    return [row["action"] for row in rows]


def each_is_undone_once_in_reverse(
    life: Life,
    sandbox: Sandbox,
    *,
    ends: str = "CANCELLED",
    least: Sequence[str] = ("one", "left", "right"),
) -> None:
    """At least these had been done; the last task never."""
    for order in Order.objects.all():
        assert order.state == ends
        found = done_of(sandbox, order.reference)
        done = [action for action in found if not action.startswith("undo_")]
        assert set(least) <= set(done) <= {"one", "left", "right"}
        assert done == found[: len(done)], "nothing is done after the first undo"
        undone = found[len(done) :]
        assert sorted(undone) == sorted(f"undo_{name}" for name in done), "each, and each once"
        for later in done:
            for earlier in TASKS[later][1]:
                assert undone.index(f"undo_{later}") < undone.index(f"undo_{earlier}")
        plan = desk.newest_plan_of(order)
        assert plan.state == ends
        before = Plan.objects.filter(fulfillment_id=order.fulfillment_id, version__lt=plan.version)
        assert set(before.values_list("state", flat=True)) == {"SUPERSEDED"}
        keys = Command.objects.filter(task__state="SUCCEEDED", fulfillment_id=order.fulfillment_id)
        assert keys.count() == len(found)
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    assert not Attempt.objects.filter(finished_at=None).exists()
    assert not Hold.objects.filter(released_at=None).exists()
    life.promises_are_kept()


def every_request_is(state: str) -> None:
    assert list(CancellationRequest.objects.values_list("state", flat=True)) == [state] * ORDERS


@pytest.mark.parametrize(
    ("often", "fast_path"),
    [(UNDONE, "on"), (HALF_DONE, "on"), (("unit.before_commit", "scanning.holding_rows"), "off")],
    indirect=["fast_path"],
    ids=["undone", "half done", "without the fast path"],
)
def test_whoever_dies_between_two_undos_leaves_the_rest_to_the_next(
    shop: Desk, life: Life, sandbox: Sandbox, often: Sequence[str]
) -> None:
    diamond()
    references = under_way(shop)
    life.child("cancel", *references)
    life.lead(often=often, passes=3)
    assert life.died_at >= set(often)
    each_is_undone_once_in_reverse(life, sandbox)
    every_request_is("DONE")


@pytest.mark.parametrize(
    ("point", "is_known"),
    [
        ("cancelling.decided", False),
        ("migrating.superseded", False),
        ("unit.before_commit", False),
        ("unit.after_commit", True),
    ],
)
def test_whoever_dies_while_an_order_is_given_up_leaves_it_here_or_there(
    shop: Desk, life: Life, sandbox: Sandbox, point: str, is_known: bool
) -> None:
    """Superseded and followed by another plan are one transaction, and so is the request."""
    diamond()
    references = under_way(shop)
    life.dies("cancel", *references, at=point)
    assert CancellationRequest.objects.exists() == is_known
    compensating = Plan.objects.filter(state=PlanState.COMPENSATING)
    assert compensating.exists() == is_known
    running = Plan.objects.filter(state=PlanState.RUNNING)
    assert running.count() + compensating.count() == ORDERS
    life.child("cancel", *references)  # The client asks again.
    life.lead()
    each_is_undone_once_in_reverse(life, sandbox)
    every_request_is("DONE")


@pytest.mark.parametrize("point", ["rest.put_off", "cancelling.decided", "unit.before_commit"])
def test_what_is_decided_when_something_has_ended_is_decided_by_the_next(
    shop: Desk, life: Life, sandbox: Sandbox, point: str
) -> None:
    """Calls to the payment provider are under way, and what became of them is to be known first."""
    diamond()
    references = under_way(shop, before="payment")
    shop.dies("work", "payment", at="sending.after_send")
    life.child("cancel", *references)
    every_request_is("ASSESSING")
    shop.later(600)
    shop.child("work", "payment")  # The lost leases are found, and the target is asked.
    shop.later(60)
    life.dies("live", at=point)
    assert CancellationRequest.objects.filter(state="ASSESSING").exists()
    life.lead()
    each_is_undone_once_in_reverse(life, sandbox, least=["one"])
    every_request_is("DONE")


def test_what_a_failure_leads_to_survives_whoever_finds_out(
    shop: Desk, life: Life, sandbox: Sandbox
) -> None:
    """The last task is refused, and its workflow says that all is undone then."""
    sandbox.script(*TROUBLE, {"match": {"target": "logistics"}, "behaviour": {"kind": "reject"}})
    diamond(on_failure="compensate")
    under_way(shop)
    points = ("rest.put_off", "rest.before_undo", "migrating.superseded")
    life.lead(often=["unit.before_commit", "unit.after_commit"], once=points, passes=4)
    assert life.died_at >= {*points, "unit.before_commit"}
    each_is_undone_once_in_reverse(life, sandbox, ends="FAILED")


@pytest.mark.parametrize("point", ["deciding.decided", "unit.before_commit", "unit.after_commit"])
def test_an_approval_stands_before_the_undo_it_is_about(
    shop: Desk, life: Life, sandbox: Sandbox, point: str
) -> None:
    """Somebody agrees, and the process dies: it is asked for again, or undone once."""
    diamond(approval={"queue": "finance", "role": "clerk", "within": "PT1H"})
    references = under_way(shop)
    life.child("cancel", *references)
    desk_worker.work()
    shop.later(60)
    desk_worker.work()
    before = {one: done_of(sandbox, one) for one in references}
    assert all("undo_left" not in done for done in before.values())
    life.dies("live", at=point)
    life.lead(often=["deciding.decided"], passes=2)
    each_is_undone_once_in_reverse(life, sandbox)
    every_request_is("DONE")
