"""Calls whose worker went away, and reports that do not come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment.engine.dispatch import sweeping
from fulfillment.models import Attempt, Purpose, Task
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def a_task(*, target: dict[str, Any] | None = None, **spec: Any) -> Task:
    """The only task of one submitted order, READY; a call may take ten seconds."""
    desk.target("alpha", **(target or {}))
    desk.workflow({"one": desk.task(**spec)})
    (task,) = desk.tasks_of(desk.order()).values()
    return task


def drained(task: Task) -> str:
    desk.drain()
    task.refresh_from_db()
    return str(task.state)


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
    assert task.not_before - task.changed_at == timedelta(minutes=10)
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


def test_many_lost_leases_are_swept_at_once(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha", sender_slots=10)
    desk.workflow({"one": desk.task()})
    desk.submit_all(*[desk.request() for _ in range(5)])
    assert len(desk.claim(limit=5)) == 5
    clock(21)
    assert sweeping.sweep(limit=2) == 5
    assert set(Task.objects.values_list("state", flat=True)) == {"OUTCOME_UNKNOWN"}
