"""Processes die at every step of the shipped workflows: decisions, lists, people, reports, times.

One order of each lives from its submission to its end in processes of which each dies at some
failpoint. What becomes of the orders is what becomes of them when nobody dies, and the checker of
the chaos runs finds nothing.
"""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import call_command

from fulfillment.models import FalloutCase, Plan, TargetSystem, Task
from oms.models import Order
from tests.chaos import checker
from tests.chaos.evidence import Violation, collected
from tests.chaos.shop import with_a_note
from tests.crash import desk_worker
from tests.crash.conftest import Desk
from tests.sandbox import Sandbox
from tests.waiting import until

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
UNDONE = (
    *("unit.before_flush", "unit.before_commit", "settlement.before_successors"),
    *("settlement.inside", "sending.before_claim"),
)
HALF_DONE = ("unit.after_commit", "sending.before_send", "sending.after_send")
SLOW = ("unit.before_commit", "unit.after_commit", "settlement.inside")
"""Without the fast path: everything is found by the scanner."""
SELDOM = (
    *("feasibility.before_deciding", "sweeping.before_settling", "sending.after_query"),
    *("signal.stored_not_applied", "signal.applied_not_marked"),
    *("replies.popped_before_recorded", "replies.recorded_before_acked"),
    "outbox.streamed_before_marked",
)
"""Passed a few times in the life of the orders: whoever comes by there first dies."""

REPORTED = ("callback.stored_not_applied", "callback.committed_before_200")
"""On the way of a single reply, of which nothing is left to do after the second."""


class Life:
    """The orders of one test, and what kills those who work on them."""

    def __init__(self, shop: Desk, clock: Path) -> None:
        self._shop = shop
        self._clock = clock

    def lead(
        self, *, often: Sequence[str] = (), once: Sequence[str] = (), passes: int = 12
    ) -> None:
        """From wherever the orders are to their end.

        Whoever works on them dies: at the points of `once` the first time that somebody comes by,
        and at one of `often`, each in turn, after as many passes as the dice say, `passes` at most.
        """
        dice, turns = random.Random(len(often)), cycle(often or [""])
        while True:
            points = [f"{point}@1" for point in once if not self._shop.deaths[point]]
            if point := next(turns):
                points.append(f"{point}@{dice.randint(2, passes)}")
            if not self._child(",".join(points)):
                break
        if desk_worker.unfinished():
            reasons = FalloutCase.objects.filter(state="OPEN").values_list("title", "explanation")
            pytest.fail(f"It does not go on: {sorted(reasons)}")

    def _child(self, failpoint: str) -> bool:
        self._clock.write_text(str(self._shop.clock_seconds))
        died = self._killed("live", str(self._clock), failpoint=failpoint)
        self._shop.later(float(self._clock.read_text()) - self._shop.clock_seconds)
        return died

    def dies(self, verb: str, *arguments: str, at: str) -> None:
        if verb == "live":
            assert self._child(at), f"{at} was never reached"
        else:
            self._shop.dies(verb, *arguments, at=at)

    def child(self, verb: str, *arguments: str) -> None:
        assert not self._killed(verb, *arguments)

    def _killed(self, *arguments: str, failpoint: str = "") -> bool:
        """Whether it died at the failpoint; an error of its own fails the test."""
        ended = self._shop.child(*arguments, failpoint=failpoint)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        return ended.returncode != 0

    @property
    def died_at(self) -> set[str]:
        return set(self._shop.deaths)

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

    def promises_are_kept(self) -> None:
        self._shop.every_event_is_published()
        # A reply comes again when whoever fetched it has died; somebody has to fetch it.
        until(lambda: self._found() == [] or self.child("hear"))
        assert self._found() == []

    def _found(self) -> list[Violation]:
        with collected(
            database_url=self._shop.url, ledger=self._shop.sandbox.ledger, client_log=None
        ) as evidence:
            assert evidence.executions
            return checker.check(evidence)


@pytest.fixture
def fast_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the children: whether what becomes runnable is selected at once, or by the scanner."""
    monkeypatch.setenv("OMS_FAST_PATH", getattr(request, "param", "on"))


@pytest.fixture
def life(shop: Desk, fast_path: None, sandbox: Sandbox, redis_url: str, tmp_path: Path) -> Life:
    sandbox.kill()
    sandbox.start("--broker", redis_url)  # Technicians are reached by messages.
    sandbox.script(*TROUBLE)
    # Whom somebody kills on purpose again and again is no poison.
    TargetSystem.objects.update(lost_leases_limit=50)
    TargetSystem.objects.filter(name=desk_worker.BY_MESSAGE).update(
        settings={"queue": "fieldwork", "reply_queue": "fieldwork.replies", "redelivery_after": 1}
    )
    return Life(shop, tmp_path / "clock")


def test_nobody_dies(life: Life) -> None:
    """With this the others are compared."""
    life.child("submit", *SAMPLES)
    life.lead()
    assert life.died_at == set()
    assert life.ends() == ENDS
    life.promises_are_kept()


@pytest.mark.parametrize(
    ("often", "once", "fast_path"),
    [
        (UNDONE, (), "on"),
        (HALF_DONE, REPORTED, "on"),
        ((), SELDOM, "on"),
        (SLOW, ["scanning.holding_rows"], "off"),
    ],
    indirect=["fast_path"],
    ids=["undone", "half done", "seldom", "without the fast path"],
)
def test_whoever_dies_wherever_it_comes_to_the_same_end(
    life: Life, often: Sequence[str], once: Sequence[str]
) -> None:
    life.child("submit", *SAMPLES)
    life.lead(often=often, once=once)
    assert life.died_at >= {*often, *once}
    assert life.ends() == ENDS
    life.promises_are_kept()


@pytest.mark.parametrize("point", ["unit.before_commit", "unit.after_commit"])
def test_whoever_dies_while_orders_are_migrated_leaves_each_here_or_there(
    life: Life, tmp_path: Path, point: str
) -> None:
    life.child("submit", *SAMPLES)
    life.dies("live", at="unit.after_commit@60")  # In the middle of it, with calls on the wire.
    under_way = Plan.objects.exclude(state="COMPLETED").count()
    workflows = sorted({sample.partition("/")[0] for sample in SAMPLES})
    call_command("workflows", "publish", *_with_a_note(workflows, tmp_path), verbosity=0)
    life.dies("migrate", *workflows, at=f"{point}@3")
    assert Plan.objects.exclude(state__in=["COMPLETED", "SUPERSEDED"]).count() == under_way
    life.child("migrate", *workflows)
    life.lead()
    assert {name: re.sub(r" ?\bnote\b", "", end) for name, end in life.ends().items()} == ENDS
    assert Plan.objects.filter(state="SUPERSEDED").count() == under_way
    assert Task.objects.filter(key="note@1", state="SUCCEEDED").count() == under_way
    life.promises_are_kept()


def _version(document: Mapping[str, Any]) -> int:
    found: int = document["version"]
    return found


def _with_a_note(workflows: Sequence[str], folder: Path) -> list[str]:
    """Files of their next versions, which have one more task."""
    files = []
    for name in workflows:
        shipped = (settings.OMS_WORKFLOWS / name).glob("v*.yaml")
        document = max((yaml.safe_load(one.read_text()) for one in shipped), key=_version)
        document["version"] += 1
        with_a_note(document)
        files.append(folder / name / f"v{document['version']}.yaml")
        files[-1].parent.mkdir()
        files[-1].write_text(yaml.safe_dump(document, sort_keys=False))
    return [str(file) for file in files]
