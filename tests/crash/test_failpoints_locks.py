"""Processes die while orders keep locks and wait for them: no lock is lost, leaked or given twice,
and no slot of a target system that takes one call at a time.

What the target systems were asked is the proof: while somebody keeps a lock nobody else's command
under it comes to them, however often those who sent it died.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from fulfillment.engine.plans import scanning
from fulfillment.engine.work import audit
from fulfillment.models import (
    Attempt,
    Command,
    LockRelease,
    ResourceLock,
    TargetSystem,
    Task,
)
from oms.models import Order
from tests import desk
from tests.crash.conftest import Desk
from tests.crash.test_failpoints_language import Life, fast_path
from tests.sandbox import Sandbox

__all__ = ["fast_path"]

# Answers get lost, so that nobody knows what became of a command, and locks are kept meanwhile.
TROUBLE: tuple[dict[str, Any], ...] = (
    {"match": {"target": "inventory", "attempt": 1}, "behaviour": {"kind": "cut_connection"}},
    {"match": {"target": "payment", "attempt": 1}, "behaviour": {"kind": "cut_connection"}},
    {"match": {"target": "crm", "attempt": 1}, "behaviour": {"kind": "status", "status": 503}},
)
IN_A_CLAIM = ("sending.before_claim", "unit.before_flush", "unit.before_commit")
ON_THE_WIRE = ("unit.after_commit", "sending.before_send", "sending.after_send")
IN_A_SETTLEMENT = ("settlement.before_successors", "settlement.inside", "sending.after_query")
CALLING_UP = ("locking.released_not_called_up", "locking.calling_up", "locking.called_up")


@pytest.fixture
def life(shop: Desk, fast_path: None, sandbox: Sandbox, tmp_path: Path) -> Life:
    """Orders of two customers: each order keeps its customer, and `reserve` the only dock."""
    sandbox.script(*TROUBLE)
    # Whom somebody kills on purpose again and again is no poison.
    TargetSystem.objects.update(lost_leases_limit=500, breaker_failures=None, concurrency_limit=1)
    locks = {"dock": [{"resource": "dock", "key": "${order.region}"}]}
    desk.workflow(
        {
            "reserve": desk.task("inventory", locks=locks["dock"]),
            "note": desk.task("crm"),
            "pay": desk.task("payment", after=["reserve", "note"]),
        },
        locks=[{"resource": "customer", "key": "${order.customer.id}"}],
    )
    desk.submit_all(*(desk.request(region="AT", customer_id=f"C-{n % 2}") for n in range(4)))
    return Life(shop, tmp_path / "clock")


@pytest.mark.parametrize(
    ("often", "once", "fast_path"),
    [
        ([*IN_A_CLAIM, *ON_THE_WIRE], ["sweeping.before_settling"], "on"),
        (IN_A_SETTLEMENT, CALLING_UP, "on"),
        (["unit.before_commit"], ["locking.calling_up", "scanning.holding_rows"], "off"),
    ],
    indirect=["fast_path"],
    ids=["in a claim", "in a settlement", "without the fast path"],
)
def test_whoever_dies_leaves_no_lock_and_no_slot_behind_and_gives_none_twice(
    life: Life, sandbox: Sandbox, often: Sequence[str], once: Sequence[str]
) -> None:
    life.lead(often=often, once=once, passes=3)
    assert life.died_at >= {*often, *once}
    assert set(Order.objects.values_list("state", flat=True)) == {"COMPLETED"}
    scanning.scan()
    assert not ResourceLock.objects.exists()
    assert not LockRelease.objects.exists()
    assert not Attempt.objects.filter(finished_at=None).exists()
    assert not Task.objects.exclude(waits_for_lock="").exists()
    everything_was_done_once(sandbox)
    customers = dict(Order.objects.values_list("reference", "customer_id"))
    requests = sandbox.get("/ledger/requests?limit=1000")["requests"]
    one_after_the_other([r["idempotency_key"] for r in requests if r["target"] == "inventory"])
    for customer in set(customers.values()):
        asked = [r["order_reference"] for r in requests]
        one_after_the_other([one for one in asked if customers[one] == customer])


def everything_was_done_once(sandbox: Sandbox) -> None:
    for order in Order.objects.all():
        effects = sandbox.effects(order.reference)
        commands = Command.objects.filter(fulfillment_id=order.fulfillment_id)
        assert set(commands.values_list("idempotency_key", flat=True)) == set(effects)
        assert set(effects.values()) == {1}
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def one_after_the_other(asked: Sequence[str]) -> None:
    """Whoever comes again has not let anybody in between."""
    turns = [who for who, _ in groupby(asked)]
    assert len(turns) == len(set(turns)) > 1
