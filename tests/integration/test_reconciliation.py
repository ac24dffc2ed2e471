"""After a failure or in doubt: what is sent again, under which key, when, and when no more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment.engine import settlement, sweeping
from fulfillment.models import Attempt, Plan, Purpose, Task
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]
RETRY = {
    "initial_interval": "PT10S",
    "backoff_coefficient": 2.0,
    "maximum_interval": "PT40S",
    "maximum_attempts": 3,
    "non_retryable": ["no_such_customer"],
}


def a_task(*, target: dict[str, Any] | None = None, **spec: Any) -> Task:
    """The only task of one submitted order, READY."""
    desk.target("alpha", **(target or {}))
    desk.workflow({"one": desk.task(retry=RETRY, **spec)})
    (task,) = desk.tasks_of(desk.order()).values()
    return task


def drained(task: Task) -> str:
    desk.drain()
    task.refresh_from_db()
    return str(task.state)


def wait_of(task: Task) -> timedelta:
    """How long after its last change the engine looks at it again."""
    return task.not_before - task.changed_at


def keys(systems: ScriptedSystems) -> set[str]:
    return {command.idempotency_key for command in systems.sent + systems.queried}


# --- known failures ---------------------------------------------------------------------------


def test_a_failed_send_waits_and_is_sent_again_with_the_same_key(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task()
    systems.sends["one"] = [desk.failed("busy")]
    assert drained(task) == "FAILED_RETRYABLE"
    assert timedelta(0) <= wait_of(task) <= timedelta(seconds=10)
    assert task.blocked_reason == "busy: Nothing happened."
    clock(10)
    assert drained(task) == "SUCCEEDED"
    assert len(systems.sent) == 2
    assert len(keys(systems)) == 1
    assert task.blocked_reason == ""


def test_it_is_not_sent_before_its_time(systems: ScriptedSystems, clock: Clock) -> None:
    task = a_task()
    systems.sends["one"] = [desk.failed(retry_after=timedelta(minutes=30))]
    assert drained(task) == "FAILED_RETRYABLE"
    assert wait_of(task) == timedelta(minutes=30)
    clock(29 * 60)
    assert drained(task) == "FAILED_RETRYABLE"
    assert len(systems.sent) == 1
    clock(60)
    assert drained(task) == "SUCCEEDED"


def test_attempts_are_used_up_at_the_maximum(systems: ScriptedSystems, clock: Clock) -> None:
    task = a_task()
    systems.sends["one"] = [desk.failed("busy")] * 9
    states = []
    for _ in range(5):
        states.append(drained(task))
        clock(40)
    assert states == ["FAILED_RETRYABLE"] * 2 + ["FAILED_FINAL"] * 3
    assert len(systems.sent) == 3
    assert "busy" in Plan.objects.get().blocked_reason


def test_a_non_retryable_code_ends_it_at_the_first_attempt(systems: ScriptedSystems) -> None:
    task = a_task()
    systems.sends["one"] = [desk.failed("no_such_customer")]
    assert drained(task) == "FAILED_FINAL"
    assert len(systems.sent) == 1


@pytest.mark.parametrize("outcome", [desk.rejected(), desk.failed(retryable=False)])
def test_a_refusal_is_not_repeated(
    systems: ScriptedSystems, clock: Clock, outcome: desk.Outcome
) -> None:
    task = a_task()
    systems.sends["one"] = [outcome]
    assert drained(task) == "FAILED_FINAL"
    clock(3600)
    assert drained(task) == "FAILED_FINAL"
    assert len(systems.sent) == 1


def test_a_claim_that_was_not_sent_costs_no_attempt(systems: ScriptedSystems, clock: Clock) -> None:
    task = a_task()
    for _ in range(5):
        (claim,) = desk.claim()
        desk.settle(desk.result(claim, desk.failed(settlement.NOT_SENT)))
        clock(10)
    task.refresh_from_db()
    assert (task.state, task.sends, task.attempts) == ("FAILED_RETRYABLE", 0, 5)
    assert drained(task) == "SUCCEEDED"


# --- unknown outcomes -------------------------------------------------------------------------


def test_a_queryable_target_is_asked_after_its_pause(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task(target={"reconcile_after": timedelta(seconds=30)})
    systems.sends["one"] = [desk.unknown()]
    assert drained(task) == "OUTCOME_UNKNOWN"
    assert wait_of(task) == timedelta(seconds=30)
    assert systems.queried == []
    clock(30)
    assert drained(task) == "SUCCEEDED"
    assert (len(systems.sent), len(systems.queried)) == (1, 1)
    assert len(keys(systems)) == 1


def test_what_the_target_has_never_seen_is_sent_with_the_same_key(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task()
    systems.sends["one"] = [desk.unknown()]
    systems.queries["one"] = [desk.not_found()]
    drained(task)
    clock(40)
    assert drained(task) == "SUCCEEDED"
    assert (len(systems.sent), len(systems.queried)) == (2, 1)
    assert len(keys(systems)) == 1


def test_sends_that_never_arrive_do_not_go_on_for_ever(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task()
    systems.sends["one"] = [desk.unknown()] * 100
    systems.queries["one"] = [desk.not_found()] * 100
    for _ in range(40):
        drained(task)
        clock(40)
    assert task.state == "FAILED_FINAL"
    assert task.attempts == settlement.NEVER_ARRIVED_LIMIT * RETRY["maximum_attempts"]
    assert "never seen" in task.blocked_reason.replace("\n", " ")


def test_unanswered_questions_are_asked_at_growing_pauses_until_a_person_takes_over(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task(target={"reconcile_after": timedelta(seconds=10), "maximum_queries": 3})
    systems.sends["one"] = [desk.unknown()]
    systems.queries["one"] = [desk.unknown("silent")] * 9
    drained(task)
    pauses = []
    for _ in range(3):
        clock(3600)
        before = desk.now()
        drained(task)
        pauses.append(round((task.not_before - before).total_seconds()))
    assert pauses[:2] == [20, 40]
    assert task.state == "AWAITING_MANUAL"
    assert "3 unanswered queries" in task.blocked_reason
    assert "silent" in task.blocked_reason
    clock(3600)
    drained(task)
    assert (len(systems.sent), len(systems.queried)) == (1, 3)


def test_an_answered_question_starts_the_count_anew(systems: ScriptedSystems, clock: Clock) -> None:
    task = a_task(target={"maximum_queries": 2})
    systems.sends["one"] = [desk.unknown(), desk.unknown()]
    systems.queries["one"] = [desk.unknown(), desk.not_found(), desk.unknown(), desk.succeeded()]
    for _ in range(5):
        drained(task)
        clock(60)
    assert task.state == "SUCCEEDED"


def test_a_deduplicating_target_without_query_gets_the_same_key_up_to_the_maximum(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task(target={"status_query": False})
    systems.sends["one"] = [desk.unknown()] * 9
    for _ in range(5):
        drained(task)
        clock(40)
    assert task.state == "AWAITING_MANUAL"
    assert len(systems.sent) == 3
    assert systems.queried == []
    assert len(keys(systems)) == 1
    assert "every attempt is used up" in task.blocked_reason


# --- leases and reports -----------------------------------------------------------------------


def test_a_lost_lease_is_asked_about_by_key_and_settled(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task()
    (claim,) = desk.claim(worker="one that dies")
    assert sweeping.sweep() == 0
    clock(10 + 10 + 1)
    assert sweeping.sweep() == 1
    task.refresh_from_db()
    assert task.state == "OUTCOME_UNKNOWN"
    assert "lease_lost" in task.blocked_reason
    lost = Attempt.objects.get()
    assert (lost.outcome, lost.code, lost.worker) == ("UNKNOWN", "lease_lost", "one that dies")
    assert drained(task) == "SUCCEEDED"
    assert systems.sent == []
    assert [c.idempotency_key for c in systems.queried] == [claim.command.idempotency_key]


def test_a_lost_lease_of_what_never_arrived_is_sent_with_the_same_key(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task()
    (claim,) = desk.claim()
    clock(21)
    sweeping.sweep()
    systems.queries["one"] = [desk.not_found()]
    drained(task)
    clock(10)
    assert drained(task) == "SUCCEEDED"
    assert [c.idempotency_key for c in systems.sent] == [claim.command.idempotency_key]


def test_a_lost_lease_where_nobody_can_tell_goes_to_a_person(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task(target={"idempotent": False, "status_query": False})
    desk.claim()
    clock(21)
    sweeping.sweep()
    assert drained(task) == "AWAITING_MANUAL"
    clock(3600)
    drained(task)
    assert systems.sent == []


def test_a_lost_query_is_asked_again(systems: ScriptedSystems, clock: Clock) -> None:
    task = a_task(target={"reconcile_after": timedelta(seconds=30)})
    systems.sends["one"] = [desk.unknown()]
    drained(task)
    clock(30)
    (query,) = desk.claim()
    assert query.purpose is Purpose.QUERY
    clock(21)
    assert sweeping.sweep() == 1
    task.refresh_from_db()
    assert (task.state, task.unanswered_queries) == ("OUTCOME_UNKNOWN", 1)
    clock(60)
    assert drained(task) == "SUCCEEDED"
    assert (len(systems.sent), len(systems.queried)) == (1, 1)


def test_the_lease_is_longer_than_the_call_may_take(systems: ScriptedSystems) -> None:
    a_task(timeouts={"call": "PT90S"})
    (claim,) = desk.claim()
    attempt = Attempt.objects.get()
    assert claim.command.deadline == timedelta(seconds=90)
    assert attempt.lease_expires_at - attempt.started_at > timedelta(seconds=90)


def test_an_outcome_that_comes_after_the_lease_was_lost_still_counts(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task()
    (claim,) = desk.claim()
    clock(21)
    sweeping.sweep()
    desk.settle(desk.result(claim, desk.succeeded()))
    task.refresh_from_db()
    assert task.state == "SUCCEEDED"
    assert Attempt.objects.get().code == "lease_lost"


def test_an_accepted_task_waits_for_its_report_as_long_as_its_workflow_allows(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task(timeouts={"callback": "PT10M"})
    systems.sends["one"] = [desk.accepted()]
    assert drained(task) == "ACCEPTED"
    assert wait_of(task) == timedelta(minutes=10)
    clock(9 * 60)
    assert sweeping.sweep() == 0
    assert drained(task) == "ACCEPTED"


def test_an_overdue_report_is_asked_for(systems: ScriptedSystems, clock: Clock) -> None:
    task = a_task(timeouts={"callback": "PT10M"})
    systems.sends["one"] = [desk.accepted()]
    systems.queries["one"] = [desk.accepted(), desk.succeeded()]
    drained(task)
    clock(601)
    assert sweeping.sweep() == 1
    task.refresh_from_db()
    assert task.state == "OUTCOME_UNKNOWN"
    assert "report_overdue" in task.blocked_reason
    assert drained(task) == "ACCEPTED"  # it is still working on it
    clock(601)
    sweeping.sweep()
    assert drained(task) == "SUCCEEDED"
    assert len(systems.sent) == 1


def test_two_sweeps_find_a_lost_lease_once(clock: Clock) -> None:
    a_task()
    desk.claim()
    clock(21)
    assert [sweeping.sweep(), sweeping.sweep()] == [1, 0]
