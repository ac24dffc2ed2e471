"""Processes die at every step of the shipped workflows: decisions, lists, people, reports, times.

One order of each lives from its submission to its end in processes of which each dies at the
second pass of a failpoint: hardly a unit of work that is not killed once. What becomes of the
orders is what becomes of them when nobody dies, and the checker of the chaos runs finds nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from fulfillment.models import Task
from oms.models import Order
from tests.chaos import checker
from tests.chaos.evidence import collected
from tests.crash import desk_worker
from tests.crash.conftest import Desk, Nursery
from tests.sandbox import Sandbox

SAMPLES = (
    *("broadband/with-router", "customer-data-etl/daily", "daily-report/one-day"),
    *("data-refresh/one-day", "payment-pipeline/card", "prior-authorisation/experimental"),
    *("product-return/medium", "purchase-approval/large", "retention-cleanup/one-week"),
    *("support-case/simple", "transfer-risk/high", "user-registration/web"),
    "nightly-backup/one-night",
)
# A gateway that is closed, a file that nobody can read, and answers that get lost.
TROUBLE: tuple[dict[str, Any], ...] = (
    {
        "match": {"target": "payment", "action": "authorise"},
        "behaviour": {"kind": "reject", "code": "closed"},
    },
    {
        "match": {"target": "data-platform", "action": "enrich_partition"},
        "times": 1,
        "behaviour": {"kind": "reject", "code": "corrupt_file"},
    },
    {
        "match": {"target": "risk", "attempt": 1},
        "behaviour": {"kind": "cut_connection"},
    },
    {
        "match": {"target": "finance", "attempt": 1},
        "behaviour": {"kind": "cut_connection", "effect": False},
    },
)
ENDS = {
    "AUT-9003": (
        "check_coverage compliance_review insurance_review issue medical_director route tell"
    ),
    "BUY-6003": (
        "approval approval/finance_review approval/manager_approval approval/route "
        "approval~inputs outcome place_order tell validate"
    ),
    "ETL-4001": (
        "archive enrich 9×enrich[] enrich[]:FAILED_FINAL enrich~each extract_profiles "
        "extract_transactions join_transactions load report"
    ),
    "NET-1001": (
        "activate appointment install install~3 reserve_port router_delivered ship_router "
        "start_billing update_installed_base welcome"
    ),
    "PAY-3001": (
        "authorise capture_at_backup check_fraud choose_gateway notify record screen validate"
    ),
    "REG-5001": "create_account create_profile send_welcome set_preferences track_signup",
    "RET-7002": (
        "approval approval/manager_approval approval/route approval~inputs check_fraud "
        "outcome receive_goods refund register restock screen tell"
    ),
    "SUP-9501": (
        "close open route specialist_after_tier_1 specialist_after_tier_1/reproduce "
        "specialist_after_tier_1/solve specialist_after_tier_1~inputs tier_1"
    ),
    "TRF-8003": "assess compliance_check legal_review manual_review record route transfer",
    "daily-report-2026-09-01": "data_is_fresh make_report 3×make_report[] make_report~each send",
    "data-refresh-2026-09-01": "refresh verify",
    "nightly-backup-2026-09-01": "back_up 2×back_up[] back_up~each drop_old verify",
    "retention-cleanup-2026-09-06": "delete 3×delete[] delete~each find guard report",
}
"""What becomes of each order: its tasks, with their states unless they succeeded."""
POINTS = (
    *("unit.before_flush", "unit.before_commit", "unit.after_commit"),
    *("settlement.before_successors", "settlement.inside"),
    *("sending.before_claim", "sending.before_send", "sending.after_send", "sending.after_query"),
    *("signal.stored_not_applied", "signal.applied_not_marked"),
    *("replies.popped_before_recorded", "replies.recorded_before_acked"),
    *("sweeping.before_settling", "feasibility.before_deciding"),
)
_PROGRESS = """
SELECT (SELECT sum(audit_sequence) FROM fulfillment_fulfillment),
       (SELECT count(*) + count(finished_at) FROM fulfillment_attempt),
       (SELECT count(*) FROM fulfillment_signal WHERE applied),
       (SELECT count(*) FROM fulfillment_signal)
"""
_NEXT = """
SELECT min(due) - fulfillment_now() FROM (
    SELECT not_before AS due FROM fulfillment_task
    WHERE state IN ('READY', 'ACCEPTED', 'FAILED_RETRYABLE', 'OUTCOME_UNKNOWN')
    UNION ALL SELECT lease_expires_at FROM fulfillment_attempt WHERE finished_at IS NULL
) v WHERE due > fulfillment_now()
"""
_MOST_IDLE = 60
"""Processes in a row that change nothing: more than wait for what is done in real time."""


class Life:
    """The orders of one test, and what kills those who work on them."""

    def __init__(self, shop: Desk, nursery: Nursery) -> None:
        self._shop = shop
        self._nursery = nursery
        self.deaths = 0

    def lead(self, *, failpoint: str = "") -> None:
        """From wherever the orders are to their end; each process dies at its second pass."""
        passes, idle, before = 2, 0, self._progress()
        while desk_worker.unfinished() and idle < _MOST_IDLE:
            point = f"{failpoint}@{passes}" if failpoint else ""
            died = self._nursery.child("live", failpoint=point)
            now = self._progress()
            self.deaths += died
            # One that dies at the same place for ever would get nowhere.
            passes = passes + 1 if died and now == before else 2
            idle = idle + 1 if now == before else 0
            if not died and now == before:
                self._shop.later(self._until_something_is_due())
            before = now
        if not desk_worker.unfinished():
            return
        states = Task.objects.exclude(state="SUCCEEDED").values_list("key", "state")
        pytest.fail(f"It does not go on; open: {sorted(states)}")

    def dies(self, verb: str, *arguments: str, at: str) -> None:
        assert self._nursery.child(verb, *arguments, failpoint=at), f"{at} was never reached"
        self.deaths += 1

    def child(self, verb: str, *arguments: str) -> None:
        assert not self._nursery.child(verb, *arguments)

    def ends(self) -> dict[str, str]:
        """What has become of each order: its tasks, with their states unless they succeeded."""
        found = {}
        for order in Order.objects.exclude(state="COMPLETED"):
            found[order.external_id] = f"is {order.state}"
        for order in Order.objects.filter(state="COMPLETED"):
            tasks = Task.objects.filter(fulfillment_id=order.fulfillment_id, round=0)
            ends = Counter(
                re.sub(r"\[\d+\]", "[]", task.key.partition("@")[0] + task.key.partition("@1")[2])
                + (f":{task.state}" if task.state != "SUCCEEDED" else "")
                for task in tasks
            )
            found[order.external_id] = " ".join(
                f"{n}×{name}" if n > 1 else name for name, n in sorted(ends.items())
            )
        return found

    def promises_are_kept(self, database_url: str) -> None:
        self._shop.every_event_is_published()
        with collected(
            database_url=database_url, ledger=self._shop.sandbox.ledger, client_log=None
        ) as evidence:
            assert evidence.executions
            assert checker.check(evidence) == []

    def _progress(self) -> Any:
        with connection.cursor() as raw:
            raw.execute(_PROGRESS)
            return raw.fetchone()

    def _until_something_is_due(self) -> float:
        with connection.cursor() as raw:
            raw.execute(_NEXT)
            (pause,) = raw.fetchone()
        # What the sandbox does later it does in real time; it is asked until it has.
        return max(1.0, (pause or timedelta(seconds=1)).total_seconds() + 0.01)


@pytest.fixture
def life(shop: Desk, nursery: Nursery, sandbox: Sandbox, redis_url: str) -> Life:
    sandbox.kill()
    sandbox.start("--broker", redis_url)  # Technicians are reached by messages.
    sandbox.script(*TROUBLE)
    return Life(shop, nursery)


def test_nobody_dies(life: Life, committed_db: str) -> None:
    """With this the others are compared."""
    life.child("submit", *SAMPLES)
    life.lead()
    assert life.ends() == ENDS
    life.promises_are_kept(committed_db)


@pytest.mark.parametrize("point", POINTS)
def test_every_step_is_killed_once(life: Life, committed_db: str, point: str) -> None:
    life.child("submit", *SAMPLES)
    life.lead(failpoint=point)
    assert life.deaths >= 1
    assert life.ends() == ENDS
    life.promises_are_kept(committed_db)
