"""Customer data into the warehouse: partitions, tolerated failures, data quality."""

from __future__ import annotations

import pytest

from fulfillment import operations
from fulfillment.models import FalloutCase, Task
from tests import desk, shipped
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _shop(systems: ScriptedSystems) -> None:
    shipped.open_shop("customer-data-etl")


def test_every_partition_is_enriched_joined_loaded_and_reported() -> None:
    order = shipped.order("customer-data-etl/daily")
    assert shipped.completed(order)
    partitions = [payload["partition"]["name"] for payload in shipped.sent("enrich_partition")]
    assert partitions == [f"crm-eu-{number:03}" for number in range(1, 11)]
    (joined,) = shipped.sent("join_transactions")
    assert len(joined["files"]) == 10
    assert joined["transactions"].startswith("dataset-")
    assert shipped.sent("load")[0]["rows"] == 9900
    (report,) = shipped.sent("create_report")
    assert (report["rows"], report["skipped"]) == (9900, 100)
    assert (report["partitions"], report["failed_partitions"]) == (10, 0)


def test_no_more_than_four_partitions_are_under_way_at_once() -> None:
    desk.target("data-platform", adapter="scripted", asynchronous=True)
    names = [{"name": f"p-{number}"} for number in range(10)]
    desk.systems.sends["extract_profiles"] = [desk.succeeded(partitions=names, rows=10)]
    desk.systems.sends["extract_transactions"] = [desk.succeeded(dataset="d")]
    desk.systems.sends["enrich_partition"] = [desk.accepted()] * 10
    order = shipped.order("customer-data-etl/daily")
    under_way = Task.objects.filter(fulfillment_id=order.fulfillment_id, element__gt=0)
    assert under_way.count() == 4


def test_one_partition_of_ten_may_fail(systems: ScriptedSystems) -> None:
    systems.sends["enrich_partition"] = [desk.rejected("corrupt_file")]
    order = shipped.order("customer-data-etl/daily")
    assert shipped.completed(order)
    (report,) = shipped.sent("create_report")
    assert (report["partitions"], report["failed_partitions"]) == (9, 1)


def test_two_of_ten_are_too_many_and_what_was_done_is_not_done_again(
    systems: ScriptedSystems,
) -> None:
    systems.sends["enrich_partition"] = [desk.rejected("corrupt_file")] * 2
    order = shipped.order("customer-data-etl/daily")
    assert desk.states_of(order)["enrich@1"] == "FAILED_FINAL"
    assert shipped.sent("load") == []
    before = len(shipped.sent("enrich_partition"))
    assert before < 10
    operations.retry(
        task_id=desk.tasks_of(order)["enrich@1"].pk, actor=by("ann"), reason="the files were mended"
    )
    assert shipped.completed(order)
    again = shipped.sent("enrich_partition")[before:]
    missing = [1, 2, *range(before + 1, 11)]
    assert [payload["partition"]["name"] for payload in again] == [
        f"crm-eu-{number:03}" for number in missing
    ]
    assert shipped.sent("create_report")[0]["partitions"] == 10


def test_a_busy_platform_is_tried_again_and_no_partition_is_lost(systems: ScriptedSystems) -> None:
    systems.sends["enrich_partition"] = [desk.failed("busy")] * 3
    order = shipped.order("customer-data-etl/daily")
    shipped.later(300)
    assert shipped.completed(order)
    assert shipped.sent("create_report")[0]["partitions"] == 10


def test_bad_data_is_not_loaded_before_somebody_has_looked() -> None:
    order = shipped.order("customer-data-etl/legacy-source")
    assert desk.states_of(order)["load@1"] == "AWAITING_MANUAL"
    case = FalloutCase.objects.get()
    assert case.reason_code == "precondition"
    assert "More than 10 % of the rows" in case.explanation
    assert shipped.sent("load") == []


def test_an_archive_that_fails_keeps_nobody_from_the_report(systems: ScriptedSystems) -> None:
    systems.sends["archive"] = [desk.rejected("disk_full")]
    order = shipped.order("customer-data-etl/daily")
    assert shipped.completed(order)
    assert desk.states_of(order)["archive@1"] == "FAILED_FINAL"
