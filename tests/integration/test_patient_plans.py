"""Who waits for a time that has not come, or for a person who has time left, is not stuck."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from fulfillment import operations, sentences, stuck
from fulfillment.engine.dispatch import sweeping
from fulfillment.models import FalloutCase, Hold, HoldScope, ManualTask, Plan
from oms.models import Order
from oms.queries.orders import waits_as_a_whole
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.manual_work import an_approval

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]
HOUR = 3600

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
    assert stuck_plans() == stuck_if_all_were_looked_at()
    return list(Plan.objects.filter(stuck_at__isnull=False).values_list("stuck_reason", flat=True))


def stuck_plans() -> set[int]:
    return set(Plan.objects.filter(stuck_at__isnull=False).values_list("pk", flat=True))


def stuck_if_all_were_looked_at() -> set[int]:
    """The patience of a plan must hide nothing."""
    before = transaction.savepoint()
    Plan.objects.update(patient_until=desk.now() - timedelta(days=1))
    stuck.detect_stuck()
    found = stuck_plans()
    transaction.savepoint_rollback(before)
    return found


def test_a_plan_whose_manual_task_has_time_left_is_blocked_and_not_stuck(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = run(approve=desk.step(title="Approve it", manual=an_approval(within="PT5H")))
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
    order = run(approve=desk.step(manual=an_approval(within="PT5H")))
    clock(4 * HOUR)
    assert flagged() == []
    operations.decide(
        manual_id=ManualTask.objects.get().pk, outcome="approved", actor=by("ann"), reason="Fine."
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
    run(
        rest=desk.step(wait={"delay": "PT5H"}), approve=desk.step(manual=an_approval(within="PT5H"))
    )
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
        "approve": desk.step(manual=an_approval(within="PT5H")),
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
        {
            "port": desk.task(for_each=each),
            "approve": desk.step(manual=an_approval(within="PT5H"), after=["port"]),
        },
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


# --- what ends the patience that a plan has been found to have -----------------------------------

LONG = an_approval(within="P4D")


def decide(outcome: str) -> None:
    (manual,) = ManualTask.objects.filter(state="OPEN")
    operations.decide(manual_id=manual.pk, outcome=outcome, actor=by("ann"), reason="So it is.")


def looked_at(clock: Clock) -> None:
    """It has been found to wait in time, and is left alone for days."""
    clock(HOUR)
    assert flagged() == []
    (left_alone,) = Plan.objects.exclude(state="SUPERSEDED").values_list("patient_until", flat=True)
    assert left_alone > desk.now() + timedelta(days=3)


def test_a_refusal_beside_a_wait(systems: ScriptedSystems, clock: Clock) -> None:
    run(rest=desk.step(wait={"delay": "P5D"}), approve=desk.step(manual=LONG))
    looked_at(clock)
    decide("rejected")
    clock(16 * 60)
    assert len(flagged()) == 1


def test_a_refusal_in_a_blocked_plan(systems: ScriptedSystems, clock: Clock) -> None:
    run(approve=desk.step(manual=LONG), survey=desk.step(manual=LONG))
    looked_at(clock)
    operations.decide(
        manual_id=ManualTask.objects.earliest("pk").pk,
        outcome="rejected",
        actor=by("a"),
        reason="x",
    )
    assert len(flagged()) == 1


def test_a_shorter_wait_that_begins_later(systems: ScriptedSystems, clock: Clock) -> None:
    hour = {"milestone": "paid", "within": "PT1H", "otherwise": "escalate"}
    run(
        rest=desk.step(wait={"delay": "P5D"}),
        approve=desk.step(manual=LONG),
        paid=desk.step(wait=hour, after=["approve"]),
    )
    looked_at(clock)
    decide("approved")
    clock(50 * 60)
    assert flagged() == []
    clock(30 * 60)
    assert flagged() == []  # it had been told of in time, and may be looked into as long
    clock(HOUR)
    assert len(flagged()) == 1


def test_a_target_that_falls_silent_behind_a_wait(systems: ScriptedSystems, clock: Clock) -> None:
    systems.sends["other"] = [desk.accepted()]
    run(
        rest=desk.step(wait={"delay": "P5D"}),
        approve=desk.step(manual=LONG),
        other=desk.task(after=["approve"], timeouts={"callback": "P1D"}),
    )
    looked_at(clock)
    decide("approved")
    desk.finish()
    clock(14 * 60)
    assert flagged() == []
    clock(2 * 60)
    assert len(flagged()) == 1


def test_a_command_that_is_held(systems: ScriptedSystems, clock: Clock) -> None:
    order = run(approve=desk.step(manual=LONG))
    looked_at(clock)
    operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="Wait.", actor=by("ann")
    )
    decide("approved")
    clock(16 * 60)
    assert len(flagged()) == 1
    assert not FalloutCase.objects.exists()  # who holds it has said why
    operations.release_hold(hold_id=Hold.objects.get().pk, reason="Go on.", actor=by("ann"))
    desk.finish()
    assert flagged() == []


def test_a_failure_that_is_tried_again(systems: ScriptedSystems, clock: Clock) -> None:
    systems.sends["other"] = [desk.rejected(), desk.accepted()]
    order = run(
        rest=desk.step(wait={"delay": "P5D"}), other=desk.task(timeouts={"callback": "P1D"})
    )
    clock(HOUR)
    assert len(flagged()) == 1
    operations.retry(task_id=desk.tasks_of(order)["other@1"].pk, actor=by("ann"), reason="Mended.")
    desk.finish()
    assert flagged() == []
    clock(16 * 60)
    assert len(flagged()) == 1


def test_a_plan_that_takes_over(systems: ScriptedSystems, clock: Clock) -> None:
    order = run(rest=desk.step(wait={"delay": "P5D"}))
    looked_at(clock)
    systems.sends["other"] = [desk.accepted()]
    desk.workflow(
        {
            "rest": desk.step(wait={"delay": "P5D"}),
            "other": desk.task(timeouts={"callback": "P1D"}),
            "last": desk.task(after=["rest", "other"]),
        },
        version=2,
        stalls_after="PT15M",
    )
    (done,) = operations.migrate_orders(
        workflow="thing", version=2, orders=[order.reference], reason="New.", actor=by("ann")
    )
    assert done.verdict == operations.Verdict.MOVED
    desk.finish()
    clock(14 * 60)
    assert flagged() == []
    clock(2 * 60)
    assert len(flagged()) == 1


def test_a_calendar_that_opens_later_than_planned(systems: ScriptedSystems, clock: Clock) -> None:
    """What was to be sent then is left for the next opening, and its plan as well."""
    hours = [(desk.now().hour + ahead) % 24 for ahead in (3, 5)]
    window = {
        "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        "from": f"{hours[0]:02d}:00",
        "to": f"{hours[1]:02d}:00",
        "timezone": "UTC",
    }
    desk.target("alpha")
    desk.workflow({"install": desk.task(window=window)}, stalls_after="PT15M")
    desk.order()
    # Nobody has come round while it was open.
    clock(6 * HOUR)
    assert desk.claim() == []
    clock(HOUR)
    assert flagged() == []
