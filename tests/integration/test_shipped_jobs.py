"""Scheduled jobs: a report that waits for its data, a backup in its window, a clean-up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import signals
from fulfillment.models import FalloutCase
from oms import schedules
from oms.environment import CHECKOUT
from oms.models import Order
from tests import desk, shipped
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _shop(systems: ScriptedSystems, settings: Any) -> None:
    settings.OMS_SCHEDULES = CHECKOUT / "templates" / "schedules.yaml"
    shipped.open_shop("data-refresh", "daily-report", "nightly-backup", "retention-cleanup")


def it_is(text: str) -> None:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    shipped.later((moment - desk.now()).total_seconds())


def told_of_other_orders() -> None:
    """What the scanner does with milestones of other orders."""
    signals.apply_new()
    desk.finish()


def test_a_report_waits_for_the_refresh_of_its_day() -> None:
    report = shipped.order("daily-report/one-day")
    assert desk.states_of(report)["data_is_fresh@1"] == "ACCEPTED"
    shipped.order(
        "data-refresh/one-day",
        external_id="data-refresh-2026-08-31",
        item={"characteristics": {"date": "2026-08-31"}},
    )
    told_of_other_orders()
    assert not shipped.completed(report)
    shipped.order("data-refresh/one-day")
    told_of_other_orders()
    assert shipped.completed(report)
    reports = [payload["report"] for payload in shipped.sent("create_report")]
    assert reports == ["sales", "inventory", "customer_activity"]
    assert len(shipped.sent("send_message")[0]["reports"]) == 3


def test_a_refresh_that_was_there_first_is_found() -> None:
    assert shipped.completed(shipped.order("data-refresh/one-day"))
    assert shipped.completed(shipped.order("daily-report/one-day"))


def test_data_that_does_not_come_is_a_case_and_still_ends_the_wait() -> None:
    report = shipped.order("daily-report/one-day")
    shipped.later(6 * 3600 + 1)
    assert FalloutCase.objects.get().reason_code == "not_reported"
    shipped.order("data-refresh/one-day")
    told_of_other_orders()
    assert shipped.completed(report)
    assert not FalloutCase.objects.filter(state="OPEN").exists()


def test_a_backup_is_made_in_the_maintenance_window_alone() -> None:
    it_is("2030-07-10 20:00")  # 22:00 in Vienna; the window is from 01:00 to 04:00.
    order = shipped.order("nightly-backup/one-night")
    assert shipped.sent("back_up") == []
    task = desk.tasks_of(order)["back_up@1[1]"]
    assert task.state == "READY"
    assert f"{task.not_before:%Y-%m-%d %H:%M}" == "2030-07-10 23:00"
    it_is("2030-07-10 22:59:50")
    assert shipped.sent("back_up") == []
    it_is("2030-07-10 23:00:01")
    assert shipped.completed(order)
    assert [payload["database"] for payload in shipped.sent("back_up")] == ["orders", "warehouse"]


def test_a_backup_that_fails_at_the_end_of_the_window_goes_on_in_the_next(
    systems: ScriptedSystems,
) -> None:
    it_is("2030-07-11 01:59:59")  # 03:59:59 in Vienna.
    systems.sends["back_up"] = [desk.failed("disk_full")]
    order = shipped.order("nightly-backup/one-night")
    it_is("2030-07-11 08:00")
    assert len(shipped.sent("back_up")) == 1
    it_is("2030-07-11 23:00:01")
    assert shipped.completed(order)
    assert len(shipped.sent("back_up")) == 3


def test_what_is_too_old_is_deleted_batch_by_batch() -> None:
    order = shipped.order("retention-cleanup/one-week")
    assert shipped.completed(order)
    batches = [payload["batch"] for payload in shipped.sent("delete_batch")]
    assert batches == ["batch-001", "batch-002", "batch-003"]
    assert shipped.sent("create_report")[0] == {"report": "retention", "deleted": 3, "failed": 0}


@pytest.mark.parametrize("steward", ["delete", "stop", "silent"])
def test_irreversible_guarded_an_unusual_number_needs_a_signature(steward: str) -> None:
    order = shipped.order("retention-cleanup/after-years")
    assert shipped.asked(order) == {"sign_off@1": "data_steward"}
    assert shipped.sent("delete_batch") == []
    if steward == "silent":
        shipped.later(2 * 86400 + 1)
    else:
        shipped.decide(order, "sign_off@1", steward)
    assert shipped.completed(order) is (steward == "delete")
    assert len(shipped.sent("delete_batch")) == (250 if steward == "delete" else 0)


def test_nothing_is_deleted_before_the_law_allows_it() -> None:
    characteristics = {"date": "2026-09-06", "retention_days": 40}
    order = shipped.order("retention-cleanup/one-week", item={"characteristics": characteristics})
    assert desk.states_of(order)["find@1"] == "AWAITING_MANUAL"
    assert "a year at least" in FalloutCase.objects.get().explanation


def test_beat_runs_a_day_refresh_first_and_the_report_behind_it() -> None:
    # 06:00 in Vienna: the refresh of 04:30 is made up for, and its report is due. Then the night.
    for text in ("2030-07-10 04:00", "2030-07-10 20:00", "2030-07-10 23:00:01"):
        it_is(text)
        schedules.submit_due()
        desk.finish()
        told_of_other_orders()
        sweeping.sweep()
    orders = dict(Order.objects.values_list("external_id", "state"))
    assert orders == {
        "data-refresh-2030-07-10": "COMPLETED",
        "daily-report-2030-07-10": "COMPLETED",
        "nightly-backup-2030-07-10": "COMPLETED",
    }
    (report,) = shipped.sent("send_message")
    assert report["day"] == "2030-07-09"
