"""After a failure or in doubt: what is sent again, under which key, when, and when no more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from adapters.contract import Outcome
from fulfillment.engine.tasks import outcomes, reconciling
from fulfillment.models import Plan, Task
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]
LATER = timedelta(seconds=1)
"""Asked for by the target, so that jitter never makes it "at once"."""
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
    systems.sends["one"] = [desk.failed("busy", retry_after=LATER)]
    assert drained(task) == "FAILED_RETRYABLE"
    assert LATER <= wait_of(task) <= timedelta(seconds=10)
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
    systems.sends["one"] = [desk.failed("busy", retry_after=LATER)] * 9
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
        desk.settle(desk.result(claim, outcomes.NOT_SENT))
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


def test_what_the_target_has_never_seen_is_sent_with_the_same_key_and_costs_no_attempt(
    systems: ScriptedSystems, clock: Clock
) -> None:
    task = a_task()
    systems.sends["one"] = [desk.unknown()] * 5
    systems.queries["one"] = [desk.not_found()] * 5
    for _ in range(12):
        drained(task)
        clock(40)
    assert task.state == "SUCCEEDED"
    assert (len(systems.sent), len(systems.queried)) == (6, 5)
    assert task.sends == 1
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
    assert task.attempts == reconciling.NEVER_ARRIVED_LIMIT * RETRY["maximum_attempts"]
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


@pytest.mark.parametrize("last", [desk.failed(retryable=False), desk.failed()])
def test_a_failure_after_a_lost_answer_is_no_proof_that_nothing_happened(
    systems: ScriptedSystems, clock: Callable[[float], None], last: Outcome
) -> None:
    desk.target("alpha", idempotent=True, status_query=False)
    desk.workflow({"one": desk.task(retry={"maximum_attempts": 2})})
    systems.sends["one"] = [desk.unknown(), last]
    order = desk.order()
    desk.drain()
    clock(3600)
    desk.drain()
    task = desk.tasks_of(order)["one@1"]
    assert task.state == "AWAITING_MANUAL"
    assert "an earlier answer was lost" in task.blocked_reason
