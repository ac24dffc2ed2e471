"""What an outcome does to its task: kind of outcome, state in which it finds the task."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.contract import Outcome
from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.models import Attempt, Command, Purpose, Task, Transition
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

GOOD = {"number": "N-1"}
OUTCOMES = {
    "SUCCEEDED": desk.succeeded(**GOOD),
    "ACCEPTED": desk.accepted(),
    "REJECTED": desk.rejected(),
    "FAILED": desk.failed(),
    "FAILED for good": desk.failed(retryable=False),
    "UNKNOWN": desk.unknown(),
    "NOT_FOUND": desk.not_found(),
}


def brought_to(state: str) -> Claim:
    """A task in `state`, and the claim whose outcome brought it there."""
    claim = desk.a_claimed_task()
    first = {
        "ACCEPTED": desk.accepted(),
        "OUTCOME_UNKNOWN": desk.unknown(),
        "FAILED_RETRYABLE": desk.failed(),
        "AWAITING_MANUAL": desk.succeeded(),  # without the number that it has to return
        "SUCCEEDED": desk.succeeded(**GOOD),
        "FAILED_FINAL": desk.rejected(),
    }
    if state == "READY":
        desk.settle(desk.result(claim, desk.unknown()))
        (query,) = desk.claim()
        desk.settle(desk.result(query, desk.not_found()))
        claim = query
    elif state != "DISPATCHED":
        desk.settle(desk.result(claim, first[state]))
    assert state_of(claim) == state
    return claim


def state_of(claim: Claim) -> str:
    return str(Task.objects.get(pk=claim.task_id).state)


def audit_of(claim: Claim) -> list[tuple[str, str, str]]:
    rows = Transition.objects.filter(entity="task", entity_id=str(claim.task_id))
    return list(rows.values_list("name", "from_state", "to_state"))


# Where the task is -> what it becomes with each outcome; what is not listed leaves it there.
MATRIX: dict[str, dict[str, str]] = {
    "DISPATCHED": {
        "SUCCEEDED": "SUCCEEDED",
        "ACCEPTED": "ACCEPTED",
        "REJECTED": "FAILED_FINAL",
        "FAILED": "FAILED_RETRYABLE",
        "FAILED for good": "FAILED_FINAL",
        "UNKNOWN": "OUTCOME_UNKNOWN",
        "NOT_FOUND": "OUTCOME_UNKNOWN",
    },
    "ACCEPTED": {
        "SUCCEEDED": "SUCCEEDED",
        "REJECTED": "FAILED_FINAL",
        "FAILED": "FAILED_RETRYABLE",
        "FAILED for good": "FAILED_FINAL",
        "UNKNOWN": "OUTCOME_UNKNOWN",
        "NOT_FOUND": "OUTCOME_UNKNOWN",
    },
    "OUTCOME_UNKNOWN": {
        "SUCCEEDED": "SUCCEEDED",
        "ACCEPTED": "ACCEPTED",
        "REJECTED": "FAILED_FINAL",
        "FAILED": "FAILED_RETRYABLE",
        "FAILED for good": "FAILED_FINAL",
    },
    "READY": {"SUCCEEDED": "SUCCEEDED", "REJECTED": "FAILED_FINAL"},
    "FAILED_RETRYABLE": {"SUCCEEDED": "SUCCEEDED", "REJECTED": "FAILED_FINAL"},
    "AWAITING_MANUAL": {"SUCCEEDED": "SUCCEEDED", "REJECTED": "FAILED_FINAL"},
    "SUCCEEDED": {},
    "FAILED_FINAL": {},
}
CELLS = [(state, name) for state in MATRIX for name in OUTCOMES]


@pytest.mark.parametrize(("state", "name"), CELLS)
def test_an_outcome_moves_its_task_as_the_matrix_says(state: str, name: str) -> None:
    claim = brought_to(state)
    before = audit_of(claim)
    desk.settle(desk.result(claim, OUTCOMES[name], purpose=Purpose.SEND))
    expected = MATRIX[state].get(name, state)
    assert state_of(claim) == expected
    moves = [row[1:] for row in audit_of(claim)[len(before) :] if row[0] != "conflicting_outcome"]
    assert moves == ([] if expected == state else [(state, expected)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SUCCEEDED", "SUCCEEDED"),
        ("ACCEPTED", "ACCEPTED"),
        ("REJECTED", "FAILED_FINAL"),
        ("FAILED", "FAILED_RETRYABLE"),
        ("FAILED for good", "FAILED_FINAL"),
        ("UNKNOWN", "OUTCOME_UNKNOWN"),
        ("NOT_FOUND", "READY"),
    ],
)
def test_an_answer_to_a_query_settles_the_doubt(name: str, expected: str) -> None:
    brought_to("OUTCOME_UNKNOWN")
    (query,) = desk.claim()
    assert query.purpose is Purpose.QUERY
    assert state_of(query) == "OUTCOME_UNKNOWN"
    desk.settle(desk.result(query, OUTCOMES[name]))
    assert state_of(query) == expected


@pytest.mark.parametrize("name", ["UNKNOWN", "NOT_FOUND", "ACCEPTED", "FAILED"])
def test_a_vague_answer_to_an_older_query_is_ignored(name: str) -> None:
    brought_to("OUTCOME_UNKNOWN")
    (older,) = desk.claim()
    desk.advance(3600)
    (newer,) = desk.claim()
    before = audit_of(newer)
    desk.settle(desk.result(older, OUTCOMES[name]))
    assert state_of(newer) == "OUTCOME_UNKNOWN"
    assert audit_of(newer) == before
    assert Task.objects.get(pk=newer.task_id).unanswered_queries == 0


@pytest.mark.parametrize("name", ["UNKNOWN", "NOT_FOUND"])
def test_a_vague_answer_after_the_report_came_is_ignored(name: str) -> None:
    brought_to("OUTCOME_UNKNOWN")
    (query,) = desk.claim()
    desk.settle(desk.result(query, desk.failed(), attempt_id=None))
    assert state_of(query) == "FAILED_RETRYABLE"
    desk.settle(desk.result(query, OUTCOMES[name]))
    assert state_of(query) == "FAILED_RETRYABLE"


def test_every_attempt_keeps_its_own_outcome(systems: ScriptedSystems, clock: Any) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.failed("busy"), desk.unknown("timeout")]
    systems.queries["one"] = [desk.unknown("silent"), desk.not_found()]
    order = desk.order()
    for _ in range(6):
        desk.drain()
        clock(60)
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    attempts = Attempt.objects.order_by("number")
    assert list(attempts.values_list("number", "purpose", "outcome", "code")) == [
        (1, "SEND", "FAILED", "busy"),
        (2, "SEND", "UNKNOWN", "timeout"),
        (3, "QUERY", "UNKNOWN", "silent"),
        (4, "QUERY", "NOT_FOUND", ""),
        (5, "SEND", "SUCCEEDED", ""),
    ]
    assert all(attempt.finished_at is not None for attempt in attempts)
    assert len({command.idempotency_key for command in systems.sent}) == 1
    assert Command.objects.count() == 1


def test_a_finished_attempt_keeps_its_first_outcome() -> None:
    claim = desk.a_claimed_task()
    desk.settle(desk.result(claim, desk.failed("busy")))
    before = Attempt.objects.values().get()
    desk.settle(desk.result(claim, desk.unknown("lease_lost")))
    assert Attempt.objects.values().get() == before


def test_an_outcome_makes_exactly_its_dependents_runnable(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "a": desk.task(),
            "b": desk.task(),
            "after_a": desk.task(after=["a"]),
            "after_both": desk.task(after=["a", "b"]),
        }
    )
    order = desk.order()
    (claim,) = desk.claim()
    assert claim.command.action == "a"
    desk.settle(desk.result(claim, desk.succeeded()))
    assert desk.states_of(order) == {
        "a@1": "SUCCEEDED",
        "b@1": "READY",
        "after_a@1": "READY",
        "after_both@1": "PENDING",
    }
    assert set(Command.objects.values_list("action", flat=True)) == {"a", "b", "after_a"}


def test_an_adapter_that_raises_leaves_the_outcome_unknown(systems: ScriptedSystems) -> None:
    def explode(_: Any) -> Outcome:
        raise RuntimeError("the wire burns")

    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [explode]
    systems.queries["one"] = [explode, desk.succeeded()]
    order = desk.order()
    desk.drain(rounds=1)
    attempts = Attempt.objects.filter(code="adapter_raised")
    assert attempts.count() >= 1
    assert "the wire burns" in attempts[0].message
    desk.advance(60)
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.actions() == ["one"]


def test_one_poisoned_outcome_does_not_hold_up_its_neighbours(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(input={"id": "${order.id}"}),
            "two": desk.task(after=["one"], input={"id": "${order.id}"}),
        }
    )
    orders = [desk.order() for _ in range(7)]
    poisoned = orders[3]
    claims = desk.claim(limit=7)
    type(desk.plan_of(poisoned)).objects.filter(fulfillment=poisoned.fulfillment_id).update(
        context={}
    )
    with pytest.raises(KeyError):
        desk.settle(*(desk.result(claim, desk.succeeded()) for claim in claims))
    for order in orders:
        expected = "DISPATCHED" if order == poisoned else "SUCCEEDED"
        assert desk.states_of(order)["one@1"] == expected
        if order != poisoned:
            assert desk.states_of(order)["two@1"] == "READY"


def test_a_batch_settles_several_tasks_of_one_plan_at_once() -> None:
    desk.target("alpha")
    desk.workflow(
        {"a": desk.task(), "b": desk.task(), "c": desk.task(), "end": desk.task(after="abc")}
    )
    order = desk.order()
    claims = desk.claim(limit=3)
    desk.settle(*(desk.result(claim, desk.succeeded()) for claim in claims))
    assert desk.states_of(order)["end@1"] == "READY"
    plan = desk.plan_of(order)
    assert (plan.tasks_open, plan.mandatory_open, plan.moving) == (1, 1, 1)


def test_two_outcomes_of_one_task_in_a_batch_settle_it_once() -> None:
    claim = desk.a_claimed_task()
    desk.settle(
        desk.result(claim, desk.succeeded(**GOOD)), desk.result(claim, desk.succeeded(**GOOD))
    )
    assert [row[0] for row in audit_of(claim)].count("succeed") == 1
    order = Order.objects.get()
    assert desk.plan_of(order).tasks_open == 1


def test_news_about_a_settled_task_reach_the_person_who_decides(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(retry={"maximum_attempts": 1})})
    systems.sends["one"] = [desk.failed("busy")]
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["one@1"]
    assert task.state == "FAILED_FINAL"
    report = callbacks.Report(
        source="alpha",
        event_id="e-1",
        idempotency_key=systems.sent[0].idempotency_key,
        outcome=desk.succeeded(),
        body={},
    )
    assert callbacks.receive(report=report).disposition == "CONFLICTING"
    assert "Since then alpha has confirmed it" in desk.tasks_of(order)["one@1"].blocked_reason
    assert "Since then alpha has confirmed it" in desk.plan_of(order).blocked_reason


def test_a_report_on_a_task_in_a_persons_hands_is_laid_before_them(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    desk.drain()
    report = callbacks.Report(
        source="alpha",
        event_id="e-1",
        idempotency_key=systems.sent[0].idempotency_key,
        outcome=desk.failed("job_failed"),
        body={},
    )
    callbacks.receive(report=report)
    task = desk.tasks_of(order)["one@1"]
    assert task.state == "AWAITING_MANUAL"
    assert "has reported: job_failed" in task.blocked_reason
