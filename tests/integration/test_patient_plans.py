"""Who waits for a time that has not come, or for a person who has time left, is not stuck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fulfillment import operations, sentences
from fulfillment.engine import stuck, sweeping
from fulfillment.models import FalloutCase, ManualTask, Plan
from oms.models import Order
from oms.queries import waits_as_a_whole
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]
HOUR = 3600

APPROVAL: dict[str, Any] = {
    "queue": "approvals",
    "role": "manager",
    "instructions": "Look at the amount.",
    "outcomes": {"approved": "proceed", "rejected": "refuse"},
    "within": "PT5H",
    "otherwise": "escalate",
}
REPORT: dict[str, Any] = {"milestone": "paid", "within": "PT5H", "otherwise": "escalate"}


def run(**tasks: Any) -> Order:
    desk.target("alpha")
    desk.workflow({**tasks, "last": desk.task(after=list(tasks))}, stalls_after="PT15M")
    order = desk.order()
    desk.finish()
    return order


def flagged() -> list[str]:
    """What the detector says of the plans that it has flagged."""
    sweeping.sweep()
    desk.finish()
    stuck.detect_stuck()
    return list(Plan.objects.filter(stuck_at__isnull=False).values_list("stuck_reason", flat=True))


def test_a_plan_whose_manual_task_has_time_left_is_blocked_and_not_stuck(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = run(approve=desk.step(title="Approve it", manual=APPROVAL))
    plan = desk.plan_of(order)
    assert plan.state == "BLOCKED"
    due = sentences.moment(ManualTask.objects.get().due_at)
    asked = f"manager has to decide: Approve it (queue approvals), until {due}; then "
    assert plan.blocked_reason == f"approve@1: {asked}somebody is told."
    (whole,) = waits_as_a_whole(order=order, plan=plan)
    assert whole.reason.startswith(f"It waits for people, who have time left. approve@1: {asked}")
    assert whole.until == ManualTask.objects.get().due_at
    clock(4 * HOUR)
    assert flagged() == []
    assert not FalloutCase.objects.exists()
    clock(HOUR + 120)
    (reason,) = flagged()
    assert "manager should have decided by now" in reason
    (whole,) = waits_as_a_whole(order=order, plan=desk.plan_of(order))
    assert whole.reason == reason
    assert reason.startswith("Nothing can move without help. approve@1: manager should have")
    # The overdue decision has a case of its own; one is enough.
    assert FalloutCase.objects.get().reason_code == "decision_overdue"


def test_a_decision_in_time_leaves_no_trace_of_alarm(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = run(approve=desk.step(manual=APPROVAL))
    clock(4 * HOUR)
    assert flagged() == []
    operations.decide(
        manual_id=ManualTask.objects.get().pk, outcome="approved", actor="ann", reason="Fine."
    )
    assert flagged() == []
    order.refresh_from_db()
    assert order.state == "COMPLETED"


@pytest.mark.parametrize(
    "wait", [{"delay": "PT5H"}, REPORT, {**REPORT, "otherwise": "continue"}], ids=str
)
def test_a_wait_whose_time_has_not_come_does_not_stall_its_plan(
    systems: ScriptedSystems, clock: Clock, wait: dict[str, Any]
) -> None:
    order = run(rest=desk.step(wait=wait))
    clock(4 * HOUR)
    assert flagged() == []
    clock(HOUR + 120)
    late = flagged()
    order.refresh_from_db()
    if wait.get("otherwise") == "escalate":
        assert "paid has not been reported in time" in late[0]
        assert FalloutCase.objects.get().reason_code == "not_reported"
    else:
        assert (late, order.state) == ([], "COMPLETED")


def test_a_wait_that_the_sweeper_has_yet_to_end_raises_no_alarm(
    systems: ScriptedSystems, clock: Clock
) -> None:
    run(rest=desk.step(wait={"delay": "PT5H"}), approve=desk.step(manual=APPROVAL))
    clock(5 * HOUR + 5)
    assert stuck.detect_stuck() == 0
    # But when nobody sweeps, somebody has to look.
    clock(120)
    assert stuck.detect_stuck() == 1


def test_a_silent_target_beside_a_wait_is_still_found(
    systems: ScriptedSystems, clock: Clock
) -> None:
    systems.sends["other"] = [desk.accepted()]
    desk.target("alpha")
    run(rest=desk.step(wait={"delay": "PT5H"}), other=desk.task(timeouts={"callback": "P1D"}))
    clock(4 * HOUR)
    (reason,) = flagged()
    assert "other@1 (ACCEPTED)" in reason


@pytest.mark.parametrize("beside", ["approve", "rest"])
def test_a_failure_beside_a_wait_is_still_found(
    systems: ScriptedSystems, clock: Clock, beside: str
) -> None:
    steps = {
        "approve": desk.step(manual=APPROVAL),
        "rest": desk.step(wait={"delay": "PT5H"}),
    }
    systems.sends["other"] = [desk.rejected()]
    order = run(**{beside: steps[beside]}, other=desk.task())
    assert desk.states_of(order)["other@1"] == "FAILED_FINAL"
    clock(HOUR)
    assert len(flagged()) == 1


def test_a_tolerated_failure_of_an_element_is_no_alarm(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha")
    each = {"over": "${item.characteristics.parts}", "tolerate": 0.5}
    desk.workflow(
        {"port": desk.task(for_each=each), "approve": desk.step(manual=APPROVAL, after=["port"])},
        stalls_after="PT15M",
    )
    systems.sends["port"] = [desk.rejected(), desk.succeeded()]
    order = desk.order(desk.item(characteristics={"parts": [1, 2]}))
    desk.finish()
    assert desk.states_of(order)["approve@1"] == "AWAITING_MANUAL"
    clock(4 * HOUR)
    assert flagged() == []


def test_what_can_t_begin_is_stuck_although_a_person_has_it(
    systems: ScriptedSystems, clock: Clock
) -> None:
    run(rest=desk.step(wait={"until": "${order.requested_at}"}))
    assert len(flagged()) == 1


def test_what_waits_for_its_window_has_its_time_once_that_is_open(
    systems: ScriptedSystems, clock: Clock
) -> None:
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    hours = [(desk.now().hour + ahead) % 24 for ahead in (3, 5)]
    window = {
        "days": days,
        "from": f"{hours[0]:02d}:00",
        "to": f"{hours[1]:02d}:00",
        "timezone": "UTC",
    }
    desk.target("alpha")
    desk.workflow({"install": desk.task(window=window)}, stalls_after="PT15M")
    order = desk.order()
    clock(HOUR)
    assert stuck.detect_stuck() == 0
    opening = desk.tasks_of(order)["install@1"].not_before
    clock((opening - desk.now()).total_seconds() + 5)
    assert stuck.detect_stuck() == 0
    clock(16 * 60)
    assert stuck.detect_stuck() == 1
