"""The clocks of a task: what is timed, and what follows when a time is up (reference §13)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans.rerunning import rerun
from fulfillment.engine.tasks.outcomes import NOT_SENT
from fulfillment.engine.work.running import run_unit
from fulfillment.errors import DefinitionInvalid
from fulfillment.models import (
    Attempt,
    CaseCategory,
    FalloutCase,
    HoldScope,
    Purpose,
    Task,
    Transition,
)
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]


@pytest.fixture
def alpha(systems: ScriptedSystems) -> None:
    """A target that deduplicates and can be asked."""
    desk.target("alpha", asynchronous=True)


def an_order(timeouts: dict[str, str], **task: Any) -> Order:
    desk.workflow({"one": desk.task(timeouts=timeouts, **task), "two": desk.task(after=["one"])})
    return desk.order()


def one(order: Order) -> Task:
    return desk.tasks_of(order)["one@1"]


def kept_back(order: Order) -> int:
    """The order is held, for a reason that says nothing about its clocks."""
    placed = operations.place_hold(
        scope=HoldScope.ORDER,
        name=order.reference,
        reason="x",
        actor=by("ann"),
        patience=timedelta(0),
    )
    assert placed.hold_id is not None
    return placed.hold_id


def late_cases() -> list[FalloutCase]:
    return list(FalloutCase.objects.filter(category=CaseCategory.LATE, state="OPEN"))


# From when it may be sent to its first send


@pytest.mark.usefixtures("alpha")
def test_what_is_not_sent_in_time_goes_on_being_tried_and_a_person_is_told(clock: Clock) -> None:
    order = an_order({"schedule_to_start": "PT10M"})
    hold = kept_back(order)
    clock(599)
    assert (sweeping.sweep(), late_cases()) == (0, [])
    clock(2)
    assert sweeping.sweep() == 1
    (case,) = late_cases()
    assert case.task_id == one(order).pk
    assert "should have been sent by" in case.explanation
    assert (one(order).state, one(order).start_by) == ("READY", None)
    assert sweeping.sweep() == 0  # once
    operations.release_hold(hold_id=hold, reason="x", actor=by("ann"))
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert late_cases() == []


@pytest.mark.usefixtures("alpha")
def test_what_is_not_sent_in_time_is_given_up(clock: Clock, systems: ScriptedSystems) -> None:
    order = an_order({"schedule_to_start": "PT10M", "when_unsent": "cancel"})
    hold = kept_back(order)
    clock(601)
    sweeping.sweep()
    task = one(order)
    assert (task.state, task.held_by_id) == ("FAILED_FINAL", None)
    assert "It is given up" in task.blocked_reason
    assert Transition.objects.get(name="fail").details["code"] == "timed_out"
    assert FalloutCase.objects.get().category == CaseCategory.REFUSED
    operations.release_hold(hold_id=hold, reason="x", actor=by("ann"))
    desk.drain()
    assert systems.sent == []


@pytest.mark.usefixtures("alpha")
def test_what_is_given_up_unsent_takes_its_fallback_with_fresh_clocks(
    clock: Clock, systems: ScriptedSystems
) -> None:
    desk.target("beta")
    order = an_order(
        {"schedule_to_start": "PT10M", "schedule_to_close": "PT1H", "when_unsent": "cancel"},
        fallback=[{"target": "beta", "action": "instead"}],
    )
    before = one(order)
    operations.pause_target(target="alpha", reason="x", actor=by("ann"), patience=timedelta(0))
    clock(601)
    sweeping.sweep()
    task = one(order)
    assert (task.state, task.target_id, task.route) == ("FAILED_RETRYABLE", "beta", 1)
    assert task.start_by is not None
    assert before.start_by is not None
    assert task.start_by - before.start_by > timedelta(minutes=10)
    assert task.close_by == task.start_by + timedelta(minutes=50)
    desk.drain(["beta"])
    assert one(order).state == "SUCCEEDED"
    assert one(order).start_by is None
    assert systems.actions()[0] == "instead"


@pytest.mark.usefixtures("alpha")
def test_a_window_that_is_shut_does_not_count(clock: Clock) -> None:
    every_day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    now = desk.now()
    opens, closes = (f"{now + timedelta(hours=h):%H:%M}" for h in (3, 5))
    order = an_order(
        {"schedule_to_start": "PT10M", "schedule_to_close": "PT2H"},
        window={"days": every_day, "from": opens, "to": closes, "timezone": "UTC"},
    )
    task = one(order)
    assert task.start_by == task.not_before + timedelta(minutes=10)
    assert task.close_by == task.not_before + timedelta(hours=2)
    assert task.not_before - now > timedelta(hours=2, minutes=50)


@pytest.mark.usefixtures("alpha")
def test_the_first_send_ends_the_clock_of_the_start(clock: Clock, systems: ScriptedSystems) -> None:
    order = an_order({"schedule_to_start": "PT10S"})
    systems.sends["one"] = [desk.failed(retry_after=timedelta(minutes=5))]
    desk.drain()
    clock(60)
    assert sweeping.sweep() == 0
    assert (one(order).state, one(order).start_by) == ("FAILED_RETRYABLE", None)


@pytest.mark.usefixtures("alpha")
def test_what_was_claimed_and_not_sent_is_still_to_be_sent_in_time(clock: Clock) -> None:
    order = an_order({"schedule_to_start": "PT10M"})
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, NOT_SENT))
    kept_back(order)
    clock(601)
    sweeping.sweep()
    assert [case.task_id for case in late_cases()] == [claim.task_id]


# From a send to its result


@pytest.mark.usefixtures("alpha")
def test_an_accepted_task_has_the_time_of_its_send_and_no_more(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"start_to_close": "PT2M", "callback": "PT10M"})
    (claim,) = desk.claim()
    clock(8)
    desk.settle(desk.result(claim, desk.accepted()))
    task = one(order)
    assert timedelta(seconds=111) < task.not_before - task.changed_at <= timedelta(seconds=112)
    clock(113)
    sweeping.sweep()
    task = one(order)
    assert task.state == "OUTCOME_UNKNOWN"
    assert "took_too_long" in task.blocked_reason
    # Asked, it is still at work: from now on it has as long as after any acceptance.
    systems.queries["one"] = [desk.accepted()]
    desk.drain()
    task = one(order)
    assert (task.state, task.not_before - task.changed_at) == ("ACCEPTED", timedelta(minutes=10))


@pytest.mark.usefixtures("alpha")
def test_each_attempt_has_its_own_time_from_send_to_result(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"start_to_close": "PT2M", "callback": "PT10M"})
    systems.sends["one"] = [desk.accepted(), desk.accepted()]
    systems.queries["one"] = [desk.not_found(), desk.succeeded()]
    desk.drain()
    clock(121)
    sweeping.sweep()
    desk.drain()
    clock(70)  # the pause before it is sent again
    desk.drain()
    task = one(order)
    assert (task.state, len(systems.sent)) == ("ACCEPTED", 2)
    second = Attempt.objects.filter(purpose=Purpose.SEND).latest("number")
    assert task.not_before == second.started_at + timedelta(minutes=2)
    clock(121)
    sweeping.sweep()
    desk.drain()
    assert one(order).state == "SUCCEEDED"


# What follows when something was sent


def overdue(timeouts: dict[str, str], clock: Clock, systems: ScriptedSystems) -> Order:
    """Accepted, and its report has not come in time."""
    order = an_order({"callback": "PT1M", **timeouts})
    systems.sends["one"] = [desk.accepted()]
    desk.drain()
    clock(61)
    assert sweeping.sweep() == 1
    return order


@pytest.mark.usefixtures("alpha")
def test_resolve_asks_where_the_target_can_be_asked(clock: Clock, systems: ScriptedSystems) -> None:
    order = overdue({"when_sent": "resolve"}, clock, systems)
    assert one(order).state == "OUTCOME_UNKNOWN"
    desk.drain()
    assert one(order).state == "SUCCEEDED"
    assert (len(systems.queried), systems.actions().count("one")) == (1, 1)


@pytest.mark.usefixtures("alpha")
def test_retry_sends_the_same_key_again_without_asking(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = overdue({"when_sent": "retry"}, clock, systems)
    assert one(order).state == "READY"
    clock(2)
    desk.drain()
    assert one(order).state == "SUCCEEDED"
    first, second = (command for command in systems.sent if command.action == "one")
    assert first.idempotency_key == second.idempotency_key
    assert systems.queried == []


@pytest.mark.usefixtures("alpha")
def test_retry_asks_when_every_attempt_is_used_up(clock: Clock, systems: ScriptedSystems) -> None:
    order = an_order({"callback": "PT1M", "when_sent": "retry"}, retry={"maximum_attempts": 1})
    systems.sends["one"] = [desk.accepted()]
    desk.drain()
    clock(61)
    sweeping.sweep()
    assert one(order).state == "OUTCOME_UNKNOWN"


@pytest.mark.usefixtures("alpha")
def test_escalate_gives_it_to_a_person_and_sends_nothing(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = overdue({"when_sent": "escalate"}, clock, systems)
    assert one(order).state == "AWAITING_MANUAL"
    assert FalloutCase.objects.get().category == CaseCategory.UNCERTAIN
    clock(3600)
    sweeping.sweep()
    desk.drain()
    assert (len(systems.sent), systems.queried) == (1, [])


@pytest.mark.usefixtures("alpha")
@pytest.mark.parametrize(
    ("when_sent", "state"),
    [("resolve", "OUTCOME_UNKNOWN"), ("retry", "READY"), ("escalate", "AWAITING_MANUAL")],
)
def test_a_call_that_takes_too_long_is_followed_by_the_same(
    when_sent: str, state: str, systems: ScriptedSystems
) -> None:
    order = an_order({"call": "PT5S", "when_sent": when_sent})
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown("timeout")))
    assert one(order).state == state


@pytest.mark.usefixtures("alpha")
@pytest.mark.parametrize("when_sent", ["retry", "escalate"])
def test_what_is_unknown_for_another_reason_is_resolved(
    when_sent: str, systems: ScriptedSystems
) -> None:
    order = an_order({"when_sent": when_sent})
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown("connection_lost")))
    assert one(order).state == "OUTCOME_UNKNOWN"


@pytest.mark.parametrize(("route", "fallback"), [("gamma", []), ("alpha", ["gamma"])])
@pytest.mark.usefixtures("alpha")
def test_sending_again_unasked_is_refused_where_it_would_be_done_twice(
    route: str, fallback: list[str], systems: ScriptedSystems
) -> None:
    desk.target("gamma", idempotent=False)
    with pytest.raises(DefinitionInvalid) as refused:
        an_order(
            {"when_sent": "retry"},
            target=route,
            fallback=[{"target": name, "action": "x"} for name in fallback],
        )
    (fault,) = refused.value.faults
    assert (fault.code, fault.path) == ("definition.not_idempotent", "tasks.one.timeouts.when_sent")


@pytest.mark.usefixtures("alpha")
def test_retry_asks_a_target_that_deduplicates_no_more(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"callback": "PT1M", "when_sent": "retry"})
    systems.sends["one"] = [desk.accepted()]
    desk.drain()
    desk.target("alpha", asynchronous=True, idempotent=False)
    clock(61)
    sweeping.sweep()
    assert one(order).state == "OUTCOME_UNKNOWN"


@pytest.mark.usefixtures("alpha")
def test_a_refusal_after_an_unasked_repetition_takes_no_fallback(
    clock: Clock, systems: ScriptedSystems
) -> None:
    """Nobody knows what became of the send before it."""
    order = an_order(
        {"callback": "PT1M", "when_sent": "retry"},
        fallback=[{"target": "alpha", "action": "instead"}],
    )
    systems.sends["one"] = [desk.accepted(), desk.failed(retryable=False)]
    desk.drain()
    clock(61)
    sweeping.sweep()
    clock(2)
    desk.drain()
    assert one(order).state == "AWAITING_MANUAL"
    assert systems.actions() == ["one", "one"]


# From when it may be sent to its end


@pytest.mark.usefixtures("alpha")
def test_what_keeps_failing_beyond_its_time_goes_on_and_a_person_is_told(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"schedule_to_close": "PT5M"})
    systems.sends["one"] = [desk.failed(retry_after=timedelta(minutes=10))]
    desk.drain()
    clock(301)
    assert sweeping.sweep() == 1
    (case,) = late_cases()
    assert "should have ended by" in case.explanation
    task = one(order)
    assert (task.state, task.close_by) == ("FAILED_RETRYABLE", None)
    assert task.late_since is not None
    assert sweeping.sweep() == 0
    clock(600)
    desk.drain()
    assert one(order).state == "SUCCEEDED"
    assert late_cases() == []


@pytest.mark.usefixtures("alpha")
def test_what_keeps_failing_beyond_its_time_is_given_up(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"schedule_to_close": "PT5M", "when_unsent": "cancel"})
    systems.sends["one"] = [desk.failed(retry_after=timedelta(minutes=10))]
    desk.drain()
    clock(301)
    sweeping.sweep()
    assert one(order).state == "FAILED_FINAL"
    assert Transition.objects.get(name="fail").details["code"] == "timed_out"
    clock(600)
    desk.drain()
    assert len(systems.sent) == 1


@pytest.mark.usefixtures("alpha")
def test_a_failure_after_the_time_is_the_last_one(clock: Clock, systems: ScriptedSystems) -> None:
    order = an_order({"schedule_to_close": "PT5M", "when_unsent": "cancel"})
    (claim,) = desk.claim()
    clock(301)
    sweeping.sweep()  # its lease is lost as well
    desk.settle(desk.result(claim, desk.failed()))
    assert one(order).state == "FAILED_FINAL"


@pytest.mark.usefixtures("alpha")
@pytest.mark.parametrize(
    ("when_unsent", "state"), [("escalate", "READY"), ("cancel", "FAILED_FINAL")]
)
def test_a_time_that_is_up_is_asked_about_before_anything_is_given_up(
    when_unsent: str, state: str, clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"schedule_to_close": "PT5M", "callback": "PT1H", "when_unsent": when_unsent})
    systems.sends["one"] = [desk.accepted()]
    systems.queries["one"] = [desk.accepted(), desk.not_found()]
    desk.drain()
    clock(301)
    assert sweeping.sweep() == 1
    task = one(order)
    assert (task.state, "timed_out" in task.blocked_reason) == ("OUTCOME_UNKNOWN", True)
    desk.drain()
    assert one(order).state == "ACCEPTED"  # still at work: it is not asked again at once
    assert sweeping.sweep() == 0
    clock(3601)
    sweeping.sweep()
    desk.drain()
    assert one(order).state == state


@pytest.mark.usefixtures("alpha")
def test_an_unknown_outcome_goes_to_a_person_when_the_time_is_up(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"schedule_to_close": "PT5M", "when_sent": "escalate"})
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown("connection_lost")))
    assert one(order).state == "OUTCOME_UNKNOWN"
    clock(301)
    sweeping.sweep()
    assert one(order).state == "AWAITING_MANUAL"


def test_a_lost_send_is_never_given_up(clock: Clock, systems: ScriptedSystems) -> None:
    """It deduplicates and can't be asked: it is about to be sent again, and may have happened."""
    desk.target("alpha", status_query=False, asynchronous=True)
    order = an_order({"schedule_to_close": "PT5M", "when_unsent": "cancel"})
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown("connection_lost")))
    kept_back(order)
    clock(301)
    sweeping.sweep()
    assert one(order).state == "READY"
    assert len(late_cases()) == 1


@pytest.mark.parametrize("when_unsent", ["escalate", "cancel"])
@pytest.mark.parametrize("when_sent", ["resolve", "escalate"])
@pytest.mark.parametrize(
    "clock_of", ["callback", "start_to_close", "schedule_to_close", "heartbeat"]
)
def test_timeout_is_not_failure(
    clock_of: str, when_sent: str, when_unsent: str, clock: Clock, systems: ScriptedSystems
) -> None:
    """A target that would do it twice, and can't be asked: a person looks, nothing is repeated."""
    desk.target("alpha", idempotent=False, status_query=False, asynchronous=True)
    timeouts = {"callback": "PT1M", "when_sent": when_sent}
    if clock_of == "schedule_to_close":
        timeouts["when_unsent"] = when_unsent
    order = an_order(
        {**timeouts, clock_of: "PT30S"},
        fallback=[{"target": "alpha", "action": "instead"}],
    )
    systems.sends["one"] = [desk.accepted()]
    desk.drain()
    clock(31)
    assert sweeping.sweep() == 1
    assert one(order).state == "AWAITING_MANUAL"
    assert FalloutCase.objects.get().category == CaseCategory.UNCERTAIN
    clock(3600)
    sweeping.sweep()
    desk.drain()
    assert systems.actions() == ["one"]


# Fresh clocks


@pytest.mark.usefixtures("alpha")
def test_a_task_that_is_tried_again_by_hand_has_fresh_clocks(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order(
        {"schedule_to_start": "PT10M", "schedule_to_close": "PT20M", "when_unsent": "cancel"}
    )
    systems.sends["one"] = [desk.rejected()]
    desk.drain()
    clock(3600)
    assert sweeping.sweep() == 0
    run_unit(
        lambda unit: rerun(unit, task_id=one(order).pk),
        fulfillment_ids=[order.fulfillment_id or 0],
        actor="ann",
    )
    task = one(order)
    assert task.start_by == desk.tasks_of(order)["one@1"].not_before + timedelta(minutes=10)
    assert task.start_by > desk.now()
    assert task.close_by == task.start_by + timedelta(minutes=10)
    assert (sweeping.sweep(), one(order).state) == (0, "READY")


@pytest.mark.usefixtures("alpha")
def test_a_task_that_is_obtained_anew_has_fresh_clocks(
    clock: Clock, systems: ScriptedSystems
) -> None:
    desk.workflow(
        {
            "get": desk.task(
                outputs={"id": {"type": "string", "valid_until": "until"}, "until": "string"},
                timeouts={"schedule_to_close": "PT1H"},
            ),
            "rest": desk.step(wait={"delay": "PT2H"}),
            "use": desk.task(
                after=["rest"],
                depends_on=[{"output": "get.id", "expired": "reobtain"}],
                timeouts={"schedule_to_start": "PT10M", "schedule_to_close": "PT30M"},
            ),
        }
    )
    expired = (desk.now() + timedelta(hours=1)).isoformat()
    later = (desk.now() + timedelta(days=1)).isoformat()
    systems.sends["get"] = [
        desk.succeeded(id="a", until=expired),
        desk.failed(retry_after=timedelta(minutes=1)),
        desk.succeeded(id="b", until=later),
    ]
    order = desk.order()
    desk.drain()
    clock(7201)
    sweeping.sweep()
    desk.drain()
    renewed = desk.tasks_of(order)["get@1"]
    assert renewed.state == "FAILED_RETRYABLE"
    assert renewed.close_by is not None
    assert renewed.close_by > desk.now() + timedelta(minutes=55)
    clock(61)
    desk.drain()
    used = desk.tasks_of(order)["use@1"]
    assert used.state == "SUCCEEDED"
    assert used.close_by is not None
    assert used.close_by > desk.now() + timedelta(minutes=29)


# Races


@pytest.mark.usefixtures("alpha")
def test_a_report_in_the_moment_of_the_sweep_wins(clock: Clock, systems: ScriptedSystems) -> None:
    order = an_order({"callback": "PT1M", "schedule_to_close": "PT2M", "when_sent": "retry"})
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    clock(121)
    found = [result for look in sweeping._LOOKS for result in look(sweeping._FIRST, 10)[0]]
    assert len(found) == 2  # both clocks
    desk.settle(desk.result(claim, desk.succeeded(), attempt_id=None, attempt_number=None))
    sweeping._settle(found)
    assert one(order).state == "SUCCEEDED"


@pytest.mark.usefixtures("alpha")
def test_two_clocks_that_run_out_together_are_one_timeout(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"callback": "PT1M", "schedule_to_close": "PT1M", "when_sent": "retry"})
    systems.sends["one"] = [desk.accepted()]
    desk.drain()
    clock(61)
    sweeping.sweep()
    assert one(order).state == "READY"
    assert Transition.objects.filter(name="lose_track").count() == 1


@pytest.mark.usefixtures("alpha")
def test_what_was_claimed_in_the_moment_of_the_sweep_is_not_given_up(
    clock: Clock, systems: ScriptedSystems
) -> None:
    order = an_order({"schedule_to_start": "PT1M", "when_unsent": "cancel"})
    clock(61)
    found = [result for look in sweeping._LOOKS for result in look(sweeping._FIRST, 10)[0]]
    (claim,) = desk.claim()
    sweeping._settle(found)
    assert one(order).state == "DISPATCHED"
    desk.settle(desk.result(claim, desk.succeeded()))
    assert one(order).state == "SUCCEEDED"
